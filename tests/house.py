"""The house rules: each takes the sources of a tree and yields a sentence for every place that breaks it.

Nothing but `read_sources` touches the disk, so that each rule can be shown a seeded violation.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Final

MAX_MODULE_LINES: Final = 450
MAX_FUNCTION_LINES: Final = 60
MAX_PARAMETERS: Final = 6
MAX_DOCSTRING_LINES: Final = 8

_CODE: Final = {".py", ".js", ".mjs", ".ts", ".css", ".html", ".sql", ".lua"}
_TEXT: Final = _CODE | {".md", ".toml", ".yaml", ".yml"}
# What somebody else wrote, or a tool made.
_FOREIGN: Final = {"node_modules", "data", "build", "dist", "__pycache__"}
# What runs in production, as opposed to what examines it.
_PRODUCT: Final = ("gateway", "store")

_SAYS_NOTHING: Final = {"util", "utils", "common", "base", "misc", "helper", "helpers", "manager"}
# In two pieces, so that the rule does not find itself.
_LEFT_OVER: Final = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")

_JSON: Final = {"json", "orjson", "simplejson", "ujson"}
_BACKEND: Final = re.compile(r"store\.(log|live|bus|cache)_([a-z0-9]+)")

# Bases that prescribe nothing async; any other from outside the tree may.
_INERT: Final = {
    "object",
    "Protocol",
    "ABC",
    "Generic",
    "Struct",
    "NamedTuple",
    "TypedDict",
    "Enum",
    "IntEnum",
    "Exception",
}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file: its path from the root of the tree, what it says and, when it is Python, how it parses."""

    path: PurePosixPath
    text: str
    tree: ast.Module = field(repr=False)

    @classmethod
    def of(cls, path: str, text: str) -> "Source":
        return cls(PurePosixPath(path), text, ast.parse(text if path.endswith(".py") else "", path))

    @property
    def folder(self) -> str:
        """The first part of the path."""
        return self.path.parts[0]

    @property
    def module(self) -> str:
        """The dotted name it is imported by."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def at(self, line: int, sentence: str) -> str:
        return f"{self.path}:{line}: {sentence}"


def read_sources(root: Path) -> list[Source]:
    """Read every text of a tree that was written here by hand."""

    def ours(path: Path) -> bool:
        parts = path.relative_to(root).parts
        return not any(part in _FOREIGN or part.startswith(".") for part in parts)

    paths = (path for path in root.rglob("*") if path.suffix in _TEXT and ours(path) and path.is_file())
    return [Source.of(path.relative_to(root).as_posix(), path.read_text("utf-8")) for path in sorted(paths)]


# -- sizes and names


def module_length(sources: Sequence[Source]) -> Iterator[str]:
    """A file of code has at most 450 lines."""
    for source in sources:
        if source.path.suffix in _CODE and (lines := len(source.text.splitlines())) > MAX_MODULE_LINES:
            yield source.at(lines, f"{lines} lines; {MAX_MODULE_LINES} are allowed")


def function_length(sources: Sequence[Source]) -> Iterator[str]:
    """A function has at most 60 lines."""
    for source, function in _functions(sources):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield source.at(
                function.lineno, f"{function.name} has {lines} lines; {MAX_FUNCTION_LINES} are allowed"
            )


def parameter_count(sources: Sequence[Source]) -> Iterator[str]:
    """A function takes at most six parameters, self and cls not counted."""
    for source, function in _functions(sources):
        given = function.args
        names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        names += [argument.arg for argument in (given.vararg, given.kwarg) if argument]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > MAX_PARAMETERS:
            yield source.at(
                function.lineno, f"{function.name} takes {count} parameters; {MAX_PARAMETERS} are allowed"
            )


def room_names(sources: Sequence[Source]) -> Iterator[str]:
    """No file or folder has a name under which anything could lie."""
    for source in sources:
        for word in chain.from_iterable(re.split(r"[_.\-]", part) for part in source.path.parts):
            if word.lower() in _SAYS_NOTHING:
                yield source.at(1, f"{word!r} says nothing about what is in there")


def docstrings(sources: Sequence[Source]) -> Iterator[str]:
    """A module says in at most eight lines what lives in it; outside the tests it must say so."""
    for source in sources:
        if not source.tree.body:
            continue
        text = ast.get_docstring(source.tree)
        if text is None and source.folder != "tests":
            yield source.at(1, "no module docstring")
        elif text is not None and (lines := len(text.splitlines())) > MAX_DOCSTRING_LINES:
            yield source.at(1, f"the module docstring has {lines} lines; {MAX_DOCSTRING_LINES} are allowed")


# -- what is left undone


def left_over(sources: Sequence[Source]) -> Iterator[str]:
    """No note of work still to do."""
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if found := _LEFT_OVER.search(line):
                yield source.at(number, f"{found[0]}: do it, or open an issue")


def swallowed_exceptions(sources: Sequence[Source]) -> Iterator[str]:
    """No handler that only passes, none that drops every exception in another way, no `suppress` of all."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler):
                is_broad = _dotted(node.type) in {"", "Exception", "BaseException"}
                if all(_is_idle(statement, is_broad) for statement in node.body):
                    yield source.at(node.lineno, "an exception is swallowed: say what follows from it")
            if isinstance(node, ast.Call) and _dotted(node.func).endswith("suppress"):
                yield from (
                    source.at(node.lineno, "every exception is suppressed: name the one that is expected")
                    for argument in node.args
                    if _dotted(argument) in {"Exception", "BaseException"}
                )


def _is_idle(statement: ast.stmt, is_broad: bool) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Continue():
            # To go on with the next one is an answer to a failure that was named.
            return is_broad
        case _:
            return False


# -- who may know what


def environment(sources: Sequence[Source]) -> Iterator[str]:
    """Only gateway/settings.py reads the environment."""
    for source in _product(sources, but="gateway/settings.py"):
        for line, name in _uses(source):
            if name in {"os.environ", "os.environb", "os.getenv", "os.getenvb"}:
                yield source.at(line, "reads the environment: make it a setting")


def json_libraries(sources: Sequence[Source]) -> Iterator[str]:
    """Only gateway/protocol/codec.py imports a JSON library."""
    for source in _product(sources, but="gateway/protocol/codec.py"):
        for line, name in _imports(source):
            if name.partition(".")[0] in _JSON:
                yield source.at(line, f"imports {name}: read with msgspec, print with the codec")


def picows(sources: Sequence[Source]) -> Iterator[str]:
    """Only gateway/edge/parser.py knows the WebSocket library."""
    for source in _product(sources, but="gateway/edge/parser.py"):
        for line, name in _imports(source):
            if name.partition(".")[0] == "picows":
                yield source.at(line, "imports picows: gateway/edge/parser.py is its adapter")


def backends(sources: Sequence[Source]) -> Iterator[str]:
    """Only store/open.py imports a backend; parts of one backend may import each other."""
    for source in _product(sources, but="store/open.py"):
        own = _BACKEND.match(source.module)
        for line, name in _imports(source):
            if (backend := _BACKEND.match(name)) and (own is None or own[2] != backend[2]):
                yield source.at(line, f"imports {backend[0]}: take the interface, let store.open choose")


# -- waiting


def sleeps(sources: Sequence[Source]) -> Iterator[str]:
    """No test sleeps, but in tests/waiting.py."""
    for source in sources:
        if source.folder == "tests" and source.path != PurePosixPath("tests/waiting.py"):
            for line, name in _uses(source):
                if name in {"asyncio.sleep", "time.sleep"}:
                    yield source.at(line, "sleeps: tests/waiting.py has until, turns and later")


def idle_coroutines(sources: Sequence[Source]) -> Iterator[str]:
    """An async function waits somewhere, unless its shape is prescribed for the sake of others that wait.

    Prescribed are methods that an interface or base class declares async, the language's own (`__aexit__`),
    HTTP handlers (Starlette runs a plain function in a thread) and context managers used with `async with`.
    """
    classes = {node.name: node for source in sources for node in _classes(source.tree)}
    for source in sources:
        if source.folder == "tests":
            continue
        owners = {id(method): owner for owner in _classes(source.tree) for method in owner.body}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.AsyncFunctionDef) and not _waits(node):
                owner = owners.get(id(node))
                if not _shape_is_prescribed(node) and not (owner and _is_prescribed(node, owner, classes)):
                    yield source.at(node.lineno, f"{node.name} is async and never waits")


def _waits(function: ast.AsyncFunctionDef) -> bool:
    """Whether the function itself awaits; what is defined inside it does not count."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            return True
        if isinstance(node, ast.comprehension) and node.is_async:
            return True
        if not isinstance(node, _Function | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _shape_is_prescribed(function: ast.AsyncFunctionDef) -> bool:
    annotations = {_dotted(argument.annotation).rpartition(".")[2] for argument in function.args.args}
    decorators = {_dotted(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    is_special = function.name.startswith("__") and function.name.endswith("__")
    return is_special or "Request" in annotations or "asynccontextmanager" in decorators


def _is_prescribed(
    method: ast.AsyncFunctionDef, owner: ast.ClassDef, classes: dict[str, ast.ClassDef]
) -> bool:
    """Whether a base class, or an interface that the class satisfies, declares this method async."""
    family = list(_family(owner, classes))
    if _is_interface(owner) or any(_has_unknown_base(member, classes) for member in family):
        return True
    offered = set(chain.from_iterable(_methods(member) for member in family))
    interfaces = (node for node in classes.values() if _is_interface(node))
    declaring = [
        *(member for member in family if member is not owner),
        *(interface for interface in interfaces if set(_methods(interface)) <= offered),
    ]
    return any(isinstance(_methods(node).get(method.name), ast.AsyncFunctionDef) for node in declaring)


def _family(owner: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    yield owner
    for base in _bases(owner):
        if base in classes and classes[base] is not owner:
            yield from _family(classes[base], classes)


def _has_unknown_base(owner: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    return any(base not in classes and base not in _INERT for base in _bases(owner))


def _is_interface(owner: ast.ClassDef) -> bool:
    return bool(_bases(owner) & {"Protocol", "ABC"})


def _bases(owner: ast.ClassDef) -> set[str]:
    return {_dotted(base).rpartition(".")[2] for base in owner.bases}


def _methods(owner: ast.ClassDef) -> dict[str, _Function]:
    return {node.name: node for node in owner.body if isinstance(node, _Function)}


# -- documents


def links(sources: Sequence[Source]) -> Iterator[str]:
    """Every link in a document to something of this tree finds it, its heading too."""
    documents = {source.path: source for source in sources if source.path.suffix == ".md"}
    known = {source.path for source in sources}
    known |= set(chain.from_iterable(path.parents for path in known))
    for source in documents.values():
        for number, line in enumerate(_prose(source.text).splitlines(), 1):
            for target in re.findall(r"\]\(<?([^)\s>]+)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, heading = target.partition("#")
                found = _resolve(source.path, path) if path else source.path
                if found not in known:
                    yield source.at(number, f"{target} is not in this tree")
                elif heading and found in documents and heading not in _headings(documents[found].text):
                    yield source.at(number, f"{path or source.path} has no heading #{heading}")


def _resolve(document: PurePosixPath, target: str) -> PurePosixPath:
    parts: list[str] = []
    for part in (document.parent / target).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return PurePosixPath(*parts)


def _prose(text: str) -> str:
    """Blank out code, keeping the lines."""
    fence = re.compile(r"^( *)(`{3,}).*?^\1\2", flags=re.M | re.S)
    blocks = fence.sub(lambda block: "\n" * block[0].count("\n"), text)
    return re.sub(r"`[^`\n]*`", "", blocks)


def _headings(text: str) -> set[str]:
    """The anchors GitHub gives to the headings of a document."""
    titles = re.findall(r"^#+ +(.*?) *#*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return {f"{slug}-{n}" if (n := slugs[:place].count(slug)) else slug for place, slug in enumerate(slugs)}


# -- reading Python


def _product(sources: Sequence[Source], but: str) -> Iterator[Source]:
    return (source for source in sources if source.folder in _PRODUCT and str(source.path) != but)


def _functions(sources: Sequence[Source]) -> Iterator[tuple[Source, _Function]]:
    for source in sources:
        yield from ((source, node) for node in ast.walk(source.tree) if isinstance(node, _Function))


def _classes(tree: ast.Module) -> Iterable[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def _imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a module imports, wherever in it."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((node.lineno, f"{module}.{name.name}") for name in names)


def _uses(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of whatever of a module is used, however the module was imported."""
    aliases: dict[str, str] = {}
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                aliases |= {name.asname: name.name for name in names if name.asname}
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((node.lineno, f"{module}.{name.name}") for name in names)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{aliases.get(node.value.id, node.value.id)}.{node.attr}"


def _dotted(node: ast.AST | None) -> str:
    """`a.b.c` of an expression that names something, calls and subscripts stripped; else the empty string."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            return f"{_dotted(value)}.{attribute}"
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _dotted(inner)
        case _:
            return ""


RULES: Final = (
    module_length,
    function_length,
    parameter_count,
    room_names,
    docstrings,
    left_over,
    swallowed_exceptions,
    environment,
    json_libraries,
    picows,
    backends,
    sleeps,
    idle_coroutines,
    links,
)

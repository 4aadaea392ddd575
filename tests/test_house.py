"""The tree keeps the house rules, and each rule can fail."""

import textwrap
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests import house
from tests.house import Source

ROOT: Final = Path(__file__).parents[1]

Rule = Callable[[Sequence[Source]], Iterator[str]]
Tree = dict[str, str]


@pytest.fixture(scope="module")
def tree() -> list[Source]:
    return house.read_sources(ROOT)


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule, tree: list[Source]) -> None:
    broken = list(rule(tree))
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


def test_no_module_is_exempt_from_the_type_checker() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert mypy["strict"]
    assert not {"overrides", "exclude"} & set(mypy)


def test_the_rules_see_the_whole_tree(tree: list[Source]) -> None:
    seen = {str(source.path) for source in tree}
    assert {"gateway/errors.py", "store/log.py", "tests/house.py", "README.md"} <= seen
    assert not any("node_modules" in path or path.startswith(".") for path in seen)


def function(lines: int, signature: str = "f()") -> str:
    return f"def {signature}:\n" + "    x = 1\n" * (lines - 1)


# One argument more than self is allowed to have, in every way an argument can be given.
SEVEN: Final = "f(self, a, b, /, c, *d, e, f, **g)"

BROKEN: Final[list[tuple[Rule, Tree]]] = [
    (house.module_length, {"gateway/long.py": "x = 1\n" * 451}),
    (house.module_length, {"clients/javascript/src/long.js": "let x;\n" * 451}),
    (house.module_length, {"gateway/api/web/chat.css": "a {}\n" * 451}),
    (house.function_length, {"gateway/long.py": function(61)}),
    (house.function_length, {"tests/test_long.py": "class T:\n" + textwrap.indent(function(61), "    ")}),
    (house.parameter_count, {"store/wide.py": f"class C:\n    def {SEVEN}: ...\n"}),
    (house.parameter_count, {"store/wide.py": "async def f(a, b, c, d, e, f, g): ...\n"}),
    (house.room_names, {"gateway/utils.py": ""}),
    (house.room_names, {"gateway/common/ids.py": ""}),
    (house.room_names, {"clients/javascript/src/socket-helpers.js": ""}),
    (house.room_names, {"gateway/connection_manager.py": ""}),
    (house.docstrings, {"gateway/silent.py": "x = 1\n"}),
    (house.docstrings, {"tests/wordy.py": '"""1' + "\n2" * 8 + '"""\n'}),
    (house.left_over, {"gateway/later.py": "x = 1  # TO" + "DO: more\n"}),
    (house.left_over, {"docs/later.md": "FIX" + "ME\n"}),
    (house.swallowed_exceptions, {"gateway/deaf.py": "try:\n    f()\nexcept OSError:\n    pass\n"}),
    (house.swallowed_exceptions, {"gateway/deaf.py": "try:\n    f()\nexcept OSError:\n    ...\n"}),
    (house.swallowed_exceptions, {"gateway/deaf.py": "for x in y:\n    try: f()\n    except: continue\n"}),
    (house.swallowed_exceptions, {"store/deaf.py": "with contextlib.suppress(Exception):\n    f()\n"}),
    (house.environment, {"gateway/app.py": "import os\nx = os.environ.get('X')\n"}),
    (house.environment, {"gateway/app.py": "import os as o\nx = o.getenv('X')\n"}),
    (house.environment, {"store/open.py": "from os import environ\n"}),
    (house.json_libraries, {"gateway/api/answers.py": "import orjson\n"}),
    (house.json_libraries, {"store/log_sqlite.py": "def f():\n    from json import loads\n"}),
    (house.picows, {"gateway/edge/outbox.py": "from picows import WSTransport\n"}),
    (house.backends, {"gateway/app.py": "from store.log_sqlite import SqliteLog\n"}),
    (house.backends, {"gateway/app.py": "from store import bus_memory\n"}),
    (house.backends, {"store/log_postgres.py": "import store.live_redis\n"}),
    (house.sleeps, {"tests/test_slow.py": "import asyncio\nasync def f():\n    await asyncio.sleep(1)\n"}),
    (house.sleeps, {"tests/test_slow.py": "import time as t\nt.sleep(1)\n"}),
    (house.sleeps, {"tests/edge/test_slow.py": "from asyncio import sleep\n"}),
    (house.links, {"README.md": "[gone](docs/gone.md)\n"}),
    (house.links, {"docs/a.md": "[up](../README.md)\n"}),
    (house.links, {"docs/a.md": "[b](b.md#no-such)\n", "docs/b.md": "# Such\n"}),
    (house.links, {"docs/a.md": "# One\n[here](#two)\n"}),
    (house.links, {"README.md": "[out](../elsewhere.md)\n"}),
]

KEPT: Final[list[tuple[Rule, Tree]]] = [
    (house.module_length, {"gateway/long.py": "x = 1\n" * 450, "docs/long.md": "text\n" * 900}),
    (house.function_length, {"gateway/long.py": function(60)}),
    (house.parameter_count, {"store/wide.py": "class C:\n    def f(self, a, b, c, *, d, e, f): ...\n"}),
    (house.room_names, {"gateway/codec_base64.py": "", "docs/commonplace.md": ""}),
    (house.docstrings, {"gateway/edge/__init__.py": "", "tests/test_terse.py": "x = 1\n"}),
    (house.left_over, {"docs/now.md": "mktemp " + "X" * 6 + "\n"}),
    (
        house.swallowed_exceptions,
        {"gateway/a.py": "for x in y:\n    try: f()\n    except OSError: continue\n"},
    ),
    (house.swallowed_exceptions, {"gateway/a.py": "try:\n    f()\nexcept OSError:\n    lost += 1\n"}),
    (house.swallowed_exceptions, {"gateway/a.py": "with contextlib.suppress(OSError):\n    f()\n"}),
    (house.environment, {"gateway/settings.py": "import os\nx = os.environ\n"}),
    (house.environment, {"tests/process.py": "import os\nx = os.environ\n"}),
    (house.json_libraries, {"gateway/protocol/codec.py": "import orjson\n", "tests/a.py": "import json\n"}),
    (house.picows, {"gateway/edge/parser.py": "import picows\n"}),
    (house.backends, {"store/open.py": "from store.bus_memory import MemoryBus\n"}),
    (house.backends, {"store/log_sqlite.py": "from store.log_sqlite_rows import row\n"}),
    (house.sleeps, {"tests/waiting.py": "import asyncio\nx = asyncio.sleep\n"}),
    (
        house.links,
        {"README.md": "[a](docs/a.md#b-c) [docs](docs/) [w](https://x.y)\n", "docs/a.md": "# B: `c`\n"},
    ),
    (house.links, {"README.md": "`[not](a-link.md)`\n```\n[nor](this.md)\n```\n"}),
    (house.links, {"docs/a.md": "[up](../README.md#two-1)\n", "README.md": "# Two\n## Two\n"}),
]


def label(case: object) -> str | None:
    match case:
        case dict():
            return " ".join(case)
        case _:
            return getattr(case, "__name__", None)


def sources(tree: Tree) -> list[Source]:
    return [Source.of(path, text) for path, text in tree.items()]


@pytest.mark.parametrize(("rule", "seeded"), BROKEN, ids=label)
def test_a_seeded_violation_is_caught(rule: Rule, seeded: Tree) -> None:
    assert list(rule(sources(seeded)))


@pytest.mark.parametrize(("rule", "seeded"), KEPT, ids=label)
def test_what_is_allowed_passes(rule: Rule, seeded: Tree) -> None:
    assert not list(rule(sources(seeded)))


IDLE: Final = "async def f(self): return 1\n"
LIVE: Final = """
class Live(Protocol):
    async def start(self) -> None: ...
    async def ping(self) -> None: ...
    def count(self) -> int: ...
"""
# It satisfies the interface without naming it.
MEMORY_LIVE: Final = """
class MemoryLive:
    async def start(self) -> None: return
    async def ping(self) -> None: return
    def count(self) -> int: return 0
"""


@pytest.mark.parametrize(
    "text",
    [
        IDLE,
        f"class C:\n    {IDLE}",
        "async def f():\n    async def g(): await h()\n    return g\n",
        "async def f():\n    return [x for x in y]\n",
        # It has only a part of the interface: nothing can take it for one, so nothing prescribes it.
        f"{LIVE}class C:\n    async def ping(self) -> None: ...\n",
        # The interface declares it, but not as async.
        f"{LIVE}class C(Live):\n    async def count(self) -> int: return 1\n",
        # A value type from outside prescribes nothing.
        f"class C(msgspec.Struct):\n    {IDLE}",
    ],
)
def test_an_async_function_that_never_waits_is_caught(text: str) -> None:
    assert list(house.idle_coroutines(sources({"gateway/idle.py": text})))


@pytest.mark.parametrize(
    "text",
    [
        "async def f(): await g()\n",
        "async def f():\n    async with g(): return 1\n",
        "async def f():\n    return [x async for x in y]\n",
        "async def f():\n    if x:\n        async for y in z: return\n",
        LIVE,
        f"{LIVE}class C(Live):\n    async def ping(self) -> None: return\n",
        LIVE + MEMORY_LIVE,
        f"{LIVE}class A(Live): ...\nclass B(A):\n    async def ping(self) -> None: return\n",
        f"class C(uvicorn.Server):\n    {IDLE}",
        "class C:\n    async def __aexit__(self, *args): return None\n",
        "async def livez(request: Request) -> Response: return OK\n",
        "@asynccontextmanager\nasync def lifespan(app):\n    yield\n",
    ],
)
def test_an_async_function_that_waits_or_has_to_be_one_passes(text: str) -> None:
    assert not list(house.idle_coroutines(sources({"gateway/idle.py": text})))


def test_every_rule_has_a_seeded_violation() -> None:
    shown = {rule for rule, _ in BROKEN} | {house.idle_coroutines}
    assert shown == set(house.RULES)

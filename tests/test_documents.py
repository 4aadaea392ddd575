"""README, CONTRIBUTING and .ci/run say what is so: their commands, names and paths exist."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.__main__ import main
from tests.house import read_sources

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text()
DOCUMENTS: Final = {
    str(source.path): source.text for source in read_sources(ROOT) if source.path.suffix == ".md"
}


# What has to be on the PATH before anything else can be installed or tried.
NEEDED: Final = ("make", "node", "chromium", "redis-server")


def commands(text: str) -> list[str]:
    """The lines of a document's shell blocks."""
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
        for line in block.split("\n")
        if line
    ]


def code(text: str) -> Iterator[str]:
    """What a document sets as code, in a line or in a block."""
    yield from commands(text)
    yield from re.findall(r"`([^`\n]+)`", text)


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of every call of the gateway's own command that a document shows."""
    for line in (*code(text), *re.findall(r"<code>([^<]+)</code>", text)):
        if found := re.match(r"(?:\.venv/bin/)?gateway ([a-z].*)", line):
            yield shlex.split(found[1], comments=True)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def test_the_readme_sets_up_with_two_commands_only() -> None:
    assert commands(README) == ["make run", "make test"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(f"\n{commands(README)[-1]}")


def test_ci_installs_what_the_readme_asks_for() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert all(f"has {program} ||" in script for program in NEEDED)
    assert all(f"`{program}`" in README for program in NEEDED)


def test_the_readme_names_the_python_that_the_project_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = project["requires-python"].removeprefix(">=")
    assert f"Python {version} or newer" in README


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_a_document_names_exists(document: str) -> None:
    named = {match[1] for text in code(DOCUMENTS[document]) if (match := re.match(r"make ([a-z]+)$", text))}
    assert named <= targets()


def test_make_says_what_every_target_is_for() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert targets() == set(re.findall(r"^([a-z]+):.*## \S", makefile, flags=re.M))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    assert phony
    assert set(phony[1].split()) == targets()


@pytest.mark.parametrize("document", [*DOCUMENTS, "gateway/api/web/index.html"])
def test_every_command_a_document_shows_can_be_called_so(document: str) -> None:
    for name, *arguments in calls((ROOT / document).read_text()):
        assert name in main.commands
        # Parsing alone: a wrong option or one argument too many raises, nothing runs.
        main.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_a_document_names_exists(document: str) -> None:
    tops = "|".join(("gateway", "store", "tests", "loadtest", "clients", "docs", "k8s"))
    named = {text for text in code(DOCUMENTS[document]) if re.fullmatch(rf"(?:{tops})/[\w./-]*", text)}
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_index_lists_every_document() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", DOCUMENTS["docs/index.md"]))
    assert listed | {"index.md"} == {path.name for path in (ROOT / "docs").glob("*.md")}

"""Who may import whom: the contracts in pyproject.toml hold in this tree, cover it, and each can fail."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the packages of a folder, as `make check` does."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    options = ["--no-logo", "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run([*command, *options], cwd=root, env=environment, capture_output=True, text=True)


def contracts() -> list[dict[str, Any]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(config["tool"]["importlinter"]["contracts"])


def layers() -> list[list[str]]:
    rows = next(contract["layers"] for contract in contracts() if contract["type"] == "layers")
    return [[name.strip() for name in row.split("|")] for row in rows]


def test_every_module_imports_only_what_lies_below_it() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_room_of_the_gateway_has_its_layer() -> None:
    rooms = {path.stem for path in (ROOT / "gateway").iterdir() if path.suffix == ".py" or path.is_dir()}
    placed = {name.removeprefix("gateway.") for row in layers() for name in row}
    assert rooms - {"__init__", "__pycache__"} <= placed


def test_the_document_shows_the_layers_as_they_are_checked() -> None:
    _, _, section = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Layers\n")
    drawn = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    assert drawn == [" | ".join(row) for row in layers()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty module for each layer and each module that the contracts name."""
    named = {name for contract in contracts() for name in contract.get("forbidden_modules", ())}
    modules = {name for name in named if name.startswith("gateway.")} | {n for row in layers() for n in row}
    for module in modules | {"gateway", "gateway.protocol.peer", "store.types"}:
        folder = tmp_path.joinpath(*module.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    return tmp_path


def seed(tree: Path, module: str, line: str) -> None:
    tree.joinpath(*module.split("."), "__init__.py").write_text(f"{line}\n")


def test_a_tree_of_empty_modules_keeps_every_contract(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("store", "import gateway.errors"),
        ("store.types", "from gateway import clock"),
        ("gateway.runtime", "import gateway.api"),
        ("gateway.api", "import gateway.edge"),
        ("gateway.fanout", "from gateway import runtime"),
        ("gateway.errors", "import gateway.settings"),
        ("gateway.protocol.peer", "import asyncio"),
        ("gateway.protocol.peer", "from time import monotonic"),
        ("gateway.protocol.peer", "import gateway.clock"),
        ("gateway.protocol.peer", "def late():\n    import random"),
    ],
)
def test_a_seeded_import_breaks_a_contract(tree: Path, module: str, line: str) -> None:
    seed(tree, module, line)
    result = lint(tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert module in result.stdout


def test_no_import_is_exempt() -> None:
    assert not any("ignore_imports" in contract for contract in contracts())

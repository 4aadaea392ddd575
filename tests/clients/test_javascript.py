"""The JavaScript client's own tests, run by Node."""

import shutil
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "javascript"
NODE = shutil.which("node")
NPM = shutil.which("npm")

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")


def run(*command: str | Path, within: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=within, check=False)


@pytest.fixture(scope="module")
def packages() -> Path:
    """What the tests need beyond Node: installed once, from the lock file."""
    folder = CLIENT / "node_modules"
    if not (folder / "ws").is_dir() and NPM is not None:
        run(NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return folder


def test_every_behaviour_of_the_javascript_client(packages: Path) -> None:
    # Without the packages the tests on real sockets skip themselves; all others need nothing but Node.
    files = sorted((CLIENT / "test").glob("*.test.js"))
    assert NODE is not None
    result = run(NODE, "--test", *files)
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-5_000:]


def test_the_declarations_agree_with_what_a_page_may_write(packages: Path) -> None:
    compiler = packages / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        pytest.skip("TypeScript could not be installed")
    assert NODE is not None
    result = run(NODE, compiler, "--project", "test/tsconfig.json")
    assert result.returncode == 0, result.stdout


def test_the_lock_file_names_no_registry() -> None:
    assert "://" not in (CLIENT / "package-lock.json").read_text()

"""What tests/conftest.py watches over: no task outlives its test, and in CI no test is skipped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

LEAKS: Final = """
import asyncio
from collections.abc import AsyncIterator
import pytest
from hypothesis import given, strategies

async def forever() -> None:
    await asyncio.Event().wait()

@pytest.fixture
async def tidy() -> AsyncIterator[None]:
    task = asyncio.create_task(forever())
    yield
    task.cancel()

async def test_tidy_fixture(tidy: None) -> None: pass

async def test_tidy_test() -> None:
    asyncio.create_task(forever()).cancel()

def test_without_a_loop() -> None: pass

async def test_leaks() -> None:
    asyncio.create_task(forever(), name="seeded-by-test")

@pytest.fixture
async def leaks() -> None:
    asyncio.create_task(forever(), name="seeded-by-fixture")

async def test_fixture_leaks(leaks: None) -> None: pass

@given(strategies.just(1))
async def test_example_leaks(number: int) -> None:
    asyncio.create_task(forever(), name="seeded-by-example")
"""

SKIPS: Final = """
import pytest

@pytest.mark.skipif(True, reason="no such program here")
def test_by_mark() -> None: pass

def test_by_call() -> None:
    pytest.skip("no such program here")

@pytest.mark.xfail
def test_expected_to_fail() -> None:
    assert False
"""


def run(folder: Path, seeded: str, **environment: str) -> str:
    """What pytest prints about a tree that has our conftest and one seeded module."""
    tests = folder / "tests"
    tests.mkdir()
    for name in ("__init__.py", "conftest.py", "servers_fixtures.py", "waiting.py"):
        shutil.copy(ROOT / "tests" / name, tests)
    (folder / "loadtest").symlink_to(ROOT / "loadtest")
    (tests / "test_seeded.py").write_text(seeded)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), str(tests)]
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    finished = subprocess.run(
        [*command, *options], cwd=folder, env=inherited | environment, capture_output=True, text=True
    )
    return finished.stdout


def test_a_task_left_running_fails_its_test_by_name(tmp_path: Path) -> None:
    printed = run(tmp_path, LEAKS)
    assert "6 passed, 3 errors" in printed
    for source in ("test", "fixture", "example"):
        assert f"left running: seeded-by-{source} (forever)" in printed


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [({}, "2 skipped, 1 xfailed"), ({"CI": "true"}, "1 failed, 1 xfailed, 1 error")],
    ids=["at home", "in CI"],
)
def test_a_skipped_test_fails_in_ci(tmp_path: Path, environment: dict[str, str], outcome: str) -> None:
    assert outcome in run(tmp_path, SKIPS, **environment)

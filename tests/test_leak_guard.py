"""The guard of tests/conftest.py: a task left running fails its test by name, one that has ended does not."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

SEEDED: Final = """
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


def test_a_task_left_running_fails_its_test_by_name(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("__init__.py", "conftest.py", "waiting.py"):
        shutil.copy(ROOT / "tests" / name, tests)
    (tests / "test_seeded.py").write_text(SEEDED)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tests)]
    result = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert "6 passed, 3 errors" in result.stdout
    for source in ("test", "fixture", "example"):
        assert f"left running: seeded-by-{source} (forever)" in result.stdout

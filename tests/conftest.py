"""What holds for every test: how hypothesis searches, that CI skips none, and that no task is left behind."""

import asyncio
import os
from collections.abc import AsyncIterator, Generator

import pytest
from hypothesis import settings
from pytest_asyncio import is_async_test

from tests.waiting import turns

# Postgres and Redis for whoever asks.
pytest_plugins = ["tests.servers_fixtures"]

# The normal run must give the same answer twice; `HYPOTHESIS_PROFILE=wide` looks further, at fresh examples.
# No deadline for one example: how long it takes says more about the other core than about the code.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("wide", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the guard around every async test, outside of all its fixtures. Others pay nothing."""
    for item in items:
        if isinstance(item, pytest.Function) and is_async_test(item):
            item.fixturenames.insert(0, "no_task_left_behind")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set, what is missing for a test is a failure: a test that never runs proves nothing."""
    report = yield
    if report.skipped and "CI" in os.environ and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fail the test when a task that it or its fixtures started in its loop outlives them."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # What was cancelled a moment ago needs some turns of the loop to end; what runs on is not ended by them.
    if left:
        await turns(10)
    running = [task for task in left if not task.done()]
    if not running:
        return
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    named = ", ".join(sorted(f"{task.get_name()} ({_place(task)})" for task in running))
    pytest.fail(f"left running: {named}", pytrace=False)


def _place(task: "asyncio.Task[object]") -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", repr(coroutine))

"""Where the nodes of a test stand, and at which pace what is lost is looked for."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.fanout import comparison as comparison_module
from gateway.runtime import webhook as webhook_module
from store.log_sqlite.log import SqliteLog
from tests.runtime.nodes import Cluster, Ground, nodes
from tests.runtime.receiver import Receiver
from tests.runtime.stage import Stage

Place = Callable[..., AbstractAsyncContextManager[Cluster]]


@pytest.fixture(params=["memory", "servers"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where the nodes stand: on what is embedded, or on Postgres and Redis."""
    if request.param == "memory":
        return partial(nodes, tmp_path)
    url, redis = request.getfixturevalue("postgres_url"), request.getfixturevalue("redis7").url
    return partial(nodes, tmp_path, ground=Ground(url, redis, f"t{uuid4().hex[:8]}"))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the pauses, so that what heals within 5 s heals within 0.5."""
    monkeypatch.setattr(comparison_module, "PAUSE_S", comparison_module.PAUSE_S / 10)
    monkeypatch.setattr(comparison_module, "TAKEOVER_PATIENCE_S", comparison_module.TAKEOVER_PATIENCE_S / 10)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    log = SqliteLog(tmp_path)
    await log.start()
    async with Receiver() as receiver:
        yield Stage(log, receiver)
    await log.close()


@pytest.fixture
def short_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn to deliver lasts 0.3 s."""
    monkeypatch.setattr(webhook_module, "TURN_MARGIN_S", 0.0)
    monkeypatch.setattr(webhook_module, "TURN_TIMEOUTS", 0.06)

"""HTTP callers while the log is away: an answer in time that says to come back."""

import asyncio
import time
from typing import Any

import pytest

from gateway.runtime import patience
from tests.api.conftest import Api, problem_of


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_LIMIT_S", patience.REQUEST_LIMIT_S / 10)


def hang(api: Api) -> None:
    async def hanging(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    for name in ("create", "access", "get", "members", "list_for", "put_member"):
        setattr(api.gateway.stores.log, name, hanging)


async def test_a_log_that_hangs_is_answered_with_503_in_time(api: Api, hurried: None) -> None:
    session = await api.session("alice")
    hang(api)
    for method, path, body in (
        ("POST", "/api/v1/sessions", {}),
        ("GET", f"/api/v1/sessions/{session}/members", None),
        ("PUT", f"/api/v1/sessions/{session}/members/bob", {"role": "reader"}),
        ("DELETE", f"/api/v1/sessions/{session}/members/bob", None),
    ):
        begun = time.monotonic()
        response = await api.call(method, path, user="alice", body=body)
        problem_of(response, 503, "unavailable")
        assert response.headers["retry-after"] == "1"
        assert time.monotonic() - begun < 0.5 + 0.25


async def test_while_the_log_is_known_to_be_away_writes_do_not_wait_for_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(api)
    monkeypatch.setattr(api.gateway.node.health, "is_in", lambda mode: mode == "postgres_away")
    begun = time.monotonic()
    problem_of(await api.call("POST", "/api/v1/sessions", user="alice", body={}), 503, "unavailable")
    assert time.monotonic() - begun < 1.0

"""Who is where over HTTP: presence, connections, delivery, heartbeats, by session, connection and user."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from store.errors import Unavailable
from store.types import Mark
from tests.api.conftest import Api, problem_of
from tests.runtime.world import ListOutlet
from tests.waiting import until

Open = Callable[..., Awaitable[tuple[str, ListOutlet]]]


@asynccontextmanager
async def connected(api: Api, user: str, *sessions: str) -> AsyncIterator[tuple[str, ListOutlet]]:
    """A connection of a user's that is attached to sessions: its id, and what it hears."""
    connection, outlet = api.gateway.node.accept(None, "192.0.2.7", 4711), ListOutlet()
    connection.on_open(outlet)
    attach = [{"session": session} for session in sessions]
    hello = {"type": "hello", "token": api.gateway.tokens.mint(user), "attach": attach}
    connection.on_text(msgspec.json.encode(hello), api.gateway.node.clock.monotonic())

    def attached() -> int:
        return sum(frame["type"] == "attached" for frame in outlet.frames)

    await until(lambda: bool(outlet.frames) and attached() == len(sessions))
    yield connection.id, outlet
    if not connection.is_closed:
        connection.on_closed(1000)


@pytest.fixture
async def connect(api: Api) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open(user: str, *sessions: str) -> tuple[str, ListOutlet]:
            return await stack.enter_async_context(connected(api, user, *sessions))

        yield open


async def told(api: Api, path: str, name: str, *, user: str) -> list[dict[str, Any]]:
    data = await api.data("GET", f"/api/v1{path}", user=user)
    rows = data[name]
    assert isinstance(rows, list)
    assert data["total"] == len(rows)
    return rows


async def eventually(api: Api, path: str, name: str, count: int, *, user: str) -> list[dict[str, Any]]:
    async def are_so_many() -> bool:
        return len(await told(api, path, name, user=user)) == count

    await until(are_so_many)
    return await told(api, path, name, user=user)


# -- of a session


async def test_who_is_in_a_session_is_told_with_their_connections(api: Api, connect: Open) -> None:
    session = await api.session("alice", members=[{"user": "bob", "role": "reader"}])
    assert await told(api, f"/sessions/{session}/presence", "users", user="alice") == []
    first, _ = await connect("alice", session)
    second, _ = await connect("bob", session)
    third, _ = await connect("bob", session)
    users = await eventually(api, f"/sessions/{session}/presence", "users", 2, user="bob")
    assert {(each["user"], each["connections"]) for each in users} == {("alice", 1), ("bob", 2)}
    entries = await eventually(api, f"/sessions/{session}/connections", "connections", 3, user="bob")
    assert {each["id"] for each in entries} == {first, second, third}
    assert {each["node"] for each in entries} == {api.gateway.node.id}


async def test_where_somebody_comes_from_is_theirs_and_the_operators(api: Api, connect: Open) -> None:
    session = await api.session("alice", members=[{"user": "bob"}])
    await connect("alice", session)
    for user, is_shown in (("alice", True), ("olga!", True), ("bob", False)):
        (entry,) = await eventually(api, f"/sessions/{session}/connections", "connections", 1, user=user)
        assert ("ip" in entry) is ("sessions" in entry) is is_shown
        assert entry.get("ip", "192.0.2.7") == "192.0.2.7"


async def test_whoever_is_attached_is_told_of_a_new_context_and_of_the_end(api: Api, connect: Open) -> None:
    session = await api.session("alice", members=[{"user": "bob"}])
    _, outlet = await connect("bob", session)
    await api.data("PUT", f"/api/v1/sessions/{session}/context", user="alice", body={"page": 2})
    await api.data("DELETE", f"/api/v1/sessions/{session}", user="alice")

    def heard() -> list[tuple[object, object]]:
        frames = [frame for frame in outlet.frames if frame["type"] == "session"]
        return [(frame["event"], frame["changes"]) for frame in frames]

    await until(lambda: heard() == [("updated", {"context": {"page": 2}}), ("deleted", {})])


async def test_how_far_each_member_has_come_is_told_of_those_who_have_not_begun_too(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}])
    for _ in range(3):
        body = {"content": "x"}
        await api.data("POST", f"/api/v1/sessions/{session}/messages", user="alice", body=body, status=201)
    await api.gateway.node.records.mark([Mark(session=session, user="bob", delivered=3, read=2)])
    data = await api.data("GET", f"/api/v1/sessions/{session}/delivery", user="alice")
    assert data == {
        "head": 3,
        "members": [
            {"user": "alice", "delivered": 0, "read": 0},
            {"user": "bob", "delivered": 3, "read": 2},
        ],
        "total": 2,
    }


async def test_a_heartbeat_extends_a_session_and_says_what_remains(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await api.session("alice", ttl=600, members=[{"user": "carol", "role": "reader"}])
    log = api.gateway.stores.log
    before = await log.get("default", session)
    assert before is not None
    assert before.expires_at is not None
    data = await api.data("POST", f"/api/v1/sessions/{session}/heartbeat", user="carol")
    assert data == {"session": session, "ttl_ms": 600_000}
    after = await log.get("default", session)
    assert after is not None
    assert after.expires_at is not None
    assert after.expires_at >= before.expires_at + 60_000

    async def away(expiries: object) -> None:
        raise Unavailable("the disk is on fire")

    monkeypatch.setattr(log, "extend", away)
    # What is known to live for long enough is not written again.
    assert await api.data("POST", f"/api/v1/sessions/{session}/heartbeat", user="carol") == data
    await api.data("PATCH", f"/api/v1/sessions/{session}", user="alice", body={"ttl": 60})
    response = await api.call("POST", f"/api/v1/sessions/{session}/heartbeat", user="carol")
    problem_of(response, 503, "unavailable")


async def test_a_persistent_session_lives_for_ever_and_an_ended_one_no_more(api: Api) -> None:
    session = await api.session("alice", persistent=True)
    data = await api.data("POST", f"/api/v1/sessions/{session}/heartbeat", user="alice")
    assert data["ttl_ms"] is None
    identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
    await api.gateway.node.sessions.end(identity, session)
    response = await api.call("POST", f"/api/v1/sessions/{session}/heartbeat", user="alice")
    problem_of(response, 410, "closed")


@pytest.mark.parametrize("what", ["presence", "connections", "delivery", "heartbeat"])
async def test_a_session_of_somebody_else_is_nowhere(api: Api, what: str) -> None:
    session = await api.session("alice")
    method = "POST" if what == "heartbeat" else "GET"
    for user, status in (("alice", 200), ("olga!", 200), ("mallory", 404), ("olga@acme!", 404)):
        response = await api.call(method, f"/api/v1/sessions/{session}/{what}", user=user)
        assert response.status_code == status, (user, response.text)


async def test_indexes_that_are_away_are_unavailable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await api.session("alice")

    async def away(*_: object) -> None:
        raise Unavailable("no index")

    for name in ("connections_of_session", "connections_of_user", "connection"):
        monkeypatch.setattr(api.gateway.node.live, name, away)
    for path in (f"sessions/{session}/presence", "users/alice/connections", f"connections/{session}"):
        problem_of(await api.call("GET", f"/api/v1/{path}", user="alice"), 503, "unavailable")


# -- of a connection and of a user


async def test_a_connection_is_found_by_its_id_by_its_user_and_operators(api: Api, connect: Open) -> None:
    session = await api.session("alice")
    id, _ = await connect("alice", session)
    # What it is attached to is written behind the answer that it is.
    await eventually(api, f"/sessions/{session}/connections", "connections", 1, user="alice")
    for user in ("alice", "olga!"):
        data = await api.data("GET", f"/api/v1/connections/{id}", user=user)
        connection = data["connection"]
        assert isinstance(connection, dict)
        assert (connection["id"], connection["user"], connection["sessions"]) == (id, "alice", [session])
    for user, asked in (
        ("bob", id),
        ("olga@acme!", id),
        ("alice", session),
        ("alice", "x"),
        ("alice", "%00"),
    ):
        problem_of(await api.call("GET", f"/api/v1/connections/{asked}", user=user), 404, "not_found")


async def test_the_connections_of_a_user_are_theirs_and_the_operators(api: Api, connect: Open) -> None:
    id, _ = await connect("alice")
    for user in ("alice", "olga!"):
        (entry,) = await eventually(api, "/users/alice/connections", "connections", 1, user=user)
        assert entry["id"] == id
    problem_of(await api.call("GET", "/api/v1/users/alice/connections", user="bob"), 404, "not_found")
    assert await told(api, "/users/alice/connections", "connections", user="olga@acme!") == []


async def test_the_sessions_of_a_user_are_theirs_and_the_operators(api: Api) -> None:
    made = [await api.session("alice") for _ in range(3)]
    for user in ("alice", "olga!"):
        seen: list[str] = []
        mark: object = ""
        while mark is not None:
            page = await api.data("GET", f"/api/v1/users/alice/sessions?limit=2&before={mark}", user=user)
            rows = page["sessions"]
            assert isinstance(rows, list)
            seen += [row["id"] for row in rows]
            mark = page["next"]
        assert seen == made[::-1]
    problem_of(await api.call("GET", "/api/v1/users/alice/sessions", user="bob"), 404, "not_found")
    assert (await api.data("GET", "/api/v1/users/alice/sessions", user="olga@acme!"))["sessions"] == []
    for user in ("%00", "a b", "x" * 65):
        problem_of(await api.call("GET", f"/api/v1/users/{user}/sessions", user="olga!"), 404, "not_found")


async def test_a_signal_to_a_user_is_heard_by_all_their_connections(api: Api, connect: Open) -> None:
    heard = [outlet for _, outlet in [await connect("alice"), await connect("alice")]]
    _, other = await connect("bob")
    body = {"name": "build.done", "data": {"number": 7}}
    await api.data("POST", "/api/v1/users/alice/signals", user="olga!", body=body, status=202)
    frame = {"type": "signal", "user": "alice", "name": "build.done", "data": {"number": 7}}
    await until(lambda: all(frame in outlet.frames for outlet in heard))
    assert frame not in other.frames


async def test_who_may_signal_to_a_user_and_what(api: Api) -> None:
    path, body = "/api/v1/users/alice/signals", {"name": "x"}
    for user, status in (("alice", 202), ("olga!", 202), ("bob", 404)):
        assert (await api.call("POST", path, user=user, body=body)).status_code == status
    for wrong in ({}, {"name": "a b"}, {"name": ""}, {"name": "x", "data": [1]}):
        problem_of(await api.call("POST", path, user="alice", body=wrong), 422, "bad_request")
    large = {"name": "x", "data": {"a": "x" * 20_000}}
    problem_of(await api.call("POST", path, user="alice", body=large), 413, "too_large")


# -- connections ended


async def gone(api: Api, outlet: ListOutlet, id: str) -> None:
    """Play the client that answers the close."""
    await until(lambda: outlet.closed is not None)
    api.gateway.node.connections[id].on_closed(4504)


async def test_a_connection_is_ended_and_the_users_others_go_on(api: Api, connect: Open) -> None:
    (first, outlet), (second, other) = [await connect("alice"), await connect("alice")]
    for stranger in ("bob", "olga@acme!"):
        response = await api.call("DELETE", f"/api/v1/connections/{first}", user=stranger)
        problem_of(response, 404, "not_found")
    await eventually(api, "/users/alice/connections", "connections", 2, user="alice")
    call = api.data("DELETE", f"/api/v1/connections/{first}", user="alice")
    data, _ = await asyncio.gather(call, gone(api, outlet, first))
    assert data == {"connections": 1, "open": 0}
    assert outlet.closed is not None
    assert outlet.closed[0] == 4504
    assert other.closed is None
    (entry,) = await told(api, "/users/alice/connections", "connections", user="alice")
    assert entry["id"] == second
    problem_of(await api.call("DELETE", f"/api/v1/connections/{first}", user="alice"), 404, "not_found")


async def test_all_connections_of_a_user_are_ended_and_nobody_elses(api: Api, connect: Open) -> None:
    mine = [await connect("alice"), await connect("alice")]
    _, other = await connect("bob")
    await eventually(api, "/users/alice/connections", "connections", 2, user="alice")
    for stranger in ("bob", "mallory"):
        response = await api.call("POST", "/api/v1/users/alice/disconnect", user=stranger)
        problem_of(response, 404, "not_found")
    call = api.data("POST", "/api/v1/users/alice/disconnect", user="olga!")
    data, *_ = await asyncio.gather(call, *(gone(api, outlet, id) for id, outlet in mine))
    assert data == {"connections": 2, "open": 0}
    assert other.closed is None
    assert await told(api, "/users/alice/connections", "connections", user="alice") == []
    none = await api.data("POST", "/api/v1/users/alice/disconnect", user="olga@acme!")
    assert none == {"connections": 0, "open": 0}


async def test_who_does_not_answer_the_close_is_said_to_be_open_still(api: Api, connect: Open) -> None:
    _, outlet = await connect("alice")
    await eventually(api, "/users/alice/connections", "connections", 1, user="alice")
    data = await api.data("POST", "/api/v1/users/alice/disconnect", user="alice", status=202)
    assert data == {"connections": 1, "open": 1}
    assert outlet.closed is not None

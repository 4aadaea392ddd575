"""Messages over HTTP: written once, whatever is repeated, told to whoever is attached; read page by page."""

import asyncio

import httpx
import pytest

from gateway.runtime.committer import Committer
from store.errors import Unavailable
from tests.api.conftest import Api, Document, problem_of
from tests.runtime.world import ListOutlet
from tests.store.making import NOW, appended, draft
from tests.waiting import turns, until

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"


def path(session: str, query: str = "") -> str:
    return f"/api/v1/sessions/{session}/messages{query}"


def message_of(data: Document) -> Document:
    message = data["message"]
    assert isinstance(message, dict)
    return message


async def post(
    api: Api, session: str, *, user: str = "alice", key: str | None = None, **body: object
) -> Document:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await api.call(
        "POST", path(session), user=user, headers=headers, body={"content": "hello", **body}
    )
    assert response.status_code in (200, 201), response.text
    data: Document = response.json()["data"]
    assert data["duplicate"] is (response.status_code == 200)
    return data


async def seqs(api: Api, session: str, query: str = "", user: str = "alice") -> tuple[list[int], object]:
    data = await api.data("GET", path(session, query), user=user)
    rows = data["messages"]
    assert isinstance(rows, list)
    return [row["seq"] for row in rows], data["more"]


# -- POST


@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
async def test_a_message_is_stored_as_it_was_given(api: Api, role: str) -> None:
    session = await api.session("alice")
    made = message_of(await post(api, session, role=role, content="grüezi", metadata={"a": [1]}))
    assert (made["seq"], made["role"], made["content"], made["sender"]) == (1, role, "grüezi", "alice")
    assert made["metadata"] == {"a": [1]}
    data = await api.data("GET", path(session), user="alice")
    assert data["messages"] == [made]


@pytest.mark.parametrize("as_header", [True, False])
async def test_a_message_that_is_sent_again_is_stored_once(api: Api, as_header: bool) -> None:
    session = await api.session("alice")
    key, body = ("k-1", {}) if as_header else (None, {"client_id": "k-1"})
    first = await post(api, session, key=key, **body)
    again = await post(api, session, key=key, **body)
    assert message_of(first) == message_of(again)
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    # Under either name it is the same id, and as a standard writes it, in quotes.
    assert (await post(api, session, key='"k-1"', client_id="k-1"))["duplicate"] is True
    assert await seqs(api, session) == ([1], False)


async def test_many_who_send_the_same_at_once_store_it_once(api: Api) -> None:
    session = await api.session("alice")
    answers = await asyncio.gather(*(post(api, session, key="k-1") for _ in range(10)))
    assert sum(not answer["duplicate"] for answer in answers) == 1
    assert await seqs(api, session) == ([1], False)


async def test_another_message_under_a_used_id_is_a_conflict(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}])
    await post(api, session, key="k-1")
    response = await api.call(
        "POST", path(session), user="alice", headers={"Idempotency-Key": "k-1"}, body={"content": "other"}
    )
    problem_of(response, 409, "id_conflict")
    # An id is its sender's.
    assert (await post(api, session, user="bob", key="k-1"))["duplicate"] is False


async def test_messages_without_an_id_are_each_their_own(api: Api) -> None:
    session = await api.session("alice")
    for _ in range(2):
        assert (await post(api, session))["duplicate"] is False


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"content": 5}, 422),
        ({"content": "a\0b"}, 422),
        ({"content": "x", "role": "boss"}, 422),
        ({"content": "x", "metadata": [1]}, 422),
        ({"content": "x", "client_id": ""}, 422),
        ({"content": "x", "client_id": "y" * 65}, 422),
        ({"content": "x", "client_id": "a\nb"}, 422),
        ({"content": "ä" * 40_000}, 413),
        ({"content": "x", "metadata": {"a": "x" * 70_000}}, 413),
    ],
)
async def test_a_message_that_cannot_be_is_refused(api: Api, body: object, status: int) -> None:
    session = await api.session("alice")
    code = "too_large" if status == 413 else "bad_request"
    problem_of(await api.call("POST", path(session), user="alice", body=body), status, code)


async def test_two_ids_that_differ_are_refused(api: Api) -> None:
    session = await api.session("alice")
    body = {"content": "x", "client_id": "one"}
    response = await api.call(
        "POST", path(session), user="alice", headers={"Idempotency-Key": "two"}, body=body
    )
    problem_of(response, 422, "bad_request")
    for key in ("", '""', "k" * 65):
        response = await api.call(
            "POST", path(session), user="alice", headers={"Idempotency-Key": key}, body={"content": "x"}
        )
        problem_of(response, 400, "bad_request")


async def test_who_may_write(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}, {"user": "carol", "role": "reader"}])
    for user, status in (("bob", 201), ("carol", 403), ("mallory", 404), ("olga!", 403), ("olga@acme!", 404)):
        response = await api.call("POST", path(session), user=user, body={"content": "x"})
        assert response.status_code == status, (user, response.text)
    for nowhere in (NOBODYS, "x", "%00"):
        problem_of(
            await api.call("POST", path(nowhere), user="alice", body={"content": "x"}), 404, "not_found"
        )


async def test_an_ended_session_takes_no_more_messages_and_can_be_read(api: Api) -> None:
    session = await api.session("alice")
    await post(api, session, key="k-1")
    identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
    await api.gateway.node.sessions.end(identity, session)
    problem_of(await api.call("POST", path(session), user="alice", body={"content": "x"}), 410, "closed")
    assert (await post(api, session, key="k-1"))["duplicate"] is True
    assert await seqs(api, session) == ([1], False)


async def test_whoever_is_attached_has_the_message_at_once(api: Api) -> None:
    session = await api.session("alice", exclusive=True)
    connection, outlet = api.gateway.node.accept(None, "127.0.0.1", 4711), ListOutlet()
    connection.on_open(outlet)
    hello = b'{"type":"hello","token":"%s"}' % api.gateway.tokens.mint("alice").encode()
    connection.on_text(hello, api.gateway.node.clock.monotonic())
    await until(lambda: any(frame["type"] == "welcome" for frame in outlet.frames))
    attach = b'{"type":"attach","id":"a","session":"%s"}' % session.encode()
    connection.on_text(attach, api.gateway.node.clock.monotonic())
    await until(lambda: any(frame["type"] == "live" for frame in outlet.frames))
    made = message_of(await post(api, session, role="assistant", content="from elsewhere"))
    await until(lambda: any(frame["type"] == "message" for frame in outlet.frames))
    assert {"type": "message", **made} in outlet.frames
    # It has taken nothing over.
    assert not any(frame["type"] == "session" for frame in outlet.frames)
    connection.on_closed(1000)


async def test_it_is_answered_after_the_commit_and_not_before(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await api.session("alice")
    append, committing = api.gateway.stores.log.append, asyncio.Event()

    async def held(drafts: object) -> object:
        await committing.wait()
        return await append(drafts)  # type: ignore[arg-type]

    monkeypatch.setattr(api.gateway.stores.log, "append", held)
    call = asyncio.ensure_future(post(api, session))
    await until(lambda: bool(api.gateway.node.committer._group))
    await turns(20)
    assert not call.done()
    committing.set()
    assert message_of(await call)["seq"] == 1


async def test_what_nobody_knows_to_be_stored_is_unavailable(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await api.session("alice")
    monkeypatch.setattr(Committer, "offer", lambda self, draft, on_done: on_done(None) is None)
    response = await api.call("POST", path(session), user="alice", body={"content": "x"})
    problem_of(response, 503, "unavailable")
    monkeypatch.setattr(Committer, "offer", lambda self, draft, on_done: False)
    response = await api.call("POST", path(session), user="alice", body={"content": "x"})
    problem_of(response, 503, "unavailable")


async def expiry(api: Api, session: str) -> int:
    found = await api.gateway.stores.log.get("default", session)
    assert found is not None
    assert found.expires_at is not None
    return found.expires_at


async def test_a_session_that_is_written_to_lives_on_and_is_extended_once_in_a_while(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await api.session("alice", ttl=600)
    begun = await expiry(api, session)
    await post(api, session)
    after = await expiry(api, session)
    assert begun + 60_000 <= after <= begun + 90_000
    extend, calls = api.gateway.stores.log.extend, 0

    async def counted(expiries: object) -> None:
        nonlocal calls
        calls += 1
        await extend(expiries)  # type: ignore[arg-type]

    monkeypatch.setattr(api.gateway.stores.log, "extend", counted)
    for _ in range(5):
        await post(api, session)
    assert (calls, await expiry(api, session)) == (0, after)
    # Another TTL counts from its own beginning.
    await api.data("PATCH", f"/api/v1/sessions/{session}", user="alice", body={"ttl": 60})
    await post(api, session)
    assert calls == 1
    assert await expiry(api, session) < after - 400_000


async def test_a_life_that_cannot_be_extended_fails_nobodys_message(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await api.session("alice", ttl=600)

    async def away(expiries: object) -> None:
        raise Unavailable("the disk is on fire")

    monkeypatch.setattr(api.gateway.stores.log, "extend", away)
    assert message_of(await post(api, session))["seq"] == 1


# -- GET


async def test_messages_are_read_page_by_page_in_both_directions(api: Api) -> None:
    session = await api.session("alice")
    drafts = [draft(session, tenant="default", created_at=NOW + number) for number in range(120)]
    await appended(api.gateway.stores.log, *drafts)
    assert await seqs(api, session) == (list(range(71, 121)), True)
    assert await seqs(api, session, "?limit=1000") == (list(range(1, 121)), False)
    assert await seqs(api, session, "?before=4") == ([1, 2, 3], False)
    assert await seqs(api, session, "?before=60&limit=2") == ([58, 59], True)
    assert await seqs(api, session, "?after=118") == ([119, 120], False)
    assert await seqs(api, session, "?after=0&limit=3") == ([1, 2, 3], True)
    assert await seqs(api, session, "?after=999") == ([], False)
    assert await seqs(api, session, f"?before={2**53 - 1}&limit=1") == ([120], True)


async def test_the_latest_are_those_of_this_moment_also_when_the_session_is_cached(api: Api) -> None:
    session = await api.session("alice")
    for seq in range(1, 4):
        await appended(api.gateway.stores.log, draft(session, tenant="default"))
        assert await seqs(api, session) == (list(range(1, seq + 1)), False)


@pytest.mark.parametrize(
    "query",
    ["?before=0", "?after=-1", "?before=x", "?limit=0", "?limit=1001", "?before=1&after=1", "?after=٣"],
)
async def test_a_place_that_cannot_be_is_a_bad_request(api: Api, query: str) -> None:
    session = await api.session("alice")
    problem_of(await api.call("GET", path(session, query), user="alice"), 400, "bad_request")


async def test_who_may_read(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "carol", "role": "reader"}])

    async def read(user: str) -> httpx.Response:
        return await api.call("GET", path(session), user=user)

    for user in ("carol", "olga!"):
        assert (await read(user)).status_code == 200
    for user in ("mallory", "olga@acme!", "alice@acme"):
        problem_of(await read(user), 404, "not_found")


async def test_who_is_no_member_any_more_reads_nothing_of_what_is_cached(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "carol", "role": "reader"}])
    await seqs(api, session, "?after=0", user="carol")
    await api.data("DELETE", f"/api/v1/sessions/{session}/members/carol", user="alice")
    problem_of(await api.call("GET", path(session, "?after=0"), user="carol"), 404, "not_found")

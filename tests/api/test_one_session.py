"""One session over HTTP: shown with its messages, changed by those who may."""

import httpx
import pytest

from gateway.errors import Unavailable
from gateway.runtime.messages import History
from store.types import Draft
from tests.api.conftest import Api, Document, problem_of
from tests.store.making import appended, draft

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"


def path(session: str, query: str = "") -> str:
    return f"/api/v1/sessions/{session}{query}"


def session_of(data: Document) -> Document:
    session = data["session"]
    assert isinstance(session, dict)
    return session


def said_by(session: str, count: int, content: str = "hello") -> list[Draft]:
    return [draft(session, tenant="default", content=f"{content} {number}") for number in range(count)]


def contents(data: Document) -> list[str]:
    rows = data["messages"]
    assert isinstance(rows, list)
    return [row["content"] for row in rows]


# -- GET


async def test_a_session_is_shown_with_its_messages_in_order(api: Api) -> None:
    session = await api.session("alice", title="Trip", context={"page": 1})
    await appended(api.gateway.stores.log, *said_by(session, 3))
    data = await api.data("GET", path(session), user="alice")
    shown = session_of(data)
    assert (shown["title"], shown["context"], shown["role"], shown["head"]) == (
        "Trip",
        {"page": 1},
        "owner",
        3,
    )
    assert contents(data) == ["hello 0", "hello 1", "hello 2"]
    assert data["more"] is False
    rows = data["messages"]
    assert isinstance(rows, list)
    assert set(rows[0]) == {
        "session", "seq", "id", "client_id", "sender", "role", "content", "metadata", "created_at"
    }  # fmt: skip
    assert "warnings" not in data


async def test_as_many_messages_are_shown_as_are_asked_for_the_latest_ones(api: Api) -> None:
    session = await api.session("alice")
    await appended(api.gateway.stores.log, *said_by(session, 5))
    data = await api.data("GET", path(session, "?messages=2"), user="alice")
    assert contents(data) == ["hello 3", "hello 4"]
    assert data["more"] is True
    data = await api.data("GET", path(session, "?messages=0"), user="alice")
    assert "messages" not in data


async def test_a_thousand_messages_are_shown_and_no_more(api: Api) -> None:
    session = await api.session("alice")
    for _ in range(3):
        await appended(api.gateway.stores.log, *said_by(session, 400))
    data = await api.data("GET", path(session), user="alice")
    assert len(contents(data)) == 1_000
    assert data["more"] is True
    problem_of(await api.call("GET", path(session, "?messages=1001"), user="alice"), 400, "bad_request")


async def test_messages_that_would_be_too_many_bytes_are_cut_off_and_said_to_be(api: Api) -> None:
    session = await api.session("alice")
    await appended(api.gateway.stores.log, *said_by(session, 100, "x" * 20_000))
    data = await api.data("GET", path(session), user="alice")
    assert len(contents(data)) == 50
    assert data["more"] is True


async def test_messages_that_cannot_be_read_do_not_fail_the_call_and_it_says_so(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await api.session("alice", title="Trip")
    await appended(api.gateway.stores.log, *said_by(session, 1))

    async def away(*_: object, **__: object) -> object:
        raise Unavailable("the disk is on fire")

    monkeypatch.setattr(History, "before", away)
    data = await api.data("GET", path(session), user="alice")
    assert session_of(data)["title"] == "Trip"
    assert data["messages"] is None
    assert data["warnings"]


async def test_a_reader_sees_the_session_and_a_stranger_does_not(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob", "role": "reader"}])
    assert session_of(await api.data("GET", path(session), user="bob"))["role"] == "reader"
    theirs = await api.call("GET", path(session), user="mallory")
    nobodys = await api.call("GET", path(NOBODYS), user="mallory")
    assert problem_of(theirs, 404, "not_found") == problem_of(nobodys, 404, "not_found")


async def test_an_operator_sees_any_session_of_the_tenant_and_none_of_another(api: Api) -> None:
    session = await api.session("alice")
    assert session_of(await api.data("GET", path(session), user="olga!"))["role"] is None
    problem_of(await api.call("GET", path(session), user="olga@acme!"), 404, "not_found")
    problem_of(await api.call("GET", path(session), user="alice@acme"), 404, "not_found")


async def test_a_session_that_has_ended_is_shown_still(api: Api) -> None:
    session = await api.session("alice")
    identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
    await api.gateway.node.sessions.end(identity, session)
    assert session_of(await api.data("GET", path(session), user="alice"))["end_reason"] == "closed"


# -- PATCH


async def test_what_is_given_is_changed_and_the_rest_stays(api: Api) -> None:
    session = await api.session("alice", title="Trip", metadata={"a": 1}, ttl=600)
    data = await api.data("PATCH", path(session), user="alice", body={"title": "Journey"})
    changed = session_of(data)
    assert (changed["title"], changed["metadata"], changed["ttl_s"]) == ("Journey", {"a": 1}, 600)
    assert changed["version"] == 2
    data = await api.data("PATCH", path(session), user="alice", body={"metadata": {"b": 2}})
    assert session_of(data)["metadata"] == {"b": 2}
    data = await api.data("PATCH", path(session), user="alice", body={"status": "archived"})
    assert session_of(data)["status"] == "archived"
    shown = session_of(await api.data("GET", path(session), user="alice"))
    assert (shown["title"], shown["metadata"], shown["status"]) == ("Journey", {"b": 2}, "archived")


async def test_a_session_is_made_persistent_and_temporary_again(api: Api) -> None:
    session = await api.session("alice", ttl=600)
    kept = session_of(await api.data("PATCH", path(session), user="alice", body={"persistent": True}))
    assert (kept["persistent"], kept["ttl_s"], kept["expires_at"]) == (True, None, None)
    body = {"persistent": False, "ttl_hours": 0.5}
    lent = session_of(await api.data("PATCH", path(session), user="alice", body=body))
    assert (lent["persistent"], lent["ttl_s"]) == (False, 1800)
    assert lent["expires_at"] is not None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": None},
        {"title": "x" * 201},
        {"status": "closed"},
        {"metadata": [1]},
        {"ttl": 0},
        {"persistent": True, "ttl": 60},
        {"persistent": False},
        {"title": "a\0b"},
        [],
    ],
    ids=str,
)
async def test_a_change_that_makes_no_sense_is_unprocessable(api: Api, body: object) -> None:
    session = await api.session("alice")
    problem_of(await api.call("PATCH", path(session), user="alice", body=body), 422, "bad_request")


async def test_a_change_can_depend_on_the_version(api: Api) -> None:
    session = await api.session("alice")
    tag = (await api.call("GET", path(session), user="alice")).headers["etag"]
    assert tag == '"1"'

    async def change() -> httpx.Response:
        headers = {"If-Match": tag}
        return await api.call("PATCH", path(session), user="alice", headers=headers, body={"title": "mine"})

    assert (await change()).headers["etag"] == '"2"'
    problem = problem_of(await change(), 412, "id_conflict")
    assert "version 2" in str(problem["message"])
    for header in ("7", 'W/"1"', '"1", "2"', '"x"', ""):
        response = await api.call(
            "PATCH", path(session), user="alice", headers={"If-Match": header}, body={"title": "x"}
        )
        problem_of(response, 400, "bad_request")


async def test_who_may_change_what(api: Api) -> None:
    members = [{"user": "bob"}, {"user": "carol", "role": "reader"}]
    session = await api.session("alice", members=members)
    for user, body, status in (
        ("bob", {"title": "x"}, 200),
        ("bob", {"status": "archived"}, 403),
        ("bob", {"ttl": 60}, 403),
        ("bob", {"persistent": True}, 403),
        ("carol", {"title": "x"}, 403),
        ("mallory", {"title": "x"}, 404),
        ("olga!", {"title": "x", "persistent": True}, 200),
        ("olga@acme!", {"title": "x"}, 404),
    ):
        response = await api.call("PATCH", path(session), user=user, body=body)
        assert response.status_code == status, (user, body, response.text)


async def test_a_session_that_has_ended_is_not_changed(api: Api) -> None:
    session = await api.session("alice")
    identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
    await api.gateway.node.sessions.end(identity, session)
    problem_of(await api.call("PATCH", path(session), user="alice", body={"title": "x"}), 410, "closed")


# -- members from the beginning


async def test_a_session_is_started_with_its_members(api: Api) -> None:
    members = [{"user": "bob", "role": "reader"}, {"user": "carol"}]
    session = await api.session("alice", members=members)
    data = await api.data("GET", path(session, "/members"), user="carol")
    rows = data["members"]
    assert isinstance(rows, list)
    assert [(row["user"], row["role"]) for row in rows] == [
        ("alice", "owner"),
        ("bob", "reader"),
        ("carol", "writer"),
    ]
    listed = await api.data("GET", "/api/v1/sessions", user="bob")
    assert [row["id"] for row in listed["sessions"]] == [session]  # type: ignore[attr-defined]
    assert session_of(await api.data("GET", path(session), user="alice"))["version"] == 1


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ([{"user": "bob", "role": "owner"}], 422),
        ([{"user": "a b"}], 422),
        ([{"role": "reader"}], 422),
        ("bob", 422),
        ([{"user": "bob"}, {"user": "bob"}], 400),
        ([{"user": "alice"}], 400),
    ],
)
async def test_members_that_cannot_be_are_refused(api: Api, members: object, status: int) -> None:
    body = {"members": members}
    problem_of(await api.call("POST", "/api/v1/sessions", user="alice", body=body), status, "bad_request")


async def test_a_thousand_members_are_too_many_with_the_owner(api: Api) -> None:
    body = {"members": [{"user": f"u{number}"} for number in range(1_000)]}
    problem_of(await api.call("POST", "/api/v1/sessions", user="alice", body=body), 409, "limit_reached")

"""Sessions deleted and contexts replaced over HTTP, by those who may and told to whoever is attached."""

import pytest

from tests.api.conftest import Api, Document, problem_of

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"


def path(session: str, rest: str = "") -> str:
    return f"/api/v1/sessions/{session}{rest}"


def session_of(data: Document) -> Document:
    session = data["session"]
    assert isinstance(session, dict)
    return session


# -- DELETE


async def test_a_deleted_session_exists_no_more_and_what_it_holds_is_kept(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}])
    await api.data("POST", path(session, "/messages"), user="bob", body={"content": "x"}, status=201)
    gone = session_of(await api.data("DELETE", path(session), user="alice"))
    assert (gone["end_reason"], gone["version"]) == ("deleted", 2)
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"title": "x"}),
        ("PUT", "/context", {"a": 1}),
        ("GET", "/messages", None),
        ("GET", "/messages?after=0", None),
        ("POST", "/messages", {"content": "x"}),
        ("GET", "/members", None),
        ("PUT", "/members/carol", {}),
        ("DELETE", "/members/bob", None),
        ("GET", "/presence", None),
        ("GET", "/delivery", None),
        ("POST", "/heartbeat", None),
    ):
        for user in ("alice", "bob", "olga!"):
            problem_of(await api.call(method, path(session, rest), user=user, body=body), 404, "not_found")
    for user in ("alice", "bob"):
        assert (await api.data("GET", "/api/v1/sessions", user=user))["sessions"] == []
    assert len(await api.gateway.stores.log.read(session, after=0, limit=5)) == 1


async def test_a_session_is_deleted_once_and_to_ask_again_is_no_error(api: Api) -> None:
    session = await api.session("alice")
    first = await api.data("DELETE", path(session), user="alice")
    assert await api.data("DELETE", path(session), user="alice") == first
    events = await api.gateway.stores.log.events(after=0, limit=9)
    assert [(event.kind, event.actor) for event in events] == [("created", "alice"), ("deleted", "alice")]


async def test_who_may_delete(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}, {"user": "carol", "role": "reader"}])
    for user, status in (
        ("bob", 403),
        ("carol", 403),
        ("mallory", 404),
        ("olga@acme!", 404),
        ("olga!", 200),
        ("mallory", 404),
    ):
        response = await api.call("DELETE", path(session), user=user)
        assert response.status_code == status, (user, response.text)
    for nowhere in (NOBODYS, "x", "%00"):
        problem_of(await api.call("DELETE", path(nowhere), user="olga!"), 404, "not_found")


async def test_a_session_that_has_ended_otherwise_is_not_deleted(api: Api) -> None:
    session = await api.session("alice")
    identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
    await api.gateway.node.sessions.end(identity, session)
    problem_of(await api.call("DELETE", path(session), user="alice"), 410, "closed")


# -- PUT context


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'{"page": 2, "context": 1}', {"page": 2, "context": 1}),
        (b'{"context": {"page": 2}}', {"page": 2}),
        (b'{"context": "{\\"page\\": 2}"}', {"page": 2}),
        (b'"{\\"page\\": 2}"', {"page": 2}),
        (b"{}", {}),
    ],
)
async def test_a_context_is_replaced_by_an_object_or_the_text_of_one(
    api: Api, sent: bytes, kept: object
) -> None:
    session = await api.session("alice", context={"old": True})
    changed = session_of(await api.data("PUT", path(session, "/context"), user="alice", body=sent))
    assert (changed["context"], changed["version"]) == (kept, 2)
    assert session_of(await api.data("GET", path(session), user="alice"))["context"] == kept


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"[1]", 422, "bad_request"),
        (b"5", 422, "bad_request"),
        (b"null", 422, "bad_request"),
        (b'"[1]"', 422, "bad_request"),
        (b'"no json"', 422, "bad_request"),
        (b'{"context": [1]}', 422, "bad_request"),
        (b'{"context": null}', 422, "bad_request"),
        (b'{"a": 9007199254740993}', 422, "bad_request"),
        (b'"{\\"a\\": 9007199254740993}"', 422, "bad_request"),
        (b'{"a": "\\u0000"}', 422, "bad_request"),
        (b'"{\\"a\\": \\"\\\\u0000\\"}"', 422, "bad_request"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 422, "bad_request"),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413, "too_large"),
        (b"{", 400, "bad_request"),
        (b'"\\ud800"', 400, "bad_request"),
        (b"", 400, "bad_request"),
    ],
)
async def test_a_context_that_cannot_be_is_refused(api: Api, sent: bytes, status: int, code: str) -> None:
    session = await api.session("alice")
    problem_of(await api.call("PUT", path(session, "/context"), user="alice", body=sent), status, code)


async def test_of_two_who_replace_one_version_the_second_is_told(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}])
    for user, status in (("alice", 200), ("bob", 412)):
        response = await api.call(
            "PUT", path(session, "/context"), user=user, headers={"If-Match": '"1"'}, body={"by": user}
        )
        assert response.status_code == status, response.text
    assert session_of(await api.data("GET", path(session), user="bob"))["context"] == {"by": "alice"}


async def test_who_may_replace_the_context(api: Api) -> None:
    session = await api.session("alice", members=[{"user": "bob"}, {"user": "carol", "role": "reader"}])
    for user, status in (("bob", 200), ("carol", 403), ("mallory", 404), ("olga!", 200), ("olga@acme!", 404)):
        response = await api.call("PUT", path(session, "/context"), user=user, body={"by": user})
        assert response.status_code == status, (user, response.text)

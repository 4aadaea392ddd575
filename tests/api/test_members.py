"""Members of a session over HTTP: who may see, add and remove whom."""

import pytest

from tests.api.conftest import Api, Document, problem_of

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"


def path(session: str, user: str | None = None) -> str:
    return f"/api/v1/sessions/{session}/members" + (f"/{user}" if user else "")


def members_of(data: Document) -> list[tuple[object, object]]:
    rows = data["members"]
    assert isinstance(rows, list)
    assert data["total"] == len(rows)
    return [(row["user"], row["role"]) for row in rows]


async def test_an_owner_adds_changes_and_removes_members(api: Api) -> None:
    session = await api.session("alice")
    data = await api.data("PUT", path(session, "bob"), user="alice", body={"role": "writer"})
    assert data["member"] == {"user": "bob", "role": "writer"}
    await api.data("PUT", path(session, "carol"), user="alice", body={"role": "reader"})
    listed = await api.data("GET", path(session), user="carol")
    assert members_of(listed) == [("alice", "owner"), ("bob", "writer"), ("carol", "reader")]
    await api.data("PUT", path(session, "carol"), user="alice", body={"role": "writer"})
    await api.data("DELETE", path(session, "bob"), user="alice")
    listed = await api.data("GET", path(session), user="alice")
    assert members_of(listed) == [("alice", "owner"), ("carol", "writer")]


async def test_a_member_is_told_how_far_each_has_read(api: Api) -> None:
    session = await api.session("alice")
    data = await api.data("GET", path(session), user="alice")
    assert data["members"] == [{**_only(data), "user": "alice", "role": "owner", "read": 0}]


def _only(data: Document) -> Document:
    rows = data["members"]
    assert isinstance(rows, list)
    [row] = rows
    return dict(row)


async def test_a_member_leaves_but_an_owner_cannot(api: Api) -> None:
    session = await api.session("alice")
    await api.data("PUT", path(session, "bob"), user="alice", body={})
    await api.data("DELETE", path(session, "bob"), user="bob")
    problem_of(await api.call("GET", path(session), user="bob"), 404, "not_found")
    refused = await api.call("DELETE", path(session, "alice"), user="alice")
    assert refused.status_code in (403, 404)


async def test_a_member_who_is_not_the_owner_changes_nobody(api: Api) -> None:
    session = await api.session("alice")
    await api.data("PUT", path(session, "bob"), user="alice", body={})
    problem_of(await api.call("PUT", path(session, "dave"), user="bob", body={}), 403, "forbidden")
    problem_of(await api.call("DELETE", path(session, "alice"), user="bob"), 403, "forbidden")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_session_of_somebody_else_does_not_exist(api: Api, method: str) -> None:
    session = await api.session("alice")
    where = path(session, None if method == "GET" else "bob")
    nowhere = path(NOBODYS, None if method == "GET" else "bob")
    body = {"role": "writer"} if method == "PUT" else None
    theirs = await api.call(method, where, user="mallory", body=body)
    nobodys = await api.call(method, nowhere, user="mallory", body=body)
    assert problem_of(theirs, 404, "not_found") == problem_of(nobodys, 404, "not_found")


@pytest.mark.parametrize("session", ["x", "%00", "..", NOBODYS.upper(), f"{NOBODYS}x", "{p}:session"])
async def test_what_is_no_session_id_is_answered_as_unknown(api: Api, session: str) -> None:
    problem_of(await api.call("GET", path(session), user="alice"), 404, "not_found")


async def test_a_name_that_nobody_can_have_is_refused(api: Api) -> None:
    session = await api.session("alice")
    for name in ("a b", "a%00", "ä", "x" * 65, "{a}"):
        problem_of(await api.call("PUT", path(session, name), user="alice", body={}), 422, "bad_request")
        problem_of(await api.call("DELETE", path(session, name), user="alice"), 404, "not_found")


@pytest.mark.parametrize("role", ["owner", "admin", "", 1, None])
async def test_a_role_that_cannot_be_given_is_unprocessable(api: Api, role: object) -> None:
    session = await api.session("alice")
    problem_of(
        await api.call("PUT", path(session, "bob"), user="alice", body={"role": role}), 422, "bad_request"
    )


async def test_a_session_that_has_ended_takes_no_members(api: Api) -> None:
    session = await api.session("alice")
    identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
    await api.gateway.node.sessions.end(identity, session)
    problem_of(await api.call("PUT", path(session, "bob"), user="alice", body={}), 410, "closed")

"""Searching over HTTP: what is found, how it is shown, and what a query may be."""

import pytest

from store.types import Draft, EndReason
from tests.api.conftest import Api, Document, problem_of
from tests.store.making import appended, draft

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"
ALL = "/api/v1/messages/search"


def one(session: str) -> str:
    return f"/api/v1/sessions/{session}/messages/search"


def message(session: str, content: str, sender: str = "alice") -> Draft:
    return draft(session, tenant="default", sender=sender, content=content)


def rows(data: Document) -> list[Document]:
    found = data["messages"]
    assert isinstance(found, list)
    return found


async def test_a_message_is_found_with_a_snippet(api: Api) -> None:
    session = await api.session("alice")
    sent = message(session, "你好世界，hello world")
    await appended(api.gateway.stores.log, sent, message(session, "nothing"))
    for path in (ALL, one(session)):
        data = await api.data("GET", f"{path}?q=世界 WORLD", user="alice")
        assert data["next"] is None
        [row] = rows(data)
        assert row.pop("created_at")
        assert row == {
            "session": session,
            "seq": 1,
            "id": sent.id,
            "sender": "alice",
            "role": "user",
            "snippet": [
                {"text": "你好", "match": False},
                {"text": "世界", "match": True},
                {"text": "，hello ", "match": False},
                {"text": "world", "match": True},
            ],
        }


async def test_pages_go_on_with_next_over_all_sessions(api: Api) -> None:
    sessions = [await api.session("alice") for _ in range(3)]
    drafts = [message(sessions[number % 3], f"word {number}") for number in range(30)]
    await appended(api.gateway.stores.log, *drafts)
    found: list[object] = []
    path = f"{ALL}?q=word&limit=7"
    data = await api.data("GET", path, user="alice")
    while data["next"] is not None:
        found += [row["id"] for row in rows(data)]
        data = await api.data("GET", f"{path}&before={data['next']}", user="alice")
    found += [row["id"] for row in rows(data)]
    assert found == sorted((each.id for each in drafts), reverse=True)
    for session in sessions:
        assert len(rows(await api.data("GET", f"{one(session)}?q=word", user="alice"))) == 10


async def test_nobody_finds_what_is_not_theirs(api: Api) -> None:
    session = await api.session("alice")
    await appended(api.gateway.stores.log, message(session, "a secret"))
    assert rows(await api.data("GET", f"{ALL}?q=secret", user="bob")) == []
    problem_of(await api.call("GET", f"{one(session)}?q=secret", user="bob"), 404, "not_found")
    problem_of(await api.call("GET", f"{one(NOBODYS)}?q=secret", user="alice"), 404, "not_found")
    problem_of(await api.call("GET", f"{one('no-id')}?q=secret", user="alice"), 404, "not_found")
    problem_of(await api.call("GET", f"{ALL}?q=secret"), 401, "unauthenticated")
    await api.data("PUT", f"/api/v1/sessions/{session}/members/bob", user="alice", body={"role": "reader"})
    assert len(rows(await api.data("GET", f"{ALL}?q=secret", user="bob"))) == 1
    assert len(rows(await api.data("GET", f"{one(session)}?q=secret", user="bob"))) == 1


async def test_an_operator_searches_any_session_of_the_tenant_by_its_id(api: Api) -> None:
    session = await api.session("alice")
    await appended(api.gateway.stores.log, message(session, "a secret"))
    token = api.gateway.tokens.mint("eve", scopes=("operator",))
    headers = {"Authorization": f"Bearer {token}"}
    response = await api.call("GET", f"{one(session)}?q=secret", headers=headers)
    assert len(rows(response.json()["data"])) == 1
    response = await api.call("GET", f"{ALL}?q=secret", headers=headers)
    assert rows(response.json()["data"]) == []


async def test_an_ended_session_is_searched_by_its_id_and_a_deleted_one_not_at_all(api: Api) -> None:
    closed, deleted = await api.session("alice"), await api.session("alice")
    reasons: dict[str, EndReason] = {closed: "closed", deleted: "deleted"}
    for session, reason in reasons.items():
        await appended(api.gateway.stores.log, message(session, "a word"))
        identity = await api.gateway.tokens.verify(api.gateway.tokens.mint("alice"))
        await api.gateway.node.sessions.end(identity, session, reason)
    assert rows(await api.data("GET", f"{ALL}?q=word", user="alice")) == []
    assert len(rows(await api.data("GET", f"{one(closed)}?q=word", user="alice"))) == 1
    problem_of(await api.call("GET", f"{one(deleted)}?q=word", user="alice"), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "q=",
        "q=%20",
        'q=""',
        f"q={'x' * 201}",
        "q=1 2 3 4 5 6 7 8 9",
        "q=a%00b",
        "q=a&before=7",
        "q=a&limit=51",
    ],
)
async def test_what_cannot_be_searched_for_is_said(api: Api, query: str) -> None:
    problem = problem_of(await api.call("GET", f"{ALL}?{query}", user="alice"), 400, "bad_request")
    assert any(name in str(problem["message"]) for name in ("q ", "before ", "limit "))

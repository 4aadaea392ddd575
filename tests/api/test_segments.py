"""Splitting a session's text over HTTP: who may, what is stored, and who is told."""

from tests.api.conftest import Api, Document, problem_of

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"
TEXT = "你好。Dr. Smith paid $3.50. 再见！"
SENTENCES = ["你好。", "Dr. Smith paid $3.50.", "再见！"]


def path(session: str) -> str:
    return f"/api/v1/sessions/{session}/segment"


def session_of(data: Document) -> Document:
    session = data["session"]
    assert isinstance(session, dict)
    return session


async def test_a_text_is_split_stored_and_returned(api: Api) -> None:
    session = await api.session("alice", text=TEXT)
    data = session_of(await api.data("POST", path(session), user="alice"))
    assert (data["sentences"], data["version"], data["text"]) == (SENTENCES, 2, TEXT)
    stored = await api.gateway.node.records.get("default", session)
    assert stored is not None
    assert stored.version == 2
    assert stored.sentences is not None


async def test_the_same_again_changes_nothing(api: Api) -> None:
    session = await api.session("alice", text=TEXT)
    first = await api.data("POST", path(session), user="alice")
    assert await api.data("POST", path(session), user="alice") == first


async def test_a_session_without_text_has_nothing_to_split(api: Api) -> None:
    session = await api.session("alice")
    problem_of(await api.call("POST", path(session), user="alice"), 400, "bad_request")


async def test_a_text_of_white_space_has_no_sentences(api: Api) -> None:
    session = await api.session("alice", text=" \n ")
    assert session_of(await api.data("POST", path(session), user="alice"))["sentences"] == []


async def test_whoever_may_not_change_the_session_may_not_split_it(api: Api) -> None:
    session = await api.session("alice", text=TEXT)
    await api.data("PUT", f"/api/v1/sessions/{session}/members/bob", user="alice", body={"role": "reader"})
    problem_of(await api.call("POST", path(session), user="bob"), 403, "forbidden")
    problem_of(await api.call("POST", path(session), user="mallory"), 404, "not_found")
    problem_of(await api.call("POST", path(NOBODYS), user="alice"), 404, "not_found")
    problem_of(await api.call("POST", path("no-id"), user="alice"), 404, "not_found")
    problem_of(await api.call("POST", path(session)), 401, "unauthenticated")

"""Sessions over HTTP: starting one, listing one's own."""

import re

import pytest

from tests.api.conftest import Api, Document, problem_of

PATH = "/api/v1/sessions"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_a_session_is_started_with_everything_that_was_asked_for(api: Api) -> None:
    body = {
        "title": "Trip",
        "ttl": 600,
        "exclusive": True,
        "context": {"a": [1, 2.5, None]},
        "metadata": {"source": "test"},
        "text": "Hello.",
        "voice": "anna",
    }
    data = await api.data("POST", PATH, user="alice", body=body, status=201)
    session = data["session"]
    assert isinstance(session, dict)
    assert session["title"] == "Trip"
    assert session["owner"] == "alice"
    assert session["ttl_s"] == 600
    assert session["persistent"] is False
    assert session["exclusive"] is True
    assert session["context"] == {"a": [1, 2.5, None]}
    assert session["metadata"] == {"source": "test"}
    assert session["text"] == "Hello."
    assert session["voice"] == "anna"
    assert session["head"] == 0
    assert session["version"] == 1
    assert session["ended_at"] is None
    assert TIME.fullmatch(session["created_at"])
    assert TIME.fullmatch(session["expires_at"])


async def test_a_session_needs_nothing_to_be_started(api: Api) -> None:
    data = await api.data("POST", PATH, user="alice", body={}, status=201)
    session = data["session"]
    assert isinstance(session, dict)
    assert session["title"] == ""
    assert session["ttl_s"] == 3600
    assert session["context"] == {}


async def test_a_persistent_session_never_expires(api: Api) -> None:
    data = await api.data("POST", PATH, user="alice", body={"persistent": True}, status=201)
    session = data["session"]
    assert isinstance(session, dict)
    assert session["persistent"] is True
    assert session["expires_at"] is None


async def test_a_ttl_may_be_given_in_hours(api: Api) -> None:
    data = await api.data("POST", PATH, user="alice", body={"ttl_hours": 0.5}, status=201)
    session = data["session"]
    assert isinstance(session, dict)
    assert session["ttl_s"] == 1800


@pytest.mark.parametrize(
    "body",
    [
        {"title": 5},
        {"title": "x" * 201},
        {"ttl": 0},
        {"ttl": "soon"},
        {"ttl_hours": -1},
        {"persistent": True, "ttl": 60},
        {"context": [1]},
        {"context": "{}"},
        {"metadata": {"n": 2**60}},
        {"title": "a\0b"},
        {"context": {"a": "\0"}},
        [],
        "text",
    ],
    ids=str,
)
async def test_another_document_than_asked_for_is_unprocessable(api: Api, body: object) -> None:
    problem_of(await api.call("POST", PATH, user="alice", body=body), 422, "bad_request")


async def test_a_context_that_is_too_deep_is_unprocessable(api: Api) -> None:
    deep = b'{"context":' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}"
    problem_of(await api.call("POST", PATH, user="alice", body=deep), 422, "bad_request")


@pytest.mark.parametrize("field", ["context", "metadata"])
async def test_a_document_beyond_its_limit_is_too_large(api: Api, field: str) -> None:
    body = {field: {"a": "x" * 70_000}}
    problem_of(await api.call("POST", PATH, user="alice", body=body), 413, "too_large")


async def test_a_text_beyond_its_limit_is_too_large(api: Api) -> None:
    problem_of(await api.call("POST", PATH, user="alice", body={"text": "ä" * 40_000}), 413, "too_large")


async def test_the_hundred_and_first_live_session_is_refused(api: Api) -> None:
    for _ in range(100):
        await api.session("alice")
    problem_of(await api.call("POST", PATH, user="alice", body={}), 409, "limit_reached")
    await api.session("bob")


async def test_the_list_shows_ones_own_sessions_page_by_page_latest_first(api: Api) -> None:
    made = [await api.session("alice", title=f"n{number}") for number in range(5)]
    await api.session("bob")
    seen: list[str] = []
    mark: object = ""
    pages = 0
    while mark is not None:
        page = await api.data("GET", f"{PATH}?limit=2&before={mark}", user="alice")
        seen += [str(row["id"]) for row in rows_of(page)]
        mark = page["next"]
        pages += 1
    assert seen == made[::-1]
    assert pages == 3


async def test_a_row_of_the_list_says_what_a_list_shows(api: Api) -> None:
    session = await api.session("alice", title="Trip", context={"secret": 1})
    [row] = rows_of(await api.data("GET", PATH, user="alice"))
    assert row["id"] == session
    assert row["title"] == "Trip"
    assert row["role"] == "owner"
    assert row["unread"] == 0
    assert row["read"] == 0
    assert row["preview"] == ""
    assert TIME.fullmatch(str(row["last_at"]))
    assert "context" not in row


@pytest.mark.parametrize("limit", ["0", "-1", "201", "ten", "1.5", "٣", "9" * 30])
async def test_a_limit_out_of_range_is_a_bad_request(api: Api, limit: str) -> None:
    problem_of(await api.call("GET", f"{PATH}?limit={limit}", user="alice"), 400, "bad_request")


@pytest.mark.parametrize(
    "before", ["x", "1.x", "-1.", "1", f"{'9' * 40}.x", "1.0192f3a0-0000-7000-8000-00000000000G"]
)
async def test_a_place_in_the_list_that_was_never_given_out_is_a_bad_request(api: Api, before: str) -> None:
    problem_of(await api.call("GET", f"{PATH}?before={before}", user="alice"), 400, "bad_request")


async def test_a_head_request_is_answered_like_a_get_without_its_body(api: Api) -> None:
    response = await api.call("HEAD", PATH, user="alice")
    assert response.status_code == 200
    assert response.content == b""


def rows_of(page: Document) -> list[Document]:
    rows = page["sessions"]
    assert isinstance(rows, list)
    return rows

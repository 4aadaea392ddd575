"""What a request may bring: sizes, types and forms of bodies."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.api import bodies
from tests.api.conftest import LOCAL, Api, problem_of

PATH = "/api/v1/sessions"


async def test_a_body_above_256_kib_is_too_large(api: Api) -> None:
    body = b'{"text":"' + b"x" * bodies.MAX_BODY_BYTES + b'"}'
    problem_of(await api.call("POST", PATH, user="alice", body=body), 413, "too_large")


async def test_a_body_that_hides_its_length_is_cut_off_all_the_same(api: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 16_384

    headers = {
        "Authorization": f"Bearer {api.gateway.tokens.mint('alice')}",
        "Content-Type": "application/json",
    }
    transport = httpx.ASGITransport(app=api.gateway.asgi)
    async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as http:
        response = await http.post(PATH, headers=headers, content=endless())
    problem_of(response, 413, "too_large")
    assert sent <= bodies.MAX_BODY_BYTES // 16_384 + 2


async def test_a_body_that_does_not_arrive_is_not_waited_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_DEADLINE_S", 0.05)
    answers: list[dict[str, object]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + api.gateway.tokens.mint("alice").encode()),
        ],
    }

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        answers.append(message)

    await api.gateway.asgi(scope, receive, send)
    assert answers[0]["status"] == 408


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_a_body_of_another_type_is_not_read(api: Api, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    response = await api.call("POST", PATH, user="alice", headers=headers, body={"title": "x"})
    problem_of(response, 415, "bad_request")


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
async def test_parameters_and_case_of_the_type_do_not_matter(api: Api, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    response = await api.call("POST", PATH, user="alice", headers=headers, body={"title": "x"})
    assert response.status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a':1}",
        b"\xff\xfe",
        b'{"title":"\xed\xa0\x80"}',
        b'{"context":' + b"[" * 5000,
        b'{"a":NaN}',
        b"{}{}",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_what_is_not_json_is_a_bad_request(api: Api, body: bytes) -> None:
    problem_of(await api.call("POST", PATH, user="alice", body=body), 400, "bad_request")


async def test_unknown_fields_are_ignored_like_on_the_wire(api: Api) -> None:
    response = await api.call("POST", PATH, user="alice", body={"title": "x", "colour": "red"})
    assert response.status_code == 201

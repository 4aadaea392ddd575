"""How requests fail: each fault of the gateway's has its status, its document and its headers."""

from collections.abc import Awaitable, Callable
from typing import get_args

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import store.errors
from gateway import errors
from gateway.api.headers import DefaultHeaders
from gateway.api.problems import HANDLERS, STATUS
from gateway.errors import ErrorCode, GatewayError
from tests.api.conftest import LOCAL, Api, problem_of

EXPECTED = [
    (errors.BadRequest("no"), 400),
    (errors.Unauthenticated("no"), 401),
    (errors.Forbidden("no"), 403),
    (errors.NotFound("no"), 404),
    (errors.Conflict("no"), 409),
    (errors.NotAttached("no"), 409),
    (errors.Superseded("no"), 409),
    (errors.LimitReached("no"), 409),
    (errors.SessionClosed("no"), 410),
    (errors.SessionExpired("no"), 410),
    (errors.TooLarge("no"), 413),
    (errors.RateLimited("no"), 429),
    (errors.Unavailable("no"), 503),
]


async def failing(error: Exception) -> httpx.Response:
    async def endpoint(request: Request) -> Response:
        raise error

    app = Starlette(
        routes=[Route("/", endpoint)], exception_handlers=HANDLERS, middleware=[Middleware(DefaultHeaders)]
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as http:
        return await http.get("/")


def test_every_error_code_has_a_status() -> None:
    assert set(STATUS) == set(get_args(ErrorCode))


@pytest.mark.parametrize(("error", "status"), EXPECTED, ids=lambda value: getattr(value, "code", ""))
async def test_a_fault_is_answered_with_its_status(error: GatewayError, status: int) -> None:
    response = await failing(error)
    problem = problem_of(response, status, error.code)
    assert problem["message"] == "no"
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("retry-after" in response.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("wait_ms", "seconds"), [(None, "1"), (1, "1"), (1000, "1"), (1001, "2"), (30_000, "30")]
)
async def test_a_wait_is_rounded_up_to_whole_seconds(wait_ms: int | None, seconds: str) -> None:
    response = await failing(errors.RateLimited("no", retry_after_ms=wait_ms))
    assert response.headers["retry-after"] == seconds


async def test_a_store_that_is_away_is_unavailable_and_says_nothing_of_itself() -> None:
    response = await failing(store.errors.Unavailable("postgresql://user:secret@host refused"))
    problem_of(response, 503, "unavailable")
    assert response.headers["retry-after"] == "1"
    assert "secret" not in response.text


async def test_a_bug_is_answered_without_detail_and_with_all_headers() -> None:
    response = await failing(ZeroDivisionError("secret"))
    problem_of(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nothing",
        "/api/v2/sessions",
        "/api/v1/sessions/",
        "//",
        "/api",
        "/admin",
        "/metrics",
        "/static",
        "/wp",
    ],
)
async def test_what_is_not_there_is_not_found(api: Api, path: str) -> None:
    problem_of(await api.call("GET", path, user="alice"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/sessions", {"GET", "HEAD", "POST"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("GET", "/api/v1/tickets", {"POST"}),
        ("OPTIONS", "/api/v1/sessions", {"GET", "HEAD", "POST"}),
        ("GET", "/api/v1/sessions/x/members/bob", {"PUT", "DELETE"}),
    ],
)
async def test_a_method_that_is_not_offered_is_told_which_are(
    api: Api, method: str, path: str, allowed: set[str]
) -> None:
    response = await api.call(method, path, user="alice")
    problem_of(response, 405, "bad_request")
    assert {name.strip() for name in response.headers["allow"].split(",")} == allowed


Asked = Callable[[], Awaitable[httpx.Response]]


async def test_every_answer_carries_the_security_headers(api: Api) -> None:
    asked: list[Asked] = [
        lambda: api.call("GET", "/"),
        lambda: api.call("GET", "/static/js/main.js"),
        lambda: api.call("GET", "/livez"),
        lambda: api.call("GET", "/readyz"),
        lambda: api.call("GET", "/api/v1/config"),
        lambda: api.call("GET", "/api/v1/sessions", user="alice"),
        lambda: api.call("GET", "/api/v1/sessions"),
        lambda: api.call("GET", "/nothing"),
        lambda: api.call("DELETE", "/"),
        lambda: api.call("POST", "/api/v1/sessions", user="alice", body=b"{"),
    ]
    for ask in asked:
        response = await ask()
        headers = response.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "unsafe" not in headers["content-security-policy"]

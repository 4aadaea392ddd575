"""A whole gateway in the test's own process, its HTTP side called without a socket."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import pytest

from gateway.app import Gateway, open_gateway
from gateway.settings import load

Document = dict[str, object]
LOCAL = "http://127.0.0.1:8000"


class Api:
    """What a caller of the HTTP routes has in hand."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def call(
        self,
        method: str,
        path: str,
        *,
        user: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        peer: str = "127.0.0.1",
    ) -> httpx.Response:
        """Make one request, as `user` where one is given: see `identified`."""
        sent = dict(headers or {})
        if user is not None:
            sent |= self.identified(user)
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else msgspec.json.encode(body)
            sent.setdefault("Content-Type", "application/json")
        transport = httpx.ASGITransport(app=self.gateway.asgi, client=(peer, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as http:
            # As it is: a path with dots in it must not be tidied up before it is sent.
            url = httpx.URL(LOCAL).copy_with(raw_path=quote(path, safe="/%?&=.:{}").encode())
            return await http.request(method, url, headers=sent, content=content)

    def identified(self, user: str) -> dict[str, str]:
        """The headers of a user; `user@tenant` is one of another tenant, `user!` an operator."""
        name, _, tenant = user.rstrip("!").partition("@")
        scopes = ["operator"] if user.endswith("!") else []
        token = self.gateway.tokens.mint(name, tenant or "default", scopes=scopes)
        return {"Authorization": f"Bearer {token}"}

    async def data(
        self, method: str, path: str, *, user: str, body: object = None, status: int = 200
    ) -> Document:
        """Make a request that succeeds, and return its data."""
        response = await self.call(method, path, user=user, body=body)
        assert response.status_code == status, response.text
        envelope = response.json()
        assert envelope["code"] == status
        assert isinstance(envelope["message"], str)
        data: Document = envelope["data"]
        return data

    async def session(self, user: str, **body: object) -> str:
        """Start a session and return its id."""
        data = await self.data("POST", "/api/v1/sessions", user=user, body=body, status=201)
        session = data["session"]
        assert isinstance(session, dict)
        return str(session["id"])


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    gateway = open_gateway(load({"GATEWAY_DATA_DIR": str(tmp_path / "data")}))
    await gateway.start()
    try:
        yield Api(gateway)
    finally:
        await gateway.stop()


def problem_of(response: httpx.Response, status: int, code: str) -> Document:
    """Check that the answer is the problem document it should be, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: Document = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["message"]
    assert problem["detail"] == problem["message"]
    assert problem["title"]
    assert problem["type"] == "about:blank"
    return problem

"""Tickets, revocation, and the demo's tokens by name, which only a page on the same machine may have."""

import asyncio
from pathlib import Path

import pytest

from gateway.app import open_gateway
from gateway.settings import load
from tests.api.conftest import LOCAL, Api, problem_of

DEMO = "/api/v1/demo/token"
SAME_ORIGIN = {"Origin": LOCAL, "Sec-Fetch-Site": "same-origin"}


async def test_a_page_on_this_machine_gets_a_token_by_name(api: Api) -> None:
    response = await api.call("POST", DEMO, headers=SAME_ORIGIN, body={"user": "alice"})
    assert response.status_code == 201
    data = response.json()["data"]
    assert data["user"] == "alice"
    assert data["tenant"] == "default"
    identity = await api.gateway.tokens.verify(data["token"])
    assert identity.user == "alice"
    assert identity.scopes == frozenset()


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "127.9.9.9:1", "[::1]:8000", "LOCALHOST"])
async def test_every_name_of_the_loopback_counts_as_this_machine(api: Api, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    response = await api.call("POST", DEMO, headers=headers, body={"user": "alice"})
    assert response.status_code == 201, response.text


@pytest.mark.parametrize("peer", ["10.0.0.5", "192.168.1.2", "2001:db8::1", "::ffff:10.0.0.5"])
async def test_another_machine_gets_no_token_by_name(api: Api, peer: str) -> None:
    response = await api.call("POST", DEMO, headers=SAME_ORIGIN, body={"user": "alice"}, peer=peer)
    problem_of(response, 404, "not_found")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1@evil.example",
        "127.0.0.1#.evil.example",
        "0.0.0.0:8000",
        "",
    ],
)
async def test_a_rebound_name_gets_no_token_by_name(api: Api, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    problem_of(await api.call("POST", DEMO, headers=headers, body={"user": "alice"}), 404, "not_found")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {**SAME_ORIGIN, "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
async def test_a_page_of_another_origin_gets_no_token_by_name(api: Api, headers: dict[str, str]) -> None:
    problem_of(await api.call("POST", DEMO, headers=headers, body={"user": "alice"}), 404, "not_found")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
async def test_whoever_comes_through_a_proxy_gets_no_token_by_name(api: Api, header: str) -> None:
    headers = {**SAME_ORIGIN, header: "127.0.0.1"}
    problem_of(await api.call("POST", DEMO, headers=headers, body={"user": "alice"}), 404, "not_found")


async def test_a_gateway_with_a_key_of_its_own_has_no_demo(tmp_path: Path) -> None:
    secret = "x" * 32
    gateway = open_gateway(load({"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_JWT_SECRET": secret}))
    await gateway.start()
    try:
        api = Api(gateway)
        problem_of(
            await api.call("POST", DEMO, headers=SAME_ORIGIN, body={"user": "alice"}), 404, "not_found"
        )
        assert (await api.call("GET", "/api/v1/config")).json()["data"]["demo"] is False
    finally:
        await gateway.stop()


@pytest.mark.parametrize("user", ["", "a b", "ä", "x" * 65, "a\nb"])
async def test_a_name_that_nobody_can_have_gets_no_token(api: Api, user: str) -> None:
    response = await api.call("POST", DEMO, headers=SAME_ORIGIN, body={"user": user})
    problem_of(response, 422, "bad_request")


async def test_the_configuration_says_whether_there_is_a_demo_for_this_caller(api: Api) -> None:
    near = (await api.call("GET", "/api/v1/config")).json()["data"]
    far = (await api.call("GET", "/api/v1/config", peer="10.0.0.5")).json()["data"]
    rebound = (await api.call("GET", "/api/v1/config", headers={"Host": "evil.example"})).json()["data"]
    assert near["demo"] is True
    assert far["demo"] is False
    assert rebound["demo"] is False
    assert near["version"]
    assert near["limits"]["message_bytes"] == 65_536


async def test_a_ticket_is_good_for_one_hello(api: Api) -> None:
    data = await api.data("POST", "/api/v1/tickets", user="alice", status=201)
    assert 0 < int(str(data["expires_in_ms"])) <= 30_000
    tickets = api.gateway.node.tickets
    redeemed = await asyncio.gather(*(tickets.redeem(str(data["ticket"])) for _ in range(20)))
    [identity] = [found for found in redeemed if found is not None]
    assert identity.user == "alice"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions"),
        ("GET", "/api/v1/sessions/x/members"),
        ("PUT", "/api/v1/sessions/x/members/bob"),
        ("DELETE", "/api/v1/sessions/x/members/bob"),
        ("POST", "/api/v1/tickets"),
        ("POST", "/api/v1/users/alice/revoke"),
    ],
)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer a.b.c", "Bearer " + "x" * 9000],
)
async def test_no_route_answers_without_a_good_token(
    api: Api, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = await api.call(method, path, headers=headers)
    problem_of(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_user_revokes_their_own_tokens(api: Api) -> None:
    token = api.gateway.tokens.mint("alice")
    headers = {"Authorization": f"Bearer {token}"}
    response = await api.call("POST", "/api/v1/users/alice/revoke", headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["data"]["user"] == "alice"
    assert response.json()["data"]["issued_before"].endswith("Z")
    problem_of(await api.call("GET", "/api/v1/sessions", headers=headers), 401, "unauthenticated")


async def test_only_an_operator_revokes_the_tokens_of_others(api: Api) -> None:
    victim = {"Authorization": f"Bearer {api.gateway.tokens.mint('alice')}"}
    problem_of(await api.call("POST", "/api/v1/users/alice/revoke", user="bob"), 403, "forbidden")
    assert (await api.call("GET", "/api/v1/sessions", headers=victim)).status_code == 200
    operator = api.gateway.tokens.mint("root", scopes=("operator",))
    response = await api.call(
        "POST", "/api/v1/users/alice/revoke", headers={"Authorization": f"Bearer {operator}"}
    )
    assert response.status_code == 200
    problem_of(await api.call("GET", "/api/v1/sessions", headers=victim), 401, "unauthenticated")
    problem_of(
        await api.call("POST", "/api/v1/users/a%20b/revoke", headers={"Authorization": f"Bearer {operator}"}),
        404,
        "not_found",
    )


async def test_an_operator_of_one_tenant_is_nobody_in_another(api: Api) -> None:
    victim = {"Authorization": f"Bearer {api.gateway.tokens.mint('alice')}"}
    operator = api.gateway.tokens.mint("root", "other", scopes=("operator",))
    response = await api.call(
        "POST", "/api/v1/users/alice/revoke", headers={"Authorization": f"Bearer {operator}"}
    )
    assert response.status_code == 200
    assert (await api.call("GET", "/api/v1/sessions", headers=victim)).status_code == 200

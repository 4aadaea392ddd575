"""An operator moves connections over HTTP: who may, what is answered, and what is not there."""

import json
from typing import Any

import httpx
import pytest

from gateway.ids import new_id
from store.errors import Unavailable
from store.types import ConnectionEntry, NodeEntry
from tests.api.conftest import Api, problem_of
from tests.waiting import until


async def ask(
    api: Api, method: str, path: str, *, tenant: str = "default", scope: str = "operator", body: object = None
) -> httpx.Response:
    token = api.gateway.tokens.mint("olga", tenant, scopes=[scope])
    headers = {"Authorization": f"Bearer {token}"}
    return await api.call(method, f"/api/v1{path}", headers=headers, body=body)


async def other_node(api: Api, name: str = "n2", **more: Any) -> None:
    """Another node in the register; nobody answers for it."""
    node = NodeEntry(id=name, url=f"ws://{name}/ws", started_at=0, **more)
    await api.gateway.stores.live.renew_node(node, lease_ms=60_000)


async def connection(api: Api, node: str | None = None, session: str | None = None) -> str:
    """The entry of a connection of alice's, at this node or another."""
    entry = ConnectionEntry(
        id=new_id(),
        tenant="default",
        user="alice",
        node=node or api.gateway.node.id,
        since=0,
        sessions=(session or new_id(),),
    )
    await api.gateway.stores.live.assert_connections([entry], lease_ms=60_000)
    return entry.id


async def test_a_move_is_begun_and_looked_at_by_session_connection_and_user(api: Api) -> None:
    await other_node(api)
    session = new_id()
    name = await connection(api, session=session)
    paths = (f"/sessions/{session}/migrate", f"/connections/{name}/migrate", "/users/alice/migrate")
    tasks = []
    for path in paths:
        began = await ask(api, "POST", path, body={"node": "n2"})
        assert began.status_code == 202, began.text
        tasks.append(began.json()["data"])
    assert [task["kind"] for task in tasks] == ["session", "connection", "user"]
    assert set(tasks[0]) == {
        "id", "kind", "subject", "target", "state", "node", "begun_at", "ends_by", "ended_at", "connections",
        "already_there", "waiting", "moved", "refused", "timed_out", "outcomes",
    }  # fmt: skip
    told = (await ask(api, "GET", f"/migrations/{tasks[0]['id']}")).json()["data"]
    assert (told["subject"], told["target"], told["node"]) == (session, "n2", api.gateway.node.id)
    assert told["outcomes"] == [
        {
            "connection": name,
            "user": "alice",
            "from": api.gateway.node.id,
            "outcome": None,
            "node": None,
            "why": "",
        }
    ]
    listed = (await ask(api, "GET", "/migrations")).json()["data"]["migrations"]
    assert [each["id"] for each in listed] == [task["id"] for task in reversed(tasks)]
    assert "outcomes" not in listed[0]

    async def is_over() -> bool:
        data = (await ask(api, "GET", f"/migrations/{tasks[0]['id']}")).json()["data"]
        return bool(data["state"] == "done" and data["refused"] == 1)

    await until(is_over, within=10)  # it was never there: an entry is all there is of it


async def test_without_a_body_the_target_is_chosen(api: Api) -> None:
    await other_node(api, "busy", connections=7)
    await other_node(api, "calm", connections=3)
    name = await connection(api)
    for body in (None, {}, {"node": None}):
        began = await ask(api, "POST", f"/connections/{name}/migrate", body=body)
        assert (began.status_code, began.json()["data"]["target"]) == (202, "calm")


async def test_only_operators_move_connections(api: Api) -> None:
    await other_node(api)
    name = await connection(api)
    problem_of(await api.call("POST", f"/api/v1/connections/{name}/migrate"), 401, "unauthenticated")
    for method, path in (
        ("POST", f"/connections/{name}/migrate"),
        ("POST", "/users/alice/migrate"),
        ("POST", f"/sessions/{new_id()}/migrate"),
        ("GET", "/migrations"),
        ("GET", f"/migrations/{new_id()}"),
    ):
        for scope in ("admin", "Operator"):
            told = problem_of(await ask(api, method, path, scope=scope), 403, "forbidden")
            assert "operator" in str(told["message"])
    assert not api.gateway.node.moves._running


async def test_what_is_another_tenants_is_not_there(api: Api) -> None:
    await other_node(api)
    session = new_id()
    name = await connection(api, session=session)
    for path in (f"/sessions/{session}/migrate", f"/connections/{name}/migrate", "/users/alice/migrate"):
        told = problem_of(await ask(api, "POST", path, tenant="acme"), 404, "not_found")
        # The same as of one that is nowhere.
        for other in (new_id(), "nobody"):
            nowhere = await ask(api, "POST", path.replace(session, other).replace(name, other), tenant="acme")
            assert nowhere.status_code == 404
        assert "acme" not in str(told)
    began = (await ask(api, "POST", f"/connections/{name}/migrate")).json()["data"]
    problem_of(await ask(api, "GET", f"/migrations/{began['id']}", tenant="acme"), 404, "not_found")
    assert (await ask(api, "GET", "/migrations", tenant="acme")).json()["data"] == {"migrations": []}


@pytest.mark.parametrize(
    "path", ["/sessions/x/migrate", "/connections/%2e%2e/migrate", "/users/a%20b/migrate"]
)
async def test_what_can_be_no_name_is_not_there(api: Api, path: str) -> None:
    problem_of(await ask(api, "POST", path), 404, "not_found")
    problem_of(await ask(api, "GET", "/migrations/x"), 404, "not_found")


async def test_a_target_that_is_none_is_refused_with_the_nodes_there_are(api: Api) -> None:
    await other_node(api)
    await other_node(api, "n3", is_leaving=True)
    here = api.gateway.node.id
    name = await connection(api)

    async def refused(node: object, status: int = 400) -> str:
        response = await ask(api, "POST", f"/connections/{name}/migrate", body={"node": node})
        return str(problem_of(response, status, "bad_request")["message"])

    told = await refused("n9")
    assert all(each in told for each in ("no node n9", here, "n2", "n3"))
    assert "GATEWAY_ADVERTISE_URL" in await refused(here)
    assert "is leaving" in await refused("n3")
    assert "name of a node" in await refused("a b")
    assert "str" in await refused(7, 422)
    away = await connection(api, node="n2")
    response = await ask(api, "POST", f"/connections/{away}/migrate", body={"node": "n2"})
    assert "already" in str(problem_of(response, 400, "bad_request")["message"])


async def test_the_hundred_and_first_is_told_when_to_come_again(api: Api) -> None:
    await other_node(api)
    name = await connection(api)
    for _ in range(100):
        assert (await ask(api, "POST", f"/connections/{name}/migrate")).status_code == 202
    response = await ask(api, "POST", f"/connections/{name}/migrate")
    problem_of(response, 429, "rate_limited")
    assert int(response.headers["retry-after"]) >= 1


async def test_while_redis_is_away_an_operator_is_told_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*given: object, **more: object) -> None:
        raise Unavailable("away")

    for name in ("nodes", "connection", "task", "tasks"):
        monkeypatch.setattr(api.gateway.stores.live, name, away)
    for method, path in (("POST", f"/connections/{new_id()}/migrate"), ("GET", f"/migrations/{new_id()}")):
        problem_of(await ask(api, method, path), 503, "unavailable")


# -- of all nodes, on the operations port


async def of_all(api: Api, method: str, path: str = "/rebalance", **headers: str) -> httpx.Response:
    peer = headers.pop("peer", "127.0.0.1")
    transport = httpx.ASGITransport(app=api.gateway.ops, client=(peer, 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as http:
        return await http.request(method, f"/api/v1/nodes{path}", headers=headers)


async def test_the_nodes_are_listed_with_their_addresses(api: Api) -> None:
    await other_node(api, connections=4)
    nodes = (await of_all(api, "GET", "")).json()["data"]["nodes"]
    (two,) = [node for node in nodes if node["id"] == "n2"]
    assert two == {
        "id": "n2",
        "url": "ws://n2/ws",
        "connections": 4,
        "leaving": False,
        "started_at": "1970-01-01T00:00:00.000Z",
    }
    assert api.gateway.node.id in {node["id"] for node in nodes}


async def test_nodes_are_evened_out_on_the_operations_port(api: Api) -> None:
    assert (await of_all(api, "GET")).json()["data"] == {"state": "none"}
    began = await of_all(api, "POST")
    assert began.status_code == 202
    assert (began.json()["data"]["to_move"], began.json()["data"]["state"]) == (0, "running")

    async def is_done() -> bool:
        return bool((await of_all(api, "GET")).json()["data"]["state"] == "done")

    await until(is_done)
    # What is told can be read by a program as it stands.
    assert json.loads((await of_all(api, "GET")).text)["data"]["moved"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"peer": "192.0.2.7"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.example"},
        {"X-Forwarded-For": "127.0.0.1"},
    ],
)
async def test_no_other_machine_and_no_page_evens_nodes_out(api: Api, headers: dict[str, str]) -> None:
    told = problem_of(await of_all(api, "POST", **headers), 403, "forbidden")
    assert "gateway rebalance" in str(told["message"])
    assert not api.gateway.node.moves.rebalance.is_running


async def test_the_port_for_clients_knows_nothing_of_nodes(api: Api) -> None:
    for method, path in (("POST", "/nodes/rebalance"), ("GET", "/nodes/rebalance"), ("GET", "/nodes")):
        assert (await ask(api, method, path)).status_code == 404

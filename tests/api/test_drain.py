"""A node is sent away over HTTP: on its operations port, from its own machine, and by its own name."""

import httpx
import pytest

from gateway.app import Gateway
from tests.api.conftest import LOCAL, Api, problem_of
from tests.waiting import until


@pytest.fixture
def drained(api: Api) -> Gateway:
    """A gateway that a test may drain."""
    return api.gateway


async def ask(
    gateway: Gateway, method: str, node: str, peer: str = "127.0.0.1", **more: str
) -> httpx.Response:
    transport = httpx.ASGITransport(app=gateway.ops, client=(peer, 40_000))
    async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as http:
        return await http.request(method, f"/api/v1/nodes/{node}/drain", headers=more)


@pytest.mark.parametrize("name", ["self", None])
async def test_a_node_is_drained_by_its_name_or_as_self_and_tells_how_far_it_has_come(
    drained: Gateway, name: str | None
) -> None:
    node = name or drained.node.id
    before = (await ask(drained, "GET", node)).json()["data"]
    assert (before["node"], before["phase"], before["connections"]) == (drained.node.id, "serving", 0)
    began = await ask(drained, "POST", node)
    assert began.status_code == 202
    assert began.json()["data"]["phase"] in ("draining", "drained")
    assert drained.node.readiness().reason == "draining"
    assert drained.edge.draining

    async def is_over() -> bool:
        return bool((await ask(drained, "GET", node)).json()["data"]["phase"] == "drained")

    await until(is_over)
    again = await ask(drained, "POST", node)
    assert (again.status_code, again.json()["data"]["phase"]) == (202, "drained")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_node_is_not_drained_here_and_it_is_said_where(drained: Gateway, method: str) -> None:
    problem = problem_of(await ask(drained, method, "n2"), 404, "not_found")
    assert f"This is node {drained.node.id}" in str(problem["message"])
    assert not drained.node.leaving.has_begun


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"Origin": "https://elsewhere.example"}),
        ("127.0.0.1", {"Origin": "http://127.0.0.1:8000"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}),
        ("127.0.0.1", {"Host": "rebound.example"}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
    ],
)
async def test_no_other_machine_and_no_page_drains_a_node(
    drained: Gateway, peer: str, headers: dict[str, str]
) -> None:
    problem = problem_of(await ask(drained, "POST", "self", peer, **headers), 403, "forbidden")
    assert "SIGTERM" in str(problem["message"])
    assert not drained.node.leaving.has_begun


async def test_the_port_for_clients_knows_nothing_of_it(api: Api) -> None:
    response = await api.call("POST", "/api/v1/nodes/self/drain")
    assert response.status_code == 404
    assert not api.gateway.node.leaving.has_begun

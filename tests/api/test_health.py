"""Liveness and readiness, on the main port and on the operations port."""

import httpx

from gateway.api.ops import build_ops_app
from gateway.runtime.health import Readiness
from tests.api.conftest import LOCAL, Api, problem_of


async def ready(readiness: Readiness) -> httpx.Response:
    app = build_ops_app(lambda: readiness, lambda: (b"", "text/plain"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=LOCAL) as http:
        return await http.get("/readyz")


async def test_a_gateway_that_has_started_is_alive_and_ready(api: Api) -> None:
    assert (await api.call("GET", "/livez")).status_code == 200
    response = await api.call("GET", "/readyz")
    assert response.status_code == 200
    assert response.json()["data"] == {"ready": True, "degraded": []}


async def test_a_node_that_serves_in_a_degraded_mode_is_ready_and_names_it() -> None:
    response = await ready(Readiness(None, ("redis_away", "postgres_away")))
    assert response.status_code == 200
    assert response.json()["data"] == {"ready": True, "degraded": ["redis_away", "postgres_away"]}


async def test_a_node_that_is_not_ready_says_why() -> None:
    app = build_ops_app(lambda: Readiness("this node is draining"), lambda: (b"# metrics\n", "text/plain"))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as http:
        assert (await http.get("/livez")).status_code == 200
        response = await http.get("/readyz")
        metrics = await http.get("/metrics")
    problem = problem_of(response, 503, "unavailable")
    assert problem["message"] == "this node is draining"
    assert response.headers["retry-after"] == "1"
    assert metrics.text == "# metrics\n"
    assert metrics.headers["content-type"] == "text/plain"

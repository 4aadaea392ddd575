"""Every route that names a session: one that is not yours is answered as one that is not there."""

import re

import pytest
from starlette.routing import Route

from gateway.app import open_gateway
from gateway.settings import load
from tests.api.conftest import Api

NOBODYS = "0192f3a0-0000-7000-8000-000000000000"

# What a route has to be sent to come as far as the question whose it is.
BODIES = {
    ("PATCH", "/sessions/{session}"): {"title": "x"},
    ("PUT", "/sessions/{session}/context"): {"a": 1},
    ("POST", "/sessions/{session}/messages"): {"content": "x"},
    ("PUT", "/sessions/{session}/members/{user}"): {"role": "reader"},
    ("POST", "/users/{user}/signals"): {"name": "x"},
}
QUERIES = {"/sessions/{session}/messages/search": "?q=hello"}


def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Method and path of everything that names something of somebody's."""
    gateway = open_gateway(load({"GATEWAY_DATA_DIR": str(tmp_path_factory.mktemp("routes"))}))
    found = [
        (method, route.path.removeprefix("/api/v1"))
        for route in gateway.asgi.routes  # type: ignore[attr-defined]
        if isinstance(route, Route) and "{session}" in route.path
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]
    assert len(found) >= 14
    return found


@pytest.mark.parametrize("stranger", ["mallory", "mallory@acme", "olga@acme!"])
async def test_a_session_of_somebody_else_is_answered_on_every_route_as_one_that_is_not_there(
    api: Api, tmp_path_factory: pytest.TempPathFactory, stranger: str
) -> None:
    session = await api.session("alice", text="One. Two.", members=[{"user": "bob"}])
    before = await api.data("GET", f"/api/v1/sessions/{session}", user="alice")
    for method, template in routes(tmp_path_factory):
        body = BODIES.get((method, template))
        answers = []
        for id in (session, NOBODYS):
            path = re.sub(r"\{user\}", "bob", template.replace("{session}", id))
            where = f"/api/v1{path}{QUERIES.get(template, '')}"
            response = await api.call(method, where, user=stranger, body=body)
            # What was asked for may be named in the answer, as it was asked for.
            answers.append((response.status_code, response.text.replace(id, "ID")))
        assert answers[0] == answers[1], (method, template)
        assert answers[0][0] in (403, 404), (method, template, answers)
    assert await api.data("GET", f"/api/v1/sessions/{session}", user="alice") == before


async def test_every_route_of_the_api_but_those_for_signing_in_asks_who_is_calling(
    api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    session = await api.session("alice")
    for method, template in routes(tmp_path_factory):
        path = template.replace("{session}", session).replace("{user}", "bob")
        response = await api.call(method, f"/api/v1{path}", body=BODIES.get((method, template)))
        assert response.status_code == 401, (method, template)

"""How an operator sends this node away, or evens all nodes out. On the operations port only.

A node is not a tenant's: no token allows it. Whoever may run a command on this machine may.
"""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.answers import answer
from gateway.api.callers import is_local
from gateway.errors import Forbidden, NotFound
from gateway.runtime.drain import Progress

SELF: Final = "self"

_NOT_HERE: Final = (
    "A node is drained from its own machine, by a request to 127.0.0.1 on its operations port and not from a "
    "page: run it there (ssh, kubectl exec, docker exec), or send the process SIGTERM."
)
_NOT_FROM_THERE: Final = (
    "Nodes are asked for this from the machine of one of them, by a request to 127.0.0.1 on its operations "
    "port and not from a page: run `gateway rebalance` there (ssh, kubectl exec, docker exec)."
)


class Fleet(Protocol):
    """All nodes, as one of them knows them. Raises Unavailable."""

    async def nodes(self) -> list[dict[str, object]]:
        """The register."""

    async def even_out(self) -> dict[str, object]:
        """Have all nodes share their connections, unless that is under way; how far it has come."""

    async def evened_out(self) -> dict[str, object]:
        """How far that has come."""


class NodeRoutes:
    """What is asked of one node. `leave` begins a drain and returns at once."""

    def __init__(self, node_id: str, leave: Callable[[], None], progress: Callable[[], Progress]) -> None:
        self._id = node_id
        self._leave = leave
        self._progress = progress

    async def drain(self, request: Request) -> Response:
        """POST /api/v1/nodes/{id}/drain — begin to leave. Asked again: how far it has come."""
        _check_local(request, _NOT_HERE)
        self._check(request)
        self._leave()
        return answer(self._told(), status=202, message="Draining")

    async def progress(self, request: Request) -> Response:
        """GET /api/v1/nodes/{id}/drain — how far it has come."""
        self._check(request)
        return answer(self._told())

    def routes(self) -> list[Route]:
        """Both, for the operations port."""
        path = "/api/v1/nodes/{id}/drain"
        return [Route(path, self.drain, methods=["POST"]), Route(path, self.progress, methods=["GET"])]

    def _check(self, request: Request) -> None:
        asked: str = request.path_params["id"]
        if asked not in (self._id, SELF):
            raise NotFound(
                f"This is node {self._id}: every other node answers at its own operations port. "
                f"`{SELF}` stands for the node that is asked."
            )

    def _told(self) -> dict[str, object]:
        return {"node": self._id, **msgspec.to_builtins(self._progress())}


class FleetRoutes:
    """What concerns all nodes, asked of any one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def nodes(self, request: Request) -> Response:
        """GET /api/v1/nodes — the nodes there are, their addresses and connections."""
        return answer({"nodes": await self._fleet.nodes()})

    async def rebalance(self, request: Request) -> Response:
        """POST /api/v1/nodes/rebalance — even their connections out. Asked again: how far it has come."""
        _check_local(request, _NOT_FROM_THERE)
        return answer(await self._fleet.even_out(), status=202, message="Rebalancing")

    async def rebalanced(self, request: Request) -> Response:
        """GET /api/v1/nodes/rebalance — how far it has come."""
        return answer(await self._fleet.evened_out())

    def routes(self) -> list[Route]:
        """All of them, for the operations port."""
        path = "/api/v1/nodes/rebalance"
        return [
            Route("/api/v1/nodes", self.nodes, methods=["GET"]),
            Route(path, self.rebalance, methods=["POST"]),
            Route(path, self.rebalanced, methods=["GET"]),
        ]


def _check_local(request: Request, otherwise: str) -> None:
    # A page cannot read the answer of another origin, but it could make its reader's browser ask.
    if not is_local(request) or "origin" in request.headers or "sec-fetch-site" in request.headers:
        raise Forbidden(otherwise)

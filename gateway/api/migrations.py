"""`…/migrate` and `/api/v1/migrations`: a tenant's operator moves its connections to another node."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer
from gateway.api.bodies import decode_body
from gateway.api.callers import identify
from gateway.api.services import Services
from gateway.auth.identity import Identity
from gateway.auth.policy import is_operator
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.ids import is_id, is_name
from gateway.runtime.migrations import Kind

_IS_ONE: Final = {"session": is_id, "connection": is_id, "user": is_name}


class MoveBody(msgspec.Struct):
    """The body of a request to move: the target; without one it is chosen."""

    node: str | None = None


class MigrationRoutes:
    """Tasks of an operator, begun and looked at."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def session(self, request: Request) -> Response:
        """POST /sessions/{session}/migrate — all connections that are attached to it."""
        return await self._begin(request, "session")

    async def connection(self, request: Request) -> Response:
        """POST /connections/{connection}/migrate — one."""
        return await self._begin(request, "connection")

    async def user(self, request: Request) -> Response:
        """POST /users/{user}/migrate — all connections of a user."""
        return await self._begin(request, "user")

    async def one(self, request: Request) -> Response:
        """GET /migrations/{task} — how far it has come, whichever node took it."""
        identity = await self._operator(request)
        task: str = request.path_params["task"]
        return answer(await self._services.moves.find(identity.tenant, task))

    async def list(self, request: Request) -> Response:
        """GET /migrations — the latest, latest first."""
        identity = await self._operator(request)
        return answer({"migrations": await self._services.moves.all_of(identity.tenant)})

    async def _begin(self, request: Request, kind: Kind) -> Response:
        identity = await self._operator(request)
        subject: str = request.path_params[kind]
        if not _IS_ONE[kind](subject):
            raise NotFound(f"There is no such {kind}.")
        target = await _target(request)
        task = await self._services.moves.begin(identity.tenant, kind, subject, target)
        return answer(task, status=202, message="Moving")

    async def _operator(self, request: Request) -> Identity:
        identity = await identify(request, self._services)
        if not is_operator(identity):
            raise Forbidden("Connections are moved by operators only: the token needs the scope operator.")
        return identity


async def _target(request: Request) -> str | None:
    if "content-type" not in request.headers and request.headers.get("content-length", "0") == "0":
        return None
    body = await decode_body(request, MoveBody)
    if body.node is not None and not is_name(body.node):
        raise BadRequest("node is the name of a node: 1 to 64 letters, digits or any of _ . : -")
    return body.node

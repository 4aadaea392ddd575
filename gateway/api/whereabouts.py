"""Who is in a session and how far each has come; connections and users by their ids; signs of life."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer, listing, when
from gateway.api.bodies import decode_body, document_of, limit_of, session_of
from gateway.api.callers import identify
from gateway.api.places import mark_of, position
from gateway.api.problems import Unprocessable
from gateway.api.services import Services
from gateway.auth.identity import Identity
from gateway.auth.policy import is_operator
from gateway.errors import TooLarge
from gateway.ids import is_name
from gateway.protocol import frames
from gateway.runtime.whereabouts import Ending
from store.types import EMPTY_OBJECT, ConnectionEntry

_PAGE: Final = 50
_MAX_PAGE: Final = 200


class SignalBody(msgspec.Struct):
    """The body of POST /users/{user}/signals."""

    name: str
    data: msgspec.Raw = frames.ABSENT


class WhereaboutsRoutes:
    """What is true at this moment, or was some seconds ago."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def presence(self, request: Request) -> Response:
        """GET /sessions/{id}/presence — the users who are there, by time of arrival."""
        identity = await identify(request, self._services)
        users = await self._services.whereabouts.present(identity, session_of(request))
        rows = [
            {"user": each.user, "connections": each.connections, "since": when(each.since)} for each in users
        ]
        return answer({"users": rows, "total": len(rows)})

    async def connections(self, request: Request) -> Response:
        """GET /sessions/{id}/connections — who is attached, and on which node."""
        identity = await identify(request, self._services)
        entries = await self._services.whereabouts.connections(identity, session_of(request))
        return _connections(identity, entries)

    async def delivery(self, request: Request) -> Response:
        """GET /sessions/{id}/delivery — up to which seq each member has received and read."""
        identity = await identify(request, self._services)
        head, cursors = await self._services.whereabouts.delivery(identity, session_of(request))
        rows = [{"user": each.user, "delivered": each.delivered, "read": each.read} for each in cursors]
        return answer({"head": head, "members": rows, "total": len(rows)})

    async def heartbeat(self, request: Request) -> Response:
        """POST /sessions/{id}/heartbeat — it lives for its whole TTL from here on; null: for ever."""
        identity = await identify(request, self._services)
        session = session_of(request)
        ttl_ms = await self._services.whereabouts.beat(identity, session)
        return answer({"session": session, "ttl_ms": ttl_ms})

    async def connection(self, request: Request) -> Response:
        """GET /connections/{id} — one connection."""
        identity = await identify(request, self._services)
        entry = await self._services.whereabouts.connection(identity, request.path_params["connection"])
        return answer({"connection": _shown(identity, entry)})

    async def disconnect(self, request: Request) -> Response:
        """DELETE /connections/{id} — close it (4504): its client does not come back by itself."""
        identity = await identify(request, self._services)
        connection: str = request.path_params["connection"]
        return _ended(await self._services.whereabouts.disconnect(identity, connection))

    async def disconnect_user(self, request: Request) -> Response:
        """POST /users/{user}/disconnect — close all connections of a user."""
        identity = await identify(request, self._services)
        user: str = request.path_params["user"]
        return _ended(await self._services.whereabouts.disconnect_user(identity, user))

    async def of_user(self, request: Request) -> Response:
        """GET /users/{user}/connections — those of one user, oldest first."""
        identity = await identify(request, self._services)
        user: str = request.path_params["user"]
        return _connections(identity, await self._services.whereabouts.connections_of_user(identity, user))

    async def sessions_of_user(self, request: Request) -> Response:
        """GET /users/{user}/sessions?before=&limit= — as GET /sessions, of one user."""
        identity = await identify(request, self._services)
        before = position(request)
        limit = limit_of(request, default=_PAGE, most=_MAX_PAGE)
        user: str = request.path_params["user"]
        rows = await self._services.whereabouts.sessions_of_user(identity, user, before, limit)
        following = mark_of(rows[-1]) if len(rows) == limit else None
        return answer({"sessions": [listing(row) for row in rows], "next": following})

    async def signal(self, request: Request) -> Response:
        """POST /users/{user}/signals — tell all connections of a user; stored nowhere."""
        identity = await identify(request, self._services)
        body = await decode_body(request, SignalBody)
        if not is_name(body.name):
            raise Unprocessable("The name of a signal is 1 to 64 letters, digits or any of _ . : -")
        limits = self._services.limits
        data = document_of("data", body.data, limits) or EMPTY_OBJECT
        if len(data) > limits.signal_bytes:
            raise TooLarge(f"data is at most {limits.signal_bytes} bytes.")
        user: str = request.path_params["user"]
        self._services.whereabouts.signal(identity, user, body.name, data)
        return answer({"user": user, "name": body.name}, status=202, message="Signal passed on")


def _ended(ending: Ending) -> Response:
    data = {"connections": ending.connections, "open": ending.open}
    if ending.open:
        return answer(data, status=202, message="Not all have closed yet: ask again")
    return answer(data, message="Disconnected")


def _connections(identity: Identity, entries: list[ConnectionEntry]) -> Response:
    return answer({"connections": [_shown(identity, each) for each in entries], "total": len(entries)})


def _shown(identity: Identity, entry: ConnectionEntry) -> dict[str, object]:
    """A connection. Where it comes from, and what else it reads, is its user's and the operators'."""
    row: dict[str, object] = {
        "id": entry.id,
        "user": entry.user,
        "node": entry.node,
        "since": when(entry.since),
    }
    if entry.user == identity.user or is_operator(identity):
        row |= {"sessions": list(entry.sessions), "ip": entry.ip, "port": entry.port}
    return row

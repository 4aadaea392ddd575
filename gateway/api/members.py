"""`/api/v1/sessions/{id}/members`: who has which right in a session."""

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer, member, session_summary
from gateway.api.bodies import decode_body, session_of
from gateway.api.callers import identify
from gateway.api.problems import Unprocessable
from gateway.api.services import Services
from gateway.errors import NotFound
from gateway.ids import is_name


class RoleBody(msgspec.Struct):
    """The body of PUT: what the user may do. Ownership is not given away here."""

    role: Literal["writer", "reader"] = "writer"


class MemberRoutes:
    """Members of one session; what the caller may not see does not exist."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, request: Request) -> Response:
        """GET — all members, the longest standing first, and how far each has read."""
        identity = await identify(request, self._services)
        session = session_of(request)
        rows = await self._services.sessions.members(identity, session)
        cursors = await self._services.sessions.cursors(identity, session)
        read = {cursor.user: cursor.read for cursor in cursors}
        return answer({"members": [member(row, read.get(row.user, 0)) for row in rows], "total": len(rows)})

    async def put(self, request: Request) -> Response:
        """PUT — add a user, or change what they may do."""
        identity = await identify(request, self._services)
        session, user = session_of(request), request.path_params["user"]
        if not is_name(user):
            raise Unprocessable("A user's name is 1 to 64 letters, digits or any of _ . : -")
        body = await decode_body(request, RoleBody)
        changed = await self._services.sessions.put_member(identity, session, user, body.role)
        data = {"member": {"user": user, "role": body.role}, "session": session_summary(changed)}
        return answer(data, message="Member added")

    async def remove(self, request: Request) -> Response:
        """DELETE — take the user's right away, or leave."""
        identity = await identify(request, self._services)
        session, user = session_of(request), request.path_params["user"]
        if not is_name(user):
            raise NotFound("There is no such member.")
        changed = await self._services.sessions.remove_member(identity, session, user)
        return answer({"session": session_summary(changed)}, message="Member removed")

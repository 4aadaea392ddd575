"""Credentials over HTTP: one-time tickets, tokens by name for the local page, revocation."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.api.answers import answer, when
from gateway.api.bodies import decode_body
from gateway.api.callers import identify, is_local, is_same_origin
from gateway.api.problems import Unprocessable
from gateway.api.services import Services
from gateway.auth.policy import may_revoke
from gateway.errors import Forbidden, NotFound
from gateway.ids import NAME, is_name

# One working day: the page asks for a new token a minute before the old one ends.
_DEMO_TTL_S: Final = 8 * 3600


class DemoBody(msgspec.Struct):
    """The body of POST /demo/token."""

    user: str


class CredentialRoutes:
    """What a caller may be given to prove who they are."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def config(self, request: Request) -> Response:
        """GET /config — what a page has to know before anybody has signed in."""
        limits = self._services.limits
        return answer(
            {
                "version": __version__,
                "protocol": "session.v1",
                "demo": self._services.demo and is_local(request),
                "user": {"pattern": NAME.pattern},
                "limits": {"message_bytes": limits.message_bytes, "attachments": limits.attachments},
            }
        )

    async def demo_token(self, request: Request) -> Response:
        """POST /demo/token — a token by name, for the page of a gateway on one's own machine only."""
        if not (self._services.demo and is_local(request) and is_same_origin(request)):
            raise NotFound("There is nothing here.")
        body = await decode_body(request, DemoBody)
        if not is_name(body.user):
            raise Unprocessable("A name is 1 to 64 letters, digits or any of _ . : -")
        token = self._services.tokens.mint(body.user, ttl_s=_DEMO_TTL_S)
        identity = await self._services.tokens.verify(token)
        data = {
            "token": token,
            "user": identity.user,
            "tenant": identity.tenant,
            "expires_at": when(identity.expires_at),
        }
        return answer(data, status=201, message="Token made")

    async def ticket(self, request: Request) -> Response:
        """POST /tickets — a credential for one hello."""
        identity = await identify(request, self._services)
        ticket, expires_in_ms = await self._services.tickets.issue(identity)
        return answer({"ticket": ticket, "expires_in_ms": expires_in_ms}, status=201, message="Ticket issued")

    async def revoke(self, request: Request) -> Response:
        """POST /users/{user}/revoke — end every token the user has, and the connections opened with them."""
        identity = await identify(request, self._services)
        user: str = request.path_params["user"]
        if not may_revoke(identity, identity.tenant, user):
            raise Forbidden("Only an operator may revoke the tokens of somebody else.")
        if not is_name(user):
            raise NotFound("There is no such user.")
        before = await self._services.revoke(identity.tenant, user)
        return answer({"user": user, "issued_before": when(before)}, message="Tokens revoked")

"""`/api/v1/events`: what happened to the sessions of a tenant, for its operators."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer
from gateway.api.bodies import limit_of
from gateway.api.callers import identify
from gateway.api.services import Services
from gateway.auth.policy import is_operator
from gateway.errors import BadRequest, Forbidden
from gateway.runtime.events import document

_PAGE: Final = 100
_MAX_PAGE: Final = 1000
# Ids have 64 bits; fewer digits need no thought about their end.
_MOST_DIGITS: Final = 18


class EventRoutes:
    """The feed of events."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, request: Request) -> Response:
        """GET /events?after=&limit= — oldest first; `next` is the `after` of the next call, always."""
        identity = await identify(request, self._services)
        if not is_operator(identity):
            raise Forbidden("Events are shown to operators only: the token needs the scope operator.")
        after = _position(request.query_params.get("after", ""))
        limit = limit_of(request, default=_PAGE, most=_MAX_PAGE)
        page = await self._services.events.of(identity.tenant, after, limit + 1)
        shown = page.events[:limit]
        data = {
            "events": [document(event) for event in shown],
            # Behind what is gone, where there is nothing else: a gap is told once.
            "next": shown[-1].id if shown else max(after, page.purged),
            "more": len(page.events) > limit,
            "oldest": page.purged + 1,
            "gap": after < page.purged,
        }
        return answer(data)


def _position(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise BadRequest("after is the `next` of an earlier page, or 0.")
    return int(text)

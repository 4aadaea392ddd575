"""`/api/v1/messages/search` and `/api/v1/sessions/{id}/messages/search`: messages that hold some words."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer, when
from gateway.api.bodies import limit_of
from gateway.api.callers import identify
from gateway.api.services import Services
from gateway.errors import BadRequest
from gateway.ids import is_id
from gateway.runtime.searching import Hit, Query
from store.matching import terms_of

_PAGE: Final = 20
_MAX_PAGE: Final = 50


class SearchRoutes:
    """Searches in one's sessions; what the caller may not see is not found."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def search(self, request: Request) -> Response:
        """GET ?q=&before=&limit= — newest first; `next` goes on, null where there is nothing more.

        A page may be short, or empty, and have a `next`: so much is looked through in one call at most.
        """
        identity = await identify(request, self._services)
        session: str | None = request.path_params.get("session")
        limit = limit_of(request, default=_PAGE, most=_MAX_PAGE)
        query = Query(_terms(request), _position(request), limit)
        found = await self._services.sessions.search(identity, session, query)
        return answer({"messages": [_message(hit) for hit in found.hits], "next": found.before})


def _terms(request: Request) -> tuple[str, ...]:
    query = request.query_params.get("q", "")
    if "\0" in query:
        raise BadRequest("q holds a NUL character.")
    try:
        return terms_of(query)
    except ValueError as error:
        raise BadRequest(f"q cannot be searched for: {error}.") from error


def _position(request: Request) -> str | None:
    before = request.query_params.get("before", "")
    if before and not is_id(before):
        raise BadRequest("before is the `next` of an earlier page.")
    return before or None


def _message(hit: Hit) -> dict[str, object]:
    message = hit.message
    return {
        "session": message.session,
        "seq": message.seq,
        "id": message.id,
        "sender": message.sender,
        "role": message.role,
        "created_at": when(message.created_at),
        "snippet": [{"text": part.text, "match": part.is_match} for part in hit.snippet],
    }

"""`/api/v1/sessions/{id}/segment`: a session's text as sentences for speech."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer, session_in_full
from gateway.api.callers import identify
from gateway.api.services import Services


class SegmentRoutes:
    """Sentences of one session; what the caller may not see does not exist."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def segment(self, request: Request) -> Response:
        """POST — split the text, store the sentences, return the session with them. No body is needed."""
        identity = await identify(request, self._services)
        session: str = request.path_params["session"]
        segmented = await self._services.sessions.segment(identity, session)
        return answer({"session": session_in_full(segmented)}, message="Text split into sentences")

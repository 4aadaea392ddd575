"""`/api/v1/sessions/{id}/messages`: read page by page, and written by those who hold no connection."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway import ids
from gateway.api.answers import answer, message_in_full
from gateway.api.bodies import decode_body, document_of, limit_of, number_of, session_of
from gateway.api.callers import identify
from gateway.api.problems import Unprocessable
from gateway.api.services import Services
from gateway.errors import BadRequest, TooLarge
from gateway.protocol import frames
from gateway.protocol.limits import MAX_SAFE_INTEGER, Limits
from gateway.runtime.messages import NewMessage
from store.types import EMPTY_OBJECT, MessageRole

_PAGE: Final = 50
_MAX_PAGE: Final = 1_000


class MessageBody(msgspec.Struct):
    """The body of POST."""

    content: str
    role: MessageRole = "user"
    metadata: msgspec.Raw = frames.ABSENT
    client_id: frames.RequestId | None = None


class MessageRoutes:
    """The messages of one session."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, request: Request) -> Response:
        """GET ?before=&after=&limit= — in the order of seq; without either the latest."""
        identity = await identify(request, self._services)
        session = session_of(request)
        before = number_of(request, "before", least=1, most=MAX_SAFE_INTEGER)
        after = number_of(request, "after", least=0, most=MAX_SAFE_INTEGER)
        if before is not None and after is not None:
            raise BadRequest("before and after exclude each other.")
        limit = limit_of(request, default=_PAGE, most=_MAX_PAGE)
        page = await self._services.messages.page(identity, session, before=before, after=after, limit=limit)
        return answer({"messages": [message_in_full(each) for each in page.messages], "more": page.more})

    async def post(self, request: Request) -> Response:
        """POST — store one and tell whoever is attached. Again under the same id: 200 and the first."""
        identity = await identify(request, self._services)
        session = session_of(request)
        key = _key(request)
        new = _message(await decode_body(request, MessageBody), key, self._services.limits)
        message, duplicate = await self._services.messages.post(identity, session, new)
        data = {"message": message_in_full(message), "duplicate": duplicate}
        if duplicate:
            return answer(data, message="Message was stored before")
        return answer(data, status=201, message="Message stored")


def _message(body: MessageBody, key: str | None, limits: Limits) -> NewMessage:
    if None not in (key, body.client_id) and key != body.client_id:
        raise Unprocessable("Idempotency-Key and client_id differ: give one of them.")
    client_id = key or body.client_id or ids.new_id()
    if not client_id.isprintable():
        raise Unprocessable("client_id is printable.")
    if len(body.content.encode()) > limits.message_bytes:
        raise TooLarge(f"content is at most {limits.message_bytes} bytes.")
    return NewMessage(
        client_id=client_id,
        content=body.content,
        role=body.role,
        metadata=document_of("metadata", body.metadata, limits) or EMPTY_OBJECT,
    )


def _key(request: Request) -> str | None:
    """The Idempotency-Key. The draft of its standard sets it in quotes, which are no part of it."""
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header
    if not (1 <= len(key) <= frames.MAX_ID_CHARS and key.isascii() and key.isprintable()):
        raise BadRequest(f"Idempotency-Key is 1 to {frames.MAX_ID_CHARS} printable characters of ASCII.")
    return key

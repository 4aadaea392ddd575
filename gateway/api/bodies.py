"""Reading what a request brings: its body, bearer token, path, query, condition. Limits at the door."""

import asyncio
import contextlib
import re
from typing import Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from gateway.api.problems import Unprocessable
from gateway.errors import BadRequest, NotFound, TooLarge, Unauthenticated
from gateway.ids import is_id
from gateway.protocol import frames
from gateway.protocol.codec import FrameError, check_document
from gateway.protocol.documents import holds_nul
from gateway.protocol.limits import Limits

# A session's text, context and metadata together; four times what one message may hold.
MAX_BODY_BYTES: Final = 256 * 1024
# A body of 256 KiB needs 2 s on a bad mobile line; who needs 10 s holds the socket on purpose.
BODY_DEADLINE_S: Final = 10.0
# A token with generous claims is 1 to 2 KiB; uvicorn itself stops reading headers at 64 KiB.
MAX_TOKEN_BYTES: Final = 8 * 1024

# Versions have 64 bits; fewer digits need no thought about their end.
_VERSION: Final = re.compile(r'"([0-9]{1,18})"')

T = TypeVar("T")


async def decode_body(request: Request, shape: type[T]) -> T:
    """Read and validate a JSON body. 413, 415, 408; 400 for what is not JSON, 422 for another document."""
    if media_type(request) != "application/json":
        raise HTTPException(415, "Send the body as application/json.")
    data = await _read(request)
    try:
        data.decode()
        if holds_nul(data):
            # Postgres stores no NUL: a text that one store takes must fit into the other.
            raise Unprocessable("The body holds a NUL character.")
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"{error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.") from error


def media_type(request: Request) -> str:
    """The body's media type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def bearer(request: Request) -> str:
    """The token of the Authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send a token: Authorization: Bearer …")
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("The token is too long.")
    return token


def limit_of(request: Request, *, default: int, most: int) -> int:
    """The `limit` of the query, 1 to `most`."""
    number = number_of(request, "limit", least=1, most=most)
    return default if number is None else number


def number_of(request: Request, name: str, *, least: int, most: int) -> int | None:
    """A number of the query; None where it is not given."""
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
        raise BadRequest(f"{name} is a number from {least} to {most}.")
    return int(text)


def session_of(request: Request) -> str:
    """The session that the path names."""
    session: str = request.path_params["session"]
    if not is_id(session):
        raise NotFound("There is no such session.")
    return session


def expected_version(request: Request) -> int | None:
    """The version that If-Match asks for; None where any will do."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    version = _VERSION.fullmatch(header.strip())
    if version is None:
        raise BadRequest('If-Match is the ETag of an answer, "7" for example, or *.')
    return int(version[1])


def document_of(field: str, raw: msgspec.Raw, limits: Limits) -> bytes | None:
    """A document of the body, as it may be stored; None where it is absent or null."""
    document = frames.document(raw)
    if document is None:
        return None
    try:
        check_document(document, limits)
    except FrameError as fault:
        if fault.code == "too_large":
            raise TooLarge(f"{field} {fault.message}.") from fault
        raise Unprocessable(f"{field} {fault.message}.") from fault
    return document


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    context: msgspec.Raw


def context_of(raw: msgspec.Raw, limits: Limits) -> bytes:
    """The context that a body is or, as its only field, has: an object, or the text of one."""
    document = bytes(raw)
    with contextlib.suppress(msgspec.ValidationError):
        document = bytes(msgspec.json.decode(document, type=_Envelope).context)
    with contextlib.suppress(msgspec.ValidationError):
        document = msgspec.json.decode(document, type=str).encode()
    if holds_nul(document):
        raise Unprocessable("context holds a NUL character.")
    found = document_of("context", msgspec.Raw(document), limits)
    if found is None:
        raise Unprocessable("context is an object: to empty it, send {}.")
    return found


async def _read(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError as error:
        raise HTTPException(408, "The body did not arrive in time.", {"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise BadRequest("The body ended early.") from error
    return bytes(data)


def _too_large() -> TooLarge:
    return TooLarge(f"A body may hold {MAX_BODY_BYTES // 1024} KiB.")

"""Reading what a request brings: its body, its bearer token, its query. Limits at the door."""

import asyncio
from typing import Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from gateway.api.problems import Unprocessable
from gateway.errors import BadRequest, TooLarge, Unauthenticated
from gateway.protocol.documents import holds_nul

# A session's text, context and metadata together; four times what one message may hold.
MAX_BODY_BYTES: Final = 256 * 1024
# A body of 256 KiB needs 2 s on a bad mobile line; who needs 10 s holds the socket on purpose.
BODY_DEADLINE_S: Final = 10.0
# A token with generous claims is 1 to 2 KiB; uvicorn itself stops reading headers at 64 KiB.
MAX_TOKEN_BYTES: Final = 8 * 1024

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
    text = request.query_params.get("limit", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise BadRequest(f"limit is a number from 1 to {most}.")
    return int(text)


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

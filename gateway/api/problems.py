"""Errors as RFC 9457 problem documents that also carry `code` and `message`. Which fault is which status."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import store.errors
from gateway.api.headers import API_HEADERS
from gateway.errors import ErrorCode, GatewayError
from gateway.protocol.codec import json_bytes

# 409 for a quota: waiting alone does not help, something has to end first; 429 is for what time heals.
# 410 for an ended session: it was there, and will not be back.
STATUS: Final[Mapping[ErrorCode, int]] = {
    "bad_request": 400,
    "unknown_type": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "id_conflict": 409,
    "not_attached": 409,
    "superseded": 409,
    "limit_reached": 409,
    "closed": 410,
    "expired": 410,
    "too_large": 413,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
}

_CODE_OF_STATUS: Final[Mapping[int, ErrorCode]] = {
    404: "not_found",
    413: "too_large",
    429: "rate_limited",
    500: "internal",
    503: "unavailable",
}

# What to wait when the fault itself does not say: a store is back, or not, within about a second.
_RETRY_AFTER_S: Final = 1


class Unprocessable(GatewayError):
    """The body is JSON, but not the document that was asked for."""

    code = "bad_request"


class PreconditionFailed(GatewayError):
    """The session is not at the version that If-Match names."""

    code = "id_conflict"


def problem(status: int, code: ErrorCode, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Build the answer to a request that failed."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "code": code,
        "message": message,
    }
    return Response(
        json_bytes(document),
        status_code=status,
        media_type="application/problem+json",
        headers={**API_HEADERS, **(headers or {})},
    )


async def on_error(request: Request, error: Exception) -> Response:
    """Answer a request that failed, whoever's fault it is."""
    match error:
        case GatewayError():
            return _fault(error)
        case store.errors.Unavailable():
            return problem(503, "unavailable", "A store does not answer: try again.", _retry_after(None))
        case HTTPException():
            code = _CODE_OF_STATUS.get(error.status_code, "bad_request")
            return problem(error.status_code, code, _sentence(error, request), error.headers)
        case _:
            # Without detail: the server that runs us logs the traceback, once.
            return problem(500, "internal", "The gateway failed at this request; it has been logged.")


# Where the same code has another status over HTTP.
_STATUS_OF_CLASS: Final[Mapping[type[GatewayError], int]] = {Unprocessable: 422, PreconditionFailed: 412}

HANDLERS: Final = dict.fromkeys((GatewayError, store.errors.Unavailable, HTTPException, Exception), on_error)


def _fault(error: GatewayError) -> Response:
    status = _STATUS_OF_CLASS.get(type(error), STATUS[error.code])
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="session gateway"'
    if status in (429, 503):
        headers = _retry_after(error.retry_after_ms)
    return problem(status, error.code, error.message, headers)


def _retry_after(wait_ms: int | None) -> dict[str, str]:
    return {"Retry-After": str(_RETRY_AFTER_S if wait_ms is None else max(1, math.ceil(wait_ms / 1000)))}


def _sentence(error: HTTPException, request: Request) -> str:
    if error.status_code == 404:
        return "There is nothing here."
    if error.status_code == 405:
        return f"{request.method} is not offered here."
    return str(error.detail)

"""Places in a user's list of sessions, as callers are given them and give them back."""

from starlette.requests import Request

from gateway.errors import BadRequest
from gateway.ids import is_id
from store.types import Listing


def mark_of(row: Listing) -> str:
    """What continues the list behind this row."""
    return f"{row.last_at}.{row.session.id}"


def position(request: Request) -> tuple[int, str] | None:
    """Where the list is to begin: the `before` of the query."""
    text = request.query_params.get("before", "")
    if not text:
        return None
    last_at, _, session = text.partition(".")
    if not (last_at.isascii() and last_at.isdigit() and len(last_at) <= 15 and is_id(session)):
        raise BadRequest("before is the `next` of an earlier page.")
    return int(last_at), session

"""JSON on the wire, and the hello: what a frame looks like, not what it does."""

import json
from collections.abc import Iterable
from typing import Final, cast

from session_gateway_client.errors import Refused
from session_gateway_client.values import Document, Frame

# The gateway takes no larger hello. What does not fit is attached after the welcome.
HELLO_BYTES: Final = 4096
# A larger token goes into the upgrade's Authorization header, to leave room for cursors.
TOKEN_BYTES: Final = 2048


def encode(frame: Document) -> str:
    """Print a frame. ValueError for what JSON cannot hold (NaN), TypeError for what is no JSON value."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode(raw: bytes) -> Frame:
    """Read a frame. ValueError when it is none."""
    frame = json.loads(raw)
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise ValueError("a frame is an object with a type")
    return cast(Frame, frame)


def refusal(frame: Frame) -> Refused:
    """Read an `error` frame."""
    return Refused(
        str(frame["code"]),
        str(frame.get("message", "")),
        retryable=bool(frame.get("retryable")),
        retry_after_s=max(0.0, (frame.get("retry_after_ms") or 0) / 1000),
    )


def hello(
    *, token: str, client: Document, resume: str | None, cursors: Iterable[tuple[str, int]]
) -> tuple[Frame, dict[str, str], set[str]]:
    """Make the first frame, the headers of the upgrade, and tell which sessions the frame names.

    It names as many as fit into what the gateway takes.
    """
    headers: dict[str, str] = {}
    frame: Frame = {"type": "hello", "client": client}
    if len(token) <= TOKEN_BYTES:
        frame["token"] = token
    else:
        headers["Authorization"] = f"Bearer {token}"
    if resume is not None:
        frame["resume"] = resume
    size = len(encode(frame).encode()) + len(',"attach":[]')
    attach: list[Frame] = []
    for session, since in cursors:
        reference = {"session": session, "since": since}
        size += len(encode(reference).encode()) + 1
        if size > HELLO_BYTES:
            break
        attach.append(reference)
    if attach:
        frame["attach"] = attach
    return frame, headers, {reference["session"] for reference in attach}

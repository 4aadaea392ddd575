"""Bytes to client frames, server frames to bytes. What cannot be read is a FrameError, nothing else.

A frame that gets through here can be stored, printed and replayed: what would break that is refused at this
door.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import orjson
from msgspec import Raw

from gateway.errors import ErrorCode
from gateway.ids import is_id, is_name
from gateway.protocol import frames
from gateway.protocol.documents import fault_of, holds_nul
from gateway.protocol.frames import ABSENT, ClientFrame
from gateway.protocol.limits import Limits

# Splices stored JSON into what is encoded, without parsing it.
Fragment = orjson.Fragment

# Messages of the parser may quote what was sent: as much of it as helps, no more.
MAX_MESSAGE_CHARS: Final = 200

_FRAME: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_REQUEST_ID: Final = msgspec.json.Decoder(frames.RequestId)
_TYPE: Final = msgspec.json.Decoder(str)

# RFC 6455 5.2: FIN and opcode 1 (text); a server does not mask. Lengths up to 125 stand in the second byte.
_FIN_TEXT: Final = 0x81
_SHORT: Final = tuple(bytes((_FIN_TEXT, size)) for size in range(126))
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")


class FrameError(Exception):
    """A frame that cannot be served. `id` is that of the request, where it could be read."""

    def __init__(self, code: ErrorCode, message: str, id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id


class _Envelope(msgspec.Struct):
    """As much of a broken frame as its answer needs."""

    type: Raw = ABSENT
    id: Raw = ABSENT


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def decode(data: bytes, limits: Limits) -> ClientFrame:
    """Read one text message. FrameError when it is no frame, or one that breaks a rule."""
    try:
        frame = _FRAME.decode(data)
        if holds_nul(data):
            raise FrameError("bad_request", "the frame holds a NUL character")
        if frame.id is not None and not frame.id.isprintable():
            raise FrameError("bad_request", "an id is printable")
        _RULES[type(frame)](frame, limits)
    except FrameError as fault:
        fault.id = read_id(data)
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(data, error) from error
    return frame


def read_id(data: bytes) -> str | None:
    """Read no more than the request's id; None when there is none that could be repeated in an answer."""
    try:
        id = _REQUEST_ID.decode(_ENVELOPE.decode(data).id)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return id if id.isprintable() else None


def check_document(raw: bytes, limits: Limits) -> None:
    """Refuse (FrameError) a `context` or `metadata` that must not be stored."""
    _check_document(raw, limits.document_bytes, limits)


def encode(frame: Mapping[str, object]) -> bytes:
    """Make the complete WebSocket text frame, header included: built once, the same for every socket."""
    body = orjson.dumps(frame)
    size = len(body)
    if size < 126:
        return _SHORT[size] + body
    if size < 65_536:
        return _MEDIUM.pack(_FIN_TEXT, 126, size) + body
    return _LONG.pack(_FIN_TEXT, 127, size) + body


def json_bytes(value: object) -> bytes:
    """Print a value as JSON, Fragments spliced."""
    return orjson.dumps(value)


def _explained(data: bytes, error: Exception) -> FrameError:
    """Turn what the parser says into what the peer is told."""
    try:
        envelope = _ENVELOPE.decode(data)
        type = _TYPE.decode(envelope.type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return FrameError("bad_request", _clipped(f"not a frame: {error}"), read_id(data))
    if type in frames.TYPES:
        return FrameError("bad_request", _clipped(str(error)), read_id(data))
    if type.startswith("stream."):
        return FrameError("unknown_type", "streams are not offered by this version", read_id(data))
    return FrameError("unknown_type", _clipped(f"unknown type {type!r}"), read_id(data))


def _clipped(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


# -- rules of single frames, by type


def _check_session(session: str) -> None:
    # The id of a session is never anything else, so whatever else is asked for does not exist.
    if not is_id(session):
        raise FrameError("not_found", "there is no such session, or it is not yours")


def _check_text(name: str, text: str | None, most: int) -> None:
    # No character takes more than four bytes: most texts are known to fit without being encoded.
    if text is None or len(text) * 4 <= most:
        return
    if (len(text) if text.isascii() else len(text.encode())) > most:
        raise FrameError("too_large", f"{name} is at most {most} bytes")


def _check_raw(name: str, raw: Raw, most: int, limits: Limits) -> None:
    if raw is ABSENT:
        return
    document = frames.document(raw)
    if document is None:
        return
    try:
        _check_document(document, most, limits)
    except FrameError as fault:
        raise FrameError(fault.code, f"{name} {fault.message}") from None


def _check_document(document: bytes, most: int, limits: Limits) -> None:
    if len(document) > most:
        raise FrameError("too_large", f"is larger than {most} bytes")
    fault = fault_of(document, depth=limits.json_depth)
    if fault is not None:
        raise FrameError("bad_request", fault)


def _hello(frame: frames.Hello, limits: Limits) -> None:
    if len(frame.attach) > limits.attachments:
        raise FrameError("limit_reached", f"{limits.attachments} attachments are allowed")
    for reference in frame.attach:
        _check_session(reference.session)


def _open(frame: frames.Open, limits: Limits) -> None:
    if frame.persistent and frame.ttl is not None:
        raise FrameError("bad_request", "a persistent session has no ttl: leave one of the two out")
    _check_text("text", frame.text, limits.message_bytes)
    _check_raw("context", frame.context_json, limits.document_bytes, limits)
    _check_raw("metadata", frame.metadata_json, limits.document_bytes, limits)


def _update(frame: frames.Update, limits: Limits) -> None:
    _check_session(frame.session)
    _check_raw("context", frame.context_json, limits.document_bytes, limits)
    _check_raw("metadata", frame.metadata_json, limits.document_bytes, limits)
    if frame.title is None and frame.status is None and frame.context is None and frame.metadata is None:
        raise FrameError("bad_request", "nothing to update: give title, context, metadata or status")


def _send(frame: frames.Send, limits: Limits) -> None:
    _check_session(frame.session)
    _check_text("content", frame.content, limits.message_bytes)
    _check_raw("metadata", frame.metadata_json, limits.document_bytes, limits)


def _history(frame: frames.History, limits: Limits) -> None:
    _check_session(frame.session)
    if frame.limit > limits.history_messages:
        raise FrameError("bad_request", f"limit is at most {limits.history_messages}")
    if frame.before is not None and frame.after is not None:
        raise FrameError("bad_request", "before and after exclude each other")


def _signal(frame: frames.Signal, limits: Limits) -> None:
    _check_session(frame.session)
    if not is_name(frame.name):
        raise FrameError("bad_request", "the name of a signal is 1 to 64 letters, digits or any of _ . : -")
    _check_raw("data", frame.data_json, limits.signal_bytes, limits)


def _heartbeat(frame: frames.Heartbeat, limits: Limits) -> None:
    if frame.seen is not None and len(frame.seen) > limits.attachments:
        raise FrameError("limit_reached", f"{limits.attachments} attachments are allowed")


def _session_only(
    frame: frames.Attach | frames.Detach | frames.Close | frames.Read | frames.Presence, limits: Limits
) -> None:
    _check_session(frame.session)


def _nothing(frame: frames.Refresh, limits: Limits) -> None:
    """The types of its fields say it all."""


# A table rather than `match`: one look-up, where `send` would wait for seven comparisons.
_RULES: Final[Mapping[type, Callable[[Any, Limits], None]]] = {
    frames.Hello: _hello,
    frames.Open: _open,
    frames.Attach: _session_only,
    frames.Detach: _session_only,
    frames.Update: _update,
    frames.Close: _session_only,
    frames.Send: _send,
    frames.History: _history,
    frames.Read: _session_only,
    frames.Signal: _signal,
    frames.Presence: _session_only,
    frames.Heartbeat: _heartbeat,
    frames.Refresh: _nothing,
}

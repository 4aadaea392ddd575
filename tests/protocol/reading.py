"""What tests need to read what the gateway says."""

import json
import struct
from typing import Any


def payload(frame: bytes) -> bytes:
    """Take one whole unmasked WebSocket text frame apart, as RFC 6455 5.2 has it."""
    assert frame[0] == 0x81, "FIN and text"
    size, start = frame[1], 2
    assert size < 128, "a server does not mask"
    if size == 126:
        (size,), start = struct.unpack_from("!H", frame, 2), 4
        assert size > 125, "the shortest form"
    elif size == 127:
        (size,), start = struct.unpack_from("!Q", frame, 2), 10
        assert size > 65_535, "the shortest form"
    assert len(frame) == start + size
    return frame[start:]


def read(frame: bytes) -> dict[str, Any]:
    """Read the JSON object in a WebSocket text frame."""
    value = json.loads(payload(frame))
    assert isinstance(value, dict)
    return value

"""Ready-made WebSocket frames as a server sends them (RFC 6455 5.2): unmasked, in one piece."""

import struct
from typing import Final

from gateway.protocol.close import clip_reason

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FIN: Final = 0x80
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")
_CODE: Final = struct.Struct("!H")

# RFC 6455 7.4.1: 1004 is reserved; 1005, 1006 and 1015 must not be sent. 1012 to 1014 were registered later.
# 3000 to 4999 belong to libraries and applications; below 1000 nothing is used, above 4999 nothing is
# defined.
_SENDABLE: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})


def frame(opcode: int, payload: bytes) -> bytes:
    """Build a whole message or control frame."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 65536:
        return _MEDIUM.pack(_FIN | opcode, 126, size) + payload
    return _LONG.pack(_FIN | opcode, 127, size) + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Build a close frame; the reason is cut to what fits. None: without a code, to answer one without."""
    if code is None:
        return frame(CLOSE, b"")
    return frame(CLOSE, _CODE.pack(code) + clip_reason(reason).encode())


def close_code(payload: bytes) -> int | None:
    """Read the code of a received close frame, None when it has none. ValueError: none that may be sent."""
    if not payload:
        return None
    if len(payload) < 2:
        raise ValueError("half a close code")
    code = int(_CODE.unpack_from(payload)[0])
    if code not in _SENDABLE:
        raise ValueError(f"close code {code}")
    return code

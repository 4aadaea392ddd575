"""Messages from fragments (RFC 6455 5.4): order, sizes, UTF-8. Pure: no socket, no library."""

import codecs
from typing import Final

from gateway.protocol.close import CloseCode

_utf8: Final = codecs.getincrementaldecoder("utf-8")


class Violation(Exception):
    """The peer broke RFC 6455 or a limit of ours; the connection ends with this code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8 as RFC 3629 has it: no surrogates, nothing overlong."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Assembly:
    """One message under construction."""

    __slots__ = ("_decoder", "_fragments", "_limit", "_parts", "_size", "is_text")

    def __init__(self, is_text: bool, size_limit: int, fragment_limit: int) -> None:
        self.is_text = is_text
        self._limit = size_limit
        self._fragments = fragment_limit
        self._size = 0
        self._parts: list[bytes] = []
        # RFC 6455 8.1: text that is not UTF-8 fails the connection; at the first fragment that shows it, not
        # at the end.
        self._decoder = _utf8() if is_text else None

    def add(self, fragment: bytes, is_last: bool) -> bytes | None:
        """Take the next fragment; return the message when this was its last. Violation."""
        self._size += len(fragment)
        # 64: nobody needs more to stream 64 KiB. Without a bound, empty fragments would be a way to send for
        # ever.
        if self._size > self._limit or len(self._parts) >= self._fragments:
            raise Violation(CloseCode.MESSAGE_TOO_BIG, "message too big")
        if self._decoder is not None:
            try:
                self._decoder.decode(fragment, is_last)
            except UnicodeDecodeError:
                raise Violation(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from None
        self._parts.append(fragment)
        return b"".join(self._parts) if is_last else None

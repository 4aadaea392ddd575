"""What a JSON document must be before it is stored or passed on as it is.

It will be spliced into frames and columns unseen, and must then be readable by every parser in every
language: one bad message would poison every replay of its session.
"""

import re
from itertools import accumulate
from typing import Final

import msgspec

from gateway.protocol.limits import MAX_SAFE_INTEGER

# Reads the keys and checks the grammar of all the rest without building it.
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

# An odd number of backslashes before u0000: an even number is a text that only looks like it.
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_NUMBER: Final = re.compile(rb"-?\d[\d.eE+-]*+")

# The least that a number needs to be too large or to have an exponent.
_SUSPECT_NUMBER: Final = re.compile(rb"\d{16}|\d[eE]")

# jsonb prints 1e-9999 as ten thousand digits: with exponents of any length, 64 KiB would grow to megabytes.
_LONG_EXPONENT: Final = re.compile(rb"[eE][+-]?\d{3}")
# And with two digits in each of ten thousand numbers it would grow seventeen times: so many zeros are enough.
_SMALL_EXPONENT: Final = re.compile(rb"[eE]-(\d+)")
_ZEROS: Final = 2_000

_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
# As a number: asked for bytes of one, Python 3.11 makes an error with its text first, and throws it away.
_BACKSLASH: Final = ord("\\")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def holds_nul(data: bytes) -> bool:
    """Whether a string or key in this JSON holds U+0000, which Postgres refuses to store."""
    # From the cheapest question to the dearest; almost every frame is done with the first.
    return _BACKSLASH in data and b"\\u0000" in data and _ESCAPED_NUL.search(data) is not None


def fault_of(document: bytes, *, depth: int) -> str | None:
    """Say what is wrong with the document, None when nothing is. Its size is the caller's to check."""
    try:
        document.decode()
        _OBJECT.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "is not a JSON object"
    except RecursionError:
        return _too_deep(depth)
    if holds_nul(document):
        return "holds a NUL character"
    bare = _STRING.sub(b"", document)
    if bare.count(b"{") + bare.count(b"[") > depth and _depth_of(bare) > depth:
        return _too_deep(depth)
    if _SUSPECT_NUMBER.search(bare) is not None:
        return _fault_of_numbers(bare)
    return None


def _depth_of(bare: bytes) -> int:
    brackets = bare.translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)))


def _fault_of_numbers(bare: bytes) -> str | None:
    # By value: beyond 64 bits parsers turn integers into floats, and jsonb prints floats as integers.
    if max(map(abs, map(float, _NUMBER.findall(bare))), default=0.0) > MAX_SAFE_INTEGER:
        return f"holds a number beyond ±{MAX_SAFE_INTEGER}: send it as a string"
    if _LONG_EXPONENT.search(bare) is not None:
        return "holds a number with more than two digits of exponent: send it as a string"
    if sum(map(int, _SMALL_EXPONENT.findall(bare))) > _ZEROS:
        return "holds too many tiny numbers such as 1e-30: send them as strings"
    return None


def _too_deep(depth: int) -> str:
    return f"nests deeper than {depth} levels"

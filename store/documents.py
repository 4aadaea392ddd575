"""JSON documents: equal, whatever the order of their keys and the space between them."""

from typing import Any

import msgspec


def are_equal(one: bytes, other: bytes) -> bool:
    """Whether two documents say the same. What cannot be read is equal to itself only."""
    if one == other:
        return True
    try:
        return _are_equal(msgspec.json.decode(one), msgspec.json.decode(other))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _are_equal(one: Any, other: Any) -> bool:
    # To Python, true is 1.
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    return bool(one == other)

"""What may be asked of the database: ids, names and numbers that it can hold. Nothing else exists."""

import re
from typing import Final

# In canonical form only: Postgres takes one UUID in many spellings, and would answer under another than was
# asked for.
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_LARGEST: Final = 2**63 - 1
_MOST_ROWS: Final = 2**31 - 1

FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def is_id(text: str) -> bool:
    """Whether a session or message may have this id."""
    return _UUID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether a user or tenant may be called this: text that has a form in UTF-8, without NUL."""
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def seq(number: int) -> int:
    """The same position, or the nearest that fits into 64 bits."""
    return max(-_LARGEST, min(number, _LARGEST))


def rows(limit: int) -> int:
    """A limit as SQL takes it."""
    return max(0, min(limit, _MOST_ROWS))

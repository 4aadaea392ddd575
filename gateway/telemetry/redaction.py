"""Makes a log event safe to write: no secrets, no bodies, no control characters, no endless values."""

import re
from collections.abc import Mapping
from typing import Final

from structlog.typing import EventDict, WrappedLogger

# What is known by its name, whatever it looks like.
_SECRETS: Final = frozenset(
    {"authorization", "cookie", "credential", "jwt", "password", "resume", "secret", "ticket", "token"}
)
_BODIES: Final = frozenset({"body", "content", "context", "data", "metadata", "payload", "text"})

# What is known by its looks, whatever it is called: a JWT (its header begins with {" in base64) …
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*){1,4}")
# … and anything that may be a secret of ours, 43 characters of URL-safe base64.
_RANDOM: Final = re.compile(r"[A-Za-z0-9_-]{40,}")

REDACTED: Final = "[redacted]"
LEFT_OUT: Final = "[left out]"

_LONGEST: Final = 1000
# A traceback of forty frames.
_LONGEST_TRACEBACK: Final = 16_000
_DEEPEST: Final = 3
_MOST_ITEMS: Final = 32


def clean_event(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Clean every value of an event; a structlog processor. What formatters keep for themselves stays."""
    return {
        name: value if name.startswith("_") else _clean_named(name, value, 0) for name, value in event.items()
    }


def clean(text: str, longest: int = _LONGEST, keep: str = "") -> str:
    """Take secrets out of a text, write its control characters as escapes, and cut it."""
    text = _JWT.sub(REDACTED, text[: 2 * longest])
    text = _RANDOM.sub(lambda found: REDACTED if _looks_random(found[0]) else found[0], text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)
    return text if len(text) <= longest else text[:longest] + " …"


def _clean_named(name: str, value: object, depth: int) -> object:
    plain = name.lower()
    if plain in _SECRETS or plain.rpartition("_")[2] in _SECRETS:
        return value if value is None or isinstance(value, bool) else REDACTED
    if plain in _BODIES:
        return LEFT_OUT
    if name in ("exception", "stack") and isinstance(value, str):
        return clean(value, _LONGEST_TRACEBACK, keep="\n\t")
    return _clean_value(value, depth)


def _clean_value(value: object, depth: int) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return clean(value)
        case bytes() | bytearray() | memoryview():
            return f"[{len(value)} bytes]"
        case Mapping() if depth < _DEEPEST:
            items = list(value.items())[:_MOST_ITEMS]
            return {clean(str(key)): _clean_named(str(key), item, depth + 1) for key, item in items}
        case list() | tuple() | set() | frozenset() if depth < _DEEPEST:
            return [_clean_value(item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
        case _:
            return clean(str(value))


def _looks_random(text: str) -> bool:
    """43 random characters have digits, capitals and small letters; long names in code have not all three."""
    return (
        any(c.isdigit() for c in text) and any(c.isupper() for c in text) and any(c.islower() for c in text)
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()

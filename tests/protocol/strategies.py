"""Random input: documents that may be stored, frames that look almost right, and noise."""

import json
import random
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from gateway.protocol.frames import TYPES
from gateway.protocol.limits import MAX_SAFE_INTEGER

SESSION = "01920000-0000-7000-8000-00000000000a"

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_NUMBERS = st.one_of(
    st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER),
    st.floats(-1e15, 1e15).filter(lambda number: number == 0 or abs(number) > 1e-90),
)


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """Objects that are stored as they are."""
    values: st.SearchStrategy[Any] = st.recursive(
        st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXT),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXT, inner, max_size=4)),
        max_leaves=10,
    )
    return st.dictionaries(_TEXT, values, max_size=4)


def any_json() -> st.SearchStrategy[Any]:
    """Values of which some must be refused: large numbers, NUL, half surrogate pairs, deep nesting."""
    odd = st.sampled_from(
        ["\0", "\\u0000", "\ud800", 2**53, -(2**53), 2**64, 10**30, 1e300, 1e-300, _nested(31), _nested(40)]
    )
    return st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), odd),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    )


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


# What JSON and frames are made of, whole and in pieces.
_PIECES = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b" ",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\\ud83d\\ude00",
        b"\x00",
        b"\xff",
    ),
    *(
        b"null",
        b"true",
        b"-",
        b"0",
        b"1",
        b"9007199254740992",
        b"1e999",
        b"1.5",
        b'""',
        b"\xc3\xa9",
        b"{}",
        b"[]",
    ),
    *(f'"{name}"'.encode() for name in sorted(TYPES)),
    *(
        f'"{name}":'.encode()
        for name in ("type", "id", "session", "content", "metadata", "attach", "ts", "seen")
    ),
    *(f'{{"type":"{name}",'.encode() for name in sorted(TYPES)),
    f'"session":"{SESSION}",'.encode(),
    b'"id":"r1",',
)


def noise(seed: int, count: int) -> Iterator[bytes]:
    """Messages of random pieces, now and then with random bytes in between."""
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        pieces = chance.choices(_PIECES, k=chance.randrange(16))
        if chance.random() < 0.3:
            pieces.insert(chance.randrange(len(pieces) + 1), chance.randbytes(chance.randrange(64)))
        yield b"".join(pieces)


@st.composite
def likely_frames(draw: st.DrawFn) -> bytes:
    """A frame of a known type whose fields are as likely wrong as right."""
    right: dict[str, Any] = {
        "id": "r1",
        "session": SESSION,
        "content": "hello",
        "role": "user",
        "title": "t",
        "status": "archived",
        "since": 3,
        "before": 3,
        "after": 3,
        "limit": 3,
        "seq": 3,
        "name": "typing",
        "ts": 3,
        "seen": {SESSION: 3},
        "token": "a.b.c",
        "attach": [{"session": SESSION, "since": 3}],
        "metadata": {},
        "context": {},
        "data": {},
    }
    names = draw(st.lists(st.sampled_from(sorted(right)), unique=True))
    frame = {name: right[name] if draw(st.booleans()) else draw(any_json()) for name in names}
    frame["type"] = draw(st.sampled_from([*sorted(TYPES), "stream.open", "shout"]))
    return json.dumps(frame, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")

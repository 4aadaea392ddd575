"""How a task of an operator lies in the live store, and what a reader makes of one that nobody sees to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from store.errors import Unavailable

# Finished or not: soft state, for as long as an operator looks at it.
KEPT_MS: Final = 600_000
# Clocks of nodes differ, and who is late is not gone.
PATIENCE_MS: Final = 10_000
# A store that hangs holds nothing up for longer.
STORE_S: Final = 1.0

_ABANDONED: Final = "the node that saw to it is gone; who was asked to move does so all the same"


class Kept(msgspec.Struct, frozen=True):
    """A task as it is stored: when it is over at the latest (epoch ms), whether it is, and what is told."""

    ends_by: int
    is_over: bool
    document: dict[str, Any]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Kept)


@asynccontextmanager
async def promptly() -> AsyncIterator[None]:
    """Give up what is asked of the store inside, where it hangs. Unavailable."""
    try:
        async with asyncio.timeout(STORE_S):
            yield
    except TimeoutError as error:
        raise Unavailable(f"no answer within {STORE_S:g} s") from error


def stored(kept: Kept) -> bytes:
    """As it lies in the store."""
    return _encoder.encode(kept)


def is_under_way(value: bytes, now_ms: int) -> bool:
    """Whether somebody still sees to it."""
    kept = _decoder.decode(value)
    return not kept.is_over and now_ms < kept.ends_by + PATIENCE_MS


def fetched(value: bytes, now_ms: int) -> dict[str, Any]:
    """What an operator is told of it."""
    kept = _decoder.decode(value)
    if kept.is_over or now_ms < kept.ends_by + PATIENCE_MS:
        return kept.document
    return kept.document | {"state": "abandoned", "why": _ABANDONED}

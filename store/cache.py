"""The interface of the shared cache."""

from collections.abc import Sequence
from typing import Protocol

Entry = tuple[str, bytes, int]  # key, value, version


class Cache(Protocol):
    """Bytes with a version and an expiry. Entries may be lost at any time; no older version follows a newer.

    A key may begin with a place and `|`: keys of one place have one keeper, and its clock.

    Order: versions of one key only grow, for as long as the last put or drop of it was to live.
    Atomicity: each call is atomic for its key.
    Durability: none.
    Cancellation: harmless.
    Errors: `Unavailable`; callers then go to the log.
    """

    @property
    def weight(self) -> int | None:
        """What the entries weigh in this process, in bytes; None where they are kept elsewhere."""

    @property
    def round_trips(self) -> int:
        """How often the keeper was asked, calls that went together counted once."""

    async def start(self) -> None:
        """Make ready; that the keeper is away is found out by the first call."""

    async def close(self) -> None:
        """Let go of every socket. Idempotent."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent, expired or was dropped."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of several keys in their order, in one round trip."""

    async def put(self, key: str, value: bytes, *, version: int, ttl_ms: int) -> bool:
        """Store the value; whether it was.

        Not when a newer version was put, or those older than a newer one were dropped, or this one is there.
        """

    async def put_many(self, entries: Sequence[Entry], *, ttl_ms: int) -> None:
        """`put` of several, in one round trip."""

    async def drop(self, key: str, *, version: int, ttl_ms: int) -> None:
        """Remove values older than `version` and, for `ttl_ms`, refuse to store any such."""

    async def drop_many(self, versions: Sequence[tuple[str, int]], *, ttl_ms: int) -> None:
        """`drop` of several (key, version), in one round trip."""

    async def now_ms(self, key: str) -> int:
        """The time by the clock of the key's keeper, the same for all nodes.

        It is the version of what is read from now on and has none of its own: see `outdate_many`.
        """

    async def outdate_many(self, keys: Sequence[str], *, margin_ms: int, ttl_ms: int) -> None:
        """Drop what keys versioned by `now_ms` hold; refuse what was read before now and `margin_ms`.

        In one round trip.
        """

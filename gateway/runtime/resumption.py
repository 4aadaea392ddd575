"""Resume tokens: what a client shows to take up a lost connection's attachments.

Single use, kept for the resume window.
"""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

import msgspec

from gateway import ids
from gateway.auth.tickets import digest
from store.errors import Unavailable
from store.live import Live


class ResumeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token stands for: a connection and the last seq its client has confirmed in each session."""

    tenant: str
    user: str
    connection: str
    sessions: dict[str, int]
    node: str = ""  # where the connection lives, or lived
    # Of exclusive sessions: the highest epoch that is this client's own, 0 where it has lost it (`Holdings`).
    epochs: dict[str, int] = {}


# What may change in a record besides its sessions, in one tuple: last seqs, then epochs with their sessions.
Rest = tuple[int | tuple[str, int], ...]

# A stamp of eight digits, and what closes the record behind it.
_ENDING: Final = 10


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What a node remembers of a record that it has stored, to renew it for as long as it is true."""

    digest: str
    ending: bytes
    sessions: tuple[str, ...]
    rest: Rest


def kept(digest: str, value: bytes, sessions: tuple[str, ...], rest: Rest) -> Kept:
    """What is to be remembered of a stored record, besides what it was made of."""
    return Kept(digest, value[-_ENDING:], sessions, rest)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ResumeRecord)


def new_token() -> str:
    """Make a token."""
    return ids.new_secret()


def stamped(record: ResumeRecord) -> bytes:
    """The record as it is stored: at its end a stamp, passed over by who reads it, tells it from others."""
    plain = _encoder.encode(record)
    return b'%b,"stamp":"%08x"}' % (plain[:-1], crc32(plain))


class Resumption:
    """Keeps and hands out resume records. The live store being away costs a resume.

    Its client attaches anew, from its cursors.
    """

    def __init__(self, live: Live, window_ms: int) -> None:
        self._live = live
        self.window_ms = window_ms

    async def keep(self, records: Sequence[tuple[str, ResumeRecord]]) -> set[str]:
        """Store records under tokens, for one window from now. Returns the tokens used up already.

        Those are not made good again: another connection, here or elsewhere, has taken the place of theirs.
        """
        tokens = {digest(token): token for token, _ in records}
        values = [stamped(record) for _, record in records]
        return {tokens[each] for each in await self.put(list(zip(tokens, values, strict=True)))}

    async def put(self, values: Sequence[tuple[str, bytes]]) -> set[str]:
        """As `keep`, of digests and what `stamped` has made of records."""
        return await self._live.put_once("resume", values, ttl_ms=self.window_ms) if values else set()

    async def renew(self, kept: Sequence[Kept]) -> tuple[set[str], set[str]]:
        """Have records live for one more window. The digests used up already, and those to be put anew."""
        if not kept:
            return set(), set()
        endings = [(each.digest, each.ending) for each in kept]
        return await self._live.renew_once("resume", endings, ttl_ms=self.window_ms)

    async def take(self, token: str, tenant: str, user: str) -> ResumeRecord | None:
        """Use the token up. None: unknown, used, too old, another user's, or the store is away."""
        try:
            value = await self._live.take_once("resume", digest(token))
        except Unavailable:
            return None
        if value is None:
            return None
        record = _decoder.decode(value)
        return record if (record.tenant, record.user) == (tenant, user) else None

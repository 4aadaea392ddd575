"""Resume tokens: what a client shows to take up a lost connection's attachments.

Single use, kept for the resume window.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway import ids
from gateway.auth.tickets import digest
from store.errors import Unavailable
from store.live import Live


class ResumeRecord(msgspec.Struct, frozen=True):
    """What a token stands for: a connection and the last seq its client has confirmed in each session."""

    tenant: str
    user: str
    connection: str
    sessions: dict[str, int]
    node: str = ""  # where the connection lives, or lived


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ResumeRecord)


def new_token() -> str:
    """Make a token."""
    return ids.new_secret()


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
        entries = list(zip(tokens, [_encoder.encode(record) for _, record in records], strict=True))
        taken = await self._live.put_once("resume", entries, ttl_ms=self.window_ms)
        return {tokens[each] for each in taken}

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

"""Requests and messages on whichever link is current: ids, time limits, trying again."""

import secrets
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from session_gateway_client.backoff import full_jitter
from session_gateway_client.clock import within
from session_gateway_client.errors import ConnectionLost, Refused, RequestTimeout
from session_gateway_client.frames import encode
from session_gateway_client.link import Link
from session_gateway_client.options import Options
from session_gateway_client.outbox import Outbox
from session_gateway_client.values import Ack, Frame

ID_CHARACTERS: Final = 64


class Links(Protocol):
    """Whoever has the links."""

    async def ready(self, session: str | None = None) -> Link:
        """Wait for the current link to be up (and the session attached on it). Raises if none will be."""

    def offer(self, frame: Frame) -> bool:
        """Queue a frame on the current link, if it is up."""

    def wake(self) -> None:
        """Have every link look again."""

    def limit(self, name: str) -> int | None:
        """A limit the gateway has told us."""


class Requests:
    """Asks, and posts messages."""

    def __init__(self, links: Links, outbox: Outbox, options: Options) -> None:
        self._links = links
        self._outbox = outbox
        self._options = options
        # Not from `options.random`, which may be seeded: an id is an idempotency key for as long as its
        # message lives, and a second run of the same seed must not find its messages stored already.
        self._prefix = secrets.token_hex(8)
        self._n = 0

    def new_id(self) -> str:
        """Make an id for a request or a message."""
        self._n += 1
        return f"{self._prefix}-{self._n}"

    async def ask(self, frame: Frame, *, session: str | None = None, repeats: bool = True) -> Frame:
        """Send a request and return its reply.

        Refused for now, it is tried again; so it is after a lost connection if it `repeats`, else that is
        ConnectionLost.
        """
        return await self._timed(frame, self._ask(frame, session, repeats))

    async def ask_on(self, link: Link, frame: Frame) -> Frame:
        """Send a request over this very link; ConnectionLost when it goes."""
        return await self._timed(frame, self._ask_on(link, frame))

    async def post(self, session: str, message: Frame) -> Ack:
        """Send a message until it is acked or finally refused."""
        id = message.get("id") or self.new_id()
        if len(id) > ID_CHARACTERS:
            raise ValueError(f"an id has at most {ID_CHARACTERS} characters")
        size, limit = len(message["content"].encode()), self._links.limit("message_bytes")
        if limit is not None and size > limit:
            # The gateway would close the connection over a frame far above it, and all sessions with it.
            raise Refused("too_large", f"the content has {size} bytes, at most {limit} are allowed")
        text = encode({"type": "send", "session": session, **message, "id": id})
        entry = self._outbox.put(session, id, text)
        self._links.wake()
        return await self._outbox.ack_of(entry)

    async def posted(self, session: str) -> None:
        """Return when no message of the session waits for its ack."""
        await self._outbox.emptied(session)

    def offer(self, frame: Frame) -> bool:
        """Send something ephemeral, or not."""
        return self._links.offer(frame)

    async def _ask(self, frame: Frame, session: str | None, repeats: bool) -> Frame:
        while True:
            link = await self._links.ready(session)
            try:
                return await self._ask_on(link, frame)
            except ConnectionLost:
                if not repeats:
                    raise

    async def _ask_on(self, link: Link, frame: Frame) -> Frame:
        # One id for all tries: at most one of them is ever unanswered.
        request = frame if "id" in frame else {**frame, "id": self.new_id()}
        refusals = 0
        while True:
            try:
                return await link.ask(request)
            except Refused as refused:
                if not refused.retryable:
                    raise
                delay = refused.retry_after_s + full_jitter(self._options.random, refusals)
            refusals += 1
            await self._options.clock.sleep(delay)

    async def _timed(self, frame: Frame, asking: Coroutine[Any, Any, Frame]) -> Frame:
        limit_s = self._options.request_timeout_s
        try:
            return await within(self._options.clock, limit_s, asking)
        except TimeoutError:
            raise RequestTimeout(f"no answer to {frame['type']} within {limit_s:g} s") from None

"""Keeps one client connected: makes links, replaces lost ones, moves to another node, and routes frames."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from session_gateway_client.backoff import HEALTHY_S, Backoff, full_jitter
from session_gateway_client.clock import within
from session_gateway_client.closing import Ending
from session_gateway_client.errors import (
    ClientClosed,
    ClientError,
    ConnectionLost,
    Disconnected,
    OutboxFull,
    Refused,
    RequestTimeout,
)
from session_gateway_client.feed import Feed
from session_gateway_client.frames import hello, refusal
from session_gateway_client.handshake import LinkFailed, Welcome, shake_hands
from session_gateway_client.link import Link
from session_gateway_client.options import Options
from session_gateway_client.outbox import Outbox
from session_gateway_client.requests import Requests
from session_gateway_client.sessions import Sessions
from session_gateway_client.tasks import Tasks, reap
from session_gateway_client.values import (
    Ack,
    ClientState,
    Connected,
    CredentialExpiring,
    Frame,
    RequestRefused,
    Signal,
    StateChanged,
)
from session_gateway_client.version import VERSION

logger: Final = logging.getLogger("session_gateway_client")
# On a move: how long the acks of the old connection are waited for before what is in flight goes over the new
# one.
LAST_ACKS_S: Final = 5.0


class Credential:
    """A token for as long as the client lives, or a source of fresh ones."""

    def __init__(self, token: str | None, provider: Callable[[], Awaitable[str]] | None) -> None:
        if (token is None) == (provider is None):
            raise ValueError("give either a token or a token_provider")
        self._token = token
        self._provider = provider

    @property
    def is_renewable(self) -> bool:
        return self._provider is not None

    async def get(self) -> str:
        """Give a token that is good now."""
        if self._provider is not None:
            return await self._provider()
        return self._token or ""


class Supervisor:
    """Owns every link of one client. At most two at a time: the current one, and the one it is moving to."""

    def __init__(self, url: str, credential: Credential, options: Options) -> None:
        self.state: ClientState = "connecting"
        self.reason = ""
        self.error: ClientError | None = None
        self.welcome: Welcome | None = None
        self.current: Link | None = None
        self.successor: Link | None = None
        self.feed = Feed(options.queue_events)
        self.tasks = Tasks()
        self.outbox = Outbox(
            max_messages=options.outbox_messages,
            max_bytes=options.outbox_bytes,
            window=options.window,
            random=options.random,
        )
        self.requests = Requests(self, self.outbox, options)
        self.sessions = Sessions(self, self.requests, self.outbox, self.feed, self.tasks, options)
        self._url = url
        self._credential = credential
        self._options = options
        self._clock = options.clock
        self._backoff = Backoff(options.random)
        self._resume: str | None = None
        self._links: set[Link] = set()
        self._main: asyncio.Task[None] | None = None
        self._move: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._poke = asyncio.Event()

    # -- for requests and sessions

    async def ready(self, session: str | None = None) -> Link:
        """Wait for the current link to be up (and the session attached on it). Raises if none will be."""
        while True:
            if self.error is not None:
                raise self.error
            link = self.current
            if link is None or not link.is_up:
                self._changed.clear()
                await self._changed.wait()
            elif self._has(link, session):
                return link
            else:
                await link.until(partial(self._is_settled, link, session))

    def _has(self, link: Link, session: str | None) -> bool:
        return session is None or session in link.attached or session not in self.sessions

    def _is_settled(self, link: Link, session: str | None) -> bool:
        return link is not self.current or self._has(link, session)

    def offer(self, frame: Frame) -> bool:
        """Queue a frame on the current link, if it is up."""
        return self.current is not None and self.current.offer(frame)

    def wake(self) -> None:
        """Have every link look again."""
        for link in self._links:
            link.wake()

    def awaits_replies(self) -> bool:
        """Whether somebody waits for an ack or a reply."""
        return len(self.outbox) > 0 or any(link.waits_for_replies for link in self._links)

    def limit(self, name: str) -> int | None:
        """A limit the gateway has told us."""
        limit = None if self.welcome is None else self.welcome.limits.get(name)
        return limit if isinstance(limit, int) else None

    # -- for the client

    async def until_open(self) -> None:
        """Return when connected for the first time; raise what made that impossible."""
        await self.ready()

    def retry_now(self) -> None:
        """Do not wait for the next try: the network is back."""
        self._poke.set()

    async def close(self) -> None:
        """Close the links with 1000, end every task, tell everybody who waits."""
        self._finish(ClientClosed("the client was closed"))
        try:
            # First nothing makes a connection any more, then those that are there are closed.
            makers = {task for task in (self._main, self._move) if task is not None}
            await reap(*(makers - {asyncio.current_task()}))
            await asyncio.gather(*(link.close() for link in tuple(self._links)))
        finally:
            await self.tasks.close()

    def start(self) -> None:
        """Connect, and stay connected until the client is closed or sent away."""
        self._main = asyncio.create_task(self._run(), name="gateway supervisor")

    async def _run(self) -> None:
        try:
            await self._keep_connected()
        except (Disconnected, ClientClosed) as error:
            logger.info("not reconnecting: %s", error)
            self._finish(error)
        except Exception:
            logger.exception("the supervisor failed")
            self._finish(Disconnected("the client failed; its log says why"))

    # -- for links

    def may_carry(self, link: Link, session: str) -> bool:
        """Whether messages of the session may be sent over this link.

        Of a session that is over they may, too: the gateway then says which of them it has.
        """
        return link is self.current and (session in link.attached or session not in self.sessions)

    def seen(self) -> dict[str, int]:
        """The delivered watermarks, for the heartbeat."""
        return self.sessions.seen()

    async def receive(self, link: Link, frame: Frame, size: int) -> None:
        """Take a frame. Types this client does not know are ignored."""
        match frame["type"]:
            case "ack":
                self._acked(frame)
            case "error":
                self._refused(link, frame)
            case "heartbeat":
                self.sessions.heads(link, frame.get("sessions") or {})
            case "migrate":
                link.farewell = (frame, self._clock.monotonic())
                self._move_on()
            case "expiring":
                self.tasks.spawn(self._refresh(link, frame["in_ms"] / 1000), "gateway refresh")
            case "signal" if frame.get("session") is None:
                if link is self.current:
                    self.feed.publish(
                        Signal(None, frame["name"], frame.get("data"), frame.get("sender"), None)
                    )
            case _ if isinstance(frame.get("session"), str):
                await self.sessions.receive(link, frame, size)

    def _acked(self, frame: Frame) -> None:
        self.outbox.acked(
            Ack(
                session=frame["session"],
                id=frame["id"],
                seq=int(frame["seq"]),
                ts=int(frame["ts"]),
                duplicate=bool(frame.get("duplicate")),
            )
        )
        # There is room for the next in the window.
        self.wake()

    def _refused(self, link: Link, frame: Frame) -> None:
        error, id, session = refusal(frame), frame.get("id"), frame.get("session")
        if id is not None:
            if self.outbox.refused(id, error, self._clock.monotonic()):
                self.wake()
        elif session is not None and session not in link.attached:
            self.sessions.refused(session, link, error)
        elif any(session.id not in link.attached for session in self.sessions):
            # It may be an attachment of the hello that was refused; the error does not say which.
            self.sessions.attach_missing(link)
        else:
            self.feed.publish(RequestRefused(error.code, error.message))

    # -- connecting

    async def _keep_connected(self) -> None:
        ending: Ending | None = None
        while True:
            if ending is not None:
                if not ending.reconnects:
                    raise Disconnected(str(ending), code=ending.code, status=ending.status)
                await self._wait(ending)
            self._set_state("connecting")
            # A poke in the middle of a try that then fails is not lost.
            self._poke.clear()
            try:
                link = await self._connect(self._url)
            except LinkFailed as failed:
                ending = failed.ending
                continue
            self._take(link)
            ending = await self._serve(link)

    async def _wait(self, ending: Ending) -> None:
        delay = self._backoff.delay(at_least=ending.retry_after_s, overloaded=ending.is_overload)
        logger.debug("connecting again in %.2f s: %s", delay, ending)
        self._set_state("waiting", str(ending), delay)
        try:
            await within(self._clock, delay, self._until_poked())
        except TimeoutError:
            return

    async def _until_poked(self) -> None:
        await self._poke.wait()

    async def _connect(self, url: str) -> Link:
        try:
            token = await within(self._clock, self._options.handshake_timeout_s, self._credential.get())
        except Disconnected:
            raise
        except Exception as error:
            # The provider is the application's; a token server that is away is no reason to give up.
            raise LinkFailed(Ending(reason=f"no credential: {error!r}")) from error
        frame, headers, named = hello(
            token=token,
            client={"name": self._options.name, "version": VERSION},
            resume=self._resume,
            cursors=self.sessions.cursors(),
        )
        if self.error is not None:
            # Closed by the token's provider.
            raise self.error
        socket, welcome = await shake_hands(url, frame, headers, self._options)
        link = Link(socket, welcome, self, self.outbox, self._options)
        self._resume = welcome.resume
        self._links.add(link)
        link.ended.add_done_callback(lambda _: self._links.discard(link))
        self.tasks.spawn(link.run(), "gateway link")
        self.sessions.settle(link, named)
        return link

    def _take(self, link: Link) -> None:
        """Make this link the current one."""
        old, self.current = self.current, link
        self.welcome = link.welcome
        if old is not None:
            self.outbox.lost(old)
        self._set_state("open")
        self.feed.publish(Connected(link.welcome.connection, link.welcome.node, link.welcome.resumed))
        self._changed.set()
        self.wake()
        self._move_on()

    async def _serve(self, link: Link) -> Ending:
        """Return when this link, and all it was moved to, are gone."""
        while True:
            # wait(), because being cancelled must not cancel the future that others look at.
            await asyncio.wait([link.ended])
            self.outbox.lost(link)
            if link is self.current:
                if self._move is not None:
                    await reap(self._move)
                if self.successor is None or not self.successor.is_up:
                    self.current = self.successor = None
                    if self._clock.monotonic() - link.opened_at >= HEALTHY_S:
                        self._backoff.reset()
                    return link.ended.result()
                self._take(self.successor)
                self.successor = None
                self.sessions.attach_missing(self.current)
            if self.current is None:
                return link.ended.result()
            link = self.current

    # -- moving

    def _move_on(self) -> None:
        """Leave the current link, if that was asked for. While a move is under way: when that one is over."""
        old = self.current
        if self._move is not None and not self._move.done():
            return
        if old is None or old.farewell is None or not old.is_up:
            return
        (frame, since), old.farewell = old.farewell, None
        self._move = asyncio.create_task(self._move_from(old, frame, since), name="gateway move")
        self._move.add_done_callback(self._moved)

    def _moved(self, move: "asyncio.Task[None]") -> None:
        if not move.cancelled() and (error := move.exception()) is not None:
            # The link is there still, and is closed at the deadline.
            logger.warning("not moved: %r", error)
        self._move_on()

    async def _move_from(self, old: Link, frame: Frame, since: float) -> None:
        """Make before break: a second link first; the first is closed when everything is live on the second.

        Until then both deliver, and each seq is taken from whoever brings it first. When the time is up the
        gateway closes the first; then the second takes over as far as it got, or, if there is none, the usual
        reconnect does.
        """
        clock, random = self._clock, self._options.random
        deadline = since + frame.get("deadline_ms", 30_000) / 1000
        # A named address is tried once: who cannot get there goes where it would have gone without one.
        url = target(self._url, frame.get("url"))
        await clock.sleep(since + max(0, frame.get("slot_ms", 0)) / 1000 - clock.monotonic())
        for attempt in itertools.count():
            retry_after_s = 0.0
            try:
                self.successor = link = await self._connect(url)
                await within(clock, deadline - clock.monotonic(), self._until_live(link))
            except LinkFailed as failed:
                retry_after_s = failed.ending.retry_after_s if url == self._url else 0.0
            except TimeoutError:
                return
            else:
                if await self._switch(old, link, deadline):
                    return
                self.successor = None
            url = self._url
            await clock.sleep(retry_after_s + full_jitter(random, attempt))
            if clock.monotonic() >= deadline:
                return

    async def _until_live(self, link: Link) -> None:
        await link.until(lambda: self.sessions.are_live_on(link))

    async def _switch(self, old: Link, link: Link, deadline: float) -> bool:
        """Have the new link carry everything, and close the old one. False: the new one was lost before."""
        # What is in flight on the old link is acked there, before anything newer goes over the new one: the
        # order of sends survives the move.
        old.hold_messages()
        left = min(LAST_ACKS_S, deadline - self._clock.monotonic())
        try:
            await within(self._clock, left, self._until_quiet(old))
        except TimeoutError:
            logger.debug("the last acks of the old connection did not come; sending again on the new one")
        if not link.is_up:
            old.release_messages()
            return False
        self.successor = None
        self._take(link)
        self.sessions.attach_missing(link)
        await old.close()
        return True

    async def _until_quiet(self, link: Link) -> None:
        await link.until(lambda: not self.outbox.is_flying(link) and not link.waits_for_replies)

    # -- the credential, the end

    async def _refresh(self, link: Link, in_s: float) -> None:
        self.feed.publish(CredentialExpiring(in_s))
        if not self._credential.is_renewable:
            return
        try:
            token = await self._credential.get()
            await self.requests.ask_on(link, {"type": "refresh", "token": token})
        except Refused as refused:
            self.feed.publish(RequestRefused(refused.code, refused.message))
        except (ConnectionLost, RequestTimeout, OutboxFull) as error:
            logger.debug("the credential was not refreshed: %r", error)
        except Exception:
            # The application's provider failed. The connection will end with 4004, and the next one asks
            # again.
            logger.exception("the token provider failed")

    def _set_state(self, state: ClientState, reason: str = "", retry_in_s: float | None = None) -> None:
        if self.error is not None:
            return
        self.reason = reason or self.reason
        if state != self.state or retry_in_s is not None:
            self.state = state
            self.feed.publish(StateChanged(state, retry_in_s, reason))

    def _finish(self, error: ClientError) -> None:
        if self.error is not None:
            return
        self._set_state("closed", str(error))
        self.error = error
        self.current = self.successor = None
        self._changed.set()
        self.outbox.close(error)
        self.sessions.end_all(error)
        self.feed.close()


def target(known: str, named: object) -> str:
    """Where to move to: what the gateway named, unless it is no socket or would drop encryption."""
    if not isinstance(named, str):
        return known
    try:
        parts, scheme = urlsplit(named), urlsplit(known).scheme
    except ValueError:
        return known
    is_socket = parts.scheme == "wss" or (parts.scheme == "ws" and scheme != "wss")
    return named if is_socket and parts.hostname and "@" not in parts.netloc else known

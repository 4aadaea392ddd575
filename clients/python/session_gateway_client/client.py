"""What the application holds: a client that stays connected, and its sessions."""

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self, Unpack

from websockets.uri import parse_uri

from session_gateway_client.clock import within
from session_gateway_client.errors import ConnectionLost, Disconnected
from session_gateway_client.feed import EventStream
from session_gateway_client.options import Options
from session_gateway_client.session import Session
from session_gateway_client.supervisor import Credential, Supervisor
from session_gateway_client.values import ClientState, Event, Frame, SessionSpec, Unacked


def connect(
    url: str,
    *,
    token: str | None = None,
    token_provider: Callable[[], Awaitable[str]] | None = None,
    options: Options | None = None,
) -> "Client":
    """Make a client of the gateway at `url` (ws:// or wss://); `async with` it to connect.

    Give a `token` that outlives the client, or a `token_provider`, which is asked before every connection and
    when the gateway says that the present token expires.
    """
    return Client(url, Credential(token, token_provider), options or Options())


class Client:
    """One user's connection to the gateway, kept up until closed. Made by `connect`; used in one event loop.

    Entering it returns when the gateway has said welcome, and raises Disconnected when it sends us away, or
    when there is no connection within `Options.open_timeout_s`. Leaving it closes it: no task and no socket
    is left.
    """

    def __init__(self, url: str, credential: Credential, options: Options) -> None:
        parse_uri(url)
        self._url = url
        self._credential = credential
        self._options = options
        self._supervisor: Supervisor | None = None

    async def __aenter__(self) -> Self:
        if self._supervisor is not None:
            raise RuntimeError("a client is entered once; make another")
        supervisor = self._supervisor = Supervisor(self._url, self._credential, self._options)
        supervisor.start()
        try:
            await within(self._options.clock, self._options.open_timeout_s, supervisor.until_open())
        except TimeoutError:
            why = (
                f"no connection within {self._options.open_timeout_s:g} s: {supervisor.reason or 'no answer'}"
            )
            await supervisor.close()
            raise Disconnected(why) from None
        except BaseException:
            await supervisor.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close for good. What waits for an ack fails with ClientClosed; `flush()` first waits for it."""
        await self._entered.close()

    @property
    def _entered(self) -> Supervisor:
        if self._supervisor is None:
            raise RuntimeError("use the client in `async with connect(...) as client`")
        return self._supervisor

    # -- what it is

    @property
    def state(self) -> ClientState:
        """connecting, open, waiting (for the next try), closed."""
        return self._entered.state

    @property
    def reason(self) -> str:
        """Why it was last not open; empty when it always was."""
        return self._entered.reason

    @property
    def user(self) -> str:
        """Who the gateway says we are."""
        welcome = self._entered.welcome
        return "" if welcome is None else welcome.user

    @property
    def tenant(self) -> str:
        """The namespace we are in."""
        welcome = self._entered.welcome
        return "" if welcome is None else welcome.tenant

    @property
    def connection(self) -> str:
        """The id of the present connection, or of the last one."""
        welcome = self._entered.welcome
        return "" if welcome is None else welcome.connection

    @property
    def limits(self) -> Mapping[str, object]:
        """What the gateway allows."""
        welcome = self._entered.welcome
        return {} if welcome is None else welcome.limits

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The attached sessions, by id."""
        return {session.id: session for session in self._entered.sessions}

    @property
    def unacked(self) -> tuple[Unacked, ...]:
        """Every message that waits for its ack, oldest first."""
        return tuple(self._entered.outbox)

    # -- sessions

    async def open(self, **spec: Unpack[SessionSpec]) -> Session:
        """Make a session and attach to it.

        Not repeated by itself: ConnectionLost and RequestTimeout mean that it may have been made.
        """
        return await self._attach({"type": "open", **spec}, repeats=False)

    async def attach(self, session: str, *, since: int | None = None) -> Session:
        """Attach to a session.

        `since` absent: only what is new; 0: from the beginning; n: what follows seq n. A session that is
        attached already is returned as it is; to read it again from elsewhere, detach first, or use
        `history`.
        """
        known = self._entered.sessions.get(session)
        if known is not None:
            return known
        request: Frame = {"type": "attach", "session": session}
        if since is not None:
            request["since"] = since
        return await self._attach(request, repeats=True)

    async def _attach(self, request: Frame, *, repeats: bool) -> Session:
        supervisor = self._entered
        request["id"] = supervisor.requests.new_id()
        try:
            reply = await supervisor.requests.ask(request, repeats=repeats)
        except BaseException:
            # Cancelled, or out of time, in the very moment it was attached: then nobody would ever leave it.
            supervisor.sessions.drop(request["id"])
            raise
        session = supervisor.sessions.claim(request["id"], reply["session"])
        if session is None:
            raise supervisor.error or ConnectionLost("the session ended while it was being attached")
        return session

    async def flush(self) -> None:
        """Return when every message sent so far is acked or refused."""
        await self._entered.outbox.emptied()

    def retry_now(self) -> None:
        """Connect at once instead of at the next try: the network is back."""
        self._entered.retry_now()

    # -- events

    def events(self) -> EventStream:
        """Iterate over what happens from now on: state changes, session events, signals, presence."""
        return self._entered.feed.stream()

    def on_event(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns what ends that. It must not block."""
        return self._entered.feed.listen(listener)

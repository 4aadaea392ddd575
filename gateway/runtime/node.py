"""One node: everything its connections share, and its life from start to stop."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from gateway import ids
from gateway.auth.revocations import Revocations
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens
from gateway.clock import Clock
from gateway.fanout.comparison import Comparison
from gateway.fanout.hub import Hub
from gateway.fanout.presence import GRACE_S, Presence
from gateway.fanout.publish import Publisher
from gateway.fanout.room import Attachment
from gateway.protocol.close import CloseCode
from gateway.protocol.limits import Limits
from gateway.runtime import node_lease
from gateway.runtime.cleaning import Cleaning
from gateway.runtime.committer import Committer
from gateway.runtime.connection import Connection
from gateway.runtime.drain import Drain
from gateway.runtime.events import PURGE_S, Events
from gateway.runtime.health import Health, Readiness
from gateway.runtime.leases import FLUSH_S, Leases
from gateway.runtime.line import Line
from gateway.runtime.migrations import Migrations
from gateway.runtime.node_channel import is_a_nodes
from gateway.runtime.node_lease import NodeLease
from gateway.runtime.requests import Requests
from gateway.runtime.resumption import Resumption
from gateway.runtime.sessions import Sessions
from gateway.runtime.sweeper import Sweeper
from gateway.runtime.tasks import Tasks
from gateway.runtime.webhook import LOOK_S, Webhook, WebhookSettings
from gateway.telemetry.metrics import Metrics
from store.errors import Unavailable
from store.live import Live
from store.open import Stores
from store.records import Records
from store.types import ConnectionEntry, Revocation

LEAVES_S: Final = 1.0

_logger = structlog.get_logger("gateway.runtime")


def _nothing() -> None:
    """What the edge does about a fence where there is none."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has to be told. Durations in the unit of their name."""

    node_id: str
    heartbeat_ms: int = 25_000
    heartbeat_timeout_ms: int = 60_000
    resume_window_s: float = 120.0
    sweep_s: float = 5.0
    drain_s: float = 30.0
    session_ttl_s: int = 3600
    hello_timeout_s: float = 5.0
    connection_lifetime_s: float = 86_400.0
    connections_per_user: int = 10
    resumes_per_s: int = 400
    horizon_s: float = 30.0  # nobody is told to come again later than this
    sessions_per_user: int = 100
    events_retention_h: int = 168
    webhook: WebhookSettings | None = None
    advertise_url: str | None = None
    is_fenced: bool = True  # whether there may be other nodes, who take a silent one for lost


class Credentials(msgspec.Struct, frozen=True):
    """What recognises callers."""

    tokens: Tokens
    tickets: Tickets
    revocations: Revocations


def _lease_of(node: "Node", live: Live) -> NodeLease:
    is_fenced, url = node.settings.is_fenced, node.settings.advertise_url
    return NodeLease(live, node.id, node.clock, node, is_fenced=is_fenced, url=url)


class Node:
    """Composed once per process. Connections reach what they need through it."""

    def __init__(
        self,
        settings: NodeSettings,
        limits: Limits,
        stores: Stores,
        credentials: Credentials,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.id = settings.node_id
        self.settings = settings
        self.limits = limits
        self.clock = clock
        self.metrics = metrics
        self.log = stores.log
        # Lists and history go through the cache, and every write that changes them tells it. What must be the
        # truth of this moment (who may attach, at which head, under which epoch) is asked of the log.
        self.records = Records(stores.log, stores.cache)
        self.live = stores.live
        self.tokens = credentials.tokens
        self.tickets = credentials.tickets
        self.revocations = credentials.revocations
        self.tasks = Tasks(lambda: bool(self.health.degraded))
        self.spawn = self.tasks.spawn
        self.publisher = Publisher(stores.bus)
        self.hub = Hub(stores.log, stores.bus, self.spawn, clock.monotonic)
        self.comparison = Comparison(stores.log, self.hub, self.hub.mender, lambda: self.health.is_alone)
        self.health = Health(stores.log, stores.live, stores.bus, clock, self.comparison.ask)
        kept_h, has_webhook = settings.events_retention_h, settings.webhook is not None
        self.events = Events(stores.log, clock, self.id, kept_h, has_webhook=has_webhook)
        self.webhook = Webhook(settings.webhook, stores.log, clock, self.id)
        self.lease = _lease_of(self, stores.live)
        self.presence = Presence(stores.live, self.publisher, clock.monotonic, self._life, self.events.left)
        self.cleaning = Cleaning(stores.live, self.presence, int(settings.resume_window_s * 1000))
        self.resumption = Resumption(stores.live, int(settings.resume_window_s * 1000))
        self.resumes = Line(settings.resumes_per_s, settings.horizon_s, clock.monotonic)
        beat_ms, silent_ms = settings.heartbeat_ms, settings.heartbeat_timeout_ms
        self.leases = Leases(stores.live, self.records, self.resumption, self.joined, beat_ms, silent_ms)
        ttl_s, most = settings.session_ttl_s, settings.sessions_per_user
        self.sessions = Sessions(stores.log, self.records, self.publisher, clock, ttl_s, most)
        self.committer = Committer(self.records, self.publisher, clock, self)
        self.requests = Requests(self)
        self.sweeper = Sweeper(self)
        self.connections: dict[str, Connection] = {}
        self._stores = stores
        self._committing: asyncio.Task[None] | None = None
        self.leaving = Drain(self)
        self.moves = Migrations(self, stores.bus)
        self.frames_in = 0
        self.on_fenced: Callable[[], None] = _nothing  # has the edge drop what it has not sent

    # -- life

    async def start(self) -> None:
        """Open the stores and begin to work."""
        await self._stores.start(self._hear, self.comparison.ask)
        await self.revocations.start()
        try:
            await self.lease.renew()
        except Unavailable as error:
            # The indexes are soft state: a node starts without them just as it goes on without them.
            _logger.warning("node_not_registered", error=str(error))
        self.spawn(self.moves.listen())
        self._committing = asyncio.get_running_loop().create_task(self._commit())
        # Two, since they go to different stores: one that hangs does not hold up what goes to the other.
        self.tasks.every(FLUSH_S, "leases", self._flush)
        self.tasks.every(FLUSH_S, "marks", self.leases.flush_marks)
        self.tasks.every(FLUSH_S, "events", self.events.flush)
        self.tasks.every(PURGE_S, "retention", self.events.purge)
        if self.settings.webhook is not None:
            self.tasks.every(LOOK_S, "webhook", self.webhook.deliver)
        self.tasks.every(self.settings.sweep_s, "sweeper", self.sweeper.sweep)
        self.tasks.keep("comparison", self.comparison.run)
        self.tasks.keep("health of redis", self.health.watch_redis)
        self.tasks.keep("health of postgres", self.health.watch_postgres)
        self.tasks.every(LEAVES_S, "presence", self.presence.announce_leaves)
        self.tasks.every(node_lease.RENEW_S, "node_lease", self.lease.renew)
        self.tasks.keep("cleaning", self.cleaning.run)

    def _hear(self, channel: str, payload: bytes) -> None:
        """Take a payload of the bus: to this node itself, or what the hub listens for."""
        if is_a_nodes(channel):
            self.moves.hear(payload)
        else:
            self.hub.receive(channel, payload)

    async def drain(self) -> None:
        """Leave: ask everybody to move, and send away who is left. Cancelled: it is cut short."""
        await self.leaving.finish()

    async def flush(self, within_s: float) -> None:
        """Take nothing more, and have what was taken committed and answered."""
        self.committer.stop()
        if self._committing is not None:
            await asyncio.wait([self._committing], timeout=within_s)

    async def stop(self) -> None:
        """End all work and close the stores. What has gathered for the indexes is written first."""
        await self.leaving.stop()
        await self.tasks.stop()
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait([self._committing])
        try:
            await self.moves.finish()
            await self.presence.note()
            await self.leases.finish()
            # Whoever was about to be told to have left is announced by others when the grace is over.
            await self.lease.retire(GRACE_S if self.presence.is_owing else 0.0)
        except Unavailable as error:
            _logger.warning("indexes_left_to_expire", error=str(error))
        try:
            await self.sweeper.finish()
            await self.events.flush()
            await self.webhook.finish()
        except Unavailable as error:
            _logger.warning("events_left", joins_and_leaves=self.events.waiting, error=str(error))
        await self.records.close()
        await self._stores.close()

    async def _commit(self) -> None:
        """Keep the committer at work: a bug in one group is told, and the next group is served."""
        while True:
            try:
                await self.committer.run()
                return
            except Exception:
                _logger.exception("task_failed", task="committer")

    def committed(self, drafts: int, seconds: float) -> None:
        """Of the committer: the log has answered one group."""
        self.metrics.committed(drafts, seconds)
        self.health.log_answered()

    async def _flush(self) -> None:
        """Write what has gathered for the indexes; first find out whether this node was lost meanwhile."""
        self.lease.watch()
        # On a cluster only one server may be away: the others are told who is here all the same.
        faults: list[Unavailable] = []
        is_noted = True
        if not self.lease.is_running:
            try:
                await self.lease.renew()
            except Unavailable as error:
                faults.append(error)
        try:
            await self.presence.note()
        except Unavailable as error:
            is_noted = False
            faults.append(error)
        await self.leases.flush_live(is_noted=is_noted)
        if faults:
            raise faults[0]

    @property
    def postponed(self) -> dict[str, int]:
        """How often periodic work was put off for a store's sake, by its name."""
        failures = {"comparison": self.comparison.failures, "cleaning": self.cleaning.failures}
        return {**self.tasks.failures, **failures}

    # -- the holder of the lease

    @property
    def serving(self) -> int:
        """How many connections there are."""
        return len(self.connections)

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more of them."""
        return self.leaving.has_begun

    def _life(self) -> str:
        return self.lease.life

    def fenced(self) -> None:
        """The process has not run for longer than its lease: close everything before anything is served."""
        self.on_fenced()
        for connection in list(self.connections.values()):
            connection.hang(CloseCode.RESYNC, "this node did not run for a while: resume")
        self.spawn(self._register_anew())

    async def _register_anew(self) -> None:
        try:
            await self.lease.renew()
        except Unavailable as error:
            _logger.warning("node_not_registered", error=str(error))

    def returned(self) -> None:
        """Others took this node for lost: assert everything anew, and say who is here after all."""
        self.leases.reassert(self.connections.values())
        for room in self.hub.rooms.values():
            room.told = None
            room.stir()

    def joined(self, entry: ConnectionEntry, session: str) -> None:
        """Tell that a user came into a session, as the index says once; also of who has gone meanwhile."""
        self.events.joined(entry, session)
        self.presence.joined(entry, session)

    def bereaved(self, lost: tuple[str, ...]) -> None:
        """Other nodes were lost: clean up what they have left."""
        self.cleaning.ask(lost)

    def readiness(self) -> Readiness:
        """Whether this node should get new connections, and the modes it is in."""
        if self._committing is None:
            return Readiness("starting")
        if self.leaving.has_begun:
            return Readiness("draining", self.health.degraded)
        return Readiness(self.health.unready, self.health.degraded)

    # -- connections

    def accept(self, bearer: str | None, ip: str, port: int) -> Connection:
        """Make what stands behind a new socket."""
        self.lease.watch()
        return Connection(self, ids.new_id(), bearer, (ip, port))

    def detach(self, connection: Connection, attachment: Attachment) -> None:
        """End an attachment at its client's wish."""
        self.hub.detach(attachment)
        connection.left(attachment.room.id)

    def departed(self, connection: Connection, code: int) -> None:
        """A socket is gone: its attachments end here.

        The indexes and the resume record are seen to with the next flush.
        """
        self.connections.pop(connection.id, None)
        self.leaving.departed(connection, code)
        self.moves.departed(connection.id)
        self.metrics.closed(code)
        if connection.identity is None:
            return
        tenant = connection.caller.tenant
        self.hub.unlisten(tenant, connection.user, connection)
        self.leases.departed(connection)
        for attachment in list(connection.attachments.values()):
            self.hub.detach(attachment)
            self.presence.left(tenant, attachment.room.id, connection.user)
        connection.attachments.clear()

    # -- revocation

    async def revoke(self, tenant: str, user: str) -> int:
        """Make the user's tokens worthless from now on and close their connections, on every node.

        Returns the moment (epoch ms).
        """
        revocation = await self.revocations.revoke(tenant, user)
        # Those here directly: a later refresh would find nothing new in it.
        self._close_revoked(revocation)
        self.publisher.revoked(tenant, user, revocation.before)
        return revocation.before

    async def refresh_revocations(self) -> None:
        """Learn of revocations made on other nodes whose announcement did not arrive."""
        for revocation in await self.revocations.refresh():
            self._close_revoked(revocation)

    def _close_revoked(self, revocation: Revocation) -> None:
        for connection in list(self.connections.values()):
            identity = connection.identity
            if identity and (identity.tenant, identity.user) == (revocation.tenant, revocation.user):
                connection.revoked(revocation.before)

    def wall_of(self, monotonic: float) -> int:
        """A monotonic moment of this process as epoch ms."""
        return self.clock.now_ms() - int((self.clock.monotonic() - monotonic) * 1000)

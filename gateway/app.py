"""The composition root: the one place that knows all parts and puts them together."""

import asyncio
from collections import Counter

from starlette.types import ASGIApp

from gateway.api.bounded import BoundedEvents, BoundedMessages, BoundedSessions, BoundedWhereabouts
from gateway.api.nodes import FleetRoutes, NodeRoutes
from gateway.api.ops import build_ops_app
from gateway.api.routes import build_app
from gateway.api.services import Services
from gateway.auth.revocations import Revocations
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens
from gateway.clock import SystemClock
from gateway.edge.edge import Edge
from gateway.edge.handler import EdgeLimits, Handler, Rejection, UpgradeRequest
from gateway.edge.upgrade import make_http_protocol, make_ws_protocol
from gateway.places import places_of
from gateway.protocol.limits import Limits
from gateway.runtime.lives import Lives
from gateway.runtime.messages import Messages
from gateway.runtime.node import Credentials, Node, NodeSettings
from gateway.runtime.webhook import WebhookSettings
from gateway.runtime.whereabouts import Whereabouts
from gateway.settings import Settings
from gateway.telemetry.metrics import BusReadings, EventReadings, Metrics, NodeReadings, Readings
from store.bus import Bus
from store.open import open_stores


class Gateway:
    """A whole gateway, ready to be served: the parts, and their start, drain and stop in the right order."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        self.settings = settings
        self.metrics = Metrics()
        self.stores = open_stores(places_of(settings))
        self.tokens = Tokens.from_settings(settings, clock)
        tickets = Tickets(self.stores.live, clock)
        revocations = Revocations(self.stores.log, clock)
        limits = protocol_limits(settings)
        credentials = Credentials(self.tokens, tickets, revocations)
        self.node = Node(node_settings(settings), limits, self.stores, credentials, clock, self.metrics)
        self.edge = Edge(edge_limits(settings), self._accept)
        self.edge.flusher.watch = self.node.lease.watch
        self.node.on_fenced = self.edge.drop
        self.is_demo = settings.is_loopback and not settings.has_credentials
        lives = Lives(self.node.log, self.node.clock)
        services = Services(
            sessions=BoundedSessions(self.node.sessions, self.node.health),
            messages=BoundedMessages(_messages(self.node, lives), self.node.health),
            whereabouts=BoundedWhereabouts(_whereabouts(self.node, lives), self.node.health),
            tokens=self.tokens,
            tickets=tickets,
            events=BoundedEvents(self.stores.log, self.node.health),
            moves=self.node.moves,
            holds=revocations.holds,
            revoke=self.node.revoke,
            ready=self.node.readiness,
            limits=limits,
            demo=self.is_demo,
        )
        self.metrics.follow(self._readings)
        self.asgi: ASGIApp = build_app(services)
        leaving = NodeRoutes(self.node.id, self.leave, lambda: self.node.leaving.progress)
        nodes = [*leaving.routes(), *FleetRoutes(self.node.moves).routes()]
        self.ops: ASGIApp = build_ops_app(self.node.readiness, self.metrics.render, nodes)
        self.ws_protocol: type[asyncio.BaseProtocol] = make_ws_protocol(self.edge)
        self.http_protocol: type[asyncio.BaseProtocol] = make_http_protocol(self.edge)

    async def start(self) -> None:
        """Open the stores, begin to work, and let connections in."""
        await self.node.start()
        self.edge.start()

    def leave(self) -> None:
        """Let nobody in any more, and begin to drain. Once begun it is never called off."""
        self.edge.draining = True
        self.node.leaving.begin()

    def hurry(self) -> None:
        """Wait for no client to move any more."""
        self.node.leaving.hurry()

    async def drain(self) -> None:
        """Let nobody in any more; return when everybody has moved or was sent away."""
        self.leave()
        await self.node.drain()

    async def stop(self) -> None:
        """Close what is left, sockets before stores."""
        # Of a drain that was cut short: after its 4000 clients come back, after the edge's 1001 they do not.
        await self.node.leaving.stop()
        await self.edge.stop()
        await self.node.stop()
        await self.tokens.close()

    def _readings(self) -> Readings:
        """The numbers that the parts keep by themselves."""
        rooms = self.node.hub.rooms.values()
        counters = self.edge.counters
        return Readings(
            connections=counters.connections,
            quiet=counters.quiet,
            frames_in=self.node.frames_in,
            frames_out=self.edge.flusher.frames,
            lag_entries=counters.lags,
            ephemeral_dropped=counters.dropped_ephemerals,
            sessions=dict(Counter(room.state for room in rooms)),
            attachments=sum(len(room.attachments) for room in rooms),
            commit_waiting=self.node.committer.waiting,
            degraded=dict.fromkeys(self.node.health.degraded, True),
            draining=self.node.leaving.has_begun,
            drained=self.node.leaving.counts,
            admissions=self._admissions(),
            put_off_s={"upgrade": self.edge.admission.line.ahead_s, "resume": self.node.resumes.ahead_s},
            postponed=self.node.postponed,
            nodes=NodeReadings(
                lost=self.node.lease.lost,
                cleaned=self.node.cleaning.entries,
                fences=self.node.lease.fences,
                returns=self.node.lease.returns,
            ),
            cache=self.node.records.counts,
            cache_owed=self.node.records.owed,
            cache_bytes=self.stores.cache.weight,
            queries=self.stores.log.queries,
            redis={"live": self.stores.live.round_trips, "cache": self.stores.cache.round_trips},
            events=self._event_readings(),
            buses={"messages": _bus_readings(self.stores.bus), "media": _bus_readings(self.stores.media)},
        )

    def _admissions(self) -> dict[tuple[str, str], int]:
        doors = {"upgrade": self.edge.admission.line, "resume": self.node.resumes}
        counts = {(door, "admitted"): line.admitted for door, line in doors.items()}
        counts |= {(door, "busy"): line.put_off for door, line in doors.items()}
        return counts | {("upgrade", why): count for why, count in self.edge.admission.refused.items()}

    def _event_readings(self) -> EventReadings:
        events, webhook = self.node.events, self.node.webhook
        return EventReadings(
            waiting=events.waiting,
            dropped=events.dropped,
            purged=events.purged,
            lost=events.undelivered,
            webhook=webhook.state,
            delivered=webhook.delivered,
            failed=webhook.failed,
            behind=webhook.behind,
            lag_s=webhook.lag_s,
        )

    def _accept(self, upgrade: UpgradeRequest) -> Handler | Rejection:
        return self.node.accept(upgrade.bearer, upgrade.ip, upgrade.port)


def _bus_readings(bus: Bus) -> BusReadings:
    return BusReadings(
        state=bus.state,
        published=bus.published,
        received=bus.received,
        dropped=bus.dropped,
        gaps=bus.gaps,
    )


def _whereabouts(node: Node, lives: Lives) -> Whereabouts:
    return Whereabouts(node.sessions, node.records, node.presence, node.live, lives, node.publisher)


def _messages(node: Node, lives: Lives) -> Messages:
    """The messages of sessions for callers without a connection."""
    return Messages(node.sessions, node.records, node.committer, lives, node.clock)


def protocol_limits(settings: Settings) -> Limits:
    """The limits that the protocol keeps."""
    return Limits(
        message_bytes=settings.max_message_bytes,
        json_depth=settings.max_json_depth,
        hello_bytes=settings.max_hello_bytes,
        attachments=settings.max_attachments,
        frames_per_s=settings.max_frames_per_s,
        frames_burst=settings.max_frames_burst,
    )


def edge_limits(settings: Settings) -> EdgeLimits:
    """The limits that the edge keeps."""
    return EdgeLimits(
        origins=settings.origins,
        trusted_proxies=tuple(str(network) for network in settings.trusted_proxies),
        # The codec limits the decoded content; escapes of JSON may take four times that on the wire.
        message_bytes=4 * settings.max_message_bytes + 4096,
        fragments=settings.max_fragments,
        connections_per_address=settings.max_connections_per_address,
        accepts_per_s=settings.max_accepts_per_s,
        horizon_s=horizon_s(settings),
        pings_per_s=settings.max_pings_per_s,
        gather_s=settings.quiet_gather_ms / 1000,
        outbox_frames=settings.max_outbox_frames,
        outbox_bytes=settings.max_outbox_bytes,
        # A ping with its pong costs as much as a heartbeat with its answer: one for five of those.
        ping_s=5 * settings.heartbeat_ms / 1000,
        silent_s=settings.heartbeat_timeout_ms / 1000,
        stall_s=settings.stall_timeout_s,
    )


def horizon_s(settings: Settings) -> float:
    """How long those who find no room may be put off, once. Their resume tokens have to outlive it."""
    return min(30.0, settings.resume_window_s / 4)


def node_settings(settings: Settings) -> NodeSettings:
    """What the node has to be told."""
    return NodeSettings(
        node_id=settings.node_id,
        heartbeat_ms=settings.heartbeat_ms,
        heartbeat_timeout_ms=settings.heartbeat_timeout_ms,
        resume_window_s=settings.resume_window_s,
        sweep_s=settings.sweep_s,
        drain_s=settings.drain_s,
        session_ttl_s=settings.session_ttl_s,
        hello_timeout_s=settings.hello_timeout_s,
        connection_lifetime_s=settings.max_connection_lifetime_s,
        connections_per_user=settings.max_connections_per_user,
        resumes_per_s=settings.max_resumes_per_s,
        horizon_s=horizon_s(settings),
        sessions_per_user=settings.max_sessions_per_user,
        events_retention_h=settings.events_retention_h,
        webhook=_webhook_settings(settings),
        advertise_url=settings.advertise_url,
        is_fenced=settings.redis_url is not None,
    )


def _webhook_settings(settings: Settings) -> WebhookSettings | None:
    if settings.webhook_url is None:
        return None
    return WebhookSettings(settings.webhook_url, settings.webhook_secret, settings.webhook_timeout_s)


def open_gateway(settings: Settings) -> Gateway:
    """Put a gateway together; nothing runs before its `start`."""
    return Gateway(settings)

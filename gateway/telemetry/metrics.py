"""What the gateway counts, in one registry; docs/metrics.md says what it means, and held against it.

Labels never carry ids: their values are from closed sets. What is counted per frame is a plain integer of
whoever counts it, read when somebody asks for the metrics, so that counting costs a fan-out nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, get_args

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.errors import ErrorCode
from gateway.protocol.close import CloseCode
from store.bus import BusState

ResumeOutcome = Literal["none", "resumed", "stale"]

# RFC 6455 7.4.1: 1005 and 1006 stand for a close frame without a code, and for none. A peer may close with
# any number; those that mean nothing to us share one label.
CLOSE_CODES: Final = frozenset({*map(int, CloseCode), 1005, 1006})

BusName = Literal["messages", "media"]

# The modes of gateway/runtime/health.py, which lies above.
MODES: Final = ("redis_away", "postgres_away", "bus_deaf")

# What becomes of connections in gateway/runtime/drain.py.
DRAIN_OUTCOMES: Final = ("moved", "closed", "left")

# Who lets in: gateway/edge/admission.py, gateway/runtime/greeting.py. And what may come of it.
DOORS: Final = ("upgrade", "resume")
ADMISSIONS: Final = (
    *((door, outcome) for door in DOORS for outcome in ("admitted", "busy")),
    ("upgrade", "leaving"),
    ("upgrade", "address"),
)

BUS_STATES: Final[tuple[BusState, ...]] = get_args(BusState)

# The states of gateway/runtime/webhook.py, which lies above.
WEBHOOK_STATES: Final = ("off", "standby", "delivering", "failing", "paused")

CACHE_LEVELS: Final = ("session", "list", "page")

SESSION_STATES: Final = ("connecting", "active", "idle", "disconnecting", "closed")

# A commit to a local disk takes 1 to 10 ms; above 1 s clients see their acks late.
_COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_COMMIT_DRAFTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class BusReadings(msgspec.Struct, frozen=True, kw_only=True):
    """What one bus has counted, and how it is."""

    state: BusState
    published: int = 0
    received: int = 0
    dropped: int = 0
    gaps: int = 0


class EventReadings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has done with events, and how far its webhook is."""

    waiting: int = 0
    dropped: int = 0
    purged: int = 0
    lost: int = 0
    webhook: str = "off"
    delivered: int = 0
    failed: int = 0
    behind: int = 0
    lag_s: float = 0.0


class NodeReadings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has counted of others that were lost, and of itself."""

    lost: int = 0
    cleaned: int = 0
    fences: int = 0
    returns: int = 0


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers that others keep, as they are at the moment. Counters only grow."""

    connections: int = 0
    quiet: int = 0  # of these, read together
    frames_in: int = 0
    frames_out: int = 0
    lag_entries: int = 0
    ephemeral_dropped: int = 0
    sessions: dict[str, int] = {}  # by state; a state that is missing has none
    attachments: int = 0
    commit_waiting: int = 0
    degraded: dict[str, bool] = {}  # by mode
    draining: bool = False
    drained: dict[str, int] = {}  # connections, by what became of them
    admissions: dict[tuple[str, str], int] = {}  # by door and outcome
    put_off_s: dict[str, float] = {}  # by door
    postponed: dict[str, int] = {}  # by periodic work
    cache: dict[str, int] = {}  # as `Records.counts`
    cache_owed: int = 0
    cache_bytes: int | None = None  # None where it is kept elsewhere
    queries: dict[str, int] = {}  # by kind
    redis: dict[str, int] = {}  # round trips, by who makes them
    events: EventReadings = EventReadings()
    buses: dict[BusName, BusReadings] = {}
    nodes: NodeReadings = NodeReadings()


class Metrics:
    """Every metric of one process. The methods say what happened; names and labels are decided here."""

    def __init__(self, read: Callable[[], Readings] = Readings) -> None:
        # A second series for the birth of each one; nobody asks for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._errors = Counter(
            "gateway_errors",
            "Requests answered by an error frame, by its code",
            ["code"],
            registry=self.registry,
        )
        self._closes = Counter(
            "gateway_closes", "Connections ended, by close code", ["code"], registry=self.registry
        )
        self._resumes = Counter(
            "gateway_resumes",
            "Connections opened, by what became of the wish to resume",
            ["outcome"],
            registry=self.registry,
        )
        self._messages = Counter(
            "store_messages_committed",
            "Messages given to the log and answered by it, duplicates and refusals included",
            registry=self.registry,
        )
        self._drafts = Histogram(
            "store_commit_batch_size",
            "Messages committed in one transaction",
            buckets=_COMMIT_DRAFTS,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "store_commit_seconds", "Time of one commit", buckets=_COMMIT_SECONDS, registry=self.registry
        )
        build = Gauge(
            "gateway_build_info", "Always 1; the version is a label", ["version"], registry=self.registry
        )
        build.labels(__version__).set(1)
        self._read = _Followed(read)
        self.registry.register(self._read)
        ProcessCollector(namespace="gateway", registry=self.registry)

    def follow(self, read: Callable[[], Readings]) -> None:
        """Ask this function for the numbers that others keep, each time somebody asks for the metrics."""
        self._read.read = read

    def error(self, code: ErrorCode) -> None:
        """A request was answered by an error."""
        self._errors.labels(code).inc()

    def closed(self, code: int) -> None:
        """A connection ended."""
        self._closes.labels(str(code) if code in CLOSE_CODES else "other").inc()

    def resume(self, outcome: ResumeOutcome) -> None:
        """A connection was opened: with no resume token, a good one, or one that is no longer good."""
        self._resumes.labels(outcome).inc()

    def committed(self, drafts: int, seconds: float) -> None:
        """The log has answered one group."""
        self._messages.inc(drafts)
        self._drafts.observe(drafts)
        self._seconds.observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """Print everything in Prometheus' text format; the second part is its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _Followed(Collector):
    """Turns readings into metrics at the moment they are asked for."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self.read = read

    def collect(self) -> Iterable[Metric]:
        now = self.read()
        yield from _of_connections(now)
        sessions = GaugeMetricFamily("gateway_sessions", "Sessions on this node, by state", labels=["state"])
        for state in SESSION_STATES:
            sessions.add_metric([state], now.sessions.get(state, 0))
        yield sessions
        frames = CounterMetricFamily(
            "gateway_frames", "Frames at the socket, by direction", labels=["direction"]
        )
        frames.add_metric(["in"], now.frames_in)
        frames.add_metric(["out"], now.frames_out)
        yield frames
        yield CounterMetricFamily(
            "gateway_lag_mode",
            "Times a connection read too slowly and fell into lag mode",
            value=now.lag_entries,
        )
        yield CounterMetricFamily(
            "gateway_ephemeral_dropped",
            "Signals and presence not sent to a connection that was behind",
            value=now.ephemeral_dropped,
        )
        yield GaugeMetricFamily(
            "store_commit_waiting", "Messages waiting for a commit", value=now.commit_waiting
        )
        degraded = GaugeMetricFamily(
            "gateway_degraded", "1 while the node is in a degraded mode, else 0", labels=["mode"]
        )
        for mode in MODES:
            degraded.add_metric([mode], now.degraded.get(mode, False))
        yield degraded
        yield from _of_drain(now)
        yield from _of_admission(now)
        postponed = CounterMetricFamily(
            "gateway_work_postponed",
            "Times periodic work was put off because a store did not do its part",
            labels=["work"],
        )
        for work, times in sorted(now.postponed.items()):
            postponed.add_metric([work], times)
        yield postponed
        queries = CounterMetricFamily(
            "store_log_queries", "Times the database was asked, by kind of call", labels=["kind"]
        )
        for kind, count in sorted(now.queries.items()):
            queries.add_metric([kind], count)
        yield queries
        trips = CounterMetricFamily(
            "store_redis_round_trips", "Pipelines sent to Redis, by what for", labels=["for"]
        )
        for what, count in sorted(now.redis.items()):
            trips.add_metric([what], count)
        yield trips
        yield from _of_cache(now)
        yield from _of_events(now.events)
        yield from _of_buses(now.buses)
        yield from _of_nodes(now.nodes)


def _of_connections(now: Readings) -> Iterable[Metric]:
    yield GaugeMetricFamily("gateway_connections", "Open connections", value=now.connections)
    yield GaugeMetricFamily(
        "gateway_connections_quiet", "Connections that are read together with others", value=now.quiet
    )
    yield GaugeMetricFamily("gateway_attachments", "Sessions read by connections", value=now.attachments)


def _of_drain(now: Readings) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "gateway_draining", "1 from the moment this node begins to leave, else 0", value=now.draining
    )
    drained = CounterMetricFamily(
        "gateway_drain_connections", "Connections that a drain has ended, by how", labels=["outcome"]
    )
    for outcome in DRAIN_OUTCOMES:
        drained.add_metric([outcome], now.drained.get(outcome, 0))
    yield drained


def _of_admission(now: Readings) -> Iterable[Metric]:
    admissions = CounterMetricFamily(
        "gateway_admissions", "Who has wanted in, by door and by what came of it", labels=["door", "outcome"]
    )
    for door, outcome in ADMISSIONS:
        admissions.add_metric([door, outcome], now.admissions.get((door, outcome), 0))
    yield admissions
    ahead = GaugeMetricFamily(
        "gateway_put_off_seconds", "How far ahead places are promised to those put off", labels=["door"]
    )
    for door in DOORS:
        ahead.add_metric([door], now.put_off_s.get(door, 0.0))
    yield ahead


# What is counted of the cache by level: its name, its key in `Records.counts`, what it is.
_CACHE_COUNTS: Final = (
    ("hits", "hit", "Reads that the cache answered, by level"),
    ("misses", "miss", "Reads that it could not answer, by level"),
    ("loads", "load", "Times the log was asked for what the cache lacked, by level"),
    ("stored_bytes", "bytes", "Bytes of the values this node has stored in the cache, by level"),
)


def _of_cache(now: Readings) -> Iterable[Metric]:
    for name, key, what in _CACHE_COUNTS:
        family = CounterMetricFamily(f"store_cache_{name}", what, labels=["level"])
        for level in CACHE_LEVELS:
            family.add_metric([level], now.cache.get(f"{level}_{key}", 0))
        yield family
    yield CounterMetricFamily(
        "store_cache_away", "Times the cache was found not to answer", value=now.cache.get("away", 0)
    )
    yield GaugeMetricFamily(
        "store_cache_owed", "Keys the cache has yet to be told of, having been away", value=now.cache_owed
    )
    # Without a value where another process keeps the entries.
    yield GaugeMetricFamily(
        "store_cache_bytes", "Bytes the cache weighs in this process", value=now.cache_bytes
    )


def _of_events(now: EventReadings) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "gateway_events_waiting", "Joins and leaves the log has yet to be told of", value=now.waiting
    )
    yield CounterMetricFamily(
        "gateway_events_dropped", "Joins and leaves that were dropped above a bound", value=now.dropped
    )
    yield CounterMetricFamily(
        "gateway_events_purged", "Events deleted because their time was over", value=now.purged
    )
    state = GaugeMetricFamily(
        "gateway_webhook_state", "1 for what this node does about the webhook, else 0", labels=["state"]
    )
    for each in WEBHOOK_STATES:
        state.add_metric([each], each == now.webhook)
    yield state
    yield CounterMetricFamily(
        "gateway_webhook_delivered", "Events that the webhook's receiver has taken", value=now.delivered
    )
    yield CounterMetricFamily(
        "gateway_webhook_failed", "Deliveries that were refused or not answered", value=now.failed
    )
    yield CounterMetricFamily(
        "gateway_webhook_lost", "Events purged before they were delivered", value=now.lost
    )
    yield GaugeMetricFamily(
        "gateway_webhook_lag_events", "Events this node has yet to deliver", value=now.behind
    )
    yield GaugeMetricFamily(
        "gateway_webhook_lag_seconds", "Age of the oldest event it has yet to deliver", value=now.lag_s
    )


def _of_nodes(now: NodeReadings) -> Iterable[Metric]:
    counts = (
        ("nodes_lost", "Nodes whose lease was over, found by this one first", now.lost),
        ("lost_entries_cleaned", "Connections of lost nodes taken out of the indexes here", now.cleaned),
        ("fences", "Times this process had not run for longer than its lease", now.fences),
        ("node_returns", "Times others had taken this node for lost while it served", now.returns),
    )
    for name, what, value in counts:
        yield CounterMetricFamily(f"gateway_{name}", what, value=value)


def _of_buses(buses: Mapping[BusName, BusReadings]) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        "store_bus_state", "1 for the state the bus is in, else 0", labels=["bus", "state"]
    )
    counts = {
        "published": "Payloads this node has given to the bus",
        "received": "Payloads the bus has delivered here, this node's own included",
        "dropped": "Payloads that were dropped: above a bound, or because nobody would take them",
        "gaps": "Times payloads may have been lost, after which all heads are compared",
    }
    families = {
        name: CounterMetricFamily(f"store_bus_{name}", what, labels=["bus"]) for name, what in counts.items()
    }
    for bus, now in buses.items():
        for each in BUS_STATES:
            state.add_metric([bus, each], each == now.state)
        for name, family in families.items():
            family.add_metric([bus], getattr(now, name))
    yield state
    yield from families.values()

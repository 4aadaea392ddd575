"""What the edge of one node counts. Read by telemetry; only ever grows, except `connections`, `quiet`."""

from collections import Counter


class Counters:
    """Plain numbers; one thread writes them."""

    __slots__ = (
        "bugs",
        "closed",
        "connections",
        "dropped_ephemerals",
        "floods",
        "lags",
        "opened",
        "quiet",
        "rejected",
        "silents",
        "slow_requests",
        "stalls",
        "violations",
    )

    def __init__(self) -> None:
        self.connections = 0  # open now
        self.quiet = 0  # of these, read together
        self.opened = 0
        self.closed: Counter[int] = Counter()  # by close code
        self.rejected: Counter[int] = Counter()  # upgrades refused, by HTTP status
        self.slow_requests = 0  # HTTP connections cut because no request came
        self.lags = 0  # times a reader fell into lag mode
        self.dropped_ephemerals = 0
        self.floods = 0  # too many control frames
        self.stalls = 0  # no progress in reading
        self.silents = 0
        self.violations = 0  # of RFC 6455 or of a size limit
        self.bugs = 0  # exceptions of ours

"""Every setting: one field each, with type, default, range and meaning. docs/settings.md is held against it.

Nothing is read here: gateway/settings.py turns an environment into one of these. The variable of a field is
`GATEWAY_` and its name in capitals.
"""

import ipaddress
import re
import secrets
import socket
from pathlib import Path
from typing import Annotated, Final, Literal, get_args, get_type_hints

import msgspec

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

Group = Literal["listening", "nodes", "credentials", "browsers", "sessions", "events", "limits", "logs"]

DAY_S: Final = 86_400
MIB: Final = 1 << 20

# What may be given as a file instead, by adding _FILE: multi-line or not fit to be seen in a process list.
FROM_FILE: Final = frozenset(
    {
        "jwt_secret",
        "jwt_public_key",
        "database_url",
        "redis_url",
        "redis_password",
        "webhook_url",
        "webhook_secret",
    }
)

# What nobody gets to see, not even in an error. Of a URL the part without password is shown.
SECRET: Final = frozenset(
    {
        "jwt_secret",
        "database_url",
        "database_password",
        "redis_url",
        "redis_password",
        "webhook_url",
        "webhook_secret",
    }
)

# The ways to say whose tokens are good: one of them, or none on a loopback address.
CREDENTIALS: Final = ("jwt_secret", "jwt_public_key", "jwks_url")


def _node_name() -> str:
    """This machine's name and something random: two processes on one machine are two nodes."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:48].strip(".-")
    return f"{host or 'node'}-{secrets.token_hex(3)}"


def _about(group: Group, meaning: str) -> msgspec.Meta:
    return msgspec.Meta(description=meaning, extra={"group": group})


def _within(group: Group, least: float, most: float, meaning: str) -> msgspec.Meta:
    return msgspec.Meta(ge=least, le=most, description=meaning, extra={"group": group})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway was told, complete and checked when it came from `gateway.settings.load`."""

    host: Annotated[
        str, _about("listening", "address clients connect to; any but a loopback one needs a credential")
    ] = "127.0.0.1"
    port: Annotated[int, _within("listening", 0, 65535, "port clients connect to; 0 picks a free one")] = 8000
    ops_host: Annotated[str, _about("listening", "address of the operations port")] = "127.0.0.1"
    ops_port: Annotated[
        int, _within("listening", 0, 65535, "port of metrics and health; 0 picks a free one")
    ] = 8001
    trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        _about("listening", "networks whose X-Forwarded-For counts, comma-separated; unset: nobody's"),
    ] = ()
    node_id: Annotated[
        str,
        _about("listening", "name of this node, unlike any other's; unset: host name and six digits"),
    ] = msgspec.field(default_factory=_node_name)
    data_dir: Annotated[Path, _about("listening", "folder of SQLite file and development key")] = Path("data")

    database_url: Annotated[
        str | None,
        _about("nodes", "Postgres that all nodes share, `postgresql://…`; unset: SQLite in the data folder"),
    ] = None
    database_password: Annotated[str | None, _about("nodes", "its password, where the URL has none")] = None
    database_password_file: Annotated[
        Path | None,
        _about("nodes", "file with its password, read again for each new connection"),
    ] = None
    database_pool: Annotated[
        int, _within("nodes", 2, 100, "connections of this node to Postgres, at most")
    ] = 8
    database_timeout_s: Annotated[
        float, _within("nodes", 0.1, 60, "wait for Postgres to connect, or to answer; after it `unavailable`")
    ] = 5
    redis_url: Annotated[
        str | None,
        _about(
            "nodes", "Redis that all nodes share, `redis://…`, `redis+cluster://…`; unset: one node alone"
        ),
    ] = None
    redis_password: Annotated[str | None, _about("nodes", "its password, where the URL has none")] = None
    redis_prefix: Annotated[
        str, _about("nodes", "begin of every key and channel, for gateways that share a Redis")
    ] = "gateway"
    advertise_url: Annotated[
        str | None,
        _about(
            "nodes",
            "where clients reach this very node, `wss://host/ws`; unset: nobody is moved to it by its name",
        ),
    ] = None

    jwt_secret: Annotated[str | None, _about("credentials", "secret of HS256 tokens, at least 32 bytes")] = (
        None
    )
    jwt_public_key: Annotated[
        str | None, _about("credentials", "PEM public key of RS256, ES256 or EdDSA tokens")
    ] = None
    jwks_url: Annotated[
        str | None, _about("credentials", "where the signing keys are published; https, or http on loopback")
    ] = None
    jwt_audience: Annotated[str, _about("credentials", "`aud` a token must carry")] = "session-gateway"
    jwt_issuer: Annotated[str | None, _about("credentials", "`iss` a token must carry; unset: any")] = None

    origins: Annotated[
        tuple[str, ...],
        _about("browsers", "exact origins of pages that may connect, comma-separated; unset: the same host"),
    ] = ()

    session_ttl_s: Annotated[
        int, _within("sessions", 1, 365 * DAY_S, "life of a temporary session after its last sign of use")
    ] = 3600
    resume_window_s: Annotated[
        int, _within("sessions", 1, DAY_S, "how long a lost connection can be resumed by its token")
    ] = 120
    heartbeat_ms: Annotated[int, _within("sessions", 100, 600_000, "interval of clients' heartbeats")] = (
        25_000
    )
    heartbeat_timeout_ms: Annotated[
        int, _within("sessions", 200, 1_800_000, "silence after which a connection is closed with 4002")
    ] = 60_000
    quiet_gather_ms: Annotated[
        int,
        _within(
            "sessions",
            0,
            100,
            "on a node with 2,000 connections or more: how long what quiet clients send waits,"
            " to be read together; 0: not at all",
        ),
    ] = 20
    sweep_s: Annotated[float, _within("sessions", 0.05, 300, "interval of looking for expired sessions")] = 5
    drain_s: Annotated[
        float, _within("sessions", 0, 900, "how long clients are given to move away when the node stops")
    ] = 30
    max_connection_lifetime_s: Annotated[
        int,
        _within("sessions", 10, 30 * DAY_S, "age at which a connection is moved, give or take 10 %"),
    ] = DAY_S

    webhook_url: Annotated[
        str | None,
        _about("events", "where events are delivered; https, or http on loopback; unset: nowhere"),
    ] = None
    webhook_secret: Annotated[
        tuple[str, ...],
        _about("events", "what deliveries are signed with, at least 32 bytes; or two, comma-separated"),
    ] = ()
    webhook_timeout_s: Annotated[
        float, _within("events", 0.1, 60, "wait for an answer to a delivery; after it the next try")
    ] = 10
    events_retention_h: Annotated[
        int, _within("events", 1, 24 * 365, "how long events are kept, delivered or not")
    ] = 168

    max_message_bytes: Annotated[
        int, _within("limits", 1024, 16 * MIB, "content of one message; above it `too_large`")
    ] = 65_536
    max_fragments: Annotated[
        int, _within("limits", 1, 4096, "WebSocket fragments of one message; above it close 1009")
    ] = 64
    max_json_depth: Annotated[
        int, _within("limits", 4, 128, "nesting of a frame, context or metadata; above it `bad_request`")
    ] = 32
    max_hello_bytes: Annotated[
        int, _within("limits", 512, 65_536, "the first frame; above it close 4501")
    ] = 4096
    hello_timeout_s: Annotated[
        float, _within("limits", 0.1, 60, "wait for the first frame; after it close 4501")
    ] = 5
    max_attachments: Annotated[
        int, _within("limits", 1, 10_000, "sessions attached by one connection; above it `limit_reached`")
    ] = 64
    max_connections_per_user: Annotated[
        int, _within("limits", 1, 100_000, "connections of one user; above it `limit_reached`")
    ] = 10
    max_sessions_per_user: Annotated[
        int,
        _within("limits", 1, 1_000_000, "one user's sessions that have not ended; above it `limit_reached`"),
    ] = 100
    max_connections_per_address: Annotated[
        int, _within("limits", 1, 1_000_000, "connections from one address; above it HTTP 429")
    ] = 200
    max_frames_per_s: Annotated[
        int, _within("limits", 1, 100_000, "frames a second from one connection; above it `rate_limited`")
    ] = 50
    max_frames_burst: Annotated[
        int, _within("limits", 1, 1_000_000, "frames one connection may send at once before that rate counts")
    ] = 100
    max_pings_per_s: Annotated[
        int, _within("limits", 1, 1000, "WebSocket control frames a second; flooding is closed with 4029")
    ] = 10
    max_outbox_bytes: Annotated[
        int, _within("limits", 65_536, 256 * MIB, "bytes waiting for one socket; above it lag mode")
    ] = MIB
    max_outbox_frames: Annotated[
        int, _within("limits", 8, 65_536, "frames waiting for one socket; above it lag mode")
    ] = 256
    stall_timeout_s: Annotated[
        float, _within("limits", 0.1, 600, "a socket that takes nothing for so long is closed with 4001")
    ] = 30
    max_accepts_per_s: Annotated[
        int,
        _within("limits", 1, 100_000, "new sockets a second; above it they wait, then 503 with Retry-After"),
    ] = 500
    max_resumes_per_s: Annotated[
        int,
        _within("limits", 1, 100_000, "resumes a second; above it they wait, then `unavailable` and 4005"),
    ] = 400

    log_format: Annotated[
        Literal["auto", "console", "json"],
        _about("logs", "`auto` is console on a terminal, else json; one of auto, console, json"),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _about("logs", "one of debug, info, warning, error")
    ] = "info"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the port for clients."""
        return is_loopback(self.host)

    @property
    def has_credentials(self) -> bool:
        """Whether it was said whose tokens are good. If not, a development key is made."""
        return any(getattr(self, name) is not None for name in CREDENTIALS)

    def __repr__(self) -> str:
        """Show no secret: settings end up in tracebacks and logs."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values |= {name: "***" for name in SECRET if values[name] is not None}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def is_loopback(host: str) -> bool:
    """Whether the host is this machine as seen by itself alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def variable(field: str) -> str:
    """Name the environment variable of a field."""
    return f"GATEWAY_{field.upper()}"


class Described(msgspec.Struct, frozen=True):
    """One row of the table, for those who read, list or document it."""

    field: str
    group: Group
    type: object
    default: str | None
    least: float | None
    most: float | None
    meaning: str

    @property
    def name(self) -> str:
        """The environment variable."""
        return variable(self.field)

    @property
    def range(self) -> str:
        """What a number may be."""
        return "" if self.least is None else f"{self.least} – {self.most}"


def described() -> dict[str, Described]:
    """Read the table itself, by field, in its order."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    rows = {}
    for name, annotated in get_type_hints(Settings, include_extras=True).items():
        plain, meta = get_args(annotated)
        default = defaults[name]
        rows[name] = Described(
            field=name,
            group=meta.extra["group"],
            type=plain,
            default=None if default in (None, (), msgspec.NODEFAULT) else str(default),
            least=meta.ge,
            most=meta.le,
            meaning=meta.description,
        )
    return rows

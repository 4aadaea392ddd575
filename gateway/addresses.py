"""URLs of Postgres and Redis: what is wrong with one, what of it may be seen, and a password put into it.

No message from here repeats a URL: it may hold a password, and a broken one holds it where nobody expects.
"""

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

DATABASE_SCHEMES: Final = ("postgresql", "postgres")
REDIS_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster")

SOCKET_SCHEMES: Final = ("wss", "ws")
SOCKET_EXAMPLE: Final = "wss://n1.example.org/ws"

DATABASE_EXAMPLE: Final = "postgresql://user@host:5432/database"
REDIS_EXAMPLE: Final = "redis://host:6379/0, rediss:// for TLS, redis+cluster:// for a cluster"

# The rest of what the client would take from a URL is ours to decide: limits of time and of connections.
REDIS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_LOOPBACK: Final = re.compile(r"(127\.[0-9.]+|\[::1\]|localhost)(:[0-9]+)?")
_ESCAPES: Final = {"@": "%40", "#": "%23", "/": "%2F", "?": "%3F"}


# What clients are told of a node in one frame: more is a mistake.
_ADVERTISED_BYTES: Final = 512


class WrongAddress(ValueError):
    """What is wrong with a URL, to be put behind the name of its setting."""


def check_database(url: str) -> None:
    """WrongAddress unless this is a URL of a Postgres database. Several hosts may be named."""
    parts = _parts(url, DATABASE_SCHEMES, DATABASE_EXAMPLE)
    options = dict(parse_qsl(parts.query))
    hosts = _hosts(parts)
    if not hosts and "host" not in options:
        raise WrongAddress(f" names no host: write it as {DATABASE_EXAMPLE}.")
    if not all(_HOST.fullmatch(host) for host in hosts.split(",") if hosts):
        raise WrongAddress(f" has a host or port that cannot be: write it as {DATABASE_EXAMPLE}.")
    if not parts.path.strip("/") and not {"dbname", "database"} & set(options):
        # Without one, Postgres would take the database named like the user, and be given our tables there.
        raise WrongAddress(f" names no database: write it as {DATABASE_EXAMPLE}.")


def check_redis(url: str) -> None:
    """WrongAddress unless this is a URL of a Redis or of one node of a Redis Cluster."""
    parts = _parts(url, REDIS_SCHEMES, REDIS_EXAMPLE)
    if not _HOST.fullmatch(_hosts(parts)):
        raise WrongAddress(f" has no host or port that can be: write it as {REDIS_EXAMPLE}.")
    if not re.fullmatch(r"/?[0-9]{0,4}", parts.path):
        raise WrongAddress(" has a path that is no number: behind the host stands the number of a database.")
    if "cluster" in parts.scheme and parts.path.strip("/0"):
        raise WrongAddress(" names a database by number: a Redis Cluster has only the database 0.")
    unknown = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - REDIS_OPTIONS
    if unknown:
        known = ", ".join(sorted(REDIS_OPTIONS))
        raise WrongAddress(f" has an option that is not taken from a URL: there are {known}.")


def check_advertised(url: str) -> None:
    """WrongAddress unless clients can open this as a WebSocket, and everybody may see it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongAddress(f" is not a URL: write it as {SOCKET_EXAMPLE}.") from error
    if parts.scheme not in SOCKET_SCHEMES or not url.startswith(f"{parts.scheme}://"):
        raise WrongAddress(f" does not begin with {_either(SOCKET_SCHEMES)}: write it as {SOCKET_EXAMPLE}.")
    if "@" in parts.netloc or "?" in url or "#" in url:
        # It is told to every client that moves: there is no place in it for anything secret.
        raise WrongAddress(f" has a user, a query or a fragment: write it as {SOCKET_EXAMPLE}.")
    is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _ADVERTISED_BYTES
    if not is_plain or port == 0 or not _HOST.fullmatch(parts.netloc):
        raise WrongAddress(f" has a host or port that cannot be: write it as {SOCKET_EXAMPLE}.")
    if not parts.path.strip("/"):
        raise WrongAddress(f" has no path: the socket of a gateway is at /ws, as in {SOCKET_EXAMPLE}.")


def is_local(url: str) -> bool:
    """Whether a checked URL of a database names this machine alone, by its socket or a loopback address."""
    parts = urlsplit(url)
    hosts = (_hosts(parts) or dict(parse_qsl(parts.query)).get("host", "")).split(",")
    return all(host.startswith("/") or _LOOPBACK.fullmatch(host) for host in hosts)


def is_verified(url: str) -> bool:
    """Whether a checked URL of a database asks for TLS, and to be sure of the server."""
    return dict(parse_qsl(urlsplit(url).query)).get("sslmode") == "verify-full"


def has_password(url: str) -> bool:
    """Whether a checked URL holds a password."""
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or "password" in dict(parse_qsl(parts.query))


def with_password(url: str, password: str) -> str:
    """Put a password into a checked URL that has none."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{hosts}").geturl()


def redacted(url: str) -> str:
    """What may be seen of a checked URL: neither password nor options, which may hold one as well."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{colon}{'***' if colon else ''}{at}{hosts}"
    if not hosts:
        netloc += dict(parse_qsl(parts.query)).get("host", "")
    return f"{parts.scheme}://{netloc}{parts.path}"


def _parts(url: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url:
        raise WrongAddress(" holds a character that no URL may: write it as %XX, or give the password apart.")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise WrongAddress(f" is not a URL: write it as {example}.") from error
    if parts.scheme not in schemes or not url.startswith(f"{parts.scheme}://"):
        raise WrongAddress(f" does not begin with {_either(schemes)}: write it as {example}.")
    if parts.fragment or "#" in url or parts.netloc.count("@") > 1 or "@" in parts.path + parts.query:
        # All of these come from a password that was copied as it is.
        escapes = ", ".join(f"{plain} as {escape}" for plain, escape in _ESCAPES.items())
        raise WrongAddress(f" holds a password that has to be escaped ({escapes}), or to be given apart.")
    return parts


def _hosts(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _either(schemes: tuple[str, ...]) -> str:
    *others, last = (f"{scheme}://" for scheme in schemes)
    return f"{', '.join(others)} or {last}"

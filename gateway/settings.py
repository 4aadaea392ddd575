"""The environment turned into Settings: the only place that reads it. Says all that is wrong at once.

What exists, with ranges and defaults, stands in gateway/settings_table.py. Nothing is parsed and ignored.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from gateway.addresses import (
    WrongAddress,
    check_advertised,
    check_database,
    check_redis,
    has_password,
    redacted,
)
from gateway.ids import is_name
from gateway.settings_table import (
    CREDENTIALS,
    FROM_FILE,
    SECRET,
    Described,
    IPNetwork,
    Settings,
    described,
    is_loopback,
    variable,
)

__all__ = [
    "Reading",
    "Settings",
    "SettingsError",
    "Shown",
    "effective",
    "is_loopback",
    "load",
    "read",
    "variable",
]

Source = Literal["default", "environment", "file"]

# RFC 7518 3.2: a key of the same size as the hash output or larger MUST be used.
LEAST_SECRET_BYTES: Final = 32

# The old one and the new one.
MOST_WEBHOOK_SECRETS: Final = 2

# A PEM key is under 1 KiB, a secret under 100 bytes; anything of this size is the wrong file.
_MOST_FILE_BYTES: Final = 65_536

_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_HOST: Final = re.compile(r"[A-Za-z]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SERVICE_LINK: Final = re.compile(r"GATEWAY_(SERVICE_(HOST|PORT.*)|PORT_[0-9]+_(TCP|UDP).*)")
_ORIGIN: Final = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


_TABLE: Final = described()


class SettingsError(Exception):
    """What is wrong with the settings: sentences, each saying what to do. None holds a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Reading(msgspec.Struct, frozen=True):
    """Settings, and for each field where its value is from."""

    settings: Settings
    sources: dict[str, Source]


class Shown(msgspec.Struct, frozen=True):
    """One effective setting as a person may see it: secrets masked."""

    name: str
    value: str
    source: Source


class _Wrong(Exception):
    """What is wrong with one value; the caller puts the variable's name in front."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings; without an argument, from this process's environment. SettingsError."""
    return read(environ).settings


def read(environ: Mapping[str, str] | None = None) -> Reading:
    """As `load`, and say where each value is from."""
    environ = os.environ if environ is None else environ
    problems = _unknown(environ)
    values: dict[str, object] = {}
    sources: dict[str, Source] = dict.fromkeys(_TABLE, "default")
    for field in _TABLE:
        try:
            given = _given(field, environ)
            if given is None:
                continue
            text, sources[field] = given
            values[field] = _parse(field, text)
        except _Wrong as wrong:
            problems.append(f"{variable(field)}{wrong}")
    if not problems:
        settings = Settings(**values)  # type: ignore[arg-type]
        problems = _contradictions(settings)
        if not problems:
            return Reading(settings, sources)
    raise SettingsError(problems)


def effective(reading: Reading) -> list[Shown]:
    """List every setting with the value in force, in the order of the table."""
    return [
        Shown(variable(field), _shown(field, getattr(reading.settings, field)), source)
        for field, source in reading.sources.items()
    ]


def _shown(field: str, value: object) -> str:
    if value is None or value == ():
        return "–"
    if field in ("database_url", "redis_url"):
        return redacted(str(value))
    if field == "webhook_url":
        # What stands behind the host is the secret of some receivers.
        return "{0.scheme}://{0.netloc}/…".format(urlsplit(str(value)))
    if field in SECRET:
        return "***"
    if field == "jwt_public_key":
        return str(value).splitlines()[0] + " …"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown(environ: Mapping[str, str]) -> list[str]:
    """Complain of every GATEWAY_* that is not ours: a misspelt setting is not silently passed over."""
    known = {variable(field) for field in _TABLE} | {f"{variable(field)}_FILE" for field in FROM_FILE}
    problems = []
    for name in sorted(environ):
        if not name.startswith("GATEWAY_") or name in known:
            continue
        if _SERVICE_LINK.fullmatch(name):
            # Kubernetes sets these in every pod beside a Service named "gateway".
            problems.append(f"{name} is a Kubernetes service link: set enableServiceLinks: false in the pod.")
            continue
        nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
        problems.append(f"{name} is not a setting; the nearest is {nearest}.")
    return problems


def _given(field: str, environ: Mapping[str, str]) -> tuple[str, Source] | None:
    """Find the text given for a field, here or in the file named by _FILE."""
    name = variable(field)
    path = environ.get(f"{name}_FILE") if field in FROM_FILE else None
    text = environ.get(name)
    if text is not None and path is not None:
        raise _Wrong(f" and {name}_FILE are both set: keep one of them.")
    source: Source = "environment"
    if path is not None and path.strip():
        text, source = _content(path), "file"
    elif path is not None:
        raise _Wrong("_FILE is empty: give it a value or remove it.")
    if text is None:
        return None
    if not text.strip():
        # An empty secret would silently mean "development mode".
        fault = "_FILE names an empty file" if source == "file" else " is empty"
        raise _Wrong(f"{fault}: give it a value or remove it.")
    return (text if field in SECRET else text.strip()), source


def _content(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise _Wrong(f"_FILE: {path!r} cannot be read: {error.strerror}.") from error
    if len(content) > _MOST_FILE_BYTES:
        raise _Wrong(f"_FILE: {path!r} is larger than {_MOST_FILE_BYTES} bytes: it is not a key.")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _Wrong(f"_FILE: {path!r} is not text: give a secret as text, or a key in PEM form.") from error


# -- one value


def _parse(field: str, text: str) -> object:
    special = _SPECIAL.get(field)
    if special is not None:
        return special(text)
    row = _TABLE[field]
    if row.type is int:
        return _integer(text, row)
    if row.type is float:
        if not _NUMBER.fullmatch(text):
            raise _Wrong(f"={text[:40]!r} is not a number: give one from {row.least} to {row.most}.")
        return _in_range(float(text), row)
    if get_origin(row.type) is Literal and text not in get_args(row.type):
        raise _Wrong(f"={text[:40]!r} is unknown: choose one of {', '.join(get_args(row.type))}.")
    return text


def _integer(text: str, row: Described) -> int:
    if text.startswith("tcp://"):
        # What a pod sees as GATEWAY_PORT when a Service of its namespace is named "gateway".
        raise _Wrong(" is a Kubernetes service link: set enableServiceLinks: false in the pod.")
    if not _INTEGER.fullmatch(text):
        raise _Wrong(f"={text[:40]!r} is not a whole number: give one from {row.least} to {row.most}.")
    return int(_in_range(int(text), row))


def _in_range(number: float, row: Described) -> float:
    if row.least is not None and row.most is not None and not row.least <= number <= row.most:
        raise _Wrong(f"={number} is out of range: give a value from {row.least} to {row.most}.")
    return number


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        if _HOST.fullmatch(text):
            return text
    raise _Wrong(f"={text[:60]!r} is not a host: give an address or host name without scheme and port.")


def _networks(text: str) -> tuple[IPNetwork, ...]:
    networks = []
    for part in _listed(text):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise _Wrong(f": {part[:60]!r} is not a network: write it as 10.0.0.0/8 or fd00::/8.") from error
    return tuple(networks)


def _name(text: str) -> str:
    if not is_name(text):
        raise _Wrong(f"={text[:70]!r} is not a name: use 1 to 64 letters, digits and _ . : -")
    return text


def _secret(text: str) -> str:
    if "-----BEGIN" in text:
        # Whoever knows a public key used as an HMAC secret can sign anything with it.
        raise _Wrong(" holds a PEM key, not a secret: put the public key in GATEWAY_JWT_PUBLIC_KEY.")
    if len(text.encode()) < LEAST_SECRET_BYTES:
        raise _Wrong(
            f" has {len(text.encode())} bytes, HS256 needs at least {LEAST_SECRET_BYTES}:"
            " make one with `openssl rand -base64 48`."
        )
    return text


def _pem(text: str) -> str:
    text = text.replace("\\n", "\n").strip()  # as written in a one-line environment file
    if "PRIVATE KEY-----" in text:
        raise _Wrong(" is a private key: give its public half, `openssl pkey -in key.pem -pubout`.")
    if not re.fullmatch(r"-----BEGIN PUBLIC KEY-----\s.*\s-----END PUBLIC KEY-----", text, re.DOTALL):
        raise _Wrong(" is not a PEM public key: it has to start with -----BEGIN PUBLIC KEY-----.")
    return text


def _key_set_url(text: str) -> str:
    # Whoever can change these keys on their way can sign as anybody.
    return _protected_url(text, f"={text[:60]!r}")


def _webhook_url(text: str) -> str:
    # What happens in every tenant's sessions is nobody's on the way. Some of these addresses are secrets.
    return _protected_url(text.strip(), "")


def _protected_url(text: str, shown: str) -> str:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise _Wrong(f"{shown} is not a URL{f': {error}' if shown else ''}.") from error
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if url.username is not None or url.fragment or not host or not is_plain:
        raise _Wrong(" is not a plain URL: give https://host/path, without user and fragment.")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise _Wrong(f"{shown} is not safe: use https (http only on a loopback address).")
    return text


def _webhook_secrets(text: str) -> tuple[str, ...]:
    secrets = _listed(text)
    if not 1 <= len(secrets) <= MOST_WEBHOOK_SECRETS:
        raise _Wrong(
            f" holds {len(secrets)} secrets: give one, or two, comma-separated, while receivers change over."
        )
    for secret in secrets:
        if len(secret.encode()) < LEAST_SECRET_BYTES:
            raise _Wrong(
                f" has a secret of {len(secret.encode())} bytes, at least {LEAST_SECRET_BYTES} are needed:"
                " make one with `openssl rand -base64 48`."
            )
    return tuple(secrets)


def _origins(text: str) -> tuple[str, ...]:
    for part in _listed(text):
        if not _ORIGIN.fullmatch(part):
            raise _Wrong(
                f": {part[:60]!r} is not an exact origin: write it as https://chat.example.org,"
                " in lower case, without path and wildcard."
            )
    return tuple(_listed(text))


def _database_url(text: str) -> str:
    return _checked(text.strip(), check_database)


def _redis_url(text: str) -> str:
    return _checked(text.strip(), check_redis)


def _checked(url: str, check: Callable[[str], None]) -> str:
    try:
        check(url)
    except WrongAddress as wrong:
        raise _Wrong(str(wrong)) from wrong
    return url


def _password_file(text: str) -> Path:
    """A file that can be read now; it is read again for each connection, when it may be another one."""
    path = Path(text)
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _Wrong(f": {text!r} cannot be read as text: let the gateway's user read it.") from error
    if not content.strip():
        raise _Wrong(f" names an empty file, {text!r}: put the password into it.")
    return path


def _as_given(text: str) -> str:
    return text


_SPECIAL: Final[dict[str, Callable[[str], object]]] = {
    "host": _host,
    "ops_host": _host,
    "trusted_proxies": _networks,
    "node_id": _name,
    "data_dir": Path,
    "jwt_secret": _secret,
    "jwt_public_key": _pem,
    "jwks_url": _key_set_url,
    "database_url": _database_url,
    "database_password": _as_given,
    "database_password_file": _password_file,
    "redis_url": _redis_url,
    "redis_password": _as_given,
    "redis_prefix": _name,
    "advertise_url": partial(_checked, check=check_advertised),
    "origins": _origins,
    "webhook_url": _webhook_url,
    "webhook_secret": _webhook_secrets,
}


# -- all values together


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    given = [variable(field) for field in CREDENTIALS if getattr(settings, field) is not None]
    if len(given) > 1:
        problems.append(f"{' and '.join(given)} are both set: tokens are checked in one way only, keep one.")
    if not given and not settings.is_loopback:
        problems.append(
            f"GATEWAY_HOST={settings.host} lets other machines in, and nothing says whose tokens are good:"
            f" set one of {', '.join(map(variable, CREDENTIALS))}, or leave GATEWAY_HOST at 127.0.0.1."
        )
    if settings.port == settings.ops_port != 0 and settings.host == settings.ops_host:
        problems.append(
            f"GATEWAY_PORT and GATEWAY_OPS_PORT are both {settings.port}: give them different ports."
        )
    if settings.heartbeat_timeout_ms <= settings.heartbeat_ms:
        problems.append(
            f"GATEWAY_HEARTBEAT_TIMEOUT_MS={settings.heartbeat_timeout_ms} is not above"
            f" GATEWAY_HEARTBEAT_MS={settings.heartbeat_ms}: every connection would be closed as silent."
        )
    if settings.max_outbox_bytes < settings.max_message_bytes:
        problems.append(
            f"GATEWAY_MAX_OUTBOX_BYTES={settings.max_outbox_bytes} is below"
            f" GATEWAY_MAX_MESSAGE_BYTES={settings.max_message_bytes}: the largest message could not be sent."
        )
    if (settings.webhook_url is None) != (not settings.webhook_secret):
        problems.append(
            "GATEWAY_WEBHOOK_URL and GATEWAY_WEBHOOK_SECRET belong together: a receiver believes what is"
            " signed; set both, or neither."
        )
    return problems + _contradicting_places(settings)


def _contradicting_places(settings: Settings) -> list[str]:
    problems = []
    if settings.redis_url is not None and settings.database_url is None:
        # Redis is for several nodes, and a SQLite file is one process's: each node would keep its own truth.
        problems.append(
            "GATEWAY_REDIS_URL is set and GATEWAY_DATABASE_URL is not: nodes that share a Redis share a"
            " Postgres too; name it, or remove GATEWAY_REDIS_URL."
        )
    for field, url in (
        ("database_password", settings.database_url),
        ("database_password_file", settings.database_url),
        ("redis_password", settings.redis_url),
    ):
        if getattr(settings, field) is None:
            continue
        of = field.partition("_")[0] + "_url"
        if url is None:
            problems.append(f"{variable(field)} is set and {variable(of)} is not: set it, or remove this.")
        elif has_password(url):
            problems.append(f"{variable(field)} and {variable(of)} both give a password: keep one of them.")
    if settings.database_password is not None and settings.database_password_file is not None:
        problems.append(
            "GATEWAY_DATABASE_PASSWORD and GATEWAY_DATABASE_PASSWORD_FILE are both set: keep one of them."
        )
    return problems

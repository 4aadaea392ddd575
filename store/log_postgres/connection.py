"""How a connection is opened: which settings hold on it, and in which form values cross it."""

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from store.errors import Unavailable
from store.log_postgres.faults import translated
from store.log_postgres.options import PostgresOptions

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # generic to type checkers only

# timestamptz counts microseconds from the beginning of 2000, from 4714 BC to 294276 AD. Whatever lies beyond
# is as good as never: the ends of its 64 bits, which stand for the infinities.
_EPOCH_MS: Final = 946_684_800_000
_EARLIEST_US: Final = -211_813_488_000_000_000
_LATEST_US: Final = 9_223_371_331_199_999_999
_PAST: Final = (-(2**63),)
_FUTURE: Final = (2**63 - 1,)

# Every statement finds its rows by an index, whatever the planner makes of a table that was empty a moment
# ago, and is planned once for each connection: with a new plan for each call, an append of one message takes
# 1.6 times as long (docs/postgres.md).
_PLANS: Final = {"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan"}
# What was answered is on disk. A stricter `remote_apply` is the operator's to choose, and stays.
_DURABLE: Final = ("on", "remote_apply")

_PREPARE: Final = """
    SELECT pg_is_in_recovery(),
        CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply'
            ELSE set_config('synchronous_commit', 'on', false) END,
        set_config('application_name',
            coalesce(nullif(current_setting('application_name'), ''), 'session-gateway'), false),
        (SELECT count(set_config(name, value, false))
            FROM unnest($1::text[], $2::text[]) AS given (name, value))
"""


async def connect(url: str, options: PostgresOptions) -> Connection:
    """Open a connection, with everything as the statements need it. Unavailable, within its time limit."""
    try:
        with translated():
            async with asyncio.timeout(options.connect_timeout_s):
                return await _connect(url, options)
    except Unavailable as error:
        raise Unavailable(f"{place_of(url)} cannot be used: {error}") from error.__cause__


async def _connect(url: str, options: PostgresOptions) -> Connection:
    file = options.password_file
    password = None if file is None else await asyncio.to_thread(_read_password, file)
    try:
        connection = await asyncpg.connect(
            url,
            timeout=options.connect_timeout_s,
            password=password,
            # Statements are few and all ours: each stays prepared for the life of its connection.
            max_cached_statement_lifetime=0,
        )
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        # Without the cause: it may quote what stands where a password should be.
        raise Unavailable(_unreadable(url, str(error))) from None
    except FileNotFoundError as error:
        raise Unavailable(
            "a file that its URL names (sslrootcert, sslcert, sslkey, or the socket) is not there"
        ) from error
    try:
        await _prepare(connection, options)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _unreadable(url: str, reason: str) -> str:
    """Say why the driver cannot use a URL; no part of a password may be in it."""
    secret = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    if any(part and part in reason for part in re.split(r"[^\w]", secret)):
        reason = "is every special character of the password percent-encoded?"
    return f"its URL cannot be read: {reason}"


def _read_password(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"the password file {file} cannot be read: {error}") from None


async def _prepare(connection: Connection, options: PostgresOptions) -> None:
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_to_time, decoder=_from_time, format="tuple"
    )
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary"
    )
    limit_ms = str(round(options.statement_timeout_s * 1000))
    settings = {
        **_PLANS,
        # The statements lock first and look then; a stricter level would make them fail instead of wait.
        "default_transaction_isolation": "read committed",
        "statement_timeout": limit_ms,
        # A node that vanishes in the middle of a transaction holds up the others no longer than this.
        "idle_in_transaction_session_timeout": limit_ms,
    }
    ((is_standby, durability, *_),) = await connection.fetch(_PREPARE, list(settings), [*settings.values()])
    if is_standby:
        raise Unavailable(
            "it is a standby and takes no writes: name the primary in its URL, or all hosts and "
            "target_session_attrs=read-write"
        )
    if durability not in _DURABLE:
        raise Unavailable(f"synchronous_commit is {durability} and cannot be changed: messages would be lost")


def place_of(url: str) -> str:
    """Name the server and database of a URL: what stands behind user and password, whatever these hold."""
    place = url.partition("://")[2].rpartition("@")[2].partition("?")[0]
    return f"Postgres at {place}" if place.strip("/") else "Postgres at its default place"


# -- types: times are ms since the Unix epoch, documents the UTF-8 text of their JSON


def _to_time(ms: int) -> tuple[int]:
    us = (ms - _EPOCH_MS) * 1000
    if _EARLIEST_US <= us <= _LATEST_US:
        return (us,)
    return _FUTURE if us > 0 else _PAST


def _from_time(value: tuple[int]) -> int:
    return value[0] // 1000 + _EPOCH_MS


def _to_jsonb(document: bytes) -> bytes:
    return b"\x01" + document  # the version of the format


def _from_jsonb(value: bytes) -> bytes:
    return value[1:]

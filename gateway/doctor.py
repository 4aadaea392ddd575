"""Examines what a gateway needs, and says what to do: settings, keys, data, ports, machine."""

import asyncio
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.auth.fetch import FetchFailed, fetch
from gateway.auth.jwks import PublishedKeys
from gateway.auth.keys import BadKey, from_pem
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from gateway.server import CannotServe, listener
from gateway.settings import Settings, SettingsError, load
from store.errors import StoreError
from store.open import examine_log

State = Literal["ok", "note", "problem"]

_GIB: Final = 1 << 30
# A busy day of text is some 10 GiB; with less than 1 GiB the disk is full before anybody looks again.
_SCARCE_BYTES: Final = _GIB
_FULL_BYTES: Final = 100 << 20

# Each connection is a file. 20,000 connections are what one process is made for.
_EXPECTED_FILES: Final = 20_000
_FEWEST_FILES: Final = 1024

# This version did not exist before; a clock that says so is wrong, and every token would look wrong by it.
_FIRST_S: Final = 1_763_596_800  # 2025-11-20


class Finding(msgspec.Struct, frozen=True):
    """One thing examined. `advice` is empty where nothing has to be done."""

    check: str
    state: State
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; with wrong settings, at those alone."""
    try:
        settings = load()
    except SettingsError as error:
        return [Finding("settings", "problem", problem, "correct it") for problem in error.problems]
    return [
        Finding("settings", "ok", "complete"),
        _credentials(settings),
        *_folder(settings.data_dir),
        _database(settings.data_dir),
        _port("port", settings.host, settings.port, "GATEWAY_PORT"),
        _port("operations port", settings.ops_host, settings.ops_port, "GATEWAY_OPS_PORT"),
        _files(),
        _clock(settings.data_dir),
    ]


def _credentials(settings: Settings) -> Finding:
    if settings.jwt_public_key is not None:
        try:
            key = from_pem(settings.jwt_public_key)
        except BadKey as error:
            return Finding(
                "credentials", "problem", f"the public key cannot be used: {error}", "give another one"
            )
        return Finding("credentials", "ok", f"a public key for {key.algorithm}")
    if settings.jwks_url is not None:
        return asyncio.run(_key_set(settings.jwks_url))
    if settings.jwt_secret is not None:
        return Finding("credentials", "ok", "a secret for HS256")
    advice = "set GATEWAY_JWT_SECRET, GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWKS_URL for more than trying it out"
    return Finding("credentials", "note", "development mode: anybody on this machine, by any name", advice)


async def _key_set(url: str) -> Finding:
    keys = PublishedKeys(url, SystemClock())
    try:
        await keys.find("a name no key has")
    except Unavailable:
        return Finding("credentials", "problem", f"no usable keys at {url}", "check the URL and the network")
    finally:
        await keys.close()
    return Finding("credentials", "ok", f"keys are published at {url}")


def _folder(folder: Path) -> Iterator[Finding]:
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    where = str(folder.absolute())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            yield Finding("data folder", "ok", where if nearest == folder else f"{where} will be made")
    except OSError as error:
        advice = f"let user {os.getuid()} write there, or change GATEWAY_DATA_DIR"
        yield Finding("data folder", "problem", f"{where}: {error.strerror}", advice)
    free = shutil.disk_usage(nearest).free
    state: State = "ok" if free >= _SCARCE_BYTES else "note" if free >= _FULL_BYTES else "problem"
    advice = (
        "" if state == "ok" else "make room, or change GATEWAY_DATA_DIR: with a full disk nothing can be sent"
    )
    yield Finding("free space", state, f"{free / _GIB:.1f} GiB", advice)


def _database(folder: Path) -> Finding:
    try:
        found = examine_log(folder)
    except (StoreError, OSError) as error:
        return Finding(
            "database", "problem", str(error), "restore it from a backup, or start the right version"
        )
    if found is None:
        return Finding("database", "ok", "none yet, the first start makes it")
    size = f"{found.path.name}, {found.size_bytes / (1 << 20):.1f} MiB"
    if found.fault is not None:
        return Finding(
            "database", "problem", f"{size}: {found.fault}", "stop the gateway and restore a backup"
        )
    if found.journal_mode != "wal":
        advice = "start the gateway once, it changes that by itself"
        return Finding(
            "database", "note", f"{size}, journal mode {found.journal_mode} instead of wal", advice
        )
    if found.pending:
        advice = "run `gateway migrate`, or start the gateway"
        return Finding("database", "note", f"{size}, whole, lacks {', '.join(found.pending)}", advice)
    return Finding("database", "ok", f"{size}, whole, up to date")


def _port(check: str, host: str, port: int, setting: str) -> Finding:
    if port == 0:
        return Finding(check, "ok", "any free one")
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    where = f"[{here}]:{port}" if ":" in here else f"{here}:{port}"
    if not _is_taken(here, port):
        try:
            listener(host, port, setting).close()
        except CannotServe as error:
            return Finding(check, "problem", str(error), f"change {setting}")
        return Finding(check, "ok", f"{where} is free")
    try:
        asyncio.run(fetch(f"http://{where}/readyz", timeout_s=3, most_bytes=65_536))
    except FetchFailed as error:
        found = f"{where} is taken, and what is there is not ready: {error}"
        return Finding(check, "problem", found, f"wait for it, stop it, or change {setting}")
    return Finding(check, "ok", f"a gateway answers at {where} and is ready")


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _EXPECTED_FILES:
        return Finding(
            "open files", "ok", "as many as wanted" if hard == resource.RLIM_INFINITY else str(hard)
        )
    state: State = "note" if hard >= _FEWEST_FILES else "problem"
    advice = f"raise it for more connections (`ulimit -Hn {_EXPECTED_FILES}`, or LimitNOFILE= of the service)"
    return Finding("open files", state, f"{hard} at most, one for each connection", advice)


def _clock(folder: Path) -> Finding:
    now = time.time()
    advice = "set the clock, and keep it set (NTP): tokens are judged by it"
    if now < _FIRST_S:
        return Finding("clock", "problem", f"it says {_date(now)}, before this version was made", advice)
    written = [path.stat().st_mtime for path in _written(folder)]
    if written and max(written) > now + 60:
        return Finding(
            "clock", "problem", f"it says {_date(now)}, data is from {_date(max(written))}", advice
        )
    return Finding("clock", "ok", _date(now))


def _written(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))

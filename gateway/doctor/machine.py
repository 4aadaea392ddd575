"""The machine: the data folder and its disk, ports, open files, the clock."""

import asyncio
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.auth.fetch import FetchFailed, fetch
from gateway.doctor.finding import Finding, State
from gateway.server import CannotServe, listener

_GIB: Final = 1 << 30
# A busy day of text is some 10 GiB; with less than 1 GiB the disk is full before anybody looks again.
_SCARCE_BYTES: Final = _GIB
_FULL_BYTES: Final = 100 << 20

# Each connection is a file. 20,000 connections are what one process is made for.
_EXPECTED_FILES: Final = 20_000
_FEWEST_FILES: Final = 1024

# This version did not exist before; a clock that says so is wrong, and every token would look wrong by it.
_FIRST_S: Final = 1_763_596_800  # 2025-11-20


def folder(folder: Path) -> Iterator[Finding]:
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


def port(check: str, host: str, port: int, setting: str) -> Finding:
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


def files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _EXPECTED_FILES:
        return Finding(
            "open files", "ok", "as many as wanted" if hard == resource.RLIM_INFINITY else str(hard)
        )
    state: State = "note" if hard >= _FEWEST_FILES else "problem"
    advice = f"raise it for more connections (`ulimit -Hn {_EXPECTED_FILES}`, or LimitNOFILE= of the service)"
    return Finding("open files", state, f"{hard} at most, one for each connection", advice)


def clock(folder: Path) -> Finding:
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

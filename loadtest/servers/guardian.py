"""Stands between a server and whoever started it: when that process is gone, so is the server.

A program of its own, `guardian.py STOP UID:GID REMOVE COMMAND…`. Its standard input is a pipe that only its
parent can write to: the end of input is the end of the parent, however it came. It prints the server's pid,
and exits as the server does. It imports nothing of the project, so that it starts in 20 ms.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

# A Postgres that is told to stop at once needs no more; what is still there then is killed.
GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1


def main(stop: int, account: str, remove: str, command: Sequence[str]) -> int:
    """Run the server until it ends or nobody wants it any more; its exit code."""
    uid, _, gid = account.partition(":")
    server = subprocess.Popen(  # noqa: S603 - no thread runs yet
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_ends_with_its_parent(stop),
        user=int(uid) if uid else None,
        group=int(gid) if gid else None,
        extra_groups=[] if uid else None,
    )
    print(server.pid, flush=True)
    ended = threading.Event()
    guard = threading.Thread(target=_guard, args=(server.pid, stop, remove, ended), daemon=True)
    guard.start()
    code = server.wait()
    ended.set()
    if _parent_is_gone.is_set():
        guard.join()
    return code if code >= 0 else 128 - code


_parent_is_gone = threading.Event()


def _guard(pid: int, stop: int, remove: str, ended: threading.Event) -> None:
    while os.read(0, 4096):
        continue
    _parent_is_gone.set()
    for number in (signal.SIGCONT, stop, signal.SIGKILL):
        if not ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if number != signal.SIGCONT:
                ended.wait(GRACE_S)
    if remove:
        shutil.rmtree(remove, ignore_errors=True)


def _ends_with_its_parent(stop: int) -> Callable[[], None] | None:
    """Have the kernel end the server when the guardian itself is killed. Only Linux can."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, stop)

    return ask


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))

"""One server process, held by a guardian: started, signalled by pid, waited for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtest.servers.account import Account

_GUARDIAN: Final = Path(__file__).with_name("guardian.py")
_TAIL_BYTES: Final = 4000


class ServerFailed(Exception):
    """A server did not do what it was told. The text holds what it said last."""


@dataclass(frozen=True)
class Orders:
    """How a server is run: its command, as whom, and what becomes of it when its owner is gone."""

    command: Sequence[str]
    log: Path  # what it prints is added here
    account: Account | None = None
    stop: signal.Signals = signal.SIGKILL  # when its owner is gone
    remove: Path | None = None  # then, too
    env: Mapping[str, str] = field(default_factory=dict)  # added to what every server gets


class Child:
    """A process that ends with this one, whatever becomes of this one."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        account = f"{orders.account.uid}:{orders.account.gid}" if orders.account else ""
        remove = str(orders.remove) if orders.remove else ""
        with orders.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for its owner, who ends it in order.
            self._guardian = subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-I",
                    "-S",
                    _GUARDIAN,
                    str(int(orders.stop)),
                    account,
                    remove,
                    *orders.command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**_environment(), **orders.env},
                start_new_session=True,
            )
        told = b""
        if self._guardian.stdout is not None:
            with self._guardian.stdout as output:
                told = output.readline()
        if not told:
            self._guardian.wait()
            self._release()
            raise ServerFailed(f"{orders.command[0]} did not start:\n{self.said()}")
        self.pid = int(told)

    @property
    def is_running(self) -> bool:
        return self._guardian.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code once it ended; 128 + the signal's number when one ended it."""
        return self._guardian.poll()

    def said(self) -> str:
        """The last lines it wrote."""
        text = self._orders.log.read_bytes() if self._orders.log.exists() else b""
        return text[-_TAIL_BYTES:].decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self.is_running:
            os.kill(self.pid, number)

    def end(self, number: signal.Signals, *, within: float = 30.0) -> None:
        """Send a signal that ends it, and wait for the end. ServerFailed."""
        self.send(number)
        self.wait(within=within)

    def wait(self, *, within: float) -> None:
        """Wait for its end; ServerFailed, and it is killed, when it stays."""
        try:
            self._guardian.wait(within)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._guardian.wait()
            raise ServerFailed(
                f"{self._orders.command[0]} did not end within {within} s:\n{self.said()}"
            ) from None
        finally:
            self._release()

    def until(self, is_ready: Callable[[], bool], *, within: float) -> None:
        """Wait until it is ready. ServerFailed when it ends or is late; it has ended then."""
        deadline = time.monotonic() + within
        while self.is_running and not is_ready():
            if time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                raise ServerFailed(
                    f"{self._orders.command[0]} was not ready within {within} s:\n{self.said()}"
                )
            time.sleep(0.01)
        if not self.is_running:
            self._release()
            raise ServerFailed(f"{self._orders.command[0]} ended with {self.code}:\n{self.said()}")

    def _release(self) -> None:
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()


def _environment() -> dict[str, str]:
    """Give a server nothing of the developer's own settings for its clients, and plain English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "REDIS", "LC_"))}
    return {**kept, "LC_ALL": "C"}

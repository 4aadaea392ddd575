"""A gateway whose loop can be stalled: SIGUSR1 keeps it busy for five seconds. Run as `gateway` is."""

import signal
import threading
from types import FrameType
from typing import Final

from gateway.__main__ import main

STALL_S: Final = 5.0


def stall(number: int, frame: FrameType | None) -> None:
    """Do nothing, in the thread of the loop, for as long as a bad regular expression takes."""
    threading.Event().wait(STALL_S)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, stall)
    main()

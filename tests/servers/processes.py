"""Whether processes live."""

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs: one that nobody has reaped yet does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

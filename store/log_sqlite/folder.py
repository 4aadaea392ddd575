"""The data folder: what the files in it are called, and that one process has it at a time."""

import fcntl
import os
from pathlib import Path
from typing import Final

from store.errors import Unavailable

DATABASE: Final = "gateway.db"
LOCK: Final = "gateway.lock"


class FolderLock:
    """One gateway per folder: two would each believe to be the only node. Ends with its process, however."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock; make the folder when it is absent. Unavailable: taken, or no folder can be made."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"the data folder {self._folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # For the message below, and for a person who wonders.
            os.truncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            os.close(file)
            raise Unavailable(
                f"the data folder {self._folder} is in use by another gateway"
                f"{f' (process {holder})' if holder else ''}: stop it, or choose another folder"
            ) from error
        except OSError as error:
            os.close(file)
            raise Unavailable(f"the data folder {self._folder} cannot be used: {error.strerror}") from error
        self._file = file

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

"""The development key: made when nothing is configured, so that the demo page can log people in by name."""

import contextlib
import os
from pathlib import Path
from typing import Final

from gateway.ids import new_secret
from gateway.settings import SettingsError

NAME: Final = "dev-key"
_SECRET_CHARACTERS: Final = 43  # 256 bits, URL-safe base64


def load(data_dir: Path) -> str:
    """Read the key of this data folder, making both if need be. SettingsError."""
    path = data_dir / NAME
    try:
        # Messages lie in the same folder: nobody else's business.
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        with path.open() as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise SettingsError(
                    [f"{path} can be read by others: whoever did can log in as anybody. Delete it."]
                )
            secret = file.read(1024).strip()
    except OSError as error:
        raise SettingsError(
            [f"The development key {path} cannot be used ({error.strerror}): check GATEWAY_DATA_DIR."]
        ) from error
    if len(secret) < _SECRET_CHARACTERS:
        raise SettingsError([f"{path} is damaged: delete it, a new one is made at the next start."])
    return secret


def _make(path: Path) -> None:
    """Write the key so that it is there whole or not at all, and that of two processes one wins."""
    draft = path.with_name(f"{NAME}.{os.getpid()}.{new_secret()[:8]}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new_secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: it fails where the other process was first, instead of replacing its key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()

"""As whom a server runs that refuses root, and where that user may keep its data."""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_USERS: Final = ("postgres", "nobody")


class NoPlace(Exception):
    """There is no folder that the server's user can enter."""


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """Return what makes `subprocess` run a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged() -> Account | None:
    """Find the user to run as; None when this process is not root and needs no other."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid)
    raise NoPlace(
        f"Postgres does not run as root, and this machine has none of the users {', '.join(_USERS)}"
    )


def dwelling(wanted: Path, account: Account | None, *, keep: bool) -> Path:
    """Make the folder `wanted`, or find what was made for it: for `account` alone, and it can enter it.

    Where it cannot reach it (pytest's folders and a home of root are closed to others), `wanted` becomes a
    link to a folder that it can.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if wanted.exists():
        return wanted.resolve()
    wanted.unlink(missing_ok=True)  # a link to what somebody tidied away
    if account is None or may_enter(account, wanted.parent):
        wanted.mkdir(mode=0o700)
        made = wanted.resolve()
    else:
        made = Path(tempfile.mkdtemp(prefix="session-gateway-", dir=_open_folder(account, keep=keep)))
        wanted.symlink_to(made)
    if account is not None:
        os.chown(made, account.uid, account.gid)
    return made


def leave(wanted: Path) -> None:
    """Remove what `dwelling` made, link and all."""
    made = wanted.resolve()
    if wanted.is_symlink():
        wanted.unlink()
    shutil.rmtree(made, ignore_errors=True)


def may_enter(account: Account, folder: Path) -> bool:
    """Whether the user gets into the folder, through all those above it."""
    return _may(account, "-x", folder)


def may_read(account: Account, path: Path) -> bool:
    """Whether the user can read the file."""
    return _may(account, "-r", path)


def _may(account: Account, what: str, path: Path) -> bool:
    asked = subprocess.run(["test", what, str(path)], cwd="/", **account.options())  # noqa: S603, S607
    return asked.returncode == 0


def _open_folder(account: Account, *, keep: bool) -> Path:
    # What is to be kept must outlive a restart of the machine.
    folders = [Path("/var/tmp"), Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108
    for folder in folders if keep else folders[1:] + folders[:1]:
        if folder.is_dir() and may_enter(account, folder):
            return folder
    raise NoPlace(f"The user {account.name} can enter none of {', '.join(map(str, folders))}; set TMPDIR")

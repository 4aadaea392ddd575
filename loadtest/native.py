"""Builds the two C programs of this folder: the floor and the swarm of clients."""

import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
BUILD: Final = HERE / "build"


def built(name: str) -> Path:
    """Compile `native/<name>.c` unless that was done since it changed; return the program."""
    source, program = HERE / "native" / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
        subprocess.run(command, check=True)  # noqa: S603 - our own sources
    return program

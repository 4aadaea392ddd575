"""Builds the C programs of this folder: the floor, and the clients."""

import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
BUILD: Final = HERE / "build"


def built(name: str) -> Path:
    """Compile `native/<name>.c` unless that was done since it or a header changed; return the program."""
    source, program = HERE / "native" / f"{name}.c", BUILD / name
    newest = max(file.stat().st_mtime for file in (source, *source.parent.glob("*.h")))
    if not program.exists() or program.stat().st_mtime < newest:
        BUILD.mkdir(exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source), "-lm"]
        subprocess.run(command, check=True)  # noqa: S603 - our own sources
    return program

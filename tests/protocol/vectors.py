"""Reads tests/vectors, whose README.md explains the format."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent.parent / "vectors"


@dataclass(frozen=True)
class Vector:
    """One vector. `message` is what goes over the wire; empty in files that hold no messages."""

    name: str
    message: bytes
    content: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def load(name: str) -> list[Vector]:
    """Read all vectors of one file."""
    document = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))
    assert document["protocol"] == "session.v1"
    return [Vector(str(vector["name"]), _message(vector), vector) for vector in document["vectors"]]


def written(pieces: list[tuple[str, int]]) -> str:
    """Put a text together."""
    return "".join(text * times for text, times in pieces)


def _message(vector: dict[str, Any]) -> bytes:
    if "base64" in vector:
        return base64.b64decode(vector["base64"])
    if "pieces" in vector:
        return written(vector["pieces"]).encode()
    return str(vector.get("data", "")).encode()

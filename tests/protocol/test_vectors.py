"""The vectors that client authors use hold for this gateway."""

import json
from typing import Any

import msgspec
import pytest

from gateway.protocol import frames
from gateway.protocol.close import CloseCode, action, reconnects
from gateway.protocol.codec import decode
from gateway.protocol.limits import Limits
from gateway.protocol.peer import Answer, Hang, Outcome, Peer
from tests.protocol.reading import read
from tests.protocol.server_frames import BUILT
from tests.protocol.vectors import Vector, load, written

LIMITS = Limits()


def as_read(frame: frames.ClientFrame) -> dict[str, Any]:
    """Everything that was read from a frame, under its names on the wire."""
    fields = msgspec.structs.fields(frame)
    type_ = {"type": frame.__struct_config__.tag}
    return type_ | {field.encode_name: _plain(getattr(frame, field.name)) for field in fields}


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Raw):
        document = frames.document(value)
        return None if document is None else json.loads(document)
    return msgspec.to_builtins(value)


def _expected(content: dict[str, Any]) -> dict[str, Any]:
    return {
        name: written(value["pieces"]) if isinstance(value, dict) and "pieces" in value else value
        for name, value in content["expected"].items()
    }


def said_to(peer: Peer, vector: Vector) -> Outcome:
    """Say the vector's message to a peer in the vector's state."""
    if vector.content["state"] == "open":
        peer.receive(b'{"type":"hello"}', 0.0)
        peer.welcomed()
    if vector.content.get("binary"):
        return peer.binary(len(vector.message), 0.0)
    return peer.receive(vector.message, 0.0)


@pytest.mark.parametrize("vector", load("valid"), ids=str)
def test_a_valid_message_is_read_as_written(vector: Vector) -> None:
    assert as_read(decode(vector.message, LIMITS)) == _expected(vector.content)


def test_every_type_of_frame_has_a_valid_vector() -> None:
    shown = {vector.content["expected"]["type"] for vector in load("valid")}
    assert shown == frames.TYPES


@pytest.mark.parametrize("vector", load("invalid"), ids=str)
def test_an_invalid_message_gets_its_documented_answer(vector: Vector) -> None:
    match said_to(Peer(LIMITS, 0.0), vector):
        case Answer(frame):
            error = read(frame)
            assert error["type"] == "error"
            assert {"error": error["code"], "id": error.get("id")} == vector.content["expected"]
            assert error["message"]
            assert error["retryable"] is False
        case Hang(code, reason):
            assert {"close": code} == vector.content["expected"]
            assert 0 < len(reason.encode()) <= 123
        case outcome:
            pytest.fail(f"taken as valid: {outcome}")


@pytest.mark.parametrize("vector", load("server"), ids=str)
def test_a_server_frame_looks_as_shown(vector: Vector) -> None:
    assert read(BUILT[vector.name]) == vector.content["frame"]


def test_every_server_frame_that_is_built_is_shown() -> None:
    assert set(BUILT) == {vector.name for vector in load("server")}


@pytest.mark.parametrize("vector", load("close"), ids=lambda vector: str(vector.content["code"]))
def test_a_close_code_means_what_is_shown(vector: Vector) -> None:
    code, name = vector.content["code"], vector.content["name"]
    assert name == (CloseCode(code).reason if code in set(CloseCode) else None)
    assert vector.content["action"] == action(code)
    assert vector.content["reconnects"] is reconnects(code)


def test_every_close_code_of_the_gateway_is_shown() -> None:
    assert {vector.content["code"] for vector in load("close")} >= set(CloseCode)

"""The vectors that every client's author can use, held against this client."""

import json
from typing import Any, Final

import pytest

from session_gateway_client.closing import Ending, reconnects
from session_gateway_client.frames import refusal
from tests.clients.python.scripted import SESSION, Frame, Peer, gateway
from tests.process import ROOT
from tests.waiting import until

VECTORS: Final = ROOT / "tests" / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["vectors"]
    return read


@pytest.mark.parametrize("vector", vectors("close"), ids=lambda vector: str(vector["code"]))
def test_every_close_code_is_obeyed(vector: dict[str, Any]) -> None:
    assert reconnects(vector["code"]) is vector["reconnects"]
    if vector["reconnects"]:
        assert Ending(code=vector["code"]).is_overload is (vector["action"] == "resume later")


@pytest.mark.parametrize("vector", vectors("server"), ids=lambda vector: str(vector["name"]))
async def test_every_server_frame_is_understood(
    vector: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    # As the gateway would send it to somebody who is attached to the session it names.
    frame: Frame = vector["frame"]
    session = frame.get("session") or SESSION

    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("attach")
        seq = int(frame.get("seq") or 1) if frame["type"] == "message" else 1
        await peer.attached(id=request["id"], session=session, since=seq - 1, head=seq - 1)
        await peer.say(frame)
        await peer.send("signal", user="alice", name="done")

    async with gateway(first) as server, server.client() as client:
        heard: list[object] = []
        client.on_event(lambda event: heard.append(getattr(event, "name", None)))
        attached = await client.attach(session)
        await until(lambda: "done" in heard)
        assert "cannot be read" not in caplog.text
        if frame["type"] == "message":
            message = await anext(attached)
            assert {key: frame[key] for key in ("seq", "id", "sender", "role", "content")} == {
                "seq": message.seq,
                "id": message.id,
                "sender": message.sender,
                "role": message.role,
                "content": message.content,
            }
        if frame["type"] == "error":
            assert refusal(frame).code == frame["code"]

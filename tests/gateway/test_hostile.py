"""Hostile input over a real socket: answered or closed as documented; nothing stored, nobody disturbed."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.talk import Talk, dial, talk
from tests.process import ROOT, GatewayProcess

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests/vectors/invalid.json").read_text())["vectors"]


def material(vector: dict[str, Any]) -> str | bytes:
    """What a vector wants sent."""
    if "base64" in vector:
        return base64.b64decode(vector["base64"])
    if "pieces" in vector:
        return "".join(text * times for text, times in vector["pieces"])
    data = vector["data"]
    assert isinstance(data, str)
    return data


async def put(guest: Talk, vector: dict[str, Any]) -> None:
    """Send it as text, whether it is any or not, unless the vector says binary."""
    data = material(vector)
    is_text = not vector.get("binary", False)
    await guest.socket.send(data, text=is_text)


async def test_each_invalid_vector_gets_its_documented_answer_and_nobody_notices(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path) as gateway, talk(gateway, "bystander") as bystander:
        session = await bystander.open()
        for vector in VECTORS:
            expected = vector["expected"]
            started = talk(gateway, "mallory") if vector["state"] == "open" else dial(gateway)
            async with started as guest:
                await put(guest, vector)
                if "close" in expected:
                    assert await guest.close_code() == expected["close"], vector["name"]
                else:
                    answer = await guest.next()
                    got = (answer["type"], answer.get("code"), answer.get("id"))
                    assert got == ("error", expected["error"], expected["id"]), vector["name"]
                    beat = await guest.ask("heartbeat", ts=1)
                    assert beat["type"] == "heartbeat", vector["name"]
        assert (await bystander.ask("send", session=session, content="still here"))["seq"] == 1
        assert "Traceback" not in gateway.output
        assert '"level":"error"' not in gateway.output


def scramble(rng: random.Random, session: str) -> bytes:
    """One of the frames a fuzzer would try: noise, a broken frame, or a valid shape with wrong contents."""
    shapes: list[dict[str, Any]] = [
        {"type": "send", "id": "x", "session": session, "content": "x"},
        {"type": "attach", "id": "x", "session": session, "since": 0},
        {"type": "history", "id": "x", "session": session, "before": 5, "limit": 5},
        {"type": "signal", "id": "x", "session": session, "name": "n", "data": {}},
        {"type": "heartbeat", "id": "x", "ts": 1, "seen": {session: 1}},
        {"type": "update", "id": "x", "session": session, "metadata": {}},
        {"type": "read", "id": "x", "session": session, "seq": 1},
        {"type": "refresh", "id": "x", "token": "a.b.c"},
    ]
    values: list[Any] = [
        None,
        -1,
        2**63,
        1e308,
        "",
        "\u0000",
        "x" * 300,
        [],
        {},
        [[[[]]]],
        True,
        session,
        0.5,
    ]
    frame = dict(rng.choice(shapes))
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        data = bytearray(json.dumps(frame).encode())
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    if kind == 2:
        data = bytearray(json.dumps(frame).encode())
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.randrange(1, 3)):
        frame[rng.choice(list(frame))] = rng.choice(values)
    return json.dumps(frame).encode()


async def fuzz(mallory: Talk, rng: random.Random, session: str) -> int:
    """Send up to 500 frames; how many it were until one was no UTF-8, for which 1007 is the answer."""
    sent = 0
    try:
        while sent < 500:
            await mallory.socket.send(scramble(rng, session), text=rng.random() < 0.95)
            sent += 1
        await mallory.ask("heartbeat", ts=sent, id=f"end-{sent}")
    except ConnectionClosed:
        assert await mallory.close_code() == 1007
    return sent


@pytest.mark.parametrize("seed", [1, 2])
async def test_thousands_of_random_frames_leave_no_trace_and_no_traceback(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    env = {"GATEWAY_MAX_FRAMES_PER_S": "100000", "GATEWAY_MAX_FRAMES_BURST": "1000000"}
    async with GatewayProcess(tmp_path, env=env) as gateway, talk(gateway, "bystander") as bystander:
        session = await bystander.open()
        sent = 0
        while sent < 5_000:
            async with talk(gateway, "mallory") as mallory:
                sent += await fuzz(mallory, rng, session)
        ack = await bystander.ask("send", session=session, content="the only one")
        assert ack["seq"] == 1
        assert "Traceback" not in gateway.output
        assert '"level":"error"' not in gateway.output

"""A gateway that is alone leaves: at once, with every answer it owes; and is drained over HTTP."""

import asyncio
import contextlib
import json
import signal
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.evidence.stored import read_sqlite
from tests.gateway.talk import Talk, dial, talk
from tests.process import GatewayProcess
from tests.waiting import later, until

SPEAKERS = 8


class Pump:
    """Sends without waiting for answers, until it is closed; keeps what it heard of each message."""

    def __init__(self, talk: Talk, session: str) -> None:
        self.sent: list[str] = []
        self.acked: dict[str, int] = {}
        self.refused: set[str] = set()
        self.code = 0
        self._talk = talk
        self._session = session

    async def run(self) -> None:
        """Send and hear until the gateway closes."""
        sending = asyncio.create_task(self._send())
        try:
            while True:
                frame = json.loads(await self._talk.socket.recv())
                if frame["type"] == "ack":
                    self.acked[frame["id"]] = frame["seq"]
                elif frame["type"] == "error":
                    assert frame["retryable"], frame
                    self.refused.add(frame["id"])
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else 1006
        await sending

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                id = f"m{len(self.sent)}"
                await self._talk.say("send", id=id, session=self._session, content=id)
                self.sent.append(id)
                await later(0.002)


def stored(gateway: GatewayProcess, session: str) -> dict[str, int]:
    rows = read_sqlite(gateway.database).messages
    return {row.client_id: row.seq for row in rows if row.session == session}


def events(gateway: GatewayProcess, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in gateway.output.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == name]


async def progress(gateway: GatewayProcess, method: str = "GET") -> tuple[int, dict[str, object]]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.request(method, f"{gateway.ops_url}/api/v1/nodes/self/drain")
    return answer.status_code, answer.json()["data"]


@pytest.mark.parametrize("signals", [1, 2])
async def test_alone_it_closes_everybody_at_once_and_owes_nobody_an_answer(
    tmp_path: Path, signals: int
) -> None:
    settings = {"GATEWAY_MAX_FRAMES_PER_S": "10000", "GATEWAY_MAX_FRAMES_BURST": "10000"}
    async with (
        GatewayProcess(tmp_path / "data", env=settings) as gateway,
        contextlib.AsyncExitStack() as open_,
    ):
        pumps, sessions = [], []
        for n in range(SPEAKERS):
            client = await open_.enter_async_context(talk(gateway, f"user-{n}"))
            sessions.append(await client.open(persistent=True))
            pumps.append(Pump(client, sessions[-1]))
        pumping = asyncio.gather(*(pump.run() for pump in pumps))
        await until(lambda: all(len(pump.acked) > 20 for pump in pumps), within=20)
        process = gateway._process
        assert process is not None
        began = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            await later(0.002)
        await asyncio.wait_for(pumping, 10)
        # Thirty seconds are for those who can go elsewhere.
        assert time.monotonic() - began < 5
        assert await asyncio.wait_for(process.wait(), 10) == 0
        for pump, session in zip(pumps, sessions, strict=True):
            found = stored(gateway, session)
            assert pump.code == 4000
            assert pump.acked.items() <= found.items()
            assert not pump.refused & found.keys()
            # Whatever was taken was answered; what came after the last answer was not taken, or not yet read.
            assert set(found) == set(pump.acked)
        await until(lambda: events(gateway, "drain_ended") != [])
        (begun,), (ended,) = events(gateway, "drain_begun"), events(gateway, "drain_ended")
        assert begun["connections"] == ended["closed"] == SPEAKERS
        assert ended["moved"] == 0


async def test_drained_over_http_it_goes_on_running_not_ready_until_it_is_ended(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path / "data") as gateway, talk(gateway) as client:
        await client.open()
        status, begun = await progress(gateway, "POST")
        assert (status, begun["connections"]) == (202, 1)
        assert await client.close_code() == 4000
        ended = begun

        async def is_over() -> bool:
            nonlocal ended
            _, ended = await progress(gateway)
            return ended["phase"] == "drained" and ended["connections"] == 0

        await until(is_over)
        assert (ended["closed"], ended["moved"], ended["left"]) == (1, 0, 0)
        async with httpx.AsyncClient(trust_env=False) as http:
            for url in (gateway.url, gateway.ops_url):
                answer = await http.get(f"{url}/readyz")
                assert (answer.status_code, answer.json()["message"]) == (503, "draining")
            assert (await http.get(f"{gateway.ops_url}/livez")).status_code == 200
            metrics = (await http.get(f"{gateway.ops_url}/metrics")).text
        assert "gateway_draining 1.0" in metrics
        assert 'gateway_drain_connections_total{outcome="closed"} 1.0' in metrics
        with pytest.raises(InvalidStatus) as refused:
            async with dial(gateway):
                raise AssertionError("let in")
        assert refused.value.response.status_code == 503
        assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 3
        began = time.monotonic()
        assert await gateway.terminate() == 0
        assert time.monotonic() - began < 5
        assert len(events(gateway, "drain_begun")) == 1


async def test_a_socket_in_its_handshake_is_sent_away_when_the_node_leaves(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path / "data") as gateway, dial(gateway) as silent:
        began = time.monotonic()
        assert await gateway.terminate() == 0
        assert await silent.close_code() == 4000
        assert time.monotonic() - began < 4

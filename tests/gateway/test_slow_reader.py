"""A client that does not read: it costs the others nothing and the process no memory, and loses nothing."""

import asyncio
import statistics
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.gateway.rawsocket import RawClient
from tests.gateway.talk import Talk, talk
from tests.process import GatewayProcess
from tests.waiting import until

MESSAGE_BYTES = 50_000
MESSAGES = 1_000  # 50 MB
QUIET_S = 60.0
WARM_UP = 500
WINDOW = 20

ROOMY = {"GATEWAY_MAX_FRAMES_PER_S": "100000", "GATEWAY_MAX_FRAMES_BURST": "100000"}


async def pour(sender: Talk, session: str, count: int, content: str, take_s: float = 0.0) -> list[float]:
    """Send `count` messages over at least `take_s` seconds.

    The time each took from send to ack, in seconds.
    """
    started: dict[str, float] = {}
    took: list[float] = []
    begun = time.monotonic()
    batch = f"{begun}"

    async def collect() -> None:
        while len(took) < count:
            ack = await sender.next("ack", "error")
            assert ack["type"] == "ack", ack
            took.append(time.monotonic() - started[ack["id"]])

    collecting = asyncio.create_task(collect())
    for n in range(count):
        due = begun + n * take_s / count

        def may_go(n: int = n, due: float = due) -> bool:
            return n - len(took) < WINDOW and time.monotonic() >= due

        await until(may_go, within=30, what="acks")
        started[f"{batch}-{n}"] = time.monotonic()
        await sender.say("send", id=f"{batch}-{n}", session=session, content=content)
    await collecting
    return took


@pytest.mark.timeout(180)
async def test_a_reader_that_stops_for_a_minute_costs_no_memory_and_gets_everything(tmp_path: Path) -> None:
    env = ROOMY | {"GATEWAY_STALL_TIMEOUT_S": "600", "GATEWAY_HEARTBEAT_TIMEOUT_MS": "600000"}
    async with GatewayProcess(tmp_path, env=env) as gateway, talk(gateway) as alice, talk(gateway) as witness:
        session = await alice.open(persistent=True)
        content = "x" * MESSAGE_BYTES
        # Warm up past SQLite's page cache (16 MiB), so that what is measured is the reader.
        before = await pour(alice, session, WARM_UP, content)
        await witness.ask("attach", session=session)
        with RawClient(gateway.port, receive_buffer=65_536) as sleeper:
            sleeper.hello(gateway.token("alice"))
            sleeper.say({"type": "attach", "id": "a", "session": session, "since": WARM_UP})
            sleeper.until("live")
            process = psutil.Process(gateway.pid)
            rss = process.memory_info().rss
            peak = rss
            pouring = asyncio.create_task(pour(alice, session, MESSAGES, content, take_s=QUIET_S))
            seen = 0
            while seen < MESSAGES:
                assert (await witness.next("message"))["seq"] == WARM_UP + 1 + seen
                seen += 1
                peak = max(peak, process.memory_info().rss)
            during = await pouring
            print(
                f"grew by {(peak - rss) / 1024:.0f} KiB; ack median {statistics.median(during) * 1000:.1f} ms"
            )
            assert peak - rss < 4 * 1024 * 1024, f"grew by {(peak - rss) / 1024:.0f} KiB"
            assert statistics.median(during) < 3 * statistics.median(before) + 0.005
            seqs = await asyncio.to_thread(sleeper.read_messages, MESSAGES, 60.0)
        assert seqs == list(range(WARM_UP + 1, WARM_UP + 1 + MESSAGES))


@pytest.mark.timeout(120)
async def test_a_reader_without_progress_is_closed_with_4001_and_resumes_complete(tmp_path: Path) -> None:
    env = ROOMY | {"GATEWAY_STALL_TIMEOUT_S": "1"}
    async with GatewayProcess(tmp_path, env=env) as gateway, talk(gateway) as alice:
        session = await alice.open(persistent=True)
        with RawClient(gateway.port, receive_buffer=65_536) as sleeper:
            sleeper.hello(gateway.token("alice"))
            sleeper.say({"type": "attach", "id": "a", "session": session, "since": 0})
            sleeper.until("live")
            await pour(alice, session, 200, "x" * MESSAGE_BYTES)

            async def is_closed() -> bool:
                return "gateway_connections 1.0" in await metrics(gateway)

            await until(is_closed, within=20, what="the stalled connection to be closed")
        assert 'gateway_closes_total{code="4001"} 1.0' in await metrics(gateway)
        with RawClient(gateway.port) as again:
            again.hello(gateway.token("alice"))
            again.say({"type": "attach", "id": "a", "session": session, "since": 0})
            assert await asyncio.to_thread(again.read_messages, 200, 30.0) == list(range(1, 201))


async def test_pings_without_reading_are_bounded_and_closed_with_4029(gateway: GatewayProcess) -> None:
    async with talk(gateway) as bystander:
        process = psutil.Process(gateway.pid)
        rss = process.memory_info().rss
        with RawClient(gateway.port, receive_buffer=4096) as flooder:
            flooder.hello(gateway.token("mallory"))
            ping = flooder.frame(0x9, b"p" * 125)
            flooder.socket.settimeout(5)
            with pytest.raises(ConnectionError):
                flooder.socket.sendall(ping * 200_000)
        assert process.memory_info().rss - rss < 4 * 1024 * 1024
        assert (await bystander.ask("heartbeat", ts=1))["type"] == "heartbeat"
        assert 'gateway_closes_total{code="4029"} 1.0' in await metrics(gateway)


async def metrics(gateway: GatewayProcess) -> str:
    """The operations port's exposition."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{gateway.ops_url}/metrics")).text

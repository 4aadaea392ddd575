"""A whole gateway that is killed while it delivers: its receiver gets every event all the same."""

from pathlib import Path

import httpx

from tests.gateway.talk import talk
from tests.process import GatewayProcess
from tests.runtime.receiver import Receiver, cut, status
from tests.waiting import until

SECRET = "a secret of the tests that is long enough"


async def test_a_gateway_that_is_killed_while_it_delivers_leaves_no_event_out(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        env = {"GATEWAY_WEBHOOK_URL": receiver.url, "GATEWAY_WEBHOOK_SECRET": SECRET, "GATEWAY_NODE_ID": "n1"}
        async with GatewayProcess(tmp_path / "data", env=env) as gateway:
            receiver.plan = [cut, status(500)]
            made: list[str] = []
            async with talk(gateway) as alice:
                made += [await alice.open() for _ in range(5)]
                await until(lambda: receiver.requests != [], within=10)
                await gateway.kill()
            await gateway.start()
            async with talk(gateway) as alice:
                made += [await alice.open() for _ in range(5)]
            token = gateway.token("olga", scopes=["operator"])

            async def feed() -> list[dict[str, object]]:
                async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
                    answer = await http.get(f"{gateway.url}/api/v1/events?limit=1000")
                found: list[dict[str, object]] = answer.json()["data"]["events"]
                return found

            async def is_all_there() -> bool:
                expected = await feed()
                return {event["id"] for event in expected} == set(receiver.taken)

            await until(is_all_there, within=30)
            created = [event["session"] for event in await feed() if event["kind"] == "created"]
            assert created == made
        first_seen = list(dict.fromkeys(receiver.taken))
        assert first_seen == sorted(first_seen)

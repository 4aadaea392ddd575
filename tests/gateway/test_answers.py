"""What is refused is refused as documented, by a real process over a real socket."""

from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.talk import call, dial, talk
from tests.process import GatewayProcess


async def test_a_bad_token_is_answered_and_closed_with_4500(gateway: GatewayProcess) -> None:
    async with dial(gateway) as guest:
        await guest.say("hello", token="no.such.token")
        assert (await guest.next())["code"] == "unauthenticated"
        assert await guest.close_code() == 4500


async def test_another_origin_is_answered_403(gateway: GatewayProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with dial(gateway, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    async with dial(gateway, origin=gateway.url) as page:
        await page.say("hello", token=gateway.token("alice"))
        assert (await page.next())["type"] == "welcome"


async def test_another_path_is_answered_404(gateway: GatewayProcess) -> None:
    gateway_ws = gateway.ws_url
    with pytest.raises(InvalidStatus) as refused:
        async with dial(_At(gateway, gateway_ws + "/elsewhere")):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == 404


class _At:
    def __init__(self, gateway: GatewayProcess, ws_url: str) -> None:
        self.ws_url = ws_url


async def test_a_missing_hello_is_closed_with_4501(tmp_path: Path) -> None:
    env = {"GATEWAY_HELLO_TIMEOUT_S": "0.3"}
    async with GatewayProcess(tmp_path, env=env) as gateway, dial(gateway) as silent:
        assert await silent.close_code() == 4501


async def test_a_first_frame_that_is_no_hello_is_closed_with_4501(gateway: GatewayProcess) -> None:
    async with dial(gateway) as rude:
        await rude.say("open", id="1")
        assert await rude.close_code() == 4501


async def test_a_message_of_a_mebibyte_is_closed_with_1009(gateway: GatewayProcess) -> None:
    async with talk(gateway) as alice:
        session = await alice.open()
        await alice.say("send", id="big", session=session, content="x" * (1 << 20))
        assert await alice.close_code() == 1009
    async with talk(gateway) as again:
        assert (await again.ask("attach", session=session))["head"] == 0


async def test_content_over_the_limit_is_answered_too_large_and_the_conversation_goes_on(
    gateway: GatewayProcess,
) -> None:
    async with talk(gateway) as alice:
        session = await alice.open()
        assert (await alice.ask("send", session=session, content="ä" * 32_769))["code"] == "too_large"
        assert (await alice.ask("send", session=session, content="ä" * 32_768))["seq"] == 1


async def test_the_65th_attachment_and_the_101st_session_are_answered_limit_reached(tmp_path: Path) -> None:
    env = {"GATEWAY_MAX_FRAMES_BURST": "1000"}
    async with GatewayProcess(tmp_path, env=env) as gateway, talk(gateway) as alice, talk(gateway) as other:
        sessions = [await alice.open() for _ in range(64)]
        assert (await alice.ask("open"))["code"] == "limit_reached"
        extra = await other.open()
        assert (await alice.ask("attach", session=extra))["code"] == "limit_reached"
        for _ in range(35):
            await other.open()
        assert (await other.ask("open"))["code"] == "limit_reached"
        await alice.ask("close", session=sessions[0])
        await other.open()


async def test_a_ticket_is_good_once(gateway: GatewayProcess) -> None:
    ticket = (await call(gateway, "alice", "POST", "/tickets")).json()["data"]["ticket"]
    async with dial(gateway) as first, dial(gateway) as second:
        await first.say("hello", ticket=ticket)
        assert (await first.next())["user"] == "alice"
        await second.say("hello", ticket=ticket)
        assert (await second.next())["code"] == "unauthenticated"
        assert await second.close_code() == 4500


async def test_too_many_frames_are_answered_and_flooding_is_closed_with_4029(gateway: GatewayProcess) -> None:
    async with talk(gateway) as alice:
        for n in range(150):
            await alice.say("heartbeat", id=f"h{n}", ts=n)
        limited = await alice.next("error")
        assert (limited["code"], limited["retryable"]) == ("rate_limited", True)
        assert limited["retry_after_ms"] > 0
        for n in range(400):
            await alice.say("heartbeat", ts=n)
        assert await alice.close_code() == 4029


async def test_frames_are_counted_both_ways(gateway: GatewayProcess) -> None:
    async with talk(gateway) as alice:
        for n in range(5):
            await alice.ask("heartbeat", ts=n)
        async with httpx.AsyncClient(trust_env=False) as http:
            metrics = (await http.get(f"{gateway.ops_url}/metrics")).text
        assert 'gateway_frames_total{direction="in"} 6.0' in metrics
        assert 'gateway_frames_total{direction="out"} 6.0' in metrics


async def test_the_credential_may_come_with_the_upgrade(gateway: GatewayProcess) -> None:
    bearer = {"Authorization": f"Bearer {gateway.token('alice')}"}
    async with dial(gateway, additional_headers=bearer) as alice:
        await alice.say("hello")
        assert (await alice.next())["user"] == "alice"


async def test_a_revocation_closes_the_sockets_of_the_user(gateway: GatewayProcess) -> None:
    async with talk(gateway, "alice") as alice, talk(gateway, "bob") as bob:
        assert (await call(gateway, "alice", "POST", "/users/alice/revoke")).status_code == 200
        assert await alice.close_code() == 4500
        assert (await bob.ask("heartbeat", ts=1))["type"] == "heartbeat"


async def test_sigterm_sends_everybody_away_to_resume_and_exits_cleanly(gateway: GatewayProcess) -> None:
    async with talk(gateway) as alice:
        session = await alice.open()
        for n in range(20):
            await alice.say("send", id=f"m{n}", session=session, content="x")
        code = await gateway.terminate()
        # What it has read is committed and acked before it closes; the rest it has never seen, nor stored.
        acked = []
        with suppress(ConnectionClosed):
            while True:
                acked.append((await alice.next("ack"))["id"])
        assert alice.socket.close_code == 4000
    assert code == 0
    assert acked == [f"m{n}" for n in range(len(acked))]
    await gateway.start()
    async with talk(gateway) as alice:
        assert (await alice.ask("attach", session=session))["head"] == len(acked)

"""Events are delivered in order and at least once, to a receiver that does what it likes."""

import asyncio
import errno
import os
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.runtime import webhook as webhook_module
from gateway.runtime.events import HOUR_MS, Events
from gateway.runtime.webhook import Webhook, WebhookSettings
from store.errors import Unavailable
from tests.auth.makers import certify
from tests.runtime.receiver import Receiver, Way, cut, endless, hang, status
from tests.runtime.stage import SECRETS, Stage
from tests.store.making import opened
from tests.store.nodes import WatchedLog

# -- when all is well


async def test_events_are_delivered_in_order_a_hundred_at_a_time(stage: Stage) -> None:
    ids = await stage.happen(250)
    node = stage.node()
    await node.deliver()
    assert [len(request.events) for request in stage.receiver.requests] == [100, 100, 50]
    assert stage.receiver.taken == ids
    assert (node.delivered, node.failed, node.behind, node.lag_s) == (250, 0, 0, 0.0)
    await node.deliver()
    assert len(stage.receiver.requests) == 3


async def test_a_delivery_says_what_happened_and_where_it_stands(stage: Stage) -> None:
    session = await opened(stage.log, tenant="acme", owner="alice")
    await stage.node().deliver()
    (request,) = stage.receiver.requests
    assert request.path == "/events?to=me"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "1-1"
    assert request.headers["webhook-timestamp"] == str(stage.clock.now_ms() // 1000)
    (event,) = request.events
    assert (event["id"], event["tenant"], event["session"], event["kind"]) == (
        1,
        "acme",
        session.id,
        "created",
    )
    assert (event["version"], event["actor"], event["data"]) == (1, "alice", {})
    assert event["at"].endswith("Z")


@pytest.mark.parametrize("number", [200, 201, 204, 299])
async def test_every_2xx_takes_a_delivery(stage: Stage, number: int) -> None:
    await stage.happen(1)
    stage.receiver.plan = [status(number)]
    node = stage.node()
    await node.deliver()
    assert (node.delivered, node.failed) == (1, 0)


async def test_an_endless_answer_is_not_read(stage: Stage) -> None:
    await stage.happen(1)
    stage.receiver.plan = [endless]
    node = stage.node()
    await node.deliver()
    assert (node.delivered, node.failed) == (1, 0)


async def test_after_a_restart_it_goes_on_where_it_was(stage: Stage) -> None:
    await stage.happen(3)
    first = stage.node("n1")
    await first.deliver()
    await first.finish()
    ids = await stage.happen(2)
    await stage.node("n2").deliver()
    assert stage.receiver.taken == ids


# -- when it fails


@pytest.mark.parametrize("way", [status(500), status(404), status(429), cut, status(302, "Location: /x\r\n")])
async def test_what_was_not_taken_comes_again_under_the_same_id(stage: Stage, way: Way) -> None:
    ids = await stage.happen(3)
    stage.receiver.plan = [way, way]
    node = stage.node()
    with capture_logs() as lines:
        await node.deliver()
        assert node.state == "failing"
        await stage.happen(2)
        await stage.again(node)
        ids = await stage.happen(0)
        await stage.again(node)
    assert [request.headers["webhook-id"] for request in stage.receiver.requests] == [
        "1-3",
        "1-3",
        "1-3",
        "4-5",
    ]
    assert stage.receiver.taken == [*ids[:3], *ids[:3], *ids]
    assert [line["event"] for line in lines] == ["webhook_failing", "webhook_recovered"]
    assert (node.state, node.delivered, node.failed) == ("delivering", 5, 2)


async def test_a_redirect_is_a_failure_like_any_other(stage: Stage) -> None:
    await stage.happen(1)
    async with Receiver() as elsewhere:
        stage.receiver.usual = status(307, f"Location: {elsewhere.url}\r\n")
        node = stage.node()
        await node.deliver()
        await stage.again(node)
        assert elsewhere.requests == []
    assert (node.delivered, node.failed) == (0, 2)


async def test_a_receiver_that_hangs_is_given_up_in_time(stage: Stage) -> None:
    ids = await stage.happen(1)
    stage.receiver.plan = [hang]
    node = stage.node(timeout_s=0.1)
    await asyncio.wait_for(node.deliver(), 2)
    assert (node.state, node.failed) == ("failing", 1)
    await stage.again(node)
    assert stage.receiver.taken == ids * 2


async def test_over_https_only_those_are_told_whom_the_machine_trusts(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await stage.happen(150)
    certificate = certify(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with Receiver(tls) as receiver:
        node = stage.node(url=receiver.url)
        await node.deliver()
        assert (node.state, receiver.requests) == ("failing", [])
        # Whom it trusts is read again after a failure, and not for each request.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await stage.again(node)
        monkeypatch.delenv("SSL_CERT_FILE")
        more = await stage.happen(1)
        await node.deliver()
        assert receiver.taken == more == [*ids, more[-1]]


async def test_that_nobody_can_be_trusted_now_costs_a_try_and_no_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> ssl.SSLContext:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(ssl, "create_default_context", unreadable)
    await stage.happen(1)
    node = stage.node(url="https://127.0.0.1:1/")
    with capture_logs() as lines:
        await node.deliver()
    assert (node.state, node.failed) == ("failing", 1)
    assert "Too many open files" in lines[0]["reason"]


async def test_an_address_where_nobody_is_costs_a_try_and_no_fault(stage: Stage) -> None:
    await stage.happen(1)
    for url in ("http://127.0.0.1:1/", f"http://{'a' * 70}.localhost/"):
        node = stage.node(url=url)
        await node.deliver()
        assert (node.state, node.failed) == ("failing", 1)


async def test_pauses_grow_up_to_five_minutes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    await stage.happen(1)
    stage.receiver.usual = status(500)
    node = stage.node()
    pauses = []
    for _ in range(11):
        await node.deliver()
        before, waited = len(stage.receiver.requests), 0
        while len(stage.receiver.requests) == before:
            stage.clock.pass_s(1)
            waited += 1
            await node.deliver()
        pauses.append(waited)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_tries_are_spread_over_the_whole_pause(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        asked.append((least, most))
        return least

    monkeypatch.setattr("random.uniform", uniform)
    await stage.happen(1)
    stage.receiver.plan = [status(500)] * 3
    node = stage.node()
    for _ in range(4):
        await node.deliver()
    assert asked == [(0, 2), (0, 4), (0, 8)]
    assert node.delivered == 1
    # What was taken is the end of it: the next failure is a first one.
    await stage.happen(1)
    stage.receiver.plan = [status(500)]
    await node.deliver()
    assert asked[3:] == [(0, 2)]


async def test_410_pauses_until_a_restart(stage: Stage) -> None:
    ids = await stage.happen(1)
    stage.receiver.plan = [status(410)]
    node = stage.node()
    with capture_logs() as lines:
        await node.deliver()
        for _ in range(5):
            await stage.again(node)
    assert [line["event"] for line in lines] == ["webhook_paused"]
    assert (node.state, len(stage.receiver.requests)) == ("paused", 1)
    # Nobody else goes on in its place while it is there.
    other = stage.node("n2")
    await other.deliver()
    assert (other.state, len(stage.receiver.requests)) == ("standby", 1)
    await node.finish()
    await other.deliver()
    assert stage.receiver.taken == ids * 2


async def test_how_far_behind_it_is_can_be_seen_while_it_fails(stage: Stage) -> None:
    stage.receiver.usual = status(500)
    first = await opened(stage.log, created_at=stage.clock.now_ms() - 7000)
    assert first.version == 1
    await stage.happen(149)
    node = stage.node()
    await node.deliver()
    assert node.behind == 150
    assert node.lag_s == 7.0
    await stage.happen(10)
    await stage.again(node)
    assert node.behind == 160
    assert node.lag_s == 7.0 + webhook_module.PAUSE_MOST_S + 1


async def test_what_has_just_come_is_behind_before_it_is_counted(stage: Stage) -> None:
    await stage.happen(1)
    node = stage.node()
    await node.deliver()
    await stage.happen(50)
    stage.receiver.usual = status(500)
    await node.deliver()
    assert node.behind == 50


async def test_what_is_purged_undelivered_is_counted_and_what_follows_is_delivered(stage: Stage) -> None:
    stage.receiver.usual = status(400)
    now = stage.clock.now_ms()
    for hours in (9, 8):
        await opened(stage.log, created_at=now - hours * HOUR_MS)
    node = stage.node()
    await node.deliver()
    kept = Events(stage.log, stage.clock, "n1", 5, has_webhook=True)
    with capture_logs() as lines:
        await kept.purge()
        await kept.purge()
    assert (kept.purged, kept.undelivered) == (2, 2)
    assert [(line["event"], line["events"]) for line in lines] == [("events_lost", 2)]
    await stage.again(node)
    assert (node.state, node.behind, node.lag_s) == ("delivering", 0, 0.0)
    young = await opened(stage.log, created_at=stage.clock.now_ms())
    stage.receiver.usual = status(200)
    await stage.again(node)
    assert stage.receiver.requests[-1].events[0]["session"] == young.id


async def test_while_the_log_is_away_nothing_is_sent_and_nothing_lost(stage: Stage) -> None:
    await stage.happen(150)
    log = WatchedLog(stage.log)
    settings = WebhookSettings(stage.receiver.url, SECRETS, 5.0)
    node = Webhook(settings, log, stage.clock, "n1")
    log.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        await node.deliver()
    log.failure = None
    await node.deliver()
    ids = await stage.happen(3)
    log.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        await node.deliver()
    log.failure = None
    await node.deliver()
    assert stage.receiver.taken == ids


async def test_what_the_log_was_not_told_is_told_at_the_end(stage: Stage) -> None:
    ids = await stage.happen(2)
    log = WatchedLog(stage.log)
    settings = WebhookSettings(stage.receiver.url, SECRETS, 5.0)
    node = Webhook(settings, log, stage.clock, "n1")

    async def take_while_the_log_goes(writer: asyncio.StreamWriter) -> None:
        log.failure = Unavailable("away")
        await status(200)(writer)

    stage.receiver.plan = [take_while_the_log_goes]
    with pytest.raises(Unavailable):
        await node.deliver()
    log.failure = None
    await node.finish()
    await stage.node("n2").deliver()
    assert stage.receiver.taken == ids

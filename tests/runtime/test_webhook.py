"""Events are delivered in order and at least once, to a receiver that does what it likes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from gateway.runtime import webhook as webhook_module
from gateway.runtime.events import HOUR_MS, Events
from gateway.runtime.webhook import Webhook, WebhookSettings
from store.errors import Unavailable
from store.log_sqlite.log import SqliteLog
from tests.auth.makers import StandingClock
from tests.runtime.receiver import Receiver, Way, cut, endless, hang, status
from tests.store.making import opened
from tests.store.nodes import WatchedLog
from tests.waiting import later, until

SECRETS = ("an old secret of the tests, long enough", "a new secret of the tests, long enough")


class Stage:
    """A log, a receiver, a clock that stands, and nodes that deliver."""

    def __init__(self, log: SqliteLog, receiver: Receiver) -> None:
        self.log = log
        self.receiver = receiver
        self.clock = StandingClock()

    def node(self, name: str = "n1", timeout_s: float = 5.0, url: str | None = None) -> Webhook:
        settings = WebhookSettings(url or self.receiver.url, SECRETS[:1], timeout_s)
        return Webhook(settings, self.log, self.clock, name)

    async def happen(self, count: int) -> list[int]:
        """Let so many things happen; the ids of all events there are."""
        for _ in range(count):
            await opened(self.log)
        return [event.id for event in await self.log.events(after=0, limit=10_000)]

    async def again(self, *nodes: Webhook) -> None:
        """Deliver once more, after the longest pause there is."""
        self.clock.pass_s(webhook_module.PAUSE_MOST_S + 1)
        for node in nodes:
            await node.deliver()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    log = SqliteLog(tmp_path)
    await log.start()
    async with Receiver() as receiver:
        yield Stage(log, receiver)
    await log.close()


@pytest.fixture
def short_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of 0.3 s."""
    monkeypatch.setattr(webhook_module, "TURN_MARGIN_S", 0.0)
    monkeypatch.setattr(webhook_module, "TURN_TIMEOUTS", 0.06)


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
    settings = WebhookSettings(stage.receiver.url, SECRETS[:1], 5.0)
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
    settings = WebhookSettings(stage.receiver.url, SECRETS[:1], 5.0)
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


# -- cancelled, and many


async def test_who_is_cancelled_in_the_middle_of_a_request_loses_nothing(stage: Stage) -> None:
    ids = await stage.happen(3)
    stage.receiver.plan = [hang]
    node = stage.node()
    task = asyncio.ensure_future(node.deliver())
    await until(lambda: len(stage.receiver.requests) == 1)
    task.cancel()
    await asyncio.wait([task])
    await node.finish()
    await stage.node("n2").deliver()
    assert stage.receiver.taken == ids * 2


@pytest.mark.parametrize("seed", range(4))
async def test_whenever_it_is_cancelled_every_event_comes_in_order(
    stage: Stage, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_module, "BATCH", 3)
    chance = Random(seed)  # noqa: S311 - when it happens
    ids = await stage.happen(40)
    name = 0
    while not stage.receiver.requests or stage.receiver.taken[-1] != ids[-1]:
        stage.receiver.plan = [chance.choice([status(200), status(200), status(500), cut])]
        node = stage.node(f"n{name}")
        name += 1
        task = asyncio.ensure_future(node.deliver())
        # Later and later, so that it comes to an end on a machine of any speed.
        await later(chance.random() * 0.003 * (9 + name))
        task.cancel()
        await asyncio.wait([task])
        await node.finish()
    await stage.node("last").deliver()
    seen: list[int] = []
    for request in stage.receiver.requests:
        assert request.ids[0] <= (seen[-1] if seen else 0) + 1, "nothing is left out"
        seen += [id for id in request.ids if not seen or id > seen[-1]]
    assert seen == ids


async def test_of_two_nodes_one_delivers_and_the_other_takes_over_when_it_stops(stage: Stage) -> None:
    ids = await stage.happen(5)
    one, two = stage.node("n1"), stage.node("n2")
    await asyncio.gather(one.deliver(), two.deliver())
    assert stage.receiver.taken == ids
    assert {one.state, two.state} == {"delivering", "standby"}
    holder, other = (one, two) if one.state == "delivering" else (two, one)
    ids = await stage.happen(5)
    await other.deliver()
    assert len(stage.receiver.taken) == 5
    await holder.finish()
    await other.deliver()
    assert stage.receiver.taken == ids
    assert (holder.state, other.state) == ("standby", "delivering")


async def test_another_node_takes_over_from_one_that_was_killed(stage: Stage, short_turn: None) -> None:
    ids = await stage.happen(2)
    killed, other = stage.node("n1"), stage.node("n2")
    await killed.deliver()
    ids = await stage.happen(2)

    async def took_over() -> bool:
        await other.deliver()
        return other.state == "delivering"

    await until(took_over)
    # What the killed one had not told of yet came again; nothing is missing.
    assert sorted(set(stage.receiver.taken)) == ids
    assert stage.receiver.taken[-1] == ids[-1]


async def test_a_node_that_slept_past_its_turn_may_repeat_and_skips_nothing(
    stage: Stage, short_turn: None
) -> None:
    await stage.happen(3)
    stage.receiver.plan = [hang]
    sleeper, other = stage.node("n1"), stage.node("n2")
    asleep = asyncio.ensure_future(sleeper.deliver())
    await until(lambda: len(stage.receiver.requests) == 1)

    async def took_over() -> bool:
        await other.deliver()
        return other.delivered == 3

    await until(took_over)
    asleep.cancel()
    await asyncio.wait([asleep])
    await sleeper.finish()
    assert sleeper.state == "standby"
    ids = await stage.happen(2)
    await other.deliver()
    assert stage.receiver.taken == [*ids[:3], *ids]


async def test_who_has_lost_the_turn_sends_nothing_more(stage: Stage, short_turn: None) -> None:
    await stage.happen(1)
    one, two = stage.node("n1"), stage.node("n2", timeout_s=1000.0)
    await one.deliver()

    async def took_over() -> bool:
        await two.deliver()
        return two.state == "delivering"

    await until(took_over)
    await stage.happen(1)
    stage.clock.pass_s(1)
    await one.deliver()
    assert (one.state, len(stage.receiver.requests)) == ("standby", 1)


async def test_a_turn_is_not_written_anew_each_second(stage: Stage) -> None:
    node = stage.node()
    await node.deliver()
    before = stage.log.queries["hold_delivery"]
    for _ in range(7):
        stage.clock.pass_s(1)
        await node.deliver()
    assert stage.log.queries["hold_delivery"] == before
    stage.clock.pass_s(1)
    await node.deliver()
    assert stage.log.queries["hold_delivery"] == before + 1


async def test_without_an_address_nothing_is_done(stage: Stage) -> None:
    await stage.happen(1)
    node = Webhook(None, stage.log, stage.clock, "n1")
    await node.deliver()
    await node.finish()
    assert node.state == "off"
    assert stage.log.queries["hold_delivery"] == 0

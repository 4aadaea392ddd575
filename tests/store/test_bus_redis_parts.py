"""The parts of the bus on Redis by themselves: what no real server can be made to do at will."""

import asyncio
from typing import Any, cast

import pytest

from store.bus_redis import keeper, link, speaker
from store.bus_redis.dialect import ORDINARY, SHARDED
from store.bus_redis.keeper import forever, pause_s
from store.bus_redis.layout import SLOTS, owners_of, probe_channel
from store.bus_redis.link import Link
from store.bus_redis.listener import Listener
from store.bus_redis.server import Address, Server
from store.bus_redis.shard import Origin, Shard
from store.bus_redis.speaker import Counts, Speaker
from store.errors import Unavailable
from tests.store.bus_wire import Wire, linked
from tests.waiting import turns, until

TAG = b"origin.."


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy this machine is decides nothing: what has come is taken in one slice."""
    monkeypatch.setattr(link, "SLICE_S", 3600.0)


# -- listener


class Heard:
    """A listener on a link of the test's."""

    def __init__(self, dialect: Any = SHARDED) -> None:
        self.payloads: list[tuple[str, bytes]] = []
        self.moves = 0
        self.listener = Listener(dialect, TAG, lambda *each: self.payloads.append(each))
        self.listener.on_moved = self.moved
        self.link, self.wire = linked(self.listener.take)

    def moved(self) -> None:
        self.moves += 1

    def says(self, kind: bytes, channel: bytes) -> None:
        self.link.data_received(
            b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % (len(kind), kind, len(channel), channel)
        )

    async def subscribing(self, channel: bytes) -> "asyncio.Task[None]":
        self.listener.hold(channel, channel.decode())
        task = asyncio.create_task(self.listener.confirm(channel))
        await turns(2)
        return task


async def test_a_subscription_that_was_given_up_and_wanted_again_waits_for_its_own_confirmation() -> None:
    heard = Heard()
    await heard.listener.ready(heard.link)
    first = await heard.subscribing(b"a")
    heard.listener.release(b"a")
    second = await heard.subscribing(b"a")
    heard.says(b"ssubscribe", b"a")
    await first
    heard.says(b"sunsubscribe", b"a")
    await turns(2)
    assert not second.done()
    assert heard.moves == 0
    heard.says(b"ssubscribe", b"a")
    await second
    assert heard.listener.is_confirmed(b"a")


async def test_a_channel_that_redis_takes_away_has_moved_and_is_asked_for_again() -> None:
    heard = Heard()
    await heard.listener.ready(heard.link)
    subscribing = await heard.subscribing(b"a")
    heard.says(b"ssubscribe", b"a")
    await subscribing
    heard.says(b"sunsubscribe", b"a")
    assert heard.moves == 1
    assert not heard.listener.is_confirmed(b"a")
    heard.wire.writes.clear()
    catching_up = asyncio.create_task(heard.listener.catch_up())
    await turns(2)
    assert heard.wire.writes == [b"*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\na\r\n"]
    heard.says(b"ssubscribe", b"a")
    await catching_up


async def test_an_error_is_that_of_the_command_whose_turn_it_is() -> None:
    heard = Heard()
    await heard.listener.ready(heard.link)
    tasks = [await heard.subscribing(channel) for channel in (b"a", b"b", b"c")]
    heard.says(b"ssubscribe", b"a")
    heard.link.data_received(b"-MOVED 1 127.0.0.1:7000\r\n-NOPERM not this one\r\n")
    await tasks[0]
    with pytest.raises(Unavailable, match="another node"):
        await tasks[1]
    with pytest.raises(Unavailable, match="NOPERM not this one"):
        await tasks[2]
    assert heard.moves == 1


async def test_what_is_asked_when_the_connection_is_gone_is_asked_again_on_the_next_one() -> None:
    heard = Heard()
    await heard.listener.ready(heard.link)
    heard.listener.hold(b"a", "a")
    first = asyncio.create_task(heard.listener.catch_up())
    second = asyncio.create_task(heard.listener.catch_up())  # it waits for the first
    await turns(2)
    heard.link.abort("gone")
    for task in (first, second):
        with pytest.raises(Unavailable):
            await task
    made, wire = linked(heard.listener.take)
    ready = asyncio.create_task(heard.listener.ready(made))
    await turns(3)
    assert wire.writes == [b"*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\na\r\n"]
    ready.cancel()
    await asyncio.wait([ready])


@pytest.mark.parametrize("said", [b"-ERR what?\r\n", b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", b"+OK\r\n"])
async def test_what_was_not_asked_for_ends_the_connection(said: bytes) -> None:
    heard = Heard()
    await heard.listener.ready(heard.link)
    heard.link.data_received(said)
    assert heard.wire.is_aborted


async def test_confirmations_that_do_not_come_end_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.bus_redis.listener.CONFIRM_S", 0.05)
    heard = Heard(ORDINARY)
    heard.listener.hold(b"a", "a")
    with pytest.raises(Unavailable, match="not confirmed 1 subscriptions"):
        await heard.listener.ready(heard.link)


# -- shard


class ShardAlone:
    """A shard whose connections are the test's."""

    def __init__(self) -> None:
        self.gaps = 0
        origin = Origin(TAG, lambda channel, payload: None, self.gap, lambda: None)
        self.shard = Shard(cast(Server, None), Address("redis.example", 6379), ORDINARY, origin)
        self.shard.probe_by(b"probe")
        self.shard.listener.hold(b"a", "a")

    def gap(self) -> None:
        self.gaps += 1

    async def listening(self) -> tuple[Link, "asyncio.Task[None]"]:
        made, _ = linked(self.shard.listener.take)
        task = asyncio.create_task(self.shard.listener.ready(made))
        await turns(2)
        return made, task

    async def speaking(self) -> Wire:
        made, wire = linked(self.shard.speaker.take)
        await self.shard.speaker.ready(made)
        return wire


async def test_a_bus_is_up_and_tells_of_the_gap_when_all_is_subscribed_and_not_before() -> None:
    alone = ShardAlone()
    shard = alone.shard
    connected, task = await alone.listening()
    wire = await alone.speaking()
    connected.data_received(b"*3\r\n$9\r\nsubscribe\r\n$5\r\nprobe\r\n:1\r\n")
    # Others are heard, and the probe of a tick, while there is a subscription yet to be confirmed.
    connected.data_received(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$9\r\nanother.x\r\n")
    shard.tick()
    connected.data_received(b"*3\r\n$7\r\nmessage\r\n$5\r\nprobe\r\n$8\r\norigin..\r\n")
    assert (shard.state, alone.gaps) == ("away", 0)
    connected.data_received(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n")
    await task
    await turns(2)
    assert (shard.state, alone.gaps, len(wire.writes)) == ("away", 0, 2)
    connected.data_received(b"*3\r\n$7\r\nmessage\r\n$5\r\nprobe\r\n$8\r\norigin..\r\n")
    assert (shard.state, alone.gaps) == ("up", 1)


async def test_a_probe_that_has_to_live_elsewhere_leaves_nothing_behind() -> None:
    alone = ShardAlone()
    alone.shard.probe_by(b"probe.2")
    alone.shard.probe_by(b"probe.2")
    assert list(alone.shard.listener.held) == [b"a", b"probe.2"]


async def test_what_a_lost_connection_has_heard_proves_nothing_of_the_next_one() -> None:
    alone = ShardAlone()
    shard = alone.shard
    await alone.speaking()
    first, task = await alone.listening()
    for channel in (b"probe", b"a"):
        first.data_received(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(channel), channel))
    await task
    first.data_received(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$9\r\nanother.x\r\n")
    first.abort("gone")
    await turns(2)
    shard.listener.gone()
    second, task = await alone.listening()
    for channel in (b"probe", b"a"):
        second.data_received(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(channel), channel))
    await task
    shard.tick()
    assert (shard.state, alone.gaps) == ("away", 0)


# -- speaker


async def test_what_redis_refuses_is_counted_and_told_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = Counts()
    made = Speaker(SHARDED, TAG, counts)
    moves: list[None] = []
    made.on_moved = lambda: moves.append(None)
    connected, wire = linked(made.take)
    await made.ready(connected)
    for _ in range(5):
        assert made.offer(b"{a}", b"x")
    await turns(2)
    assert wire.writes == [b"*3\r\n$8\r\nSPUBLISH\r\n$3\r\n{a}\r\n$9\r\norigin..x\r\n" * 5]
    connected.data_received(b":1\r\n-NOPERM no\r\n-MOVED 1 127.0.0.1:1\r\n-NOPERM no\r\n-NOPERM no\r\n")
    assert (counts.refused, counts.dropped, made.unanswered, len(moves)) == (4, 4, 0, 1)
    assert capsys.readouterr().out.count("publish_refused") == 3


async def test_above_the_bounds_of_a_socket_that_takes_no_more_the_new_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speaker, "WAITING_PAYLOADS", 3)
    made = Speaker(ORDINARY, TAG, Counts())
    connected, wire = linked(made.take)
    await made.ready(connected)
    connected.pause_writing()
    assert [made.offer(b"{a}", b"x") for _ in range(5)] == [True, True, True, False, False]
    connected.resume_writing()
    assert wire.writes[0].count(b"PUBLISH") == 3
    connected.pause_writing()
    monkeypatch.setattr(speaker, "WAITING_BYTES", 200)
    assert made.offer(b"{a}", b"x" * 100)
    assert not made.offer(b"{a}", b"x" * 100)


async def test_what_was_never_written_goes_to_the_next_connection_unless_it_is_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = Counts()
    made = Speaker(ORDINARY, TAG, counts)
    first, _ = linked(made.take)
    await made.ready(first)
    first.pause_writing()
    made.offer(b"{a}", b"1")
    made.probe(b"{probe}")
    first.abort("gone")
    made.offer(b"{a}", b"2")
    made.gone()
    made.offer(b"{a}", b"3")
    second, wire = linked(made.take)
    await made.ready(second)
    await turns(2)
    assert [part[0:1] for part in wire.writes[0].split(b"origin..")[1:]] == [b"1", b"2", b"3"]
    assert (made.unanswered, counts.dropped) == (3, 0)
    monkeypatch.setattr(speaker, "HELD_BYTES", 100)
    second.pause_writing()
    made.offer(b"{a}", b"x" * 100)
    second.abort("gone")
    made.gone()
    assert counts.dropped == 1


async def test_what_is_offered_long_after_the_loss_is_dropped_and_so_is_what_was_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speaker, "HELD_S", 0.05)
    counts = Counts()
    made = Speaker(ORDINARY, TAG, counts)
    assert made.offer(b"{a}", b"held")
    await until(lambda: not made.offer(b"{a}", b"late"))
    assert counts.dropped >= 1
    monkeypatch.setattr(speaker, "HELD_S", -1.0)
    first, _ = linked(made.take)
    await made.ready(first)
    made.offer(b"{a}", b"never written")
    first.abort("gone")
    made.gone()
    second, wire = linked(made.take)
    await made.ready(second)
    await turns(2)
    assert (wire.writes, made.unanswered) == ([], 0)


# -- keeper


def test_pauses_grow_to_a_cap_and_are_never_the_same() -> None:
    assert pause_s(0) == 0.0
    for failures in range(1, 50):
        longest = min(keeper.LONGEST_PAUSE_S, keeper.FIRST_PAUSE_S * 2 ** (failures - 1))
        pauses = [pause_s(failures) for _ in range(20)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert pause_s(100_000) <= keeper.LONGEST_PAUSE_S


async def test_after_a_bug_work_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keeper, "LONGEST_PAUSE_S", 0.0)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await turns()
        raise ValueError("a bug")

    task = asyncio.create_task(forever(work))
    await until(lambda: begun >= 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "a bug" in capsys.readouterr().out


# -- layout and server


def test_owners_are_the_primaries_and_an_unknown_host_is_the_one_that_was_asked() -> None:
    asked = Address("10.0.0.1", 6379)
    told = [
        [0, 99, [b"10.0.0.2", 7000, b"id", []], [b"10.0.0.3", 7001, b"id", []]],
        [100, 16382, [b"", 7002, b"id", []]],
        [16383, 16383, [None, 7002, b"id"]],
    ]
    owners, known = owners_of(told, asked)
    assert owners == {
        Address("10.0.0.2", 7000): [range(100)],
        Address("10.0.0.1", 7002): [range(100, 16383), range(16383, SLOTS)],
    }
    assert known == [Address("10.0.0.2", 7000), Address("10.0.0.3", 7001), Address("10.0.0.1", 7002)]


def test_probes_go_to_slots_of_the_shard() -> None:
    from redis.crc import key_slot

    for slots in ([range(SLOTS)], [range(5), range(9_000, 9_100)]):
        assert any(key_slot(probe_channel(b"p:bus:{probe.", slots)) in part for part in slots)


def test_the_url_is_read_as_the_other_stores_read_it() -> None:
    made = Server("rediss+cluster://gw:s%20t@redis.example:7000?ssl_cert_reqs=none", "n:bus")
    assert (made.is_cluster, made.address) == (True, Address("redis.example", 7000))
    with pytest.raises(ValueError, match="scheme"):
        Server("http://redis.example", "n:bus")

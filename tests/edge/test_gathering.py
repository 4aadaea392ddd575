"""Quiet connections of a crowded node: read together, and else as all others."""

import asyncio
import os
import random

import pytest

from gateway.edge.frames import TEXT as TEXT_OPCODE
from gateway.edge.frames import frame
from gateway.edge.gathering import SELDOM_S
from tests.edge.peer import CLOSE, CONTINUATION, PING, PONG, TEXT, Peer, client_frame, closing
from tests.edge.serving import Recorder, Served, Start
from tests.waiting import until

BEAT = client_frame(TEXT, b"beat")


async def _crowded(serve: Start, **limits: float) -> Served:
    """A server on which everybody may be quiet."""
    return await serve(**{"crowd": 1, "gather_s": 0.005, **limits})


async def _beat(served: Served, *peers: Peer) -> None:
    """Let each say something after a long time, and hear the answer."""
    served.clock.push(SELDOM_S)
    for peer in peers:
        peer.send(BEAT)
    for peer in peers:
        assert await peer.frame() == (TEXT, b"beat")


async def _quiet_pair(served: Served) -> tuple[Peer, Recorder]:
    peer, handler = await served.pair()
    await _beat(served, peer)
    await until(lambda: served.edge.counters.quiet == 1)
    return peer, handler


async def _say(peer: Peer, *messages: bytes) -> None:
    peer.send(*[client_frame(TEXT, each) for each in messages])
    for each in messages:
        assert await peer.frame() == (TEXT, each)


def _epolls() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]"
        except FileNotFoundError:
            continue
    return count


# -- who is quiet


async def test_who_speaks_seldom_on_a_crowded_node_is_read_together_with_others(serve: Start) -> None:
    served = await _crowded(serve)
    pairs = [await served.pair() for _ in range(100)]
    peers = [peer for peer, _ in pairs]
    await _beat(served, *peers)
    assert served.edge.counters.quiet == 100
    # More than one turn reads, from connections that the loop does not watch.
    for _ in range(3):
        await _beat(served, *peers)
    assert served.edge.counters.quiet == 100
    assert all(handler.texts == [b"beat"] * 4 for _, handler in pairs)


@pytest.mark.parametrize("limits", [{"crowd": 3}, {"gather_s": 0.0}])
async def test_nobody_is_quiet_on_a_small_node_or_where_it_is_turned_off(
    serve: Start, limits: dict[str, float]
) -> None:
    served = await _crowded(serve, **limits)
    epolls = _epolls()
    peers = [await served.connect() for _ in range(2)]
    for _ in range(3):
        await _beat(served, *peers)
    assert served.edge.counters.quiet == 0
    assert _epolls() == epolls


async def test_who_speaks_again_soon_is_read_by_the_loop(serve: Start) -> None:
    served = await _crowded(serve)
    peer, _ = await _quiet_pair(served)
    await _say(peer, b"and", b"more")
    assert served.edge.counters.quiet == 0
    await _say(peer, b"at once")
    await _beat(served, peer)
    assert served.edge.counters.quiet == 1


async def test_all_are_given_back_when_the_crowd_has_gone(serve: Start) -> None:
    served = await _crowded(serve, crowd=8)
    peers = [await served.connect() for _ in range(8)]
    await _beat(served, *peers)
    assert served.edge.counters.quiet == 8
    for peer in peers[:5]:
        await peer.leave()
    await until(lambda: served.edge.counters.quiet == 0)
    for peer in peers[5:]:
        await _beat(served, peer)
    assert served.edge.counters.quiet == 0


async def test_a_pong_does_not_end_the_quiet(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    served.pass_time(55.0)
    assert await peer.frame() == (PING, b"rtt")
    peer.send(client_frame(PONG, b"rtt"))
    await until(lambda: len(handler.rtts) == 1)
    peer.send(BEAT)
    assert await peer.frame() == (TEXT, b"beat")
    assert served.edge.counters.quiet == 1


@pytest.mark.parametrize("lot", [0.0, 0.9])
async def test_the_round_trip_of_a_quiet_one_is_measured_now_and_then(
    serve: Start, monkeypatch: pytest.MonkeyPatch, lot: float
) -> None:
    served = await _crowded(serve, ping_s=10.0)
    peer, handler = await _quiet_pair(served)
    monkeypatch.setattr(random, "random", lambda: lot)
    served.pass_time(11.0)
    if lot == 0.0:
        assert await peer.frame() == (PING, b"rtt")
        peer.send(client_frame(PONG, b"rtt"))
    peer.send(BEAT)
    assert await peer.frame() == (TEXT, b"beat")
    assert len(handler.rtts) == (1 if lot == 0.0 else 0)


# -- what comes is whole and in order


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_comes_whenever_arrives_whole_and_in_order(serve: Start, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - has to be the same each time
    served = await _crowded(serve, silent_s=10_000.0, ping_s=10_000.0)
    pairs: list[tuple[Peer, Recorder]] = [await served.pair() for _ in range(12)]
    sent: dict[Recorder, list[bytes]] = {handler: [] for _, handler in pairs}
    seen_quiet = 0
    for step in range(150):
        at = chance.randrange(len(pairs))
        peer, handler = pairs[at]
        served.clock.push(chance.choice([0.0, 0.0, 0.5, SELDOM_S]))
        size = chance.choice([4, 40, 40, 1018, 2042, 5_000, 70_000])
        data = b"%d " % step + b"x" * size
        wire = client_frame(TEXT, data)
        cut = chance.randrange(1, len(wire))
        sent[handler].append(data)
        peer.send(wire[:cut])
        if chance.random() < 0.5:
            await served.settle()
        peer.send(wire[cut:])
        if chance.random() < 0.3:
            # Another one comes in its place, and gets its descriptor, most likely.
            assert await _last(peer, data)
            await peer.leave()
            pairs[at] = await served.pair()
            sent[pairs[at][1]] = []
        seen_quiet = max(seen_quiet, served.edge.counters.quiet)
    for peer, handler in pairs:
        if sent[handler]:
            assert await _last(peer, sent[handler][-1])
    assert [handler.texts for handler in sent] == list(sent.values())
    assert seen_quiet > 3


async def _last(peer: Peer, data: bytes) -> bool:
    """Read up to an echo."""
    while (await peer.frame())[1] != data:
        pass
    return True


async def test_a_frame_in_two_pieces_is_one_message(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    served.clock.push(SELDOM_S)
    peer.send(BEAT[:3])
    await served.settle()
    assert len(handler.texts) == 1
    peer.send(BEAT[3:])
    assert await peer.frame() == (TEXT, b"beat")
    assert served.edge.counters.quiet == 1


async def test_a_large_message_is_read_by_the_loop(serve: Start) -> None:
    served = await _crowded(serve, message_bytes=200_000)
    peer, _ = await _quiet_pair(served)
    served.clock.push(SELDOM_S)
    wire = client_frame(TEXT, b"x" * 150_000)
    peer.send(wire[:-1])
    await until(lambda: served.edge.counters.quiet == 0)
    peer.send(wire[-1:])
    assert await peer.frame() == (TEXT, b"x" * 150_000)


async def test_a_fragment_ends_the_quiet(serve: Start) -> None:
    served = await _crowded(serve)
    peer, _ = await _quiet_pair(served)
    served.clock.push(SELDOM_S)
    peer.send(client_frame(TEXT, b"one ", fin=False))
    await until(lambda: served.edge.counters.quiet == 0)
    peer.send(client_frame(CONTINUATION, b"message"))
    assert await peer.frame() == (TEXT, b"one message")


# -- how it ends


async def test_an_end_of_the_stream_is_seen(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    peer.send(client_frame(TEXT, b"last"))
    peer.half_close()
    await until(lambda: handler.closed == [1006])
    assert handler.texts == [b"beat", b"last"]
    assert served.edge.counters.quiet == 0


async def test_a_reset_is_seen(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    peer.reset()
    await until(lambda: handler.closed == [1006])
    assert served.edge.counters.quiet == 0


async def test_a_close_frame_is_answered(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    peer.send(closing(1000))
    assert await peer.closed_with() == 1000
    await until(lambda: handler.closed == [1000])
    assert served.edge.counters.quiet == 0


async def test_a_fault_is_told(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    peer.send(client_frame(0x3), client_frame(TEXT, b"too late"))
    assert await peer.closed_with() == 1002
    await peer.leave()
    await until(lambda: handler.closed == [1002])
    assert handler.texts == [b"beat"]


async def test_our_own_close_waits_for_the_answer_of_the_peer(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    handler.outlet.close(4000, "node_leaving")
    assert served.edge.counters.quiet == 0
    assert await peer.closed_with(answer=True) == 4000
    await until(lambda: handler.closed == [4000])


async def test_one_that_is_silent_is_asked_and_closed(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    served.pass_time(55.0)
    assert await peer.frame() == (PING, b"rtt")
    served.pass_time(6.0)
    assert (await peer.frame())[0] == CLOSE
    served.pass_time(1.5)
    await until(lambda: handler.closed == [4002])


async def test_a_descriptor_that_is_used_again_belongs_to_the_new_connection(serve: Start) -> None:
    served = await _crowded(serve)
    for end in ("peer", "abort"):
        peer, handler = await _quiet_pair(served)
        socket = next(iter(served.edge.sockets))
        old = socket.quiet_fd
        if end == "peer":
            peer.reset()
        else:
            socket.transport.abort()
        await until(lambda handler=handler: bool(handler.closed))
        assert served.edge.counters.quiet == 0
        await peer.leave()
        several = [await served.pair() for _ in range(8)]
        fds = [each.transport.get_extra_info("socket").fileno() for each in served.edge.sockets]
        assert old in fds
        for other, _ in several:
            await _say(other, b"one", b"two")
        assert served.edge.counters.quiet == 0
        for other, _ in several:
            await other.leave()
        await until(lambda: served.edge.counters.connections == 0)


async def test_one_that_does_not_read_is_not_read_from(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await served.pair(4096)
    await _beat(served, peer)
    assert served.edge.counters.quiet == 1
    peer.stop_reading()
    taken = 0

    def refused() -> bool:
        nonlocal taken
        taken += 1
        return not handler.outlet.put_message(frame(TEXT_OPCODE, b"%08d" % taken + b"x" * 50_000))

    await until(refused)
    assert served.edge.counters.quiet == 0
    peer.send(client_frame(TEXT, b"a request"))
    await served.settle()
    assert handler.texts == [b"beat"]
    peer.read_again()
    await _last(peer, b"a request")
    assert handler.drained == 1
    await _beat(served, peer)
    assert served.edge.counters.quiet == 1


async def test_what_is_sent_to_a_quiet_one_leaves_as_ever(serve: Start) -> None:
    served = await _crowded(serve)
    peer, handler = await _quiet_pair(served)
    assert handler.outlet.put_message(frame(TEXT_OPCODE, b"x" * 500_000))
    assert await peer.frame() == (TEXT, b"x" * 500_000)
    await _beat(served, peer)
    assert served.edge.counters.quiet == 1


async def test_nothing_ticks_when_the_last_quiet_one_is_gone(serve: Start) -> None:
    served = await _crowded(serve)
    turns = 0
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def counted(delay: float, *args: object) -> asyncio.TimerHandle:
        nonlocal turns
        turns += delay == 0.005
        return call_later(delay, *args)  # type: ignore[arg-type]

    loop.call_later = counted  # type: ignore[method-assign, assignment]
    try:
        peer, handler = await _quiet_pair(served)
        await until(lambda: turns > 3)
        await peer.leave()
        await until(lambda: bool(handler.closed))
        before, then = turns, loop.time() + 0.1
        await until(lambda: loop.time() > then)
        assert turns <= before + 1
    finally:
        del loop.call_later


async def test_the_end_of_the_edge_leaves_no_descriptor(serve: Start) -> None:
    served = await _crowded(serve)
    epolls = _epolls()
    peer, _ = await _quiet_pair(served)
    assert _epolls() == epolls + 1
    stopping = asyncio.create_task(served.edge.stop())
    assert await peer.closed_with(answer=True) == 1001
    await stopping
    assert _epolls() == epolls

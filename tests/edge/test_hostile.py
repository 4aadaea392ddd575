"""Noise: whatever bytes come, nothing but the connection itself is harmed."""

import asyncio
import struct
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.edge.assembly import Assembly, Violation, is_utf8
from gateway.edge.frames import close_code, close_frame
from gateway.edge.handler import EdgeLimits
from gateway.protocol.close import CloseCode
from tests.edge.peer import CONTINUATION, TEXT, client_frame, request
from tests.edge.serving import Served, serving
from tests.waiting import turns, until

_OPCODES = st.sampled_from([0, 0, 1, 1, 1, 2, 2, 8, 9, 10]) | st.integers(0, 15)

frames_ = st.builds(
    client_frame,
    _OPCODES,
    st.binary(max_size=200)
    | st.text(max_size=100).map(str.encode)
    | st.integers(0, 65535).map(struct.Struct("!H").pack),
    fin=st.sampled_from([True, True, False]),
    rsv=st.sampled_from([0] * 20 + [1, 2, 4, 7]),
    mask=st.sampled_from([b"\0\0\0\0", b"\x01\x02\x03\x04"] * 10 + [None]),
)

streams = st.one_of(
    st.lists(frames_, max_size=12).map(b"".join),
    st.lists(st.one_of(frames_, st.binary(max_size=30)), max_size=8).map(b"".join),
    st.binary(max_size=300),
)


@settings(max_examples=100)
@given(st.lists(st.tuples(streams, st.integers(1, 400), st.booleans()), min_size=1, max_size=100))
def test_no_noise_harms_anything_but_its_own_connection(noise: list[tuple[bytes, int, bool]]) -> None:
    asyncio.run(_try(noise))


async def _try(noise: list[tuple[bytes, int, bool]]) -> None:
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    async with serving() as start:
        served: Served = await start()
        bystander, _ = await served.pair()
        for stream, cut, is_pipelined in noise:
            peer = await served.dial()
            if is_pipelined:
                peer.send(request(), stream[:cut])
            else:
                await peer.upgrade()
                peer.send(stream[:cut])
            if stream[cut:]:
                await turns()
                peer.send(stream[cut:])
        await served.settle()
        bystander.send(client_frame(TEXT, b"unharmed"))
        assert await bystander.frame() == (TEXT, b"unharmed")
        await served.hang_up()
        await until(lambda: served.edge.counters.connections == 0)
        assert served.edge.counters.bugs == 0
        for handler in served.handlers:
            assert len(handler.closed) == 1
            assert all(is_utf8(text) for text in handler.texts)
    assert not faults


@given(st.text(), st.lists(st.integers(0, 400)))
def test_any_text_may_be_cut_anywhere(text: str, cuts: list[int]) -> None:
    data = text.encode()
    points = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(points)] or [b""]
    assert _assembled(pieces) == data


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=20))
def test_fragments_are_text_exactly_when_their_sum_is(pieces: list[bytes]) -> None:
    if is_utf8(b"".join(pieces)):
        assert _assembled(pieces) == b"".join(pieces)
    else:
        with pytest.raises(Violation) as raised:
            _assembled(pieces)
        assert raised.value.code is CloseCode.INVALID_PAYLOAD


def _assembled(pieces: list[bytes]) -> bytes | None:
    assembly = Assembly(True, 100_000, 1000)
    for piece in pieces[:-1]:
        assert assembly.add(piece, False) is None
    return assembly.add(pieces[-1], True)


@given(st.integers(1000, 65535), st.text(max_size=200))
def test_a_close_frame_can_always_be_built(code: int, reason: str) -> None:
    built = close_frame(code, reason)
    assert built[1] == len(built) - 2 <= 125
    assert reason.encode().startswith(built[4:])
    built[4:].decode()


@given(st.binary(max_size=125))
def test_a_received_close_code_is_one_that_may_be_sent(payload: bytes) -> None:
    try:
        code = close_code(payload)
    except ValueError:
        return
    assert code is None or code in EXPECTED


EXPECTED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014} | set(range(3000, 5000))


async def test_a_message_is_never_larger_than_allowed(served: Served) -> None:
    limit = EdgeLimits().message_bytes
    peer, handler = await served.pair()
    peer.send(client_frame(TEXT, b"x" * (limit - 10), fin=False), client_frame(CONTINUATION, b"x" * 10))
    await peer.frame()
    assert len(handler.texts[0]) == limit

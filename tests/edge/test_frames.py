"""RFC 6455 on the wire: what comes back for frames good and bad. Numbers are those of Autobahn's cases."""

import pytest

from gateway.edge.handler import EdgeLimits
from tests.edge.peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
    closing,
    noise,
)
from tests.edge.serving import Served, Start
from tests.waiting import turns, until

LIMITS = EdgeLimits()
EURO = "€".encode()
KOSME = "κόσμε".encode()


@pytest.mark.parametrize(
    "size", [0, 1, 125, 126, 127, 128, 2047, 2048, 4000, 65535, 65536, LIMITS.message_bytes]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_any_size_arrives_whole(served: Served, size: int, opcode: int) -> None:  # 1.*
    peer, handler = await served.pair()
    payload = b"*" * size if opcode == TEXT else noise(size)
    peer.send(client_frame(opcode, payload))
    assert await peer.frame() == (opcode, payload)
    assert (handler.texts if opcode == TEXT else handler.binaries) == [payload]


@pytest.mark.parametrize("chunk", [1, 2, 7, 997])
async def test_a_message_may_come_in_any_pieces(served: Served, chunk: int) -> None:
    peer, _ = await served.pair()
    sent = client_frame(TEXT, b"a" * 300) + client_frame(BINARY, b"b" * 70_000 if chunk > 2 else b"b" * 300)
    for at in range(0, len(sent), chunk):
        peer.send(sent[at : at + chunk])
        await turns()
    assert await peer.frame() == (TEXT, b"a" * 300)
    assert (await peer.frame())[0] == BINARY


@pytest.mark.parametrize("payload", [b"", b"hello", noise(125)])
async def test_a_ping_is_answered_with_its_payload(served: Served, payload: bytes) -> None:  # 2.1 - 2.4
    peer, _ = await served.pair()
    peer.send(client_frame(PING, payload))
    assert await peer.frame() == (PONG, payload)


async def test_ten_pings_at_once_are_answered_in_order(served: Served) -> None:  # 2.10
    peer, _ = await served.pair()
    peer.send(*(client_frame(PING, b"%d" % n) for n in range(10)))
    for n in range(10):
        assert await peer.frame() == (PONG, b"%d" % n)


async def test_an_unsolicited_pong_is_passed_over(served: Served) -> None:  # 2.7 - 2.9
    peer, _ = await served.pair()
    peer.send(client_frame(PONG, b"unasked"), client_frame(PING, b"asked"))
    assert await peer.frame() == (PONG, b"asked")


GOOD = client_frame(TEXT, b"good")
FRAGMENTED = client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"b")

BROKEN = {
    "3.1 rsv3": (1002, client_frame(TEXT, b"x", rsv=1)),
    "3.2 rsv2 after a good message": (1002, GOOD + client_frame(TEXT, b"x", rsv=2) + client_frame(PING)),
    "3.3 rsv2 and rsv3": (1002, client_frame(TEXT, b"x", rsv=3)),
    "3.4 rsv1, as if compressed": (1002, client_frame(TEXT, b"x", rsv=4)),
    "3.5 all, binary": (1002, client_frame(BINARY, b"x", rsv=7)),
    "3.6 in a ping": (1002, client_frame(PING, b"x", rsv=6)),
    "3.7 in a close": (1002, client_frame(CLOSE, rsv=7)),
    "3.8 in a continuation": (
        1002,
        client_frame(TEXT, b"x", fin=False) + client_frame(CONTINUATION, b"x", rsv=4),
    ),
    **{f"4.1 opcode {code}": (1002, client_frame(code)) for code in (3, 4, 5, 6, 7)},
    **{f"4.2 opcode {code}": (1002, GOOD + client_frame(code, b"x") + GOOD) for code in (11, 12, 13, 14, 15)},
    "2.5 ping of 126 bytes": (1002, client_frame(PING, noise(126))),
    "5.1 ping in two fragments": (
        1002,
        client_frame(PING, b"a", fin=False) + client_frame(CONTINUATION, b"b"),
    ),
    "5.2 pong in two fragments": (1002, client_frame(PONG, b"a", fin=False)),
    "5.9 continuation of nothing": (1002, client_frame(CONTINUATION, b"x")),
    "5.11 continuation of nothing, not the last": (1002, client_frame(CONTINUATION, b"x", fin=False)),
    "5.15 continuation after the end": (
        1002,
        client_frame(TEXT, b"a", fin=False)
        + client_frame(CONTINUATION, b"b")
        + client_frame(CONTINUATION, b"c"),
    ),
    "5.18 text inside a fragmented text": (
        1002,
        client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"),
    ),
    "5.18 binary inside a fragmented text": (
        1002,
        client_frame(TEXT, b"a", fin=False) + client_frame(BINARY),
    ),
    "6.3 not UTF-8": (1007, client_frame(TEXT, KOSME + b"\xed\xa0\x80edited")),
    "6.3 not UTF-8, in the second fragment": (
        1007,
        client_frame(TEXT, KOSME, fin=False) + client_frame(CONTINUATION, b"\xed\xa0\x80", fin=False),
    ),
    "6.6 half a character at the end": (1007, client_frame(TEXT, EURO[:2])),
    "6.6 half a character at the end of fragments": (
        1007,
        client_frame(TEXT, EURO[:1], fin=False) + client_frame(CONTINUATION, EURO[1:2]),
    ),
    "6.12 overlong": (1007, client_frame(TEXT, b"\xc0\xaf")),
    "6.21 surrogate": (1007, client_frame(TEXT, b"\xed\xa0\x80")),
    "6.4 beyond Unicode": (1007, client_frame(TEXT, b"\xf4\x90\x80\x80")),
    "7.3.2 half a close code": (1002, client_frame(CLOSE, b"\x03")),
    "7.3.6 close reason of 124 bytes": (1002, closing(1000, b"*" * 124)),
    "7.5.1 close reason not UTF-8": (1007, closing(1000, b"\xce\xba\xed\xa0\x80")),
    **{
        f"7.9 close code {code}": (1002, closing(code))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "unmasked": (1002, client_frame(TEXT, b"x", mask=None)),
    "too large by one byte": (1009, client_frame(TEXT, b"x" * (LIMITS.message_bytes + 1))),
    "said to be too large": (1009, b"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00mask"),
    "a length of 64 bits": (1002, b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask"),
    "a length of more bits than needed": (1002, b"\x82\xfe\x00\x05maskhello"),
    "a length of many more bits than needed": (1002, b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05maskhello"),
    "fragments that are too large together": (
        1009,
        client_frame(BINARY, b"x" * 200_000, fin=False)
        + client_frame(CONTINUATION, b"x" * 200_000, fin=False),
    ),
    "65 fragments": (
        1009,
        client_frame(BINARY, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False) * 64,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_frame_fails_the_connection(served: Served, case: str) -> None:
    code, sent = BROKEN[case]
    peer, handler = await served.pair()
    bystander, _ = await served.pair()
    peer.send(sent)
    assert await peer.closed_with() == code
    await peer.leave()
    await until(lambda: handler.closed == [code])
    # A whole message before the fault counts, nothing behind it does.
    whole = {GOOD: b"good", FRAGMENTED: b"ab"}
    assert handler.texts == [text for start, text in whole.items() if sent.startswith(start)]
    assert not handler.binaries
    bystander.send(client_frame(TEXT, b"unharmed"))
    assert await bystander.frame() == (TEXT, b"unharmed")


@pytest.mark.parametrize("case", ["3.1 rsv3", "4.1 opcode 3", "unmasked", "too large by one byte"])
async def test_who_goes_on_sending_after_a_fault_still_learns_why_it_was_closed(
    served: Served, case: str
) -> None:
    code, sent = BROKEN[case]
    peer, _ = await served.pair()
    peer.send(sent, client_frame(TEXT, b"y" * 60_000) * 20)
    assert await peer.closed_with() == code


async def test_64_fragments_with_control_frames_between_them_are_one_message(
    served: Served,
) -> None:  # 5.3 - 5.8
    peer, handler = await served.pair()
    text = KOSME * 10
    # One byte a fragment: characters are cut in the middle.
    parts = [text[n : n + 1] for n in range(63)] + [text[63:]]
    peer.send(client_frame(TEXT, parts[0], fin=False), client_frame(PING, b"between"))
    for part in parts[1:-1]:
        peer.send(client_frame(CONTINUATION, part, fin=False))
    peer.send(client_frame(CONTINUATION, parts[-1]))
    assert await peer.frame() == (PONG, b"between")
    assert await peer.frame() == (TEXT, text)
    peer.send(client_frame(TEXT, b"whole"))
    assert await peer.frame() == (TEXT, b"whole")
    assert handler.texts == [text, b"whole"]


async def test_text_that_cannot_become_utf8_fails_before_its_last_fragment(served: Served) -> None:  # 6.4
    peer, handler = await served.pair()
    peer.send(client_frame(TEXT, KOSME, fin=False), client_frame(CONTINUATION, b"\xf4\x90", fin=False))
    assert await peer.closed_with() == 1007
    assert not handler.texts


@pytest.mark.parametrize("text", [KOSME, "\U0010ffff\ufffe\uffff\0".encode(), "\ud7ff\ue000".encode()])
async def test_every_character_of_unicode_is_text(served: Served, text: bytes) -> None:  # 6.5 - 6.23
    peer, _ = await served.pair()
    peer.send(client_frame(TEXT, text))
    assert await peer.frame() == (TEXT, text)


async def test_a_large_message_does_not_leave_a_large_buffer_behind(serve: Start) -> None:
    served = await serve(message_bytes=4_000_000)
    peer, handler = await served.pair()
    socket = next(iter(served.edge.sockets))
    handler.act = lambda data: None
    peer.send(client_frame(TEXT, b"x" * 3_000_000), client_frame(TEXT, b"small"))
    await until(lambda: len(handler.texts) == 2)
    peer.send(client_frame(TEXT, b"y" * 100_000, fin=False))
    peer.send(client_frame(CONTINUATION, b"y" * 100_000), client_frame(BINARY, b"z"))
    assert await peer.frame() == (BINARY, b"z")
    assert socket.buffer_bytes < 4096
    assert handler.texts[2] == b"y" * 200_000


async def test_many_small_frames_at_once_do_not_leave_a_large_buffer_behind(served: Served) -> None:
    peer, handler = await served.pair()
    socket = next(iter(served.edge.sockets))
    handler.act = lambda data: None
    flood = client_frame(TEXT, b"x" * 100) * 10_000
    peer.send(flood)
    await until(lambda: len(handler.texts) == 10_000)
    # The kernel hands over no more at once than it was allowed to keep.
    assert socket.buffer_bytes < 600_000
    served.pass_time(54.5)
    assert (await peer.frame())[0] == PING
    peer.send(client_frame(PONG, b"rtt"), client_frame(BINARY, b"z"))
    assert await peer.frame() == (BINARY, b"z")
    assert socket.buffer_bytes < 4096

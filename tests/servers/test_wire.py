"""Replies of Redis and messages of Postgres are found whole, however they are cut on the way."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.servers.wire import Direction, Resp, Unit, cutters

Cut = Callable[[bytes], Iterator[Unit]]

PUSH = b"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$5\r\nhi\r\n!\r\n"
SPEECHES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":12\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
    b"%1\r\n+a\r\n*1\r\n:1\r\n",
    b"~2\r\n:1\r\n:2\r\n",
    b"=7\r\ntxt:a\r\n\r\n",
    b"|1\r\n+ttl\r\n:3\r\n*1\r\n$1\r\nx\r\n",
    b">3\r\n$8\r\nsmessage\r\n$4\r\nroom\r\n$2\r\nhi\r\n",
    b",1.5\r\n",
    b"_\r\n",
    b"#t\r\n",
    PUSH,
]


@given(st.lists(st.sampled_from(SPEECHES), max_size=8), st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_replies_of_redis_come_out_whole_however_they_came(replies: list[bytes], sizes: list[int]) -> None:
    cutter, data, units, at = Resp(), b"".join(replies), [], 0
    for size in [*sizes, len(data)]:
        units += [unit.data for unit in cutter.feed(data[at : at + size])]
        at += size
    assert units == replies


@pytest.mark.parametrize(
    ("data", "kind", "detail"),
    [
        (PUSH, "message", b"room"),
        (PUSH.replace(b"*3", b">3"), "message", b"room"),
        (b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$2\r\nhi\r\n", "publish", b"room"),
        (b"*1\r\n$4\r\nPING\r\n", "ping", b""),
        (b"+PONG\r\n", "+", b""),
        (b"*1\r\n:4\r\n", "*", b""),
    ],
)
def test_a_unit_of_redis_says_what_it_is(data: bytes, kind: str, detail: bytes) -> None:
    assert list(Resp().feed(data)) == [Unit(data, kind, detail)]


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def packet(code: int, body: bytes = b"") -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + code.to_bytes(4, "big") + body


@given(st.integers(1, 9))
def test_a_conversation_with_postgres_is_cut_into_its_messages(size: int) -> None:
    pair = cutters("postgres")
    said = [packet(80877103), packet(196608, b"user\0a\0\0"), message(b"Q", b"SELECT 1\0"), message(b"X")]
    asked = kinds(pair[Direction.TO_SERVER].feed, said[0], size)
    refused = kinds(pair[Direction.TO_CLIENT].feed, b"N", size)
    asked += kinds(pair[Direction.TO_SERVER].feed, b"".join(said[1:]), size)
    answers = message(b"R", b"\0\0\0\0") + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
    units = feed(pair[Direction.TO_CLIENT].feed, answers, size)
    assert asked == ["ssl", "startup", "Q", "X"]
    assert refused == ["answer"]
    assert [(unit.kind, unit.detail) for unit in units] == [("R", b""), ("C", b"SELECT 1"), ("Z", b"")]


def test_what_is_encrypted_passes_as_bytes() -> None:
    pair = cutters("postgres")
    assert kinds(pair[Direction.TO_SERVER].feed, packet(80877103), 8) == ["ssl"]
    assert kinds(pair[Direction.TO_CLIENT].feed, b"S", 1) == ["answer"]
    assert kinds(pair[Direction.TO_SERVER].feed, b"\x16\x03\x01", 3) == ["bytes"]
    assert kinds(pair[Direction.TO_CLIENT].feed, b"\x16\x03\x03", 3) == ["bytes"]


@pytest.mark.parametrize(("speech", "noise"), [("resp", b"$x\r\n"), ("postgres", b"\0\0\0\1")])
def test_what_is_something_else_ends_the_connection(speech: str, noise: bytes) -> None:
    cutter = cutters("resp" if speech == "resp" else "postgres")[Direction.TO_SERVER]
    with pytest.raises(ConnectionError):
        list(cutter.feed(noise))


def feed(cut: Cut, data: bytes, size: int) -> list[Unit]:
    return [unit for at in range(0, len(data), size) for unit in cut(data[at : at + size])]


def kinds(cut: Cut, data: bytes, size: int) -> list[str]:
    return [unit.kind for unit in feed(cut, data, size)]

"""One connection: bytes to replies however they are cut, sends to writes, slices, and an end that is one."""

from typing import Any

import pytest

from store.bus_redis import link
from tests.store.bus_wire import linked
from tests.waiting import turns


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy this machine is decides nothing: what has come is taken in one slice."""
    monkeypatch.setattr(link, "SLICE_S", 3600.0)


async def test_replies_are_whole_wherever_the_bytes_are_cut() -> None:
    said = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n:7\r\n$-1\r\n-ERR no\r\n"
    for size in range(1, len(said)):
        replies: list[Any] = []
        made, _ = linked(replies.append)
        for start in range(0, len(said), size):
            made.data_received(said[start : start + size])
        assert replies[:3] == [[b"message", b"a", b"\r\n\r\n"], 7, None]
        assert str(replies[3]) == "ERR no"


async def test_what_is_not_redis_ends_the_link() -> None:
    replies: list[Any] = []
    made, wire = linked(replies.append)
    made.data_received(b":1\r\nHTTP/1.1 400 Bad Request\r\n\r\n")
    assert replies == [1]
    assert wire.is_aborted
    assert "not Redis's protocol" in made.lost.result()


async def test_a_reply_that_is_too_long_ends_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "REPLY_BYTES", 1_000)
    made, wire = linked(lambda reply: None)
    made.data_received(b"$5000\r\n" + b"x" * 900)
    assert not wire.is_aborted
    made.data_received(b"x" * 200)
    assert wire.is_aborted
    assert "1000 bytes" in made.lost.result()


async def test_what_is_sent_in_one_turn_or_while_the_socket_is_full_is_one_write() -> None:
    made, wire = linked(lambda reply: None)
    for number in range(3):
        made.send(b"%d" % number, b".")
    assert made.waiting_bytes == 6
    await turns(2)
    assert wire.writes == [b"0.1.2."]
    made.pause_writing()
    for number in range(3):
        made.send(b"%d" % number)
        await turns(2)
    assert (len(wire.writes), made.waiting, made.waiting_bytes) == (1, 3, 3)
    made.resume_writing()
    await turns(2)
    assert wire.writes == [b"0.1.2.", b"012"]
    assert (made.waiting, made.waiting_bytes) == (0, 0)


async def test_a_link_that_is_full_before_its_turn_writes_later() -> None:
    made, wire = linked(lambda reply: None)
    made.send(b"x")
    made.pause_writing()
    await turns(2)
    assert wire.writes == []
    made.resume_writing()
    assert wire.writes == [b"x"]


async def test_nothing_is_taken_after_the_end_not_even_what_came_before_it() -> None:
    taken: list[Any] = []

    def take(reply: Any) -> None:
        taken.append(reply)
        made.abort("enough")

    made, wire = linked(take)
    made.data_received(b":1\r\n:2\r\n:3\r\n")
    made.data_received(b":4\r\n")
    await turns(2)
    assert taken == [1]
    assert wire.is_aborted
    assert made.lost.result() == "enough"


async def test_a_burst_is_taken_in_slices_while_nothing_more_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SLICE_S", 0.0)
    taken: list[Any] = []
    made, wire = linked(taken.append)
    made.data_received(b"".join(b":%d\r\n" % number for number in range(5)))
    assert taken == [0]
    assert not wire.is_reading
    await turns(3)
    assert taken == [0, 1, 2, 3]
    await turns(3)
    assert taken == [0, 1, 2, 3, 4]
    assert wire.is_reading


async def test_an_abort_in_the_middle_of_a_burst_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SLICE_S", 0.0)
    taken: list[Any] = []
    made, _ = linked(taken.append)
    made.data_received(b":1\r\n:2\r\n:3\r\n")
    made.abort("enough")
    await turns(5)
    assert taken == [1]

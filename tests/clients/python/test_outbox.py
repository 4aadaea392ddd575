"""Unacked messages: the order they leave in, what is tried again, and the bound."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_gateway_client.errors import ClientClosed, OutboxFull, Refused, SessionEnded
from session_gateway_client.outbox import WIDEST, Entry, Outbox
from session_gateway_client.values import Ack, Unacked
from tests.clients.python.scripted import Constant
from tests.waiting import turns

LATER = Refused("rate_limited", "", retryable=True, retry_after_s=0.4)
NEVER = Refused("forbidden", "")


def any_session(session: str) -> bool:
    return True


def ack(id: str, session: str = "s", seq: int = 1) -> Ack:
    return Ack(session, id, seq, 0, False)


def outbox(*, window: int = 1, messages: int = 100, size: int = 10_000, chance: float = 0.0) -> Outbox:
    return Outbox(max_messages=messages, max_bytes=size, window=window, random=Constant(chance))


def leaving(
    box: Outbox, link: object, now: float = 0.0, may: Callable[[str], bool] = any_session
) -> list[str]:
    """The ids that leave over `link` until nothing more may."""
    ids = []
    while (entry := box.next(link, may, now)) is not None:
        ids.append(entry.id)
    return ids


async def test_one_of_a_session_is_in_flight_at_a_time_and_sessions_do_not_wait_for_each_other() -> None:
    box = outbox()
    for id, session in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        box.put(session, id, "text")
    assert leaving(box, "link") == ["a1", "b1"]
    box.acked(ack("a1", "a"))
    assert leaving(box, "link") == ["a2"]


async def test_a_wider_window_keeps_the_order_of_leaving() -> None:
    box = outbox(window=3)
    for n in range(5):
        box.put("s", f"m{n}", "text")
    assert leaving(box, "link") == ["m0", "m1", "m2"]


async def test_after_a_lost_connection_what_was_in_flight_leaves_first_with_the_same_ids() -> None:
    box = outbox(window=3)
    for n in range(5):
        box.put("s", f"m{n}", "text")
    assert leaving(box, "first") == ["m0", "m1", "m2"]
    box.acked(ack("m1"))
    box.lost("first")
    assert leaving(box, "second") == ["m0", "m2", "m3"]


async def test_an_ack_of_the_old_connection_counts_after_the_message_was_queued_for_the_new_one() -> None:
    box = outbox()
    entry = box.put("s", "m", "text")
    leaving(box, "first")
    box.lost("first")
    assert box.acked(ack("m"))
    assert leaving(box, "second") == []
    assert (await box.ack_of(entry)).id == "m"
    assert len(box) == 0


async def test_only_what_may_be_carried_leaves() -> None:
    box = outbox()
    box.put("a", "a1", "text")
    box.put("b", "b1", "text")
    assert leaving(box, "link", may=lambda session: session == "b") == ["b1"]


async def test_a_message_refused_for_now_goes_again_when_its_time_has_come_and_before_newer_ones() -> None:
    box = outbox(window=3)
    for n in range(4):
        box.put("s", f"m{n}", "text")
    leaving(box, "link")
    box.refused("m0", LATER, now=10.0)
    assert box.wait_s(10.0) == pytest.approx(0.4)
    assert leaving(box, "link", now=10.3) == []
    # m1 and m2 are still under way: m0 waits for them, so that m3 does not get in between.
    assert leaving(box, "link", now=10.5) == []
    box.acked(ack("m1"))
    box.acked(ack("m2"))
    assert leaving(box, "link", now=10.5)[0] == "m0"


async def test_refusals_make_it_send_one_at_a_time_and_acks_widen_it_again() -> None:
    box = outbox(messages=1000)
    for n in range(200):
        box.put(f"s{n}", f"m{n}", "text")
    assert len(leaving(box, "link")) == WIDEST
    for n in range(WIDEST):
        box.refused(f"m{n}", LATER, now=0.0)
    assert len(leaving(box, "link", now=100.0)) == 1
    box.acked(ack("m0", "s0"))
    assert len(leaving(box, "link", now=100.0)) == 2


async def test_repeated_refusals_wait_longer_and_longer() -> None:
    box = outbox(chance=1.0)
    box.put("s", "m", "text")
    now, waits = 0.0, []
    for _ in range(4):
        leaving(box, "link", now)
        box.refused("m", replace_retry(LATER, 0.0), now)
        waits.append(box.wait_s(now))
        now += waits[-1]
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0])


def replace_retry(error: Refused, seconds: float) -> Refused:
    return Refused(error.code, error.message, retryable=True, retry_after_s=seconds)


async def test_a_final_refusal_reaches_the_sender_and_the_next_leaves() -> None:
    box = outbox()
    entry = box.put("s", "m0", "text")
    box.put("s", "m1", "text")
    leaving(box, "link")
    assert box.refused("m0", NEVER, now=0.0)
    with pytest.raises(Refused, match="forbidden"):
        await box.ack_of(entry)
    assert leaving(box, "link") == ["m1"]


async def test_it_is_bounded_in_count_and_bytes_and_says_so() -> None:
    by_count = outbox(messages=2)
    by_count.put("s", "m0", "text")
    by_count.put("s", "m1", "text")
    with pytest.raises(OutboxFull, match=r"2 messages .* at most 2"):
        by_count.put("s", "m2", "text")
    by_bytes = outbox(size=10)
    by_bytes.put("s", "m0", "ä" * 4)
    with pytest.raises(OutboxFull, match=r"\(8 bytes\)"):
        by_bytes.put("s", "m1", "abc")
    leaving(by_bytes, "link")
    by_bytes.acked(ack("m0"))
    by_bytes.put("s", "m1", "abc")


async def test_the_same_message_joins_the_one_that_waits_and_another_one_under_its_id_does_not() -> None:
    box = outbox()
    assert box.put("s", "m", "text") is box.put("s", "m", "text")
    with pytest.raises(ValueError, match="another message"):
        box.put("s", "m", "other text")


async def test_a_cancelled_send_that_never_left_is_taken_back() -> None:
    box = outbox()
    first, second = box.put("s", "m0", "text"), box.put("s", "m1", "text")
    leaving(box, "link")
    waiting = [asyncio.ensure_future(box.ack_of(entry)) for entry in (first, second)]
    await turns(2)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    # The first is out there and may be stored: it stays until that is known.
    assert list(box) == [Unacked("s", "m0", transmitted=True)]
    box.lost("link")
    assert leaving(box, "next link") == ["m0"]


async def test_one_of_two_waiters_may_be_cancelled() -> None:
    box = outbox()
    entry = box.put("s", "m", "text")
    one, two = (asyncio.ensure_future(box.ack_of(entry)) for _ in range(2))
    await turns(2)
    one.cancel()
    await turns(2)
    assert leaving(box, "link") == ["m"]
    box.acked(ack("m"))
    assert (await two).id == "m"


async def test_the_end_of_a_session_refuses_only_what_never_left() -> None:
    box = outbox()
    sent, unsent = box.put("s", "m0", "text"), box.put("s", "m1", "text")
    leaving(box, "link")
    box.abandon("s", SessionEnded("closed", ""))
    with pytest.raises(SessionEnded):
        await box.ack_of(unsent)
    assert not sent.outcome.done()


async def test_the_end_of_the_client_is_told_to_everybody() -> None:
    box = outbox()
    entries = [box.put("s", f"m{n}", "text") for n in range(3)]
    leaving(box, "link")
    box.close(ClientClosed(""))
    for entry in entries:
        with pytest.raises(ClientClosed):
            await box.ack_of(entry)
    assert len(box) == 0


async def test_emptied_waits_for_one_session_or_all() -> None:
    box = outbox()
    box.put("a", "a1", "text")
    box.put("b", "b1", "text")
    leaving(box, "link")
    one, all_ = asyncio.ensure_future(box.emptied("a")), asyncio.ensure_future(box.emptied())
    await turns(2)
    box.acked(ack("a1", "a"))
    await one
    assert not all_.done()
    box.refused("b1", NEVER, 0.0)
    await all_


class _Log:
    """What a gateway does with sends: numbers each id once, whatever comes twice."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    def store(self, id: str) -> None:
        if id not in self.stored:
            self.stored.append(id)


@given(st.lists(st.sampled_from(["put", "send", "ack", "lose ack", "refuse", "drop"]), max_size=120))
def test_whatever_happens_on_the_way_a_session_is_stored_in_the_order_of_sending(steps: list[str]) -> None:
    async def run() -> None:
        box, log, now, link = outbox(messages=1000, size=10**6), _Log(), 0.0, 0
        put: list[Entry] = []
        flying: list[str] = []

        def transmit() -> None:
            nonlocal now
            now += 100.0
            flying.extend(leaving(box, link, now))

        for step in steps:
            if step == "put":
                put.append(box.put("s", f"m{len(put)}", "text"))
            elif step == "send":
                transmit()
            elif step == "drop":
                box.lost(link)
                link, flying = link + 1, []
            elif flying:
                id = flying.pop(0)
                if step == "refuse":
                    box.refused(id, LATER, now)
                    continue
                log.store(id)
                if step == "ack":
                    box.acked(ack(id))
        while len(box):
            box.lost(link)
            link, flying = link + 1, []
            transmit()
            for id in flying:
                log.store(id)
                box.acked(ack(id))
        assert log.stored == [entry.id for entry in put]
        assert all(entry.outcome.done() for entry in put)

    asyncio.run(run())

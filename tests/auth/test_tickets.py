"""A ticket or resume token is good once, for a short while, and no store ever sees it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.auth.tickets import TICKET_TTL_MS, Tickets, digest
from gateway.auth.tokens import Identity
from gateway.runtime.resumption import ResumeRecord, Resumption, new_token, stamped
from store.open import Places, open_stores
from tests.auth.makers import NOW_MS, StandingClock
from tests.auth.memory import OnceOnly, live

ALICE = Identity("acme", "alice", frozenset({"operator"}), NOW_MS, NOW_MS + 3_600_000)
RECORD = ResumeRecord("acme", "alice", "c-1", {"s-1": 7})


@pytest.fixture
def store() -> OnceOnly:
    return OnceOnly()


async def test_a_ticket_gives_the_identity_that_asked_for_it(store: OnceOnly) -> None:
    tickets = Tickets(live(store), StandingClock())
    ticket, expires_in_ms = await tickets.issue(ALICE)
    assert expires_in_ms == TICKET_TTL_MS == 30_000
    assert store.ttls_ms == [30_000]
    assert await tickets.redeem(ticket) == ALICE


async def test_of_a_hundred_who_redeem_a_ticket_at_once_one_gets_in(store: OnceOnly) -> None:
    tickets = Tickets(live(store), StandingClock())
    ticket, _ = await tickets.issue(ALICE)
    got = await asyncio.gather(*(tickets.redeem(ticket) for _ in range(100)))
    assert [identity for identity in got if identity is not None] == [ALICE]
    assert await tickets.redeem(ticket) is None


async def test_the_race_for_a_ticket_has_one_winner_in_the_embedded_store_too(tmp_path: Path) -> None:
    tickets = Tickets(open_stores(Places(tmp_path)).live, StandingClock())
    ticket, _ = await tickets.issue(ALICE)
    got = await asyncio.gather(*(tickets.redeem(ticket) for _ in range(100)))
    assert [identity for identity in got if identity is not None] == [ALICE]


async def test_of_a_hundred_who_take_a_resume_token_at_once_one_gets_it(store: OnceOnly) -> None:
    resumes, token = Resumption(live(store), 120_000), new_token()
    await resumes.keep([(token, RECORD)])
    got = await asyncio.gather(*(resumes.take(token, "acme", "alice") for _ in range(100)))
    assert [record for record in got if record is not None] == [RECORD]
    assert store.ttls_ms == [120_000]


async def test_a_record_ends_with_what_tells_it_from_others_and_is_read_without_it(store: OnceOnly) -> None:
    resumes, token = Resumption(live(store), 120_000), new_token()
    other = ResumeRecord("acme", "alice", "c-1", {"s-1": 8})
    endings = {stamped(each)[-10:] for each in (RECORD, other)}
    assert len(endings) == 2
    # By a node of the version before as well, and what that one has stored by this.
    for value in (stamped(RECORD), msgspec.json.encode(RECORD)):
        await resumes.put([(digest(token), value)])
        assert await resumes.take(token, "acme", "alice") == RECORD


async def test_a_ticket_is_spent_by_our_clock_whatever_the_store_keeps(store: OnceOnly) -> None:
    clock = StandingClock()
    tickets = Tickets(live(store), clock)
    in_time, _ = await tickets.issue(ALICE)
    too_late, _ = await tickets.issue(ALICE)
    clock.pass_s(29.999)
    assert await tickets.redeem(in_time) == ALICE
    clock.pass_s(0.001)
    assert await tickets.redeem(too_late) is None


async def test_a_ticket_does_not_outlive_the_token_it_was_made_from(store: OnceOnly) -> None:
    clock = StandingClock(ALICE.expires_at - 5000)
    tickets = Tickets(live(store), clock)
    ticket, expires_in_ms = await tickets.issue(ALICE)
    assert expires_in_ms == 5000
    clock.pass_s(5)
    assert await tickets.redeem(ticket) is None


async def test_a_store_sees_neither_tickets_nor_resume_tokens(store: OnceOnly) -> None:
    ticket, _ = await Tickets(live(store), StandingClock()).issue(ALICE)
    token = new_token()
    await Resumption(live(store), 1000).keep([(token, RECORD)])
    assert set(store.kept) == {("ticket", digest(ticket)), ("resume", digest(token))}
    for (_, key), value in store.kept.items():
        for secret in (ticket, token):
            assert secret not in key
            assert secret.encode() not in value


async def test_a_ticket_is_no_resume_token_and_no_digest_is_a_ticket(store: OnceOnly) -> None:
    tickets, resumes = Tickets(live(store), StandingClock()), Resumption(live(store), 1000)
    ticket, _ = await tickets.issue(ALICE)
    assert await resumes.take(ticket, "acme", "alice") is None
    # Whoever reads the store's keys cannot use them.
    assert await tickets.redeem(digest(ticket)) is None
    assert await tickets.redeem(ticket) == ALICE


@pytest.mark.parametrize("made_up", ["", "x", "\ud800", "\x00", "a" * 43, "a" * 10_000_000])
async def test_what_was_never_issued_is_nothing(store: OnceOnly, made_up: str) -> None:
    assert await Tickets(live(store), StandingClock()).redeem(made_up) is None
    assert await Resumption(live(store), 1000).take(made_up, "acme", "alice") is None


async def test_secrets_are_unlike_each_other(store: OnceOnly) -> None:
    tickets = Tickets(live(store), StandingClock())
    issued = {(await tickets.issue(ALICE))[0] for _ in range(1000)}
    assert len(issued) == 1000
    assert min(map(len, issued)) == 43

"""A revoked user's tokens are worthless from that moment on, on every node; newer ones are good."""

import pytest

from gateway.auth.revocations import Revocations
from gateway.auth.tokens import LEEWAY_MS, MAX_TOKEN_LIFE_MS, Identity
from store.errors import Unavailable
from tests.auth.makers import NOW_MS, StandingClock, claims, signed, tokens
from tests.auth.memory import RevocationLog, log


@pytest.fixture
def store() -> RevocationLog:
    return RevocationLog()


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def revocations(store: RevocationLog, clock: StandingClock) -> Revocations:
    return Revocations(log(store), clock)


def issued(at: int, user: str = "alice", tenant: str = "default") -> Identity:
    return Identity(tenant, user, frozenset(), at, at + 3_600_000)


async def test_a_revocation_ends_older_tokens_and_no_newer_ones(
    revocations: Revocations, clock: StandingClock
) -> None:
    assert revocations.holds(issued(NOW_MS - 1))
    await revocations.revoke("default", "alice")
    assert not revocations.holds(issued(NOW_MS - 1))
    assert not revocations.holds(issued(NOW_MS))  # of the same millisecond: it may have come before
    assert revocations.holds(issued(NOW_MS + 1))
    assert revocations.holds(issued(NOW_MS - 1, user="bob"))
    assert revocations.holds(issued(NOW_MS - 1, tenant="acme"))


async def test_signing_in_again_right_after_a_revocation_works(
    revocations: Revocations, clock: StandingClock
) -> None:
    checker = tokens(clock)
    old = await checker.verify(checker.mint("alice"))
    await revocations.revoke("default", "alice")
    clock.pass_s(0.002)  # far less than a second: our tokens carry ms
    new = await checker.verify(checker.mint("alice"))
    assert not revocations.holds(old)
    assert revocations.holds(new)


async def test_a_token_in_whole_seconds_of_the_second_of_the_revocation_is_refused(
    revocations: Revocations, clock: StandingClock
) -> None:
    checker = tokens(clock)
    second = NOW_MS // 1000
    await revocations.revoke("default", "alice")  # at .123 of this second
    assert not revocations.holds(await checker.verify(signed(claims(iat=second))))
    assert revocations.holds(await checker.verify(signed(claims(iat=second + 1))))


async def test_every_node_learns_of_a_revocation_once(store: RevocationLog, clock: StandingClock) -> None:
    here, there = Revocations(log(store), clock), Revocations(log(store), clock)
    await here.start()
    await there.start()
    revocation = await here.revoke("default", "alice")
    assert there.holds(issued(NOW_MS - 1))
    assert await there.refresh() == [revocation]
    assert not there.holds(issued(NOW_MS - 1))
    assert await there.refresh() == []
    assert await here.refresh() == []  # its own is no news


async def test_an_earlier_revocation_read_later_takes_nothing_back(
    store: RevocationLog, revocations: Revocations, clock: StandingClock
) -> None:
    await store.revoke("default", "alice", before=NOW_MS - 60_000)  # by another node, not read yet
    await revocations.revoke("default", "alice")
    assert await revocations.refresh() == []
    assert not revocations.holds(issued(NOW_MS))


async def test_a_restarted_node_reads_them_all_page_by_page(
    store: RevocationLog, revocations: Revocations
) -> None:
    for number in range(2500):
        await store.revoke("default", f"user-{number}", before=NOW_MS)
    await revocations.start()
    assert store.pages == 3
    assert len(revocations) == 2500
    assert not revocations.holds(issued(NOW_MS - 1, user="user-2499"))


async def test_a_revocation_is_forgotten_when_no_token_is_left_that_it_could_hold_against(
    revocations: Revocations, clock: StandingClock
) -> None:
    await revocations.revoke("default", "alice")
    clock.ms += MAX_TOKEN_LIFE_MS + 2 * LEEWAY_MS
    await revocations.refresh()
    assert len(revocations) == 1
    clock.ms += 2
    await revocations.refresh()
    assert len(revocations) == 0
    # The longest-lived token of that time has expired by now.
    assert issued(NOW_MS).issued_at + MAX_TOKEN_LIFE_MS + LEEWAY_MS < clock.now_ms()


async def test_a_revocation_that_was_not_stored_is_not_pretended(
    store: RevocationLog, revocations: Revocations
) -> None:
    store.is_away = True
    with pytest.raises(Unavailable):
        await revocations.revoke("default", "alice")
    assert revocations.holds(issued(NOW_MS - 1))
    with pytest.raises(Unavailable):
        await revocations.start()

"""Published keys are fetched over real HTTP: rarely, once for all who wait, and never in the loop's way."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.auth.fetch import FetchFailed, fetch
from gateway.auth.jwks import FRESH_S, RETRY_S, STALE_S, PublishedKeys
from gateway.auth.keys import from_jwk
from gateway.auth.tokens import Tokens
from gateway.errors import Unauthenticated, Unavailable
from tests.auth.makers import EC, ED, RSA, SECRET, StandingClock, certify, claims, jwk, signed
from tests.auth.publisher import Publisher
from tests.waiting import until


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    async with Publisher() as serving:
        serving.keys = [jwk("RS256", "r1")]
        yield serving


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
async def checker(publisher: Publisher, clock: StandingClock) -> AsyncIterator[Tokens]:
    tokens = Tokens(PublishedKeys(publisher.url, clock), clock, audience="session-gateway")
    yield tokens
    await tokens.close()


def by_rsa(kid: str | None = "r1") -> str:
    return signed(claims(), RSA, "RS256", **({} if kid is None else {"kid": kid}))


# -- which key


async def test_published_keys_of_each_kind_check_tokens(publisher: Publisher, checker: Tokens) -> None:
    publisher.keys = [jwk("RS256", "r1"), jwk("ES256", "e1"), jwk("EdDSA", "d1")]
    for key, algorithm, kid in ((RSA, "RS256", "r1"), (EC, "ES256", "e1"), (ED, "EdDSA", "d1")):
        assert (await checker.verify(signed(claims(), key, algorithm, kid=kid))).user == "alice"
    assert publisher.asked == 1


async def test_a_key_of_the_set_checks_its_own_algorithm_only(publisher: Publisher, checker: Tokens) -> None:
    publisher.keys = [jwk("RS256", "r1"), jwk("ES256", "e1")]
    with pytest.raises(Unauthenticated, match="another algorithm"):
        await checker.verify(signed(claims(), RSA, "RS256", kid="e1"))
    with pytest.raises(Unauthenticated, match="another algorithm"):
        await checker.verify(signed(claims(), SECRET, "HS256", kid="r1"))


async def test_without_a_kid_there_must_be_no_choice(
    publisher: Publisher, checker: Tokens, clock: StandingClock
) -> None:
    assert (await checker.verify(by_rsa(None))).user == "alice"
    publisher.keys = [jwk("RS256", "r1"), jwk("ES256", "e1")]
    clock.pass_s(FRESH_S)
    await checker.verify(by_rsa())
    await until(lambda: publisher.asked == 2)
    clock.pass_s(RETRY_S)
    with pytest.raises(Unauthenticated, match="unknown key"):
        await checker.verify(by_rsa(None))


def test_what_is_no_key_for_tokens_is_passed_over() -> None:
    good = jwk("RS256", "a")
    assert from_jwk(good) is not None
    for change in (
        {"use": "enc"},
        {"alg": "RS512"},
        {"alg": "none"},
        {"key_ops": ["encrypt"]},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC"},
        {"n": "AQAB"},
        {"n": 7},
        {"n": None},
        {"kty": "RSAX"},
    ):
        assert from_jwk(good | change) is None, change
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    assert from_jwk(jwk("RS256", "weak", weak)) is None


# -- how often


async def test_many_who_wait_share_one_fetch(publisher: Publisher, checker: Tokens) -> None:
    publisher.hold()
    waiting = [asyncio.create_task(checker.verify(by_rsa())) for _ in range(50)]
    await until(lambda: publisher.asked == 1)
    publisher.release()
    assert {identity.user for identity in await asyncio.gather(*waiting)} == {"alice"}
    assert publisher.asked == 1


async def test_unknown_names_of_keys_are_asked_for_once_in_ten_seconds(
    publisher: Publisher, checker: Tokens, clock: StandingClock
) -> None:
    await checker.verify(by_rsa())
    clock.pass_s(RETRY_S)
    with pytest.raises(Unauthenticated, match="unknown key"):
        await checker.verify(by_rsa("made-up"))
    for number in range(200):
        with pytest.raises(Unavailable) as refused:
            await checker.verify(by_rsa(f"made-up-{number}"))
        assert refused.value.retry_after_ms == RETRY_S * 1000
    assert publisher.asked == 2
    assert (await checker.verify(by_rsa())).user == "alice"


async def test_a_new_key_is_found_as_soon_as_it_is_used(
    publisher: Publisher, checker: Tokens, clock: StandingClock
) -> None:
    await checker.verify(by_rsa())
    publisher.keys = [jwk("RS256", "r1"), jwk("ES256", "e2")]
    token = signed(claims(), EC, "ES256", kid="e2")
    # Right after a fetch it is not known whether the key is new or made up: the client is told to come back …
    with pytest.raises(Unavailable):
        await checker.verify(token)
    # … and when it does, it gets in.
    clock.pass_s(RETRY_S)
    assert (await checker.verify(token)).user == "alice"


async def test_a_withdrawn_key_is_trusted_five_minutes_more_at_most(
    publisher: Publisher, checker: Tokens, clock: StandingClock
) -> None:
    await checker.verify(by_rsa())
    publisher.keys = [jwk("ES256", "e2")]
    clock.pass_s(FRESH_S)
    await checker.verify(by_rsa())  # served from the old set while the new one is fetched
    await until(lambda: publisher.asked == 2)
    clock.pass_s(RETRY_S)

    async def is_refused() -> bool:
        try:
            await checker.verify(by_rsa())
        except (Unauthenticated, Unavailable):
            return True
        return False

    await until(is_refused)


# -- a source in trouble


async def test_keys_outlast_their_source_for_a_day(
    publisher: Publisher, checker: Tokens, clock: StandingClock
) -> None:
    await checker.verify(by_rsa())
    publisher.status = 500
    clock.pass_s(STALE_S - 60)
    # The clock has moved by a day, so the token would be too old: sign one of that day.
    day = clock.now_ms() // 1000
    token = signed(claims(iat=day, exp=day + 3600), RSA, "RS256", kid="r1")
    assert (await checker.verify(token)).user == "alice"
    await until(lambda: publisher.asked == 2)
    clock.pass_s(60)
    with pytest.raises(Unavailable):
        await checker.verify(token)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (302, b""),
        (200, b"not json"),
        (200, b'{"keys":[]}'),
        (200, b'{"keys":[{"kty":"oct","k":"AAAA","kid":"r1"}]}'),
        (200, b'{"keys":"r1"}'),
        (200, b" " * 300_000),
    ],
)
async def test_a_source_that_makes_no_sense_is_no_reason_to_give_up(
    publisher: Publisher, checker: Tokens, status: int, body: bytes
) -> None:
    publisher.status, publisher.body = status, body
    with pytest.raises(Unavailable) as refused:
        await checker.verify(by_rsa())
    assert refused.value.retryable
    assert publisher.asked == 1


async def test_whoever_hangs_up_does_not_end_the_fetch_of_the_others(
    publisher: Publisher, checker: Tokens
) -> None:
    publisher.hold()
    first = asyncio.create_task(checker.verify(by_rsa()))
    await until(lambda: publisher.asked == 1)
    second = asyncio.create_task(checker.verify(by_rsa()))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    publisher.release()
    assert (await second).user == "alice"
    assert publisher.asked == 1


async def test_the_loop_goes_on_while_a_source_is_silent(publisher: Publisher, checker: Tokens) -> None:
    publisher.hold()
    waiting = asyncio.create_task(checker.verify(by_rsa()))
    await until(lambda: publisher.asked == 1)
    longest = 0.0
    for _ in range(200):
        before = time.perf_counter()
        await asyncio.to_thread(lambda: None)
        longest = max(longest, time.perf_counter() - before)
    assert not waiting.done()
    assert longest < 0.5
    publisher.release()
    await waiting


async def test_closing_ends_a_fetch_under_way(publisher: Publisher, clock: StandingClock) -> None:
    publisher.hold()
    keys = PublishedKeys(publisher.url, clock)
    waiting = asyncio.create_task(keys.find("r1"))
    await until(lambda: publisher.asked == 1)
    await keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    publisher.release()


# -- the fetch itself


async def test_a_silent_source_is_given_up_in_time(publisher: Publisher) -> None:
    publisher.hold()
    with pytest.raises(FetchFailed, match=r"within 0\.1 s"):
        await fetch(publisher.url, timeout_s=0.1, most_bytes=1000)
    publisher.release()


async def test_a_source_that_drips_is_given_up_in_time(publisher: Publisher) -> None:
    publisher.drip = True
    with pytest.raises(FetchFailed, match="within"):
        await fetch(publisher.url, timeout_s=0.3, most_bytes=1000)


async def test_a_redirect_is_not_followed(publisher: Publisher) -> None:
    publisher.status = 302
    with pytest.raises(FetchFailed, match="302"):
        await fetch(publisher.url, timeout_s=2, most_bytes=1000)
    assert publisher.asked == 1


async def test_a_large_answer_is_not_read_to_its_end(publisher: Publisher) -> None:
    publisher.body = b"x" * 5_000_000
    with pytest.raises(FetchFailed, match="larger than 1000 bytes"):
        await fetch(publisher.url, timeout_s=2, most_bytes=1000)


async def test_an_answer_cut_short_is_none(publisher: Publisher) -> None:
    publisher.cut = True
    with pytest.raises(FetchFailed):
        await fetch(publisher.url, timeout_s=2, most_bytes=100_000)


async def test_nobody_there_is_told_at_once(unused_tcp_port_factory: Callable[[], int]) -> None:
    with pytest.raises(FetchFailed, match="Connect"):
        await fetch(f"http://127.0.0.1:{unused_tcp_port_factory()}/", timeout_s=2, most_bytes=1000)


async def test_a_source_that_hangs_up_is_told(publisher: Publisher) -> None:
    publisher.silent = True
    with pytest.raises(FetchFailed):
        await fetch(publisher.url, timeout_s=2, most_bytes=1000)


async def test_https_is_believed_from_those_the_machine_trusts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certify(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with Publisher(tls) as serving:
        serving.keys = [jwk("RS256", "r1")]
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(serving.url, timeout_s=5, most_bytes=10_000)
        assert serving.asked == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert b"r1" in await fetch(serving.url, timeout_s=5, most_bytes=10_000)
        # Trusted, but not for this name.
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(serving.url.replace("127.0.0.1", "localhost"), timeout_s=5, most_bytes=10_000)

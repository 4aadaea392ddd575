"""A token is good when the right key signed it, for us, for now; all else is refused with its reason."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import BadKey, Key, OneKey, from_pem
from gateway.auth.tokens import LEEWAY_MS, MAX_TOKEN_BYTES, Identity, Tokens
from gateway.errors import BadRequest, Forbidden, Unauthenticated
from gateway.settings import Settings, SettingsError
from tests.auth.makers import (
    NOW_MS,
    PRIVATE,
    SECRET,
    StandingClock,
    claims,
    forged,
    pem,
    signed,
    tokens,
)

NOW_S = NOW_MS // 1000


async def refusal(token: str, checker: Tokens | None = None) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await (checker or tokens()).verify(token)
    return refused.value.message


def checking(key: Key, **more: Any) -> Tokens:
    return Tokens(OneKey(key), StandingClock(), audience="session-gateway", **more)


# -- good tokens


async def test_a_minted_token_says_whose_it_is() -> None:
    clock = StandingClock()
    checker = tokens(clock, issuer="https://issuer.example")
    token = checker.mint("alice", tenant="acme", ttl_s=60, scopes=["operator", "read"])
    assert await checker.verify(token) == Identity(
        "acme", "alice", frozenset({"operator", "read"}), NOW_MS, NOW_MS + 60_000
    )


async def test_a_token_of_somebody_else_with_the_usual_claims_is_good() -> None:
    identity = await tokens().verify(signed(claims(aud=["other", "session-gateway"], scope=["a", "b"])))
    assert identity == Identity(
        "default", "alice", frozenset({"a", "b"}), NOW_S * 1000, NOW_S * 1000 + 3_600_000
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_checks_tokens_of_its_own_algorithm(algorithm: str) -> None:
    key = from_pem(pem(PRIVATE[algorithm]))
    assert key.algorithm == algorithm
    identity = await checking(key).verify(signed(claims(), PRIVATE[algorithm], algorithm))
    assert identity.user == "alice"


async def test_a_token_typed_as_access_token_is_good() -> None:
    assert (await tokens().verify(signed(claims(), typ="at+jwt"))).user == "alice"


# -- signatures and algorithms


async def test_an_unsigned_token_is_refused() -> None:
    for name in ("none", "None", "NONE", "nOnE"):
        assert "another algorithm" in await refusal(forged({"alg": name, "typ": "JWT"}, claims()))


async def test_a_public_key_used_as_a_shared_secret_signs_nothing() -> None:
    public = pem(PRIVATE["RS256"])
    checker = checking(from_pem(public))
    head, body, _ = forged({"alg": "HS256", "typ": "JWT"}, claims()).split(".")
    for secret in (public.encode(), public.strip().encode()):
        signature = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
        token = forged({"alg": "HS256", "typ": "JWT"}, claims(), signature)
        assert "another algorithm" in await refusal(token, checker)


@pytest.mark.parametrize("named", ["HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA", "", "hs256"])
async def test_the_header_cannot_choose_another_algorithm_than_the_keys(named: str) -> None:
    assert "another algorithm" in await refusal(forged({"alg": named}, claims(), b"x" * 32))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_signature_by_another_key_is_refused(algorithm: str) -> None:
    key = from_pem(pem(PRIVATE[algorithm]))
    others: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    assert "signature" in await refusal(signed(claims(), others[algorithm], algorithm), checking(key))


async def test_a_changed_token_is_refused() -> None:
    head, _, signature = signed(claims()).split(".")
    body = signed(claims(sub="mallory")).split(".")[1]
    assert "signature" in await refusal(f"{head}.{body}.{signature}")


async def test_extensions_are_refused_because_none_is_understood() -> None:
    extensions: list[dict[str, object]] = [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
    ]
    for extension in extensions:
        token = forged({"alg": "HS256", **extension}, claims())
        assert "extension" in await refusal(token)


async def test_a_jwt_of_another_purpose_is_refused() -> None:
    assert "another type" in await refusal(signed(claims(), typ="logout+jwt"))


@pytest.mark.parametrize(
    "kid",
    ["", "../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "http://evil.example/key", "k" * 2000, "\x00"],
)
async def test_a_kid_is_never_a_path_a_query_or_an_address(kid: str) -> None:
    # The only key there is decides, whatever the token calls it: right signature good, wrong one not.
    assert (await tokens().verify(signed(claims(), kid=kid))).user == "alice"
    assert "signature" in await refusal(
        signed(claims(), b"another secret of thirty-two bytes or more", kid=kid)
    )


@pytest.mark.parametrize("kid", [1, None, ["a"], {"a": 1}, True])
async def test_a_kid_that_is_no_text_is_refused_or_ignored(kid: object) -> None:
    token = forged({"alg": "HS256", "kid": kid}, claims(), b"x" * 32)
    assert await refusal(token) in ("the token is not a JWT", "the token's signature is wrong")


async def test_a_key_inside_the_token_is_not_used() -> None:
    for header in (
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://evil.example"},
        {"x5u": "https://e.example"},
    ):
        assert "signature" in await refusal(forged({"alg": "HS256", **header}, claims(), b"x" * 32))


# -- claims


async def test_a_token_for_somebody_else_is_refused() -> None:
    for audience in ("other", ["other"], []):
        assert "audience" in await refusal(signed(claims(aud=audience)))


async def test_a_token_of_another_issuer_is_refused_when_one_is_configured() -> None:
    checker = tokens(issuer="https://issuer.example")
    for issuer in (None, "https://issuer.example/", "https://evil.example"):
        assert "issuer" in await refusal(signed(claims(iss=issuer)), checker)
    assert (await checker.verify(signed(claims(iss="https://issuer.example")))).user == "alice"


async def test_a_token_expires_five_seconds_late_at_most() -> None:
    clock = StandingClock(NOW_S * 1000)
    checker = tokens(clock)
    token = signed(claims(exp=NOW_S + 60))
    clock.pass_s(60 + LEEWAY_MS / 1000 - 0.001)
    assert (await checker.verify(token)).user == "alice"
    clock.pass_s(0.001)
    assert "expired" in await refusal(token, checker)


async def test_a_token_is_good_five_seconds_early_at_most() -> None:
    checker = tokens(StandingClock(NOW_S * 1000))
    for name in ("nbf", "iat"):
        assert (await checker.verify(signed(claims(**{name: NOW_S + 5})))).user == "alice"
        assert "not valid yet" in await refusal(signed(claims(**{name: NOW_S + 6})), checker)


@pytest.mark.parametrize("missing", ["sub", "aud", "exp", "iat"])
async def test_a_token_without_a_required_claim_is_refused(missing: str) -> None:
    assert missing in await refusal(signed(claims(**{missing: None})))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": ""},
        {"sub": "a b"},
        {"sub": "a" * 65},
        {"sub": "../alice"},
        {"sub": "alice\x00"},
        {"sub": 7},
        {"tenant": "a}b"},
        {"tenant": ""},
        {"exp": "never"},
        {"exp": True},
        {"iat": [1]},
        {"scope": 5},
    ],
)
async def test_a_claim_of_a_wrong_shape_is_refused(wrong: dict[str, object]) -> None:
    assert "token's" in await refusal(signed(claims() | wrong))


async def test_a_token_that_lives_too_long_is_refused() -> None:
    assert "lives longer" in await refusal(signed(claims(exp=NOW_S + 401 * 86_400)))
    assert "lives longer" in await refusal(signed(claims(exp=1e300)))


async def test_a_token_may_have_3_kib_and_not_a_byte_more() -> None:
    def sized(spare: int) -> str:
        return signed(claims(pad="x" * spare))

    size = max(spare for spare in range(2000, 2300) if len(sized(spare)) <= MAX_TOKEN_BYTES)
    assert (await tokens().verify(sized(size))).user == "alice"
    assert "larger" in await refusal(sized(size + 3))


@given(
    st.one_of(
        st.text(max_size=200), st.lists(st.text("abcAeyJ019-_=", max_size=30), max_size=5).map(".".join)
    )
)
def test_whatever_is_no_token_is_refused_without_a_fault(text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(text).send(None)


# -- keys and settings


def test_keys_that_are_too_weak_or_of_another_kind_are_refused() -> None:
    for private in (
        rsa.generate_private_key(65537, 1024),  # noqa: S505
        ec.generate_private_key(ec.SECP384R1()),
        ed448.Ed448PrivateKey.generate(),
    ):
        with pytest.raises(BadKey):
            from_pem(pem(private))
    with pytest.raises(BadKey):
        from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")


def test_a_key_that_cannot_be_used_is_a_fault_of_the_settings() -> None:
    settings = Settings(jwt_public_key="-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")
    with pytest.raises(SettingsError, match="GATEWAY_JWT_PUBLIC_KEY"):
        Tokens.from_settings(settings, StandingClock())


def test_keys_do_not_show_in_their_repr() -> None:
    assert repr(Key("HS256", SECRET)) == "Key(HS256)"


async def test_the_settings_choose_the_key(tmp_path: Path) -> None:
    clock = StandingClock()
    secret = Tokens.from_settings(Settings(jwt_secret=SECRET.decode()), clock)
    assert (await secret.verify(secret.mint("alice"))).user == "alice"
    assert not secret.is_development
    public = Tokens.from_settings(Settings(jwt_public_key=pem(PRIVATE["EdDSA"])), clock)
    assert (await public.verify(signed(claims(), PRIVATE["EdDSA"], "EdDSA"))).user == "alice"
    published = Tokens.from_settings(Settings(jwks_url="https://issuer.example/keys"), clock)
    assert not published.can_mint
    development = Tokens.from_settings(Settings(data_dir=tmp_path), clock)
    assert (await development.verify(development.mint("bob"))).user == "bob"
    assert development.is_development
    for each in (secret, public, published, development):
        await each.close()


def test_no_development_key_is_made_for_an_address_that_others_reach(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        Tokens.from_settings(Settings(host="0.0.0.0", data_dir=tmp_path), StandingClock())  # noqa: S104
    assert not list(tmp_path.iterdir())


def test_only_a_secret_mints() -> None:
    with pytest.raises(Forbidden):
        checking(from_pem(pem(PRIVATE["ES256"]))).mint("alice")


@pytest.mark.parametrize(
    "wrong",
    [{"user": "a b"}, {"user": "a", "tenant": ""}, {"user": "a", "ttl_s": 0}, {"user": "a", "ttl_s": 10**9}],
)
def test_nothing_is_minted_that_would_be_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        tokens().mint(**wrong)


async def test_brackets_in_brackets_are_no_token_and_no_traceback() -> None:
    head = b'{"alg":"HS256","x":' + b"[" * 1_000 + b"]" * 1_000 + b"}"
    token = f"{urlsafe_b64encode(head).rstrip(b'=').decode()}.e30.c2ln"
    assert await refusal(token) == "the token is not a JWT"

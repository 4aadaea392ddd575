"""JSON Web Tokens: who is calling. Checking for all kinds of keys, minting for HS256 only.

PyJWT checks the signature, the key decides the algorithm (gateway/auth/keys.py), our clock the claims.
"""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from typing import Final

import msgspec
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from gateway.auth import dev_key
from gateway.auth.identity import Identity
from gateway.auth.jwks import PublishedKeys
from gateway.auth.keys import BadKey, Key, KeySource, OneKey, from_pem
from gateway.clock import Clock
from gateway.errors import BadRequest, Forbidden, Unauthenticated
from gateway.ids import is_name
from gateway.settings import Settings, SettingsError

__all__ = ["LEEWAY_MS", "MAX_TOKEN_BYTES", "MAX_TOKEN_LIFE_MS", "Identity", "Tokens"]

# A token with a few scopes has 400 to 900 bytes; the hello that carries it must stay below 4 KiB.
MAX_TOKEN_BYTES: Final = 3072

# Clocks kept by NTP differ by far less; every second more is one in which an expired token is good.
LEEWAY_MS: Final = 5000

# A service's token for a year, and a month to replace it. What lives longer is refused, so that revocations
# can be forgotten.
MAX_TOKEN_LIFE_MS: Final = 400 * 86_400_000

# RFC 8725 3.11: explicit typing keeps a JWT of another purpose (logout+jwt, dpop+jwt, …) from being taken for
# an access token.
_TYPES: Final = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Claims(msgspec.Struct, omit_defaults=True):
    """RFC 9068 2.2 requires sub, aud, iat, exp; without iat a revocation could not tell old from new."""

    sub: str
    aud: str | list[str]
    iat: float
    exp: float
    nbf: float | None = None
    iss: str | None = None
    tenant: str = "default"
    scope: str | list[str] = ""


_HEADER: Final = msgspec.json.Decoder(_Header)
_CLAIMS: Final = msgspec.json.Decoder(_Claims)


class Tokens:
    """Checks tokens against one source of keys, one audience and, where configured, one issuer."""

    def __init__(
        self,
        keys: KeySource,
        clock: Clock,
        *,
        audience: str,
        issuer: str | None = None,
        secret: bytes | None = None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._audience = audience
        self._issuer = issuer
        self._secret = secret
        self._signatures = PyJWS()
        self.is_development = False

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> "Tokens":
        """Build what the settings say; nothing said, on loopback: the development key. SettingsError."""
        keys, secret = _keys(settings, clock)
        tokens = cls(keys, clock, audience=settings.jwt_audience, issuer=settings.jwt_issuer, secret=secret)
        tokens.is_development = not settings.has_credentials
        return tokens

    @property
    def can_mint(self) -> bool:
        """Whether the key is a secret that this gateway holds, and not somebody else's public key."""
        return self._secret is not None

    async def close(self) -> None:
        """Let go of what fetches keys. Idempotent."""
        await self._keys.close()

    async def verify(self, token: str) -> Identity:
        """Check a token and tell whose it is. Unauthenticated; Unavailable while signing keys cannot be had.

        Revocation is not looked at here: ask `Revocations.holds`.
        """
        header = _header(token)
        key = await self._keys.find(header.kid)
        if key is None:
            raise Unauthenticated("the token is signed with an unknown key")
        if header.alg != key.algorithm:
            raise Unauthenticated("the token is signed with another algorithm than its key is for")
        try:
            signed = self._signatures.decode_complete(token, key.material, algorithms=[key.algorithm])
        except (PyJWTError, RecursionError) as error:
            raise Unauthenticated("the token's signature is wrong") from error
        try:
            claims = _CLAIMS.decode(signed["payload"])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Unauthenticated(f"the token's claims cannot be used: {error}") from error
        return self._identity(claims)

    def mint(self, user: str, tenant: str = "default", ttl_s: int = 3600, scopes: Iterable[str] = ()) -> str:
        """Make a token for the user. Forbidden where this gateway holds no secret; BadRequest."""
        if self._secret is None:
            raise Forbidden("tokens are minted by whoever holds the private key, not by this gateway")
        if not is_name(user) or not is_name(tenant):
            raise BadRequest("a user or tenant is named by 1 to 64 letters, digits and _ . : -")
        if not 1 <= ttl_s <= MAX_TOKEN_LIFE_MS // 1000:
            raise BadRequest(f"a token lives 1 to {MAX_TOKEN_LIFE_MS // 1000} s")
        now_ms = self._clock.now_ms()
        claims = _Claims(
            sub=user,
            aud=self._audience,
            # RFC 7519 2: NumericDate, non-integer values can be represented. Ours has ms, so that a token
            # minted right after a revocation is told from one minted right before.
            iat=now_ms / 1000,
            exp=(now_ms + ttl_s * 1000) / 1000,
            iss=self._issuer,
            tenant=tenant,
            scope=" ".join(scopes),
        )
        return self._signatures.encode(msgspec.json.encode(claims), self._secret, "HS256")

    def _identity(self, claims: _Claims) -> Identity:
        now_s = self._clock.now_ms() / 1000
        leeway_s = LEEWAY_MS / 1000
        if self._audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise Unauthenticated("the token is meant for another audience")
        if self._issuer is not None and claims.iss != self._issuer:
            raise Unauthenticated("the token is from another issuer")
        if now_s >= claims.exp + leeway_s:
            raise Unauthenticated("the token has expired")
        if max(claims.iat, claims.nbf or 0) > now_s + leeway_s:
            raise Unauthenticated("the token is not valid yet")
        if claims.exp - claims.iat > MAX_TOKEN_LIFE_MS / 1000:
            raise Unauthenticated(f"the token lives longer than {MAX_TOKEN_LIFE_MS // 86_400_000} days")
        if not is_name(claims.sub) or not is_name(claims.tenant):
            raise Unauthenticated("the token's sub and tenant must be 1 to 64 letters, digits and _ . : -")
        scopes = claims.scope.split() if isinstance(claims.scope, str) else claims.scope
        return Identity(
            claims.tenant, claims.sub, frozenset(scopes), round(claims.iat * 1000), round(claims.exp * 1000)
        )


def _header(token: str) -> _Header:
    """Read what has to be known before the signature is looked at. None of it is believed."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"the token is larger than {MAX_TOKEN_BYTES} bytes")
    if not token.isascii():
        raise Unauthenticated("the token is not a JWT")
    first = token.partition(".")[0]
    try:
        header = _HEADER.decode(urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError, RecursionError) as error:
        # RecursionError: brackets in brackets; 3 KiB hold more of them than the decoder goes down.
        raise Unauthenticated("the token is not a JWT") from error
    # RFC 7515 4.1.11: if any of the listed extension parameters are not understood, the JWS is invalid. We
    # understand none.
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise Unauthenticated("the token demands an extension that is not offered")
    if (header.typ.lower() if header.typ else None) not in _TYPES:
        raise Unauthenticated("the token is of another type than an access token")
    return header


def _keys(settings: Settings, clock: Clock) -> tuple[KeySource, bytes | None]:
    if settings.jwks_url is not None:
        return PublishedKeys(settings.jwks_url, clock), None
    if settings.jwt_public_key is not None:
        try:
            return OneKey(from_pem(settings.jwt_public_key)), None
        except BadKey as error:
            raise SettingsError([f"GATEWAY_JWT_PUBLIC_KEY cannot be used: {error}."]) from error
    if settings.jwt_secret is not None:
        secret = settings.jwt_secret.encode()
    elif settings.is_loopback:
        secret = dev_key.load(settings.data_dir).encode()
    else:
        # Settings that were loaded never come here; settings made by hand must not either.
        raise SettingsError(["The development key is for a loopback GATEWAY_HOST only: set a credential."])
    return OneKey(Key("HS256", secret)), secret

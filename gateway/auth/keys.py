"""Keys that tokens are checked with. A key has one algorithm, by its kind; no token's header chooses it.

RFC 8725 3.1: each key MUST be used with exactly one algorithm, and this MUST be checked when the
cryptographic operation is performed.
"""

from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
Material = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

# RFC 7518 3.3: a key of size 2048 bits or larger MUST be used.
_LEAST_RSA_BITS: Final = 2048

# kty and crv of a JWK: the algorithm. `oct` is missing on purpose: a secret that is published is none.
_JWK_ALGORITHMS: Final[dict[tuple[object, object], Algorithm]] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}


class Key(msgspec.Struct, frozen=True):
    """Key material and the one algorithm it is good for."""

    algorithm: Algorithm
    material: Material

    def __repr__(self) -> str:
        return f"Key({self.algorithm})"


class KeySource(Protocol):
    """Where keys come from.

    Order: none. Atomicity: a set of keys is replaced as a whole. Durability: none.
    Cancellation: harmless; a fetch under way goes on for the others who wait for it.
    Errors: `gateway.errors.Unavailable` when it cannot be known now whether there is such a key.
    """

    async def find(self, kid: str | None) -> Key | None:
        """Find the key with this id; None id: the only key. None: there is no such key."""

    async def close(self) -> None:
        """Let go of every task. Idempotent."""


class OneKey:
    """One configured key. A token's `kid` means nothing to it: it is not looked up, opened or compared."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def find(self, kid: str | None) -> Key | None:
        return self._key

    async def close(self) -> None:
        return None


class BadKey(Exception):
    """The key cannot be used; the message says why."""


def from_pem(text: str) -> Key:
    """Take a public key in PEM form; its kind decides the algorithm. BadKey."""
    try:
        public = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey("it cannot be read as a PEM public key") from error
    return _of_kind(public)


def from_jwk(jwk: Mapping[str, object]) -> Key | None:
    """Take one entry of a key set; None: not a key for our tokens, no error in a set that others share."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    algorithm = _JWK_ALGORITHMS.get((kind, curve))
    operations = jwk.get("key_ops")
    if (
        algorithm is None
        or jwk.get("use") not in (None, "sig")
        or jwk.get("alg") not in (None, algorithm)
        or (isinstance(operations, list) and "verify" not in operations)
    ):
        return None
    try:
        material = PyJWK(dict(jwk), algorithm).key
        # A private key published by mistake checks signatures all the same; its private half is dropped.
        return _of_kind(getattr(material, "public_key", lambda: material)())
    except (PyJWTError, BadKey, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _of_kind(public: object) -> Key:
    match public:
        case RSAPublicKey(key_size=bits):
            if bits < _LEAST_RSA_BITS:
                raise BadKey(f"it has {bits} bits, RS256 needs at least {_LEAST_RSA_BITS}")
            return Key("RS256", public)
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return Key("ES256", public)
        case Ed25519PublicKey():
            return Key("EdDSA", public)
    raise BadKey("its kind is not offered: use RSA, EC on P-256, or Ed25519")

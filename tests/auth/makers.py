"""Clocks that stand still, keys of every kind, and tokens as an issuer, or an attacker, would make them."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.auth.keys import Key, OneKey
from gateway.auth.tokens import Tokens

NOW_MS = 1_763_719_200_123
SECRET = b"a secret of more than thirty-two bytes"

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


class StandingClock:
    """A clock that moves when the test moves it."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    def pass_s(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def claims(**changes: object) -> dict[str, object]:
    """Good claims, changed as told; None leaves one out."""
    good: dict[str, object] = {
        "sub": "alice",
        "aud": "session-gateway",
        "iat": NOW_MS // 1000,
        "exp": NOW_MS // 1000 + 3600,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(
    payload: Mapping[str, object], key: Any = SECRET, algorithm: str = "HS256", **header: object
) -> str:
    """Sign as a careful issuer does."""
    return jwt.encode(dict(payload), key, algorithm, headers=dict(header) or None)


def forged(header: object, payload: object, signature: bytes = b"") -> str:
    """Put anything into the three parts of a token."""
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def pem(private: Any) -> str:
    """Print the public half."""
    public = private.public_key() if hasattr(private, "public_key") else private
    return str(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()
    )


def jwk(algorithm: str, kid: str | None, private: Any = None) -> dict[str, object]:
    """Print the public half as an entry of a key set."""
    public = (private or PRIVATE[algorithm]).public_key()
    printer = jwt.get_algorithm_by_name(algorithm)
    entry: dict[str, object] = json.loads(printer.to_jwk(public))
    return entry | ({"kid": kid} if kid is not None else {})


def tokens(clock: StandingClock | None = None, *, issuer: str | None = None) -> Tokens:
    """Check tokens of SECRET."""
    return Tokens(
        OneKey(Key("HS256", SECRET)),
        clock or StandingClock(),
        audience="session-gateway",
        issuer=issuer,
        secret=SECRET,
    )


def certify(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 that signs itself, and its key, into one PEM file."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, EC.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(EC, hashes.SHA256())
    )
    key = EC.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key)
    return path

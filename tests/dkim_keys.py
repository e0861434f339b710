"""Keys to sign with, made once, and the DNS that has their public halves."""

from __future__ import annotations

import base64
import functools
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mailbridge import Signer

DOMAIN, SELECTOR = "example.org", "mail1"
# The example of RFC 8463 section A.2.
ED25519 = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="

PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(ED25519))


def pem(key: Any, form: serialization.PrivateFormat = PKCS8, password: bytes = b"") -> str:
    encryption: Any = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return str(key.private_bytes(serialization.Encoding.PEM, form, encryption), "ascii")


def signer(key: str = ED25519, **options: Any) -> Signer:
    return Signer(DOMAIN, "ed1" if key == ED25519 else SELECTOR, key, **options)


def look_up(name: bytes, timeout: float = 5) -> bytes:
    """What DNS says of the selector: the RSA key, unless the name begins with "ed"."""
    kind = "rsa" if not name.startswith(b"ed") else "ed25519"
    public: Any = rsa_key().public_key() if kind == "rsa" else ed25519_key().public_key()
    if kind == "rsa":
        octets = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        octets = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"v=DKIM1; k={kind}; p={base64.b64encode(octets).decode()}".encode()


def verifies(content: bytes) -> bool:
    """True if the topmost signature of `content` is one of ours."""
    return bool(dkim.verify(content, dnsfunc=look_up))

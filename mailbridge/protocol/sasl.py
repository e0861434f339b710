"""SASL mechanisms as generators: challenges in, responses out (RFC 4954, RFC 4422).

A mechanism yields its initial response, or None if the server speaks first; each challenge is
sent in, each response comes out. A generator that returns has nothing more to say.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import InvalidInput
from ..secret import Hidden, Secret

Exchange: TypeAlias = Generator[bytes | None, bytes, None]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in. Its repr shows no secret."""

    username: str
    password: Secret

    def __post_init__(self) -> None:
        # RFC 4616 section 2: a NUL would forge the fields of PLAIN.
        if "\0" in self.username or "\0" in self.password.reveal():
            raise InvalidInput("user name and password must not contain a NUL character")


def plain(credentials: Credentials) -> Exchange:
    """PLAIN (RFC 4616): everything at once, in UTF-8."""
    yield Hidden(f"\0{credentials.username}\0{credentials.password.reveal()}".encode())


def login(credentials: Credentials) -> Exchange:
    """LOGIN (draft-murchison-sasl-login): two prompts, whose text means nothing."""
    yield None
    yield credentials.username.encode()
    yield Hidden(credentials.password.reveal().encode())


def cram_md5(credentials: Credentials) -> Exchange:
    """CRAM-MD5 (RFC 2195): a keyed digest of the server's challenge."""
    challenge = yield None
    yield cram_md5_response(credentials.username, credentials.password, challenge).encode()


def cram_md5_response(username: str, password: Secret, challenge: bytes) -> str:
    """The answer to a CRAM-MD5 challenge."""
    digest = hmac.new(password.reveal().encode(), challenge, "md5").hexdigest()
    return f"{username} {digest}"


def _has_md5() -> bool:
    # A FIPS build of OpenSSL refuses MD5; the mechanism is then not to be had.
    try:
        hashlib.md5(b"")
    except ValueError:
        return False
    return True


MECHANISMS: dict[str, Callable[[Credentials], Exchange]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
}


def ranked(offered: tuple[str, ...], *, confidential: bool) -> list[str]:
    """The offered mechanisms that we know, best first for this connection.

    Inside TLS, PLAIN: CRAM-MD5 authenticates the client only and makes the server keep the
    password in the clear. Without TLS, CRAM-MD5 keeps the password off the wire.
    """
    order = ["PLAIN", "LOGIN", "CRAM-MD5"] if confidential else ["CRAM-MD5", "PLAIN", "LOGIN"]
    return [name for name in order if name in offered and (name != "CRAM-MD5" or _has_md5())]


def reveals_password(mechanism: str) -> bool:
    """True for mechanisms that hand the password itself to whoever listens."""
    return mechanism in ("PLAIN", "LOGIN")

"""SASL mechanisms, the server's side of each as a generator.

A mechanism yields challenges, is sent responses, and returns the name of the user, or None if the
credentials are wrong. The first challenge of a mechanism in which the client begins is empty.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Final

Mechanism = Generator[bytes, bytes, str | None]


@dataclass(frozen=True, slots=True)
class Peer:
    """What TLS tells of the connection: channel bindings by type, the client certificate's name."""

    bindings: Mapping[str, bytes] = field(default_factory=dict)
    name: str | None = None
    offers_plus: bool = False


Users = Mapping[str, str]


class Malformed(Exception):
    """A response that is not what the mechanism prescribes."""


def plain(users: Users, peer: Peer) -> Mechanism:
    """RFC 4616."""
    fields = (yield b"").split(b"\0")
    if len(fields) != 3 or not fields[1] or not fields[2]:
        raise Malformed
    return _check(users, _text(fields[1]), _text(fields[2]))


def login(users: Users, peer: Peer) -> Mechanism:
    """draft-murchison-sasl-login; a name that comes as initial response is taken as such."""
    user = _text((yield b"Username:"))
    password = _text((yield b"Password:"))
    return _check(users, user, password)


def cram_md5(users: Users, peer: Peer) -> Mechanism:
    """RFC 2195."""
    challenge = f"<{secrets.token_hex(8)}@scripted.example>".encode()
    user, space, digest = _text((yield challenge)).rpartition(" ")
    if not space:
        raise Malformed
    if user not in users:
        return None
    expected = hmac.new(users[user].encode(), challenge, "md5").hexdigest()
    return user if hmac.compare_digest(expected.encode(), digest.encode()) else None


def xoauth2(users: Users, peer: Peer) -> Mechanism:
    """Bearer token of Google and Microsoft: the token stands in the place of the password."""
    fields = _text((yield b"")).split("\x01")
    user = fields[0].removeprefix("user=")
    token = _bearer(fields)
    if token and _check(users, user, token):
        return user
    yield json.dumps({"status": "400", "schemes": "bearer"}).encode()
    return None


def oauthbearer(users: Users, peer: Peer) -> Mechanism:
    """RFC 7628; without an authorization identity the token alone tells the user."""
    fields = _text((yield b"")).split("\x01")
    flag, _, rest = fields[0].partition(",")
    if flag not in ("n", "y") or not rest.endswith(","):
        raise Malformed
    token, name = _bearer(fields), rest.removesuffix(",").removeprefix("a=")
    for user in [name] if name else users:
        if token and _check(users, user, token):
            return user
    yield json.dumps({"status": "invalid_token"}).encode()
    return None


def external(users: Users, peer: Peer) -> Mechanism:
    """RFC 4422 appendix A: the client certificate's name; another is nobody's to ask for."""
    wanted = _text((yield b""))
    if peer.name is None or peer.name not in users or wanted not in ("", peer.name):
        return None
    return peer.name


def scram(digest: str, *, plus: bool = False) -> Callable[[Users, Peer], Mechanism]:
    """RFC 5802 and 7677, with channel binding if ``plus``, without SASLprep."""

    def mechanism(users: Users, peer: Peer) -> Mechanism:
        gs2, bare, attributes = _scram_first(_text((yield b"")))
        binding = _channel_binding(gs2, peer, plus=plus)
        if binding is None:
            return None
        user = attributes["n"].replace("=2C", ",").replace("=3D", "=")
        nonce, salt, count = attributes["r"] + secrets.token_hex(9), secrets.token_bytes(12), 4096
        first = f"r={nonce},s={b64encode(salt).decode()},i={count}"
        final = _text((yield first.encode()))
        without_proof, _, proof = final.rpartition(",p=")
        if without_proof != f"c={b64encode(gs2.encode() + binding).decode()},r={nonce}":
            return None
        secret = users.get(user, secrets.token_hex()).encode()
        salted = hashlib.pbkdf2_hmac(digest, secret, salt, count)
        transcript = f"{bare},{first},{without_proof}".encode()
        client_key = hmac.digest(salted, b"Client Key", digest)
        stored_key = hashlib.new(digest, client_key).digest()
        signature = hmac.digest(stored_key, transcript, digest)
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        if not hmac.compare_digest(b64encode(expected), proof.encode()):
            return None
        server_key = hmac.digest(salted, b"Server Key", digest)
        verifier = b64encode(hmac.digest(server_key, transcript, digest))
        yield b"v=" + verifier  # RFC 4954 section 4: what goes with success is a last challenge
        return user

    return mechanism


MECHANISMS: Final[dict[str, Callable[[Users, Peer], Mechanism]]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
    "XOAUTH2": xoauth2,
    "OAUTHBEARER": oauthbearer,
    "SCRAM-SHA-1": scram("sha1"),
    "SCRAM-SHA-256": scram("sha256"),
    "SCRAM-SHA-1-PLUS": scram("sha1", plus=True),
    "SCRAM-SHA-256-PLUS": scram("sha256", plus=True),
    "EXTERNAL": external,
}

SERVER_FIRST: Final = frozenset({"CRAM-MD5"})
"""Mechanisms that allow no initial response."""


def decode(line: bytes) -> bytes:
    """Strict base64, ``=`` for nothing (RFC 4954 section 4). Raises Malformed."""
    if line == b"=":
        return b""
    try:
        return b64decode(line, validate=True)
    except ValueError as error:
        raise Malformed from error


def _check(users: Users, user: str, password: str) -> str | None:
    known = users.get(user)
    if known is None or not hmac.compare_digest(known.encode(), password.encode()):
        return None
    return user


def _bearer(fields: list[str]) -> str:
    for item in fields[1:]:
        if item.lower().startswith("auth=bearer "):
            return item[len("auth=bearer ") :]
    return ""


def _scram_first(message: str) -> tuple[str, str, dict[str, str]]:
    flag, _, rest = message.partition(",")
    authzid, comma, bare = rest.partition(",")
    attributes = dict(item.split("=", 1) for item in bare.split(",") if "=" in item)
    bound = flag.startswith("p=")
    if not (flag in ("n", "y") or bound) or not comma or not {"n", "r"} <= attributes.keys():
        raise Malformed
    return f"{flag},{authzid},", bare, attributes


def _channel_binding(gs2: str, peer: Peer, *, plus: bool) -> bytes | None:
    """The octets that are bound, None if the client's flag does not fit (RFC 5802 section 6)."""
    flag = gs2.partition(",")[0]
    if plus:
        return peer.bindings.get(flag.removeprefix("p=")) if flag.startswith("p=") else None
    # "y" says that no -PLUS was offered: if one was, somebody took it out on the way.
    return None if flag.startswith("p=") or (flag == "y" and peer.offers_plus) else b""


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed from error

"""SCRAM (RFC 5802, RFC 7677) over scramp, with the server's proof and channel binding.

scramp is imported where a SCRAM exchange begins, and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator

from ..errors import InvalidInput, MailError, ProtocolViolation, printable
from ..secret import Hidden, Secret
from .channel import Channel

# RFC 5802 section 9: the count is the server's to choose and ours to compute. OWASP recommends
# 600,000 for SHA-256; beyond this a server could hold a worker for seconds.
MAX_ITERATIONS = 2_000_000
_ITERATIONS = re.compile(r"(?:^|,)i=(\d{1,20})(?:,|$)")


def available() -> bool:
    """Whether scramp is installed."""
    from importlib.util import find_spec  # Imported here: not every server offers SCRAM.

    return find_spec("scramp") is not None


def missing(names: list[str]) -> MailError:
    """The error where only a SCRAM mechanism is left, and scramp is not there."""
    error = MailError(f"the server wants {' or '.join(names)}, which needs the package scramp")
    error.advice = 'pip install "mailbridge[scram]"'
    error.session_usable = True
    return error


def exchange(
    name: str, username: str, password: Secret, channel: Channel
) -> Generator[bytes | None, bytes | None, None]:
    """The client's side. Raises ProtocolViolation for a server that cannot prove itself."""
    from scramp import ScramClient, ScramException

    client = None
    with contextlib.suppress(ScramException):
        client = ScramClient(
            [name], username, password.reveal(), channel_binding=_binding(name, channel)
        )
    del username
    if client is None:
        # Not chained: scramp's frames hold the password.
        raise InvalidInput(f"{name}: user name or password has characters that it prohibits")
    try:
        first = yield Hidden(client.get_client_first().encode())
        text = _text(first)
        _check_iterations(text)
        client.set_server_first(text)
        last = yield Hidden(client.get_client_final().encode())
        if last is not None and reason(last):
            # The server says why in a challenge, and 535 once that is answered.
            yield b""
            return
        client.set_server_final(_text(last))
    except ScramException as exc:
        why = printable(str(exc).encode())[:200]
    else:
        yield b""
        return
    raise unproven(name, why)


def unproven(name: str, why: str) -> ProtocolViolation:
    """The error for a server that has not shown that it knows the password."""
    error = ProtocolViolation(f"{name}: the server did not prove that it knows the password: {why}")
    error.advice = "Somebody may be between you and the server. Check host, tls and the certificate"
    error.retryable = False
    return error


def reason(challenge: bytes) -> str | None:
    """The error in a server-final-message, ``e=...`` (RFC 5802 section 7)."""
    return printable(challenge[2:102]) if challenge.startswith(b"e=") else None


def _text(challenge: bytes | None) -> str:
    from scramp import ScramException

    if challenge is None:
        # RFC 5802 section 5: no success without the server's signature.
        raise ScramException("it reported success without its signature")
    return challenge.decode("utf-8", "backslashreplace")


def _check_iterations(server_first: str) -> None:
    from scramp import ScramException

    match = _ITERATIONS.search(server_first)
    if match and int(match[1]) > MAX_ITERATIONS:
        raise ScramException(f"it asks for {match[1]} iterations")


def _binding(name: str, channel: Channel) -> tuple[str, bytes] | None:
    """What goes into the GS2 header: "p" with -PLUS; "y" where we could bind and the server offers
    no -PLUS, so that an attacker who took it out of the EHLO reply is found out; else "n".
    """
    if not name.endswith("-PLUS") and channel.plus_offered:
        return None
    binding = channel.binding
    if binding is None or binding[0] != "tls-server-end-point":
        return binding
    digest = _end_point(binding[1])
    return None if digest is None else (binding[0], digest)


def _end_point(certificate: bytes) -> bytes | None:
    """The hash of a certificate in DER by its signature's algorithm (RFC 5929 section 4.1)."""
    from asn1crypto.x509 import Certificate

    try:
        algorithm = Certificate.load(certificate).hash_algo
    except ValueError:
        # Ed25519 and the like: RFC 5929 defines none.
        return None
    if algorithm in ("md5", "sha1"):
        algorithm = "sha256"
    return hashlib.new(algorithm, certificate).digest()

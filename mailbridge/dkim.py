"""DKIM signatures (RFC 6376) by dkimpy. What is wrong with a key is found out at construction."""

from __future__ import annotations

import base64
import functools
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from . import fields
from .convert import words
from .envelope import to_ascii_domain
from .errors import InvalidInput, OptionError
from .secret import Secret

if TYPE_CHECKING:
    from types import ModuleType

INSTALL = 'pip install "mailbridge[dkim]"'
CANONICALIZATIONS = ("relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple")
# RFC 8301 section 3.2: signers must not use less.
_LEAST_BITS = 1024
# Characters of a file with a key; a path may lead anywhere.
_LARGEST = 100_000

_LABELS = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----\n(.*?)\n-----END ", re.DOTALL)
# RFC 8410 section 7: the algorithm's identifier, and behind it the key in two octet strings.
_ED25519 = re.compile(rb"\x06\x03\x2b\x65\x70\x04\x22\x04\x20(.{32})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs mail for `domain` by the key whose public half DNS has under `selector`.

    `key` is a private key, RSA or Ed25519, in PEM (an Ed25519 key may also be its 32 octets in
    base64), or the path of a file that holds one. It is shown in no repr, log or error. `headers`
    names the fields to sign instead of those that RFC 6376 recommends; `canonicalization` is that
    of header and body. Raises OptionError for what is wrong, and if dkimpy is not installed.
    """

    domain: str
    selector: str
    key: Secret | str | bytes | os.PathLike[str] = field(repr=False)
    headers: tuple[str, ...] | str = ()
    canonicalization: str = CANONICALIZATIONS[0]
    #: What the key is for: "rsa-sha256" or "ed25519-sha256".
    algorithm: str = field(init=False, default="")

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        _library()
        put("domain", _domain(self.domain))
        if not _LABELS.fullmatch(str(self.selector)):
            raise OptionError(f"dkim_selector {self.selector!a} is no name in DNS, such as 'mail1'")
        put("headers", _headers(self.headers))
        canonicalization = str(self.canonicalization).lower()
        if canonicalization not in CANONICALIZATIONS:
            known = ", ".join(CANONICALIZATIONS)
            raise OptionError(
                f"dkim_canonicalization {self.canonicalization!a} is not one of {known}"
            )
        put("canonicalization", canonicalization)
        found = _key(self.key)
        if isinstance(found, str):
            raise OptionError(f"dkim_key {found}")
        put("algorithm", found[0])
        put("key", found[1])

    def sign(self, content: bytes) -> bytes:
        """The DKIM-Signature field for canonical `content`, to be put in front of it.

        Raises InvalidInput for content that cannot be signed: without a From field, say.
        """
        field, why = self._attempt(content)
        if why is not None:
            # Outside of any except clause: the library's frames have the key in their locals.
            raise InvalidInput(f"the content cannot be signed for {self.domain}: {why}")
        return field

    def _attempt(self, content: bytes) -> tuple[bytes, str | None]:
        dkim, key = _library(), cast("Secret", self.key).reveal()
        try:
            message = dkim.DKIM(content, signature_algorithm=self.algorithm.encode())
            if b"from" not in {name.lower() for name, _ in message.headers}:
                return b"", "it has no From field"
            signed = message.sign(
                self.selector.encode(),
                self.domain.encode(),
                key.encode(),
                canonicalize=tuple(self.canonicalization.encode().split(b"/")),
                include_headers=tuple(name.encode() for name in self.headers) or None,
            )
        except (dkim.DKIMException, IndexError, ValueError) as exc:
            # dkimpy looks no further than to the first octet of a line that is no field.
            return b"", f"{type(exc).__name__}, is its header well-formed?"
        return bytes(signed), None


def _library() -> ModuleType:
    try:
        import dkim
    except ImportError:
        raise OptionError(f"DKIM signatures are made by dkimpy: {INSTALL}") from None
    module: ModuleType = dkim
    return module


def _domain(given: Any) -> str:
    try:
        domain = to_ascii_domain(given).lower()
    except (ValueError, AttributeError):
        domain = ""
    if not _LABELS.fullmatch(domain):
        raise OptionError(f"dkim_domain {given!a} is no domain, such as 'example.org'")
    return domain


def _headers(given: Any) -> tuple[str, ...]:
    names = tuple(name.lower() for name in words("dkim_headers", given))
    for name in names:
        if not fields.NAME.fullmatch(name):
            raise OptionError(f"dkim_headers: {name!a} is no name of a header field")
        if name.encode() in _library().DKIM.SHOULD_NOT:
            raise OptionError(f"dkim_headers: {name} is changed on the way, or not to be signed")
    if names and "from" not in names:
        # RFC 6376 section 5.4.
        raise OptionError("dkim_headers must name From, which every signature covers")
    return names


# In what follows the key itself is a local, so a problem is returned and raised by the caller: a
# traceback with its locals shows nothing.


def _key(given: Any) -> tuple[str, Secret] | str:
    """The algorithm of a private key, and the key as dkimpy takes it; or what is wrong with it."""
    text = _text(given)
    if text is None:
        return "is neither a private key in PEM nor the path of a file that can be read"
    pem = _PEM.search(text)
    if pem is None:
        seed = _base64(text)
    elif "ENCRYPTED" in pem[1] or "ENCRYPTED" in pem[2]:
        return "is encrypted: store it without a passphrase"
    else:
        found = _ED25519.search(_base64(pem[2]))
        if found is None:
            return _rsa(pem[0] + pem[1] + "PRIVATE KEY-----\n")
        seed = found[1]
    if len(seed) != 32:
        return "is no private key in PEM"
    try:
        import nacl.signing  # noqa: F401 - dkimpy says nothing until it is to sign
    except ImportError:
        return f"is an Ed25519 key, for which PyNaCl is missing: {INSTALL}"
    return "ed25519-sha256", Secret(base64.b64encode(seed).decode("ascii"))


def _text(given: Any) -> str | None:
    """The key itself, from a file if it is a path; None if that cannot be read."""
    if isinstance(given, Secret):
        given = given.reveal()
    if isinstance(given, (bytes, bytearray)):
        given = bytes(given).decode("latin-1")
    if not isinstance(given, (str, os.PathLike)):
        return None  # A number would be a file that is open already, for something else.
    text = str(given)
    if isinstance(given, os.PathLike) or not ("PRIVATE KEY" in text or len(_base64(text)) == 32):
        try:
            with open(given, encoding="latin-1") as file:
                text = file.read(_LARGEST)
        except (OSError, ValueError):
            return None
    # In an environment line ends are often written as \\n, and on Windows as CRLF.
    return text.replace("\\n", "\n").replace("\r\n", "\n").strip()


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return b""


@functools.lru_cache(maxsize=16)
def _rsa(pem: str) -> tuple[str, Secret] | str:
    from dkim.crypto import UnparsableKeyError, parse_pem_private_key

    try:
        bits = int(parse_pem_private_key(pem.encode())["modulus"]).bit_length()
    except (UnparsableKeyError, ValueError, IndexError, AssertionError):
        return "is in PEM, but no RSA or Ed25519 key"
    if bits < _LEAST_BITS:
        return f"has {bits} bits, too few (RFC 8301): make one of 2048"
    return "rsa-sha256", Secret(pem)

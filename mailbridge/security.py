"""The options of TLS, login and signature: what they may be, and what contradicts what."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .convert import readable, text, words
from .errors import OptionError
from .secret import Secret

if TYPE_CHECKING:
    from .dkim import Signer
    from .options import Relay

#: The SASL mechanisms that we know, best first inside verified TLS.
MECHANISM_NAMES = (
    *("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1"),
    *("OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"),
)
#: Options of a relay that make a Signer, and its arguments.
DKIM_OPTIONS = {
    f"dkim_{name}": name for name in ("domain", "selector", "key", "headers", "canonicalization")
}
_FILES = ("ca_file", "ca_path", "certfile", "keyfile")
_SHA256 = r"[0-9a-f]{64}"


def fingerprints(name: str, value: Any) -> tuple[str, ...]:
    """SHA-256 fingerprints in lower case without colons, from a text or a list of them."""
    if not value:
        return ()
    found = []
    for item in words(name, value):
        pin = item.lower().removeprefix("sha256:").replace(":", "")
        if not re.fullmatch(_SHA256, pin):
            raise OptionError(
                f"{name} {item!a} is no SHA-256 digest of 64 hexadecimal digits:"
                " openssl x509 -noout -fingerprint -sha256 -in certificate.pem"
            )
        found.append(pin)
    if not found:
        raise OptionError(f"{name} is empty: leave it out to trust the CAs")
    return tuple(dict.fromkeys(found))


def mechanisms(name: str, value: Any) -> tuple[Any, ...]:
    """Names of SASL mechanisms in upper case, and mechanisms of the caller's own."""
    items = words(name, value) if isinstance(value, str) else value
    if not isinstance(items, Iterable):
        items = (items,)
    found: list[Any] = []
    for item in items:
        if not isinstance(item, str):
            if not (isinstance(getattr(item, "name", None), str) and hasattr(item, "start")):
                raise OptionError(f"{name}: {item!r} is neither a name nor a Mechanism")
            found.append(item)
        elif item.upper() in MECHANISM_NAMES:
            found.append(item.upper())
        else:
            known = ", ".join(MECHANISM_NAMES)
            raise OptionError(f"{name}: {item!a} is not one of {known}")
    if not found:
        raise OptionError(f"{name} is empty: leave it out for all that are known")
    return tuple(found)


def password(name: str, value: Any) -> Secret:
    """A password that hides itself."""
    return value if isinstance(value, Secret) else Secret(text(name, value))


def check_login(relay: Relay) -> None:
    """Raise OptionError where the options of login contradict each other."""
    external = "EXTERNAL" in (relay.auth_mechanisms or ())
    if relay.token_provider is not None:
        if relay.password is not None:
            raise OptionError("password and token_provider are both set: drop one of them")
        if relay.username is None:
            raise OptionError("token_provider is set but username is not: whose mailbox is it?")
    elif relay.password is not None and relay.username is None:
        raise OptionError("password is set but username is not: set both or neither")
    elif relay.username is not None and relay.password is None and not external:
        raise OptionError("username is set but password is not: set both or neither")
    # RFC 4616 section 2: a NUL would forge the fields of AUTH PLAIN.
    if "\0" in (relay.username or ""):
        raise OptionError("username contains a NUL character")
    if isinstance(relay.password, Secret) and "\0" in relay.password.reveal():
        raise OptionError("password contains a NUL character")
    if relay.username == "":
        raise OptionError("username is empty: leave it out to send without a login")
    if external and not (relay.certfile or relay.ssl_context):
        raise OptionError("auth_mechanisms has EXTERNAL: set certfile, the certificate to show")


def check_tls(relay: Relay) -> None:
    """Raise OptionError where the options of TLS contradict each other, or a file is not there."""
    if relay.keyfile and not relay.certfile:
        raise OptionError("keyfile is set but certfile is not: a key needs its certificate")
    if relay.ssl_context is not None:
        if not (isinstance(relay.ssl_context, ssl.SSLContext) or callable(relay.ssl_context)):
            raise OptionError("ssl_context must be an ssl.SSLContext, or return one")
        for name in _FILES:
            if getattr(relay, name):
                raise OptionError(f"ssl_context and {name} are both set: {name} would be lost")
        if not relay.tls_verify:
            raise OptionError("ssl_context and tls_verify=False are both set: choose one")
    if relay.fingerprint and not relay.tls_verify:
        raise OptionError(
            "fingerprint and tls_verify=False are both set: drop tls_verify,"
            " a fingerprint accepts its certificate whoever issued it"
        )
    if relay.tls == "none":
        for name in (*_FILES, "server_hostname", "fingerprint"):
            if getattr(relay, name):
                raise OptionError(f"{name} is set but tls is 'none': set tls, or drop {name}")
    for name in ("ca_file", "certfile", "keyfile"):
        if (path := getattr(relay, name)) is not None:
            readable(name, path)
    if relay.ca_path is not None and not os.path.isdir(relay.ca_path):
        raise OptionError(f"ca_path {relay.ca_path!r} is no directory")


def signer(name: str, value: Any) -> Signer:
    """A Signer, which is made by the options of DKIM or by hand."""
    from .dkim import Signer

    if not isinstance(value, Signer):
        raise OptionError(f"{name} must be a mailbridge.Signer; see dkim_domain and its like")
    return value


def with_signer(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a relay with those of its signature made one, `dkim`. Raises OptionError."""
    values = dict(given)
    ours = {DKIM_OPTIONS[name]: values.pop(name) for name in given if name in DKIM_OPTIONS}
    if not ours:
        return values
    if "dkim" in values:
        raise OptionError("dkim and dkim_domain, dkim_selector, dkim_key are both set: drop dkim")
    for name in ("dkim_domain", "dkim_selector", "dkim_key"):
        if DKIM_OPTIONS[name] not in ours:
            raise OptionError(f"{name} is not set: DKIM needs dkim_domain, dkim_selector, dkim_key")
    # Imported here: few sign themselves.
    from .dkim import Signer

    return {**values, "dkim": Signer(**ours)}

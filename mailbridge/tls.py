"""TLS contexts, one for each configuration of the process; pins, bindings and sessions."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import ssl
import threading
import weakref
from collections.abc import Callable

from . import forks
from .errors import CertificateError, MailError, OptionError, TLSError
from .options import TLS, Relay
from .protocol.channel import Channel
from .protocol.dialogue import PLAIN

# Enough for every relay that a process knows; a session is a few kilobytes.
MAX_SESSIONS = 256
SessionKey = tuple[str, str | None, tuple[str, ...]]


def context_for(relay: Relay) -> ssl.SSLContext | None:
    """The TLS context that a relay asks for, None if it wants no TLS."""
    if relay.tls is TLS.NONE:
        return None
    if relay.ssl_context is not None:
        context = relay.ssl_context
        return context if isinstance(context, ssl.SSLContext) else _made_by(context)
    return tls_context(
        ca_file=relay.ca_file,
        ca_path=relay.ca_path,
        certfile=relay.certfile,
        keyfile=relay.keyfile,
        # A pin that stands alone is what is verified: see `inspect`.
        verify=relay.tls_verify and not relay.pinned_only,
    )


@functools.lru_cache(maxsize=64)
def _made_by(factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = factory()
    if not isinstance(context, ssl.SSLContext):
        raise OptionError(f"ssl_context returned {type(context).__name__}, not an ssl.SSLContext")
    return context


def tls_context(
    *,
    ca_file: str | None = None,
    ca_path: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    verify: bool = True,
    shared: bool = True,
) -> ssl.SSLContext:
    """A context that verifies certificate and host name, TLS 1.2 or later.

    The same context for the same arguments, since loading the CA bundle takes 20 ms; one of the
    caller's own, to be changed, unless `shared`.
    Raises OptionError that names the option whose file cannot be used.
    """
    if keyfile and not certfile:
        raise OptionError("keyfile is set but certfile is not: a key needs its certificate")
    # OpenSSL looks at these when it loads the bundle, so they are part of what it loads.
    trust = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    make = _tls_context if shared else _tls_context.__wrapped__
    return make(ca_file, ca_path, certfile, keyfile, verify, trust)


@functools.lru_cache(maxsize=64)
def _tls_context(
    ca_file: str | None,
    ca_path: str | None,
    certfile: str | None,
    keyfile: str | None,
    verify: bool,
    _trust: tuple[str | None, str | None],
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file, capath=ca_path)
    except (OSError, ssl.SSLError) as exc:
        name, path = ("ca_file", ca_file) if ca_file else ("ca_path", ca_path)
        raise OptionError(f"{name} {path!r} holds no usable certificates: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nobody's mail is spliced into a session that somebody else has begun (CVE-2009-3555).
    # As a number: of the flags together Python would make a new member of their enumeration.
    context.options = int(context.options) | int(ssl.OP_NO_RENEGOTIATION)  # type: ignore[assignment]
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certfile:
        # An encrypted key would make OpenSSL prompt on the terminal, in a web worker for ever.
        try:
            context.load_cert_chain(certfile, keyfile, password=_no_prompt)
        except (OSError, ssl.SSLError, ValueError) as exc:
            named = f"certfile {certfile!r}" + (f" with keyfile {keyfile!r}" if keyfile else "")
            raise OptionError(
                f"{named} cannot be used: {exc}. It must hold a PEM certificate and its key"
            ) from exc
    return context


def _no_prompt() -> str:
    raise ValueError("the key is encrypted; give an ssl_context that has loaded it")


def inspect(
    tls: ssl.SSLSocket | ssl.SSLObject, address: str, pins: tuple[str, ...] = ()
) -> Channel:
    """What a finished handshake says of the server. Call it before anything else is said.

    `address` is "name:port". With `pins` the certificate must be one of those, whatever else was
    checked. Raises CertificateError if it is not.
    """
    certificate = tls.getpeercert(binary_form=True) or b""
    if pins:
        _check_pins(certificate, pins)
    context = tls.context
    checked = context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    host, _, port = address.rpartition(":")
    return Channel(
        tls=True,
        verified=checked or bool(pins),
        certificate=certificate or None,
        tls_unique=tls.get_channel_binding("tls-unique") if tls.version() != "TLSv1.3" else None,
        host=host.strip("[]"),
        port=int(port) if port.isdigit() else 0,
    )


def _check_pins(certificate: bytes, pins: tuple[str, ...]) -> None:
    shown = hashlib.sha256(certificate).hexdigest()
    # Every pin is compared, and each in constant time.
    matches = [hmac.compare_digest(shown, pin) for pin in pins]
    if any(matches):
        return
    error = CertificateError(f"the certificate is none that is pinned: its SHA-256 is {shown}")
    error.advice = (
        "If the certificate was renewed, make sure of it with who runs the server,"
        " and set fingerprint"
    )
    raise error


class Sessions:
    """TLS sessions of one context that may be resumed, by server, name and pins."""

    def __init__(self) -> None:
        self._kept: dict[SessionKey, ssl.SSLSession] = {}
        self._forgotten = False

    def get(self, key: SessionKey) -> ssl.SSLSession | None:
        """The session to resume, None if there is none."""
        return self._kept.get(key)

    def keep(self, key: SessionKey, tls: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Keep the session of a connection for the next one; not if they were forgotten since.

        To be called when something was read: with TLS 1.3 the tickets come after the handshake.
        """
        # To ask for it is to have it copied, with the certificate in it.
        session = None if self._forgotten else tls.session
        if session is None:
            return
        with _known.lock:
            self._kept.pop(key, None)
            self._kept[key] = session
            while len(self._kept) > MAX_SESSIONS:
                del self._kept[next(iter(self._kept))]

    def forget(self) -> None:
        """Keep none, and none any more."""
        self._forgotten, self._kept = True, {}


class _Known:
    """The sessions of each context."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[ssl.SSLContext, Sessions] = weakref.WeakKeyDictionary()
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here."""
        self.lock = threading.Lock()

    def __getitem__(self, context: ssl.SSLContext) -> Sessions:
        with self.lock:
            return self._of.setdefault(context, Sessions())

    def forget(self) -> None:
        with self.lock:
            for sessions in self._of.values():
                sessions.forget()
            self._of.clear()


_known = _Known()


def sessions_of(context: ssl.SSLContext) -> Sessions:
    """The TLS sessions that were begun with this context."""
    return _known[context]


def forget_sessions() -> None:
    """Resume none that was begun until now."""
    _known.forget()


def handshake_error(exc: OSError | ValueError) -> MailError:
    """The error for a handshake that failed: TLSError or CertificateError."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = exc.verify_message or str(exc)
        error: MailError = CertificateError(f"the certificate was not accepted: {reason}")
        error.advice = (
            "Give the issuer's certificate as ca_file, or the name in the certificate as"
            " server_hostname"
        )
        return error
    if isinstance(exc, ssl.SSLError):
        error = TLSError(f"the TLS handshake failed: {exc.reason or exc}")
        # It hung up in the middle, which is no other thing than to reset the connection.
        error.retryable = isinstance(exc, ssl.SSLEOFError)
        if exc.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"):
            error.advice = PLAIN
        return error
    error = TLSError(f"the TLS handshake failed: {exc}")
    error.retryable = isinstance(exc, OSError)
    return error

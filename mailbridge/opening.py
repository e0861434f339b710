"""From a Relay to a session that is ready for MAIL."""

from __future__ import annotations

import ssl
from typing import TypedDict

from . import logins, memory
from .errors import ResponseError, TLSError
from .options import TLS, Relay, Timeouts
from .protocol import dialogue
from .protocol.session import Dialogue, Session
from .report import Phase
from .tls import context_for


class Terms(TypedDict):
    """What a connection is made of, whichever driver it has."""

    session: Session
    timeouts: Timeouts
    host: str
    server_hostname: str
    context: ssl.SSLContext | None
    pins: tuple[str, ...]
    resumes: bool


def terms(relay: Relay) -> Terms:
    """What `relay` says of its connections. Raises OptionError for a bad file."""
    if relay.tls is not TLS.NONE:
        memory.warn_of_unverified(relay)
    return {
        "session": Session(lmtp=relay.lmtp, ignore_extensions=relay.ignore_extensions),
        "timeouts": relay.timeouts,
        "host": relay.address,
        "server_hostname": relay.server_hostname or relay.host,
        "context": context_for(relay),
        "pins": tuple(relay.fingerprint),
        "resumes": True,
    }


def open_session(
    session: Session, relay: Relay, name: str, *, mail_follows: bool = False
) -> Dialogue[None]:
    """The greeting, EHLO, TLS as asked, and AUTH. `name` is ours, for EHLO.

    With `mail_follows` the reply to AUTH may be left to be heard by the first delivery.

    Raises GreetingRefused, HeloRefused, TLSError, CertificateError, AuthenticationFailed,
    NotSupported or Disconnected.
    """
    yield from dialogue.greet(session, implicit_tls=relay.tls is TLS.IMPLICIT)
    yield from dialogue.hello(session, name)
    yield from start_tls(session, relay, name)
    yield from (logins.begin if mail_follows else logins.log_in)(session, relay)


def start_tls(session: Session, relay: Relay, name: str) -> Dialogue[None]:
    """STARTTLS and EHLO again, as the relay's `tls` asks for it. Raises TLSError."""
    if relay.tls not in (TLS.STARTTLS, TLS.OPPORTUNISTIC):
        return
    offered = session.extensions.offers("STARTTLS")
    if relay.tls is TLS.STARTTLS and not offered:
        error = TLSError("STARTTLS extension not supported by server.")
        error.phase = Phase.TLS
        error.advice = (
            "TLS is required here: use another port, or tls='implicit' if this one starts with it"
        )
        raise error
    memory.note_starttls(relay, offered=offered)
    if not offered:
        return
    try:
        yield from dialogue.starttls(session)
    except ResponseError as refused:
        error = TLSError(f"the server refused STARTTLS: {refused.reply}")
        error.phase = Phase.TLS
        error.reply = refused.reply
        error.retryable = refused.retryable
        raise error from refused
    yield from dialogue.hello(session, name)

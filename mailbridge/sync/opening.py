"""From a Relay to a session that is ready for MAIL."""

from __future__ import annotations

from .. import logins, memory
from ..errors import ResponseError, TLSError
from ..options import TLS, Relay
from ..protocol import dialogue
from ..protocol.session import Session
from ..protocol.transcript import Listener
from ..tls import context_for
from .connect import literal_of
from .driver import Connection


def open_connection(relay: Relay, listener: Listener | None = None) -> Connection:
    """Connect to a relay: greeted, in TLS as asked, logged in.

    Raises ConnectError, GreetingRefused, HeloRefused, TLSError, CertificateError,
    AuthenticationFailed, NotSupported or Disconnected; then nothing is left open.
    """
    logins.check(relay)
    connection = new_connection(relay)
    session = connection.session
    session.transcript.listener = listener
    try:
        sock = connection.connect(relay.host, relay.port, relay.source_address)
        name = relay.local_hostname or literal_of(sock)
        connection.run(dialogue.greet(session, implicit_tls=relay.tls is TLS.IMPLICIT))
        connection.run(dialogue.hello(session, name))
        start_tls(connection, relay, name)
        # The answer to EHLO was read, and with it the tickets of TLS 1.3.
        connection.keep_session()
        connection.run(logins.log_in(session, relay))
    except BaseException:
        connection.close()
        raise
    return connection


def new_connection(relay: Relay) -> Connection:
    """A connection to `relay` that is not connected yet. Raises OptionError for a bad file."""
    if relay.tls is not TLS.NONE:
        memory.warn_of_unverified(relay)
    return Connection(
        Session(lmtp=relay.lmtp, ignore_extensions=relay.ignore_extensions),
        relay.timeouts,
        relay.address,
        server_hostname=relay.server_hostname or relay.host,
        context=context_for(relay),
        pins=tuple(relay.fingerprint),
        resumes=True,
    )


def start_tls(connection: Connection, relay: Relay, name: str) -> None:
    """STARTTLS and EHLO again, as the relay's `tls` asks for it. Raises TLSError."""
    session, mode = connection.session, relay.tls
    offered = session.extensions.offers("STARTTLS")
    if mode is TLS.STARTTLS and not offered:
        error = TLSError("STARTTLS extension not supported by server.")
        error.advice = (
            "TLS is required here: use another port, or tls='implicit' if this one starts with it"
        )
        error.located(host=connection.host, phase="starttls", transcript=session.transcript.lines())
        raise error
    if mode in (TLS.STARTTLS, TLS.OPPORTUNISTIC):
        try:
            memory.note_starttls(relay, offered=offered)
        except TLSError as stripped:
            lines = session.transcript.lines()
            stripped.located(host=connection.host, phase="starttls", transcript=lines)
            raise
    if offered and mode in (TLS.STARTTLS, TLS.OPPORTUNISTIC):
        try:
            connection.run(dialogue.starttls(session))
        except ResponseError as refused:
            error = TLSError(f"the server refused STARTTLS: {refused.reply}")
            error.reply = refused.reply
            error.retryable = refused.retryable
            error.located(host=connection.host, phase="starttls", transcript=refused.transcript)
            raise error from refused
        connection.run(dialogue.hello(session, name))

"""From a Relay to a session that is ready for MAIL."""

from __future__ import annotations

from ..errors import ResponseError, TLSError
from ..options import TLS, Relay
from ..protocol import auth, dialogue
from ..protocol.sasl import Credentials
from ..protocol.session import Session
from ..protocol.transcript import Listener
from ..secret import Secret
from .connect import context_for, literal_of
from .driver import Connection


def open_connection(relay: Relay, listener: Listener | None = None) -> Connection:
    """Connect to a relay: greeted, in TLS as asked, logged in.

    Raises ConnectError, GreetingRefused, HeloRefused, TLSError, CertificateError,
    AuthenticationFailed, NotSupported or Disconnected; then nothing is left open.
    """
    context = context_for(relay)
    session = Session(lmtp=relay.lmtp, ignore_extensions=relay.ignore_extensions)
    session.transcript.listener = listener
    connection = Connection(
        session,
        relay.timeouts,
        relay.address,
        server_hostname=relay.server_hostname or relay.host,
        context=context,
    )
    try:
        sock = connection.connect(relay.host, relay.port, relay.source_address)
        name = relay.local_hostname or literal_of(sock)
        connection.run(dialogue.greet(session, implicit_tls=relay.tls is TLS.IMPLICIT))
        connection.run(dialogue.hello(session, name))
        start_tls(connection, relay.tls, name)
        log_in(connection, relay)
    except BaseException:
        connection.close()
        raise
    return connection


def start_tls(connection: Connection, mode: TLS, name: str) -> None:
    """STARTTLS and EHLO again, as `mode` asks for it. Raises TLSError."""
    session = connection.session
    offered = session.extensions.offers("STARTTLS")
    if mode is TLS.STARTTLS and not offered:
        error = TLSError("STARTTLS extension not supported by server.")
        error.advice = (
            "TLS is required here: use another port, or tls='implicit' if this one starts with it"
        )
        error.located(host=connection.host, phase="starttls", transcript=session.transcript.lines())
        raise error
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


def log_in(connection: Connection, relay: Relay) -> None:
    """AUTH, if the relay has credentials. Raises AuthenticationFailed, NotSupported."""
    if relay.username is None or relay.password is None:
        return
    verified = connection.session.tls and relay.verifies
    connection.run(
        auth.login(
            connection.session,
            Credentials(relay.username, Secret(relay.password)),
            confidential=verified or relay.is_loopback,
            allow_insecure=relay.allow_insecure_auth,
        )
    )

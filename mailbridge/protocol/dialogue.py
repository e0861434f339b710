"""The dialogues of a session, each written once as a generator; a driver runs it.

A dialogue writes to the session, yields what it waits for, and decides. It touches no socket and
no clock. Dialogues that deliver return a report; the others return a reply or raise.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from ..errors import (
    AuthenticationFailed,
    Disconnected,
    GreetingRefused,
    HeloRefused,
    MailError,
    NotSupported,
    ProtocolViolation,
    ResponseError,
)
from ..secret import Hidden
from . import sasl
from .command import (
    Auth,
    AuthCancel,
    AuthResponse,
    Ehlo,
    Greeting,
    Helo,
    Lhlo,
    Need,
    Quit,
    Rset,
    StartTLS,
)
from .extension import Extensions
from .reply import Reply
from .session import Dialogue, Session

# A server that goes on asking is broken or hostile; no mechanism here needs more than two.
MAX_CHALLENGES = 5


def greet(session: Session, *, implicit_tls: bool = False) -> Dialogue[Reply]:
    """Wait for the greeting, behind the handshake of implicit TLS (RFC 8314 section 3.3).

    Raises GreetingRefused if it is not 220 (RFC 5321 section 3.1), TLSError from the driver.
    """
    if implicit_tls:
        yield Need.TLS
        session.tls = True
    session.send(Greeting())
    try:
        reply = yield from session.reply()
    except ProtocolViolation as violation:
        error = GreetingRefused(violation.smtp_code, violation.smtp_error)
        error.advice = f"{violation}. Is this a mail server?"
        raise error from None
    if reply.code != 220:
        session.abandon("the greeting was not 220")
        raise GreetingRefused.of(reply)
    return reply


def ehlo(session: Session, name: str) -> Dialogue[Reply]:
    """Say EHLO (LHLO for LMTP) and remember what the server offers. Returns any reply."""
    reply = yield from session.command((Lhlo if session.lmtp else Ehlo)(name))
    session.forget()
    if reply.positive:
        session.hello = reply
        session.esmtp = True
        session.extensions = Extensions.from_reply(
            reply, ignore=session.ignore_extensions, in_tls=session.tls
        )
    return reply


def helo(session: Session, name: str) -> Dialogue[Reply]:
    """Say HELO: no extensions. Returns any reply."""
    reply = yield from session.command(Helo(name))
    session.forget()
    session.hello = reply if reply.positive else None
    return reply


def hello(session: Session, name: str) -> Dialogue[Reply]:
    """EHLO, or HELO for a server that does not know it. Raises HeloRefused."""
    reply = yield from ehlo(session, name)
    # RFC 5321 section 3.2: fall back to HELO; LMTP has none.
    if not reply.positive and reply.code != 421 and not session.lmtp:
        reply = yield from helo(session, name)
    if not reply.positive:
        raise HeloRefused.of(reply)
    return reply


def starttls(session: Session) -> Dialogue[Reply]:
    """STARTTLS and the handshake; afterwards nothing of what was learned before it is kept.

    Raises NotSupported before anything is sent if the server does not offer it, ResponseError if
    it refuses, ProtocolViolation if plaintext follows its 220, TLSError from the driver.
    """
    if session.tls:
        raise NotSupported("STARTTLS: this connection is already in TLS")
    if not session.extensions.offers("STARTTLS"):
        raise NotSupported("STARTTLS extension not supported by server.")
    reply = yield from session.command(StartTLS())
    if reply.code != 220:
        raise ResponseError.of(reply)
    # RFC 3207 section 4.2, CVE-2021-38371: what stands behind the 220 was not sent under TLS.
    session.require_silence()
    yield Need.TLS
    session.tls = True
    session.forget()
    return reply


Respond = Callable[[bytes], bytes]


def authenticate(
    session: Session,
    mechanism: str,
    initial_response: bytes | None,
    respond: Respond,
    *,
    max_line: int = 512,
) -> Dialogue[Reply]:
    """One AUTH exchange (RFC 4954 section 4). Returns the last reply, whatever it is.

    `respond` turns a challenge into a response; what it raises cancels the exchange first.
    """
    challenges = 0
    withheld = None
    if initial_response is not None:
        initial_response = Hidden(initial_response)
    command = Auth(mechanism, initial_response)
    if initial_response is not None:
        session.guard(base64.b64encode(initial_response))
        if len(command.wire) > max_line:
            # RFC 4954 section 4: no initial response beyond the limit of a command line.
            command, withheld = Auth(mechanism), initial_response
    reply = yield from session.command(command)
    while reply.code == 334:
        challenges += 1
        if challenges > MAX_CHALLENGES:
            session.abandon("AUTH did not end")
            raise MailError(f"Server AUTH mechanism infinite loop. Last response: {reply}")
        try:
            if withheld is not None:
                response, withheld = withheld, None
            else:
                response = Hidden(respond(_challenge(reply)))
        except Exception as exc:
            # RFC 4954 section 4: the server answers "*" with 501, and stays in step.
            yield from session.command(AuthCancel())
            if isinstance(exc, ProtocolViolation):
                session.abandon("AUTH was cancelled")
            raise
        except BaseException:
            # No time for "*"; the server would take the next command for the answer.
            session.abandon("AUTH was interrupted")
            raise
        session.guard(base64.b64encode(response))
        reply = yield from session.command(AuthResponse(response))
    return reply


def _challenge(reply: Reply) -> bytes:
    try:
        return base64.b64decode(reply.message, validate=True)
    except binascii.Error:
        # RFC 4954 section 4: what is not base64 must be rejected.
        raise ProtocolViolation("AUTH: the server's challenge is not base64", 334) from None


def login(
    session: Session,
    credentials: sasl.Credentials,
    *,
    confidential: bool,
    allow_insecure: bool = True,
    initial: bool = True,
) -> Dialogue[Reply]:
    """Log in with the best mechanism that both sides know.

    A 535 ends it: the credentials are wrong, and trying them again locks accounts. A 534 or 504
    speaks of the mechanism only, so the next one is tried (RFC 4954 section 6). `confidential`
    says whether nobody can listen; if somebody can, mechanisms that reveal the password are
    used only with `allow_insecure`. `initial` false withholds the initial response.
    Raises NotSupported, AuthenticationFailed, or MailError if no mechanism is common.
    """
    if not session.extensions.offers("AUTH"):
        raise NotSupported("SMTP AUTH extension not supported by server.")
    session.guard(credentials.password.reveal().encode())
    offered = session.extensions.mechanisms
    names = sasl.ranked(offered, confidential=confidential)
    if not names:
        error = MailError(f"No suitable authentication method found; offered: {offered}")
        error.session_usable = True
        raise error
    if not (confidential or allow_insecure):
        names = [name for name in names if not sasl.reveals_password(name)]
        if not names:
            raise _insecure()
    reply = Reply(504)
    for name in names:
        reply = yield from _exchange(session, name, credentials, initial)
        # RFC 4954 section 4: 503 to a second AUTH says that the first one holds.
        if reply.code == 235 or (reply.code == 503 and session.authenticated):
            return reply
        if reply.code not in (504, 534):
            break
    failed = AuthenticationFailed.of(reply)
    if reply.code == 535:
        failed.advice = "Check user name and password"
    elif reply.code in (530, 538):
        failed.advice = "The server wants TLS first: set tls='starttls'"
    raise failed


def _insecure() -> NotSupported:
    # RFC 4954 section 14: no PLAIN where TLS is missing or its certificate was not verified.
    error = NotSupported("the password would cross the network without verified TLS")
    error.advice = (
        "Set tls='starttls' or tls='implicit'; allow_insecure_auth=True sends it all the same"
    )
    return error


def _exchange(
    session: Session, name: str, credentials: sasl.Credentials, initial: bool
) -> Dialogue[Reply]:
    exchange = sasl.MECHANISMS[name](credentials)
    first = next(exchange)

    def respond(challenge: bytes) -> bytes:
        nonlocal first
        if first is not None:
            # No initial response was sent: the first challenge is empty and asks for it.
            response, first = first, None
            return response
        try:
            return exchange.send(challenge) or b""
        except StopIteration:
            raise ProtocolViolation(f"AUTH {name}: one challenge too many", 334) from None

    sent = first if initial else None
    if sent is not None:
        first = None
    return (yield from authenticate(session, name, sent, respond))


def reset(session: Session) -> Dialogue[None]:
    """RSET after a failed transaction. Never raises: the outcome is known already.

    A server that refuses RSET is in a state that nobody knows, so the session is ended.
    """
    if not session.usable:
        return
    try:
        reply = yield from session.command(Rset())
    except Disconnected:
        session.abandon("the connection was lost in RSET")
        return
    if not reply.positive:
        session.abandon(f"RSET was refused: {reply}")


def quit_(session: Session) -> Dialogue[Reply]:
    """Say QUIT. Returns any reply; the session is over."""
    return (yield from session.command(Quit()))

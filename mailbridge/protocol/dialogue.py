"""The dialogues of a session, each written once as a generator; a driver runs it.

A dialogue writes to the session, yields what it waits for, and decides. It touches no socket and
no clock. Dialogues that deliver return a report; the others return a reply or raise.
"""

from __future__ import annotations

from ..errors import (
    CertificateError,
    Disconnected,
    GreetingRefused,
    HeloRefused,
    NotSupported,
    ProtocolViolation,
    ReplyTimeout,
    ResponseError,
    TLSError,
)
from ..report import Phase
from .command import (
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

PLAIN = (
    "The server does not speak TLS from the first byte on this port:"
    " use tls='starttls' (port 587) rather than tls='implicit' (port 465)"
)


def greet(session: Session, *, implicit_tls: bool = False) -> Dialogue[Reply]:
    """Wait for the greeting, behind the handshake of implicit TLS (RFC 8314 section 3.3).

    Raises GreetingRefused if it is not 220 (RFC 5321 section 3.1), TLSError from the driver.
    """
    if implicit_tls:
        _require_silence_before_tls(session)
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


def _require_silence_before_tls(session: Session) -> None:
    # What has come in the clear must not be taken for the greeting, which comes in TLS.
    if not session.has_input:
        return
    try:
        session.require_silence()
    except Disconnected as spoken:
        error = TLSError(f"the TLS handshake failed: {spoken}")
        error.advice = PLAIN
        raise error from None


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
        error = NotSupported("STARTTLS extension not supported by server.")
        error.phase = Phase.TLS
        error.advice = "Ask another port of the server: 587, or 465 in TLS from the first byte"
        raise error
    reply = yield from session.command(StartTLS())
    if reply.code != 220:
        raise ResponseError.of(reply)
    # RFC 3207 section 4.2, CVE-2021-38371: what stands behind the 220 was not sent under TLS.
    session.require_silence()
    try:
        yield Need.TLS
    except (TLSError, ReplyTimeout) as error:
        if error.advice and not isinstance(error, CertificateError):
            # What is known of ports does not help here.
            error.advice = "The server agreed to STARTTLS, and then did not speak TLS"
        raise
    session.tls = True
    session.forget()
    return reply


def reset(session: Session, *, briefly: bool = False) -> Dialogue[None]:
    """RSET after a failed transaction. Never raises: the outcome is known already.

    Where somebody waits for that, it is to be `briefly`: the connection is all that can be lost.
    A server that refuses RSET is in a state that nobody knows, so the session is ended.
    """
    if not session.usable:
        return
    try:
        session.send(Rset())
        while (reply := session.take_reply()) is None:
            yield Need.GOODBYE if briefly else Need.REPLY
    except Disconnected:
        session.abandon("the connection was lost in RSET")
        return
    if not reply.positive:
        session.abandon(f"RSET was refused: {reply}")


def quit_(session: Session) -> Dialogue[Reply]:
    """Say QUIT. Returns any reply; the session is over."""
    return (yield from session.command(Quit()))

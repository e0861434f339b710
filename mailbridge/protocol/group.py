"""The envelope of a transaction: MAIL and RCPT, in one group or one by one; heard, and judged."""

from __future__ import annotations

from ..errors import Disconnected, SenderRefused
from ..report import Phase, State
from .command import DATA, RSET
from .dialogue import reset
from .mail import Group
from .reply import closed_by
from .session import Dialogue, Session
from .transaction import MailTransaction


def begin(session: Session, mail: MailTransaction) -> bool:
    """Queue the round's group, as far as it may go in one write. False if nobody is left."""
    if not mail.start():
        return False
    if session.pipelining:
        session.send(group_of(mail, reset=session.in_transaction))
    return True


def begin_behind(session: Session, mail: MailTransaction) -> Group | None:
    """The group that goes out behind the content of the mail before. None if nobody is left."""
    mail.begun = bool(mail.start())
    # After a refused BDAT nothing but RSET is sure (RFC 3030 section 2).
    return group_of(mail, reset=session.chunking) if mail.begun else None


def group_of(mail: MailTransaction, *, reset: bool) -> Group:
    """The group of a round that was started, behind RSET if that is due."""
    # After a 354 there is no way back but the final dot, so DATA waits if "nobody" is an
    # answer; and BDAT is not sent before its recipients are known (RFC 3030 section 2).
    data = not (mail.all_or_nothing or mail.by_bdat)
    mail.group = Group(framed(mail.lines, reset=reset, data=data), mail.smtputf8)
    return mail.group


def framed(lines: list[bytes], *, reset: bool, data: bool) -> list[bytes]:
    """The lines of MAIL and RCPT, behind RSET and before DATA as is due."""
    if reset:
        # RFC 2920 section 3.1: RSET may stand anywhere, so a reset costs no round trip.
        return [RSET, *lines, DATA] if data else [RSET, *lines]
    return [*lines, DATA] if data else lines


def hear_group(session: Session, mail: MailTransaction) -> Dialogue[bool]:
    """Read every reply of the group that was sent, and sort them. True if each says yes."""
    while session.alive and not session.has_input:
        # More than once for a window, which looks without waiting first.
        yield from session.wait()
    if is_granted(session, mail):
        return True
    try:
        yield from _hear_each(session, mail)
    finally:
        mail.sort_replies()
    return False


def is_granted(session: Session, mail: MailTransaction) -> bool:
    """True if every reply of the group is here, and says yes."""
    if not mail.granted:
        replies = session.take_consent(mail.group)
        if replies is not None:
            mail.grant(replies)
    return mail.granted


def _hear_each(session: Session, mail: MailTransaction) -> Dialogue[None]:
    lines = mail.group.lines
    if lines[0] is RSET:
        lines = lines[1:]
        reset_reply = yield from session.reply()
        if not reset_reply.positive:
            session.abandon(f"RSET was refused: {reset_reply}")
            raise Disconnected(f"the server refused RSET: {reset_reply}")
    while len(mail.heard) < len(lines):
        reply = session.take_reply()
        if reply is None:
            reply = yield from session.reply()
        mail.heard.append(reply)
        if reply.code == 421:
            if lines[len(mail.heard) - 1].startswith(b"RCPT"):
                raise closed_by(reply)
            return


def ask_in_turn(session: Session, mail: MailTransaction) -> Dialogue[None]:
    """MAIL and RCPT one by one. Stops at the first that makes the rest pointless."""
    if session.in_transaction:
        yield from reset(session)
    try:
        for line in mail.lines:
            reply = yield from session.command(Group([line], mail.smtputf8))
            mail.heard.append(reply)
            if len(mail.heard) == 1 and not reply.positive:
                return
            if reply.code == 421:
                raise closed_by(reply)
    finally:
        mail.sort_replies()


def judge_envelope(mail: MailTransaction) -> bool:
    """Settle what the envelope's replies decided. True if there is somebody to send content for."""
    reply = mail.heard[0]
    if not reply.positive:
        refused = SenderRefused(reply.code, reply.message, mail.envelope.sender, reply=reply)
        if reply.code == 530:
            refused.advice = (
                "The server wants TLS first: set tls='starttls'"
                if b"TLS" in reply.message.upper()
                else "The server wants a login first: set username and password"
            )
        mail.refuse_all(refused, Phase.MAIL, reply)
        return False
    for address, refusal in mail.refusals:
        mail.refuse([address], Phase.RCPT, refusal)
    missing = len(mail.envelope.forward_paths) - len(mail.accepted)
    if mail.all_or_nothing and missing:
        reason = "other recipients were refused"
        mail.settle(mail.accepted, State.NOT_ATTEMPTED, Phase.RCPT, reason=reason)
        for address, refusal in mail.too_many:
            mail.refuse([address], Phase.RCPT, refusal)
        return False
    return bool(mail.accepted)

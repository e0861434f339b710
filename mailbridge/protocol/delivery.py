"""Delivering: MAIL, RCPT, DATA or BDAT, and the content.

With PIPELINING a transaction is one group of commands (RFC 2920): ``MAIL``, every ``RCPT`` and
``DATA`` in one write; the content and the next transaction's group in the next. Every reply of a
group is read, paired by counting, and only then judged. Without it the same commands go one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from ..envelope import Address
from ..errors import (
    DeliveryInDoubt,
    DeliveryInDoubtTimeout,
    Disconnected,
    MessageRefused,
    ProtocolViolation,
    SendStopped,
)
from ..report import DeliveryReport, Phase, State
from .command import Bdat, Command, Content, Data, Need, Quit
from .content import CHUNK, Body, Chunks, wire_of
from .dialogue import reset
from .express import express, is_ordinary
from .group import ask_in_turn, begin, begin_behind, hear_group, is_granted, judge_envelope
from .reply import Reply
from .session import Dialogue, Session
from .transaction import MailTransaction, Told, Witness

logger = logging.getLogger("mailbridge")

# BDAT chunks that are on their way, where the server pipelines.
CHUNKS_IN_FLIGHT = 4


def deliver(
    session: Session,
    mail: MailTransaction,
    following: MailTransaction | None = None,
    *,
    leave_reset: bool = False,
    last: bool = False,
) -> Dialogue[DeliveryReport]:
    """Send one mail and report on every recipient.

    Refusals and the loss of the connection are in the report and in its `error`; nothing is
    raised for them. Where the server pipelines, the group of `following` goes out behind the
    content; it must be delivered next on this session. Unless the session is over, it is ready for
    the next transaction; with `leave_reset` a RSET that is due rides with that one's MAIL. If it is
    the `last` on this connection QUIT goes out behind the content, and its reply is not awaited.

    Raises AuthenticationFailed if a login was begun before, and is refused.
    """
    try:
        if session.login is not None:
            yield from _end_login(session, mail)
        reply = None
        if not last and is_ordinary(session, mail):
            reply = yield from express(session, mail, following)
        if reply is not None:
            _judge(mail, mail.accepted, reply)
        else:
            while (yield from _round(session, mail, following, last)):
                pass
    except Disconnected as lost:
        _settle_lost(session, mail, lost)
    except SendStopped as stopped:
        _settle_stopped(session, mail, stopped)
    return (yield from _end(session, mail, leave_reset=leave_reset))


def hear_content(
    session: Session, mail: MailTransaction, *, leave_reset: bool
) -> Dialogue[DeliveryReport]:
    """The report on a mail whose content was sent, and is to be answered; else as `deliver`."""
    try:
        reply = yield from session.reply()
        _judge(mail, mail.accepted, reply)
    except Disconnected as gone:
        _settle_lost(session, mail, gone)
    return (yield from _end(session, mail, leave_reset=leave_reset))


def _end(session: Session, mail: MailTransaction, *, leave_reset: bool) -> Dialogue[DeliveryReport]:
    """The report on a mail whose outcome is known, with the session ready for the next."""
    if session.in_transaction and session.usable and not leave_reset:
        yield from reset(session, briefly=True)
    return report_on(session, mail)


def report_on(session: Session, mail: MailTransaction) -> DeliveryReport:
    """The report on a mail, and whether the session has outlived it."""
    report = mail.report()
    report.session_usable = session.alive
    if mail.error is not None and not session.alive:
        mail.error.session_usable = False
    return report


def _end_login(session: Session, mail: MailTransaction) -> Dialogue[None]:
    """Hear the login that was begun, with the envelope behind it in the same write."""
    # Whatever a server that refuses the login makes of the envelope: DATA is not in this group,
    # so there is no content that it could wait for.
    if mail.by_bdat or mail.all_or_nothing:
        mail.begun = begin(session, mail)
    login, session.login = session.login, None
    if login is not None:
        yield from login


def _round(
    session: Session, mail: MailTransaction, following: MailTransaction | None, last: bool
) -> Dialogue[bool]:
    """One transaction. True if it left recipients for another."""
    begun, mail.begun = mail.begun, False
    if not (begun or begin(session, mail)):
        return False
    granted = begun and is_granted(session, mail)
    if not granted:
        if session.pipelining:
            granted = yield from hear_group(session, mail)
        else:
            yield from ask_in_turn(session, mail)
    wanted = (granted and not mail.all_or_nothing) or judge_envelope(mail)
    more = not mail.all_or_nothing and len(mail.unsettled) > len(mail.accepted)
    if not wanted:
        yield from _unwanted_content(session, mail)
        return more
    if mail.data_reply is None and not mail.by_bdat:
        mail.data_reply = yield from session.command(Data())
    if mail.data_reply is not None and not mail.data_reply.intermediate:
        mail.refuse_all(MessageRefused.of(mail.data_reply), Phase.DATA, mail.data_reply)
        return False
    yield from _content(session, mail, None if more else following, last and not more)
    return more and mail.error is None


def _behind(session: Session, following: MailTransaction | None, last: bool) -> Iterable[Command]:
    """What goes out in one write with the end of a content: the next group, or QUIT."""
    if not session.pipelining:
        return ()
    if following is None:
        return (Quit(),) if last else ()
    group = begin_behind(session, following)
    return () if group is None else (group,)


def _unwanted_content(session: Session, mail: MailTransaction) -> Dialogue[None]:
    """Answer a 354 that came although nobody is to get content: the lone dot of RFC 2920 3.1."""
    session.in_transaction = session.unusable_because is None
    if mail.data_reply is not None and mail.data_reply.intermediate:
        if mail.accepted:
            # Refused the sender, and took a recipient: a lone dot would be an empty mail to them.
            session.abandon("the server wants content for a mail that it refused")
            return
        yield from session.command(Content([b".\r\n"], 0))
        # Whatever the server makes of it, the transaction is over when it was reset.
        session.in_transaction = True


def _content(
    session: Session, mail: MailTransaction, following: MailTransaction | None, last: bool
) -> Dialogue[None]:
    """The content, the next group or QUIT behind it, and the replies to the content."""
    replies = len(mail.accepted) if session.lmtp else 1
    content: Content | None
    if mail.by_bdat and mail.content.size > CHUNK:
        content = yield from _chunks(session, mail, replies)
        if content is None:
            return
    else:
        content = mail.whole_content(replies)
    if mail.witness is not None:
        yield from _ask_leave(mail, mail.witness)
    session.send(content, *_behind(session, following, last))
    for index in range(replies):
        group = mail.accepted[index : index + 1] if session.lmtp else mail.accepted
        reply = yield from session.reply()
        # With LMTP the others' replies are still to come, whatever happens now.
        mail.in_doubt = index + 1 < replies
        _judge(mail, group, reply, alone=not session.lmtp)
        if mail.witness is not None:
            yield from _tell(mail.witness.after_reply(group, reply))


def _judge(
    mail: MailTransaction, group: Sequence[Address], reply: Reply, *, alone: bool = True
) -> None:
    """Settle what the reply to the content decided: for all, or with LMTP for one recipient."""
    mail.reply = reply
    if reply.positive:
        mail.accept(group, reply)
    elif reply.intermediate:
        mail.in_doubt = True
        raise ProtocolViolation(f"not an answer to a message: {reply}", reply.code)
    elif alone:
        refused = MessageRefused.of(reply)
        if mail.by_bdat and reply.code in (500, 502):
            refused.advice = _ignore("CHUNKING")
        mail.refuse_all(refused, Phase.CONTENT, reply)
    else:
        mail.refuse(group, Phase.CONTENT, reply)


def _ignore(keyword: str) -> str:
    return f"If the server offers {keyword} and cannot do it, set ignore_extensions={keyword!r}"


def _ask_leave(mail: MailTransaction, witness: Witness) -> Dialogue[None]:
    """Tell the witness that the end of the content is next. Raises SendStopped if it objects."""
    call = witness.before_final_dot(mail.accepted)
    if call is None:
        return
    yield call
    if call.error is not None:
        kind = type(call.error).__name__
        stopped = SendStopped(f"before_final_dot stopped the send: {kind}: {call.error}")
        stopped.advice = "Nothing was handed over; the cause says why"
        raise stopped from call.error


def _tell(call: Told | None) -> Dialogue[None]:
    if call is None:
        return
    error: Exception | None
    try:
        yield call
        error = call.error
    except Disconnected as late:
        error = late
    if error is not None:
        # The mail is where it is: to raise now would hide that.
        logger.error("after_reply failed: %r", error, exc_info=error)


def _chunks(session: Session, mail: MailTransaction, replies: int) -> Dialogue[Bdat | None]:
    """Send the content by BDAT but for its last chunk, and return that.

    None if a chunk was refused: the mail is settled then, no more were sent, and those on their
    way are answered.
    """
    chunks, left = Chunks(mail.content), mail.content.size
    most, waiting = CHUNKS_IN_FLIGHT if session.pipelining else 1, 0
    while left > CHUNK or waiting:
        if left > CHUNK and waiting < most:
            session.send(Bdat(CHUNK, chunks.take(CHUNK), last=False))
            left -= CHUNK
            waiting += 1
            continue
        reply = yield from session.reply()
        waiting -= 1
        if not reply.positive:
            yield from _drain(session, waiting)
            mail.refuse_all(MessageRefused.of(reply), Phase.CONTENT, reply)
            return None
    return Bdat(left, chunks.take(left), last=True, replies=replies)


def _drain(session: Session, replies: int) -> Dialogue[None]:
    """Hear what answers the chunks behind a refused one. The refusal stands, whatever comes.

    So nobody waits long for it: the connection is all that can be lost.
    """
    try:
        # One that came before its chunk was sent to the end has ended the session.
        while replies and session.alive:
            if session.take_reply() is None:
                yield Need.GOODBYE
            else:
                replies -= 1
    except Disconnected:
        session.abandon("the connection was lost behind a refused chunk")


def data(session: Session, content: Body) -> Dialogue[Reply]:
    """DATA and the content by themselves. Returns the reply to it, the first bad one for LMTP.

    Raises MessageRefused if DATA is not answered by 354, DeliveryInDoubt if the reply to the
    content never comes, Disconnected if the connection is lost before all of it was sent.
    """
    reply = yield from session.command(Data())
    if not reply.intermediate:
        raise MessageRefused.of(reply)
    replies = max(1, session.recipients_accepted) if session.lmtp else 1
    session.send(Content(wire_of(content, dots=True), content.size, replies))
    try:
        answers = yield from hear(session, replies)
    except Disconnected as lost:
        raise doubt_of(lost) if session.handed_over else lost from lost
    return next((answer for answer in answers if not answer.positive), answers[0])


def hear(session: Session, count: int) -> Dialogue[list[Reply]]:
    """The replies to the `count` oldest unanswered commands, in order."""
    replies: list[Reply] = []
    while len(replies) < count:
        replies += [(yield from session.reply())]
    return replies


def doubt_of(lost: Disconnected) -> DeliveryInDoubt:
    """The error for a mail whose content was handed over before this."""
    cls = DeliveryInDoubtTimeout if isinstance(lost, TimeoutError) else DeliveryInDoubt
    doubt = cls(f"delivery in doubt: the content was handed over, then: {lost}")
    doubt.advice = "The message may have been delivered; sending it again may deliver it twice"
    doubt.phase = Phase.CONTENT
    doubt.__cause__ = lost
    return doubt


def _settle_stopped(session: Session, mail: MailTransaction, stopped: SendStopped) -> None:
    """A hook objected: nobody gets the mail, and the server must not find an end to it."""
    if not mail.by_bdat:
        # It waits for content, and whatever came next would be taken for that.
        session.abandon("the send was stopped before the content")
    mail.error = stopped
    stopped.phase = Phase.CONTENT
    waiting = mail.envelope.forward_paths
    mail.settle(waiting, State.NOT_ATTEMPTED, Phase.CONTENT, reason=str(stopped))


def _settle_lost(session: Session, mail: MailTransaction, lost: Disconnected) -> None:
    """The connection is gone: what is not settled was not attempted, or is in doubt."""
    if mail.accepted and (session.handed_over or mail.in_doubt):
        mail.settle(mail.accepted, State.IN_DOUBT, Phase.CONTENT, reason=str(lost))
        mail.error = doubt_of(lost)
    else:
        mail.error = lost
        lost.phase = lost.phase or session.phase
        behind_mail = lost.phase in (Phase.RCPT, Phase.DATA) and session.pipelining
        if behind_mail and isinstance(lost, TimeoutError) and not lost.advice:
            lost.advice = _ignore("PIPELINING")
    for address, refusal in mail.refusals:
        mail.refuse([address], Phase.RCPT, refusal)
    waiting = mail.envelope.forward_paths
    mail.settle(waiting, State.NOT_ATTEMPTED, session.phase, reason=str(lost))
    session.abandon("the connection was lost")

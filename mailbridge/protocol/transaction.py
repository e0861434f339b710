"""The mail transaction: MAIL, RCPT, DATA or BDAT, content, and what becomes of each recipient.

With PIPELINING a transaction is one group of commands (RFC 2920): ``MAIL``, every ``RCPT`` and
``DATA`` in one write; the content and the next transaction's group in the next. Every reply of a
group is read, paired by counting, and only then judged. Without it the same commands go one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..envelope import Address, Envelope
from ..errors import (
    DeliveryInDoubt,
    DeliveryInDoubtTimeout,
    Disconnected,
    MailError,
    MessageRefused,
    ProtocolViolation,
    ResponseError,
    SenderRefused,
)
from ..report import DeliveryReport, Phase, RecipientResult, State
from .command import Bdat, Command, Content, Data, Mail, Rcpt, Rset
from .content import pieces, stuffed
from .dialogue import reset
from .reply import Reply
from .session import Dialogue, Session, closed_by

# Octets in a BDAT chunk, and chunks on their way: enough to keep a long path busy, and a refusal
# in the middle still saves most of a large content.
CHUNK = 1024 * 1024
CHUNKS_IN_FLIGHT = 4


@dataclass(slots=True)
class MailTransaction:
    """One envelope and one content on their way through a session.

    `content` is as `content.canonical` makes it. `mail_parameters` and `rcpt_parameters` are
    ESMTP parameters, already known to be allowed. With `all_or_nothing` no content is sent
    unless every recipient was accepted. Recipients that are settled already are not offered.
    """

    envelope: Envelope
    content: bytes
    mail_parameters: Sequence[str] = ()
    rcpt_parameters: Sequence[str] = ()
    smtputf8: bool = False
    all_or_nothing: bool = False
    max_recipients: int | None = None
    results: dict[str, RecipientResult] = field(default_factory=dict)
    reply: Reply | None = None
    error: MailError | None = None
    in_doubt: bool = False
    # What this round, one MAIL to its end, has come to.
    begun: bool = False
    commands: list[Command] = field(default_factory=list)
    offered: list[Rcpt] = field(default_factory=list)
    mail_reply: Reply | None = None
    data_reply: Reply | None = None
    accepted: list[Address] = field(default_factory=list)
    refusals: list[tuple[Address, Reply]] = field(default_factory=list)
    too_many: list[tuple[Address, Reply]] = field(default_factory=list)

    def start(self) -> list[Command]:
        """MAIL and the RCPTs of the next round; empty if nobody is left to offer.

        Every command is made before the first is sent: what is invalid is found out here.
        """
        limit = None if self.all_or_nothing else self.max_recipients
        self.offered = [
            Rcpt(address, self.rcpt_parameters, self.smtputf8) for address in self.unsettled[:limit]
        ]
        if not self.offered:
            return []
        self.mail_reply = self.data_reply = None
        self.accepted, self.refusals, self.too_many = [], [], []
        mail = Mail(self.envelope.reverse_path, self.mail_parameters, self.smtputf8)
        self.commands = [mail, *self.offered]
        return self.commands

    @property
    def unsettled(self) -> list[Address]:
        """The recipients without a final state."""
        return [a for a in self.envelope.forward_paths if str(a) not in self.results]

    def hear(self, command: Command, reply: Reply) -> None:
        """Take the reply to one command of the round. Nothing is judged before all are heard."""
        if isinstance(command, Mail):
            self.mail_reply = reply
        elif isinstance(command, Data):
            self.data_reply = reply
        elif isinstance(command, Rcpt):
            if reply.positive:
                self.accepted.append(command.address)
            elif self.accepted and _too_many(reply):
                self.too_many.append((command.address, reply))
            else:
                self.refusals.append((command.address, reply))

    def settle(
        self,
        addresses: Iterable[Address | str],
        state: State,
        phase: Phase | None,
        reply: Reply | None = None,
        reason: str | None = None,
    ) -> None:
        """Give each address its final state, unless it has one."""
        for address in map(str, addresses):
            self.results.setdefault(address, RecipientResult(address, state, phase, reply, reason))

    def refuse(self, addresses: Iterable[Address | str], phase: Phase, reply: Reply) -> None:
        """Settle addresses by a reply that is no acceptance."""
        if reply.code == 421 or not (reply.transient or reply.permanent):
            # RFC 5321 section 3.8: 421 speaks of the server, not of the recipient.
            self.settle(addresses, State.NOT_ATTEMPTED, phase, reply)
        else:
            state = State.DEFERRED if reply.transient else State.REFUSED
            self.settle(addresses, state, phase, reply)

    def refuse_all(self, error: MailError, phase: Phase, reply: Reply) -> None:
        """Settle all that are left by a reply to the sender or to the message."""
        self.reply = reply if phase is not Phase.MAIL else self.reply
        self.error = error
        error.phase = phase
        self.refuse((rcpt.address for rcpt in self.offered), phase, reply)
        self.refuse(self.envelope.forward_paths, phase, reply)

    def refuse_locally(self, code: int, text: str) -> None:
        """Refuse the whole mail before the server is asked."""
        self.settle(self.envelope.forward_paths, State.REFUSED, Phase.MAIL, reason=f"{code} {text}")
        self.error = MessageRefused(code, text.encode())
        self.error.phase = Phase.MAIL

    def report(self) -> DeliveryReport:
        """The results, in the envelope's order."""
        self.settle(self.envelope.forward_paths, State.NOT_ATTEMPTED, None)
        results = {address: self.results[address] for address in self.envelope.recipients}
        if isinstance(self.error, ResponseError) and any(
            result.state is State.ACCEPTED for result in results.values()
        ):
            # Some got it in an earlier round: "nobody got the mail" would make them get it twice.
            self.error = None
        report = DeliveryReport(results, self.envelope.sender, reply=self.reply, error=self.error)
        if self.error is not None:
            self.error.report = report
        return report


def _too_many(reply: Reply) -> bool:
    # RFC 5321 section 4.5.3.1.10: 452, or 552 from older servers, after some were accepted,
    # means "these in another transaction", unless the enhanced code speaks of the mailbox.
    return reply.code in (452, 552) and (reply.status is None or reply.status[1:] == (5, 3))


def deliver(
    session: Session,
    mail: MailTransaction,
    following: MailTransaction | None = None,
    *,
    leave_reset: bool = False,
) -> Dialogue[DeliveryReport]:
    """Send one mail and report on every recipient.

    Refusals and the loss of the connection are in the report and in its `error`; nothing is
    raised for them. Where the server pipelines, the group of `following` goes out behind the
    content; it must be delivered next on this session. Unless the session is over, it is ready for
    the next transaction; with `leave_reset` a RSET that is due rides with that one's MAIL.
    """
    try:
        while (yield from _round(session, mail, following)):
            pass
    except Disconnected as lost:
        _settle_lost(session, mail, lost)
    if session.in_transaction and session.usable and not leave_reset:
        yield from reset(session)
    if mail.error is not None and session.unusable_because is not None:
        mail.error.session_usable = False
    return mail.report()


def _round(
    session: Session, mail: MailTransaction, following: MailTransaction | None
) -> Dialogue[bool]:
    """One transaction. True if it left recipients for another."""
    if not (mail.begun or _begin(session, mail)):
        return False
    mail.begun = False
    if session.pipelining:
        yield from _hear_group(session, mail)
    else:
        yield from _ask_in_turn(session, mail)
    wanted = _judge_envelope(mail)
    more = not mail.all_or_nothing and len(mail.unsettled) > len(mail.accepted)
    if not wanted:
        yield from _unwanted_content(session, mail)
        return more
    if mail.data_reply is None and not session.chunking:
        mail.hear(data := Data(), (yield from session.command(data)))
    if mail.data_reply is not None and not mail.data_reply.intermediate:
        mail.refuse_all(MessageRefused.of(mail.data_reply), Phase.DATA, mail.data_reply)
        return False
    yield from _content(session, mail, None if more else following)
    return more and mail.error is None


def _begin(session: Session, mail: MailTransaction, *, ahead: bool = False) -> bool:
    """Queue the round's group, as far as it may go in one write. False if nobody is left.

    `ahead` is for a group that is sent before the transaction in front of it has ended.
    """
    commands = list(mail.start())
    if not commands:
        return False
    mail.begun = True
    if session.pipelining:
        # After a refused BDAT nothing but RSET is sure (RFC 3030 section 2).
        if session.chunking if ahead else session.in_transaction:
            # RFC 2920 section 3.1: RSET may stand anywhere, so a reset costs no round trip.
            commands.insert(0, Rset())
        # After a 354 there is no way back but the final dot, so DATA waits if "nobody" is an
        # answer; and BDAT is not sent before its recipients are known (RFC 3030 section 2).
        if not (mail.all_or_nothing or session.chunking):
            commands.append(Data())
        session.send(*commands)
    return True


def _hear_group(session: Session, mail: MailTransaction) -> Dialogue[None]:
    """Read every reply of the group that was sent."""
    while (command := session.oldest_unanswered) is not None:
        if isinstance(command, Mail) and mail.mail_reply is not None:
            return  # the next transaction's
        reply = yield from session.reply()
        _check(session, command, reply)
        mail.hear(command, reply)
        if reply.code == 421 and not isinstance(command, (Mail, Data)):
            raise closed_by(reply)
        if reply.code == 421:
            return


def _ask_in_turn(session: Session, mail: MailTransaction) -> Dialogue[None]:
    """MAIL and RCPT one by one. Stops at the first that makes the rest pointless."""
    if session.in_transaction:
        yield from reset(session)
    for command in mail.commands:
        reply = yield from session.command(command)
        mail.hear(command, reply)
        if isinstance(command, Mail) and not reply.positive:
            return
        if reply.code == 421:
            raise closed_by(reply)


def _check(session: Session, command: Command, reply: Reply) -> None:
    if isinstance(command, Rset) and not reply.positive:
        session.abandon(f"RSET was refused: {reply}")
        raise Disconnected(f"the server refused RSET: {reply}")


def _judge_envelope(mail: MailTransaction) -> bool:
    """Settle what the envelope's replies decided. True if there is somebody to send content for."""
    reply = mail.mail_reply
    if reply is None or not reply.positive:
        reply = reply or Reply(421)
        refused = SenderRefused(reply.code, reply.message, mail.envelope.sender, reply=reply)
        if reply.code == 530:
            refused.advice = "The server wants a login or TLS first: set username and password"
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


def _unwanted_content(session: Session, mail: MailTransaction) -> Dialogue[None]:
    """Answer a 354 that came although nobody is to get content: the lone dot of RFC 2920 3.1."""
    session.in_transaction = session.unusable_because is None
    if mail.data_reply is not None and mail.data_reply.intermediate:
        yield from session.command(Content([stuffed(b"")], 0))
        # Whatever the server makes of it, the transaction is over when it was reset.
        session.in_transaction = True


def _content(
    session: Session, mail: MailTransaction, following: MailTransaction | None
) -> Dialogue[None]:
    """The content, the group of the next transaction behind it, and the replies to the content."""
    replies = len(mail.accepted) if session.lmtp else 1
    if session.chunking:
        refused = yield from _chunks(session, mail, replies)
        if refused is not None:
            mail.refuse_all(MessageRefused.of(refused), Phase.CONTENT, refused)
            return
    else:
        wire = stuffed(mail.content)
        session.send(Content(pieces(wire), len(mail.content), replies))
    if following is not None and session.pipelining:
        _begin(session, following, ahead=True)
    for index in range(replies):
        group = [mail.accepted[index]] if session.lmtp else mail.accepted
        reply = yield from session.reply()
        mail.reply = reply
        # With LMTP the others' replies are still to come, whatever happens now.
        mail.in_doubt = index + 1 < replies
        if reply.positive:
            mail.settle(group, State.ACCEPTED, Phase.CONTENT, reply)
        elif reply.intermediate:
            mail.in_doubt = True
            raise ProtocolViolation(f"not an answer to a message: {reply}", reply.code)
        elif session.lmtp:
            mail.refuse(group, Phase.CONTENT, reply)
        else:
            mail.refuse_all(MessageRefused.of(reply), Phase.CONTENT, reply)


def _chunks(session: Session, mail: MailTransaction, replies: int) -> Dialogue[Reply | None]:
    """Send the content by BDAT, up to the last chunk, whose replies are left to be read.

    Returns the reply of a chunk that was refused: then no more were sent, and those on their
    way are answered.
    """
    content = mail.content
    waiting = 0
    for start in range(0, len(content) or 1, CHUNK):
        chunk = content[start : start + CHUNK]
        last = start + CHUNK >= len(content)
        while waiting and (last or waiting >= CHUNKS_IN_FLIGHT):
            reply = yield from session.reply()
            waiting -= 1
            if not reply.positive:
                yield from session.replies(waiting)
                return reply
        session.send(Bdat(chunk, last=last, replies=replies))
        waiting += not last
    return None


def data(session: Session, content: bytes) -> Dialogue[Reply]:
    """DATA and the content by themselves. Returns the reply to it, the first bad one for LMTP.

    Raises MessageRefused if DATA is not answered by 354, DeliveryInDoubt if the reply to the
    content never comes, Disconnected if the connection is lost before all of it was sent.
    """
    reply = yield from session.command(Data())
    if not reply.intermediate:
        raise MessageRefused.of(reply)
    replies = max(1, session.recipients_accepted) if session.lmtp else 1
    session.send(Content(pieces(stuffed(content)), len(content), replies))
    try:
        answers = yield from session.replies(replies)
    except Disconnected as lost:
        raise _doubt(lost) if session.handed_over else lost from lost
    return next((answer for answer in answers if not answer.positive), answers[0])


def _doubt(lost: Disconnected) -> DeliveryInDoubt:
    cls = DeliveryInDoubtTimeout if isinstance(lost, TimeoutError) else DeliveryInDoubt
    doubt = cls(f"delivery in doubt: the content was handed over, then: {lost}")
    doubt.advice = "The message may have been delivered; sending it again may deliver it twice"
    doubt.phase = Phase.CONTENT
    doubt.__cause__ = lost
    return doubt


def _settle_lost(session: Session, mail: MailTransaction, lost: Disconnected) -> None:
    """The connection is gone: what is not settled was not attempted, or is in doubt."""
    if mail.accepted and (session.handed_over or mail.in_doubt):
        mail.settle(mail.accepted, State.IN_DOUBT, Phase.CONTENT, reason=str(lost))
        mail.error = _doubt(lost)
    else:
        mail.error = lost
        lost.phase = lost.phase or session.phase
    for address, refusal in mail.refusals:
        mail.refuse([address], Phase.RCPT, refusal)
    waiting = mail.envelope.forward_paths
    mail.settle(waiting, State.NOT_ATTEMPTED, session.phase, reason=str(lost))
    session.abandon("the connection was lost")

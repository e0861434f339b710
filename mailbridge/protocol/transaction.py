"""The mail transaction: MAIL, RCPT, DATA, content, and what becomes of each recipient."""

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
    SenderRefused,
)
from ..report import DeliveryReport, Phase, RecipientResult, State
from .command import Content, Data, Mail, Rcpt
from .content import pieces, stuffed
from .dialogue import reset
from .reply import Reply
from .session import Dialogue, Session


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
    in_doubt: bool = False
    results: dict[str, RecipientResult] = field(default_factory=dict)
    reply: Reply | None = None
    error: MailError | None = None

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

    def refuse_locally(self, code: int, text: str) -> None:
        """Refuse the whole mail before the server is asked."""
        self.settle(self.envelope.forward_paths, State.REFUSED, Phase.MAIL, reason=f"{code} {text}")
        self.error = MessageRefused(code, text.encode())
        self.error.phase = Phase.MAIL

    def report(self) -> DeliveryReport:
        """The results, in the envelope's order."""
        self.settle(self.envelope.forward_paths, State.NOT_ATTEMPTED, None)
        results = {address: self.results[address] for address in self.envelope.recipients}
        report = DeliveryReport(results, self.envelope.sender, reply=self.reply, error=self.error)
        if self.error is not None:
            self.error.report = report
        return report


def deliver(session: Session, mail: MailTransaction) -> Dialogue[DeliveryReport]:
    """Send one mail, lock-step, and report on every recipient.

    Refusals and the loss of the connection are in the report and in its `error`; nothing is
    raised for them. Unless the session is over, it is ready for the next transaction.
    """
    accepted: list[Address] = []
    try:
        accepted = yield from _envelope(session, mail)
        if accepted:
            yield from _content(session, mail, accepted)
    except Disconnected as lost:
        _settle_lost(session, mail, lost)
    if session.in_transaction:
        yield from reset(session)
    if mail.error is not None:
        mail.error.session_usable = mail.error.session_usable and session.usable
    return mail.report()


def _envelope(session: Session, mail: MailTransaction) -> Dialogue[list[Address]]:
    """MAIL and every RCPT. Returns the recipients to send content for: none if it must not be."""
    envelope = mail.envelope
    # Every command is made before the first is sent: what is invalid is found out here.
    start = Mail(envelope.reverse_path, mail.mail_parameters, mail.smtputf8)
    rcpts = [
        Rcpt(address, mail.rcpt_parameters, mail.smtputf8)
        for address in envelope.forward_paths
        if str(address) not in mail.results
    ]
    if not rcpts:
        return []
    reply = yield from session.command(start)
    if not reply.positive:
        mail.error = SenderRefused(reply.code, reply.message, envelope.sender, reply=reply)
        mail.error.phase = Phase.MAIL
        if reply.code == 530:
            mail.error.advice = "The server wants a login or TLS first: set username and password"
        mail.refuse(envelope.forward_paths, Phase.MAIL, reply)
        # Whether a refused MAIL left the server inside a transaction is for RSET to settle.
        session.in_transaction = True
        return []
    accepted = []
    for rcpt in rcpts:
        reply = yield from session.command(rcpt)
        if reply.positive:
            accepted.append(rcpt.address)
            continue
        mail.refuse([rcpt.address], Phase.RCPT, reply)
        if reply.code == 421:
            lost = Disconnected(f"the server closed the connection: {reply}")
            lost.reply = reply
            raise lost
    if mail.all_or_nothing and len(accepted) < len(envelope.forward_paths):
        mail.settle(accepted, State.NOT_ATTEMPTED, Phase.RCPT, reason="other recipients refused")
        return []
    return accepted


def _content(session: Session, mail: MailTransaction, accepted: list[Address]) -> Dialogue[None]:
    reply = yield from session.command(Data())
    if not reply.intermediate:
        _refused(mail, accepted, Phase.DATA, reply)
        return
    replies = len(accepted) if session.lmtp else 1
    session.send(Content(pieces(stuffed(mail.content)), len(mail.content), replies))
    for address in accepted if session.lmtp else [None]:
        group = accepted if address is None else [address]
        reply = yield from session.reply()
        mail.reply = reply
        # With LMTP the others' replies are still to come, whatever happens now.
        mail.in_doubt = session.lmtp
        if reply.positive:
            mail.settle(group, State.ACCEPTED, Phase.CONTENT, reply)
        elif reply.intermediate:
            mail.in_doubt = True
            raise ProtocolViolation(f"not an answer to a message: {reply}", reply.code)
        elif session.lmtp:
            mail.refuse(group, Phase.CONTENT, reply)
        else:
            _refused(mail, group, Phase.CONTENT, reply)


def _refused(mail: MailTransaction, accepted: list[Address], phase: Phase, reply: Reply) -> None:
    mail.refuse(accepted, phase, reply)
    mail.reply = reply
    mail.error = MessageRefused.of(reply)
    mail.error.phase = phase


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
    waiting = mail.envelope.forward_paths
    if session.handed_over or mail.in_doubt:
        mail.settle(waiting, State.IN_DOUBT, Phase.CONTENT, reason=str(lost))
        mail.error = _doubt(lost)
    else:
        mail.settle(waiting, State.NOT_ATTEMPTED, session.phase, reason=str(lost))
        mail.error = lost
        lost.phase = lost.phase or session.phase
    session.abandon("the connection was lost")

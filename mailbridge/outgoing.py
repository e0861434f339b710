"""A mail on its way out: checked once, fitted to each server it meets, described in its report."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

from .deadline import Deadline
from .envelope import Address, Envelope
from .errors import InvalidInput, MailError, NotSupported
from .fitting import fitted
from .hooks import Handover, Hooks, Witness
from .message import header_of, message_id
from .options import Relay
from .protocol.content import Binary, Body, Prefixed, body
from .protocol.mail import Mail, Rcpt, check_parameters
from .protocol.parameters import check_offered
from .protocol.session import Session
from .protocol.transaction import MailTransaction
from .protocol.transcript import Transcript
from .report import DeliveryReport, OnRefused, Phase, RecipientResult, State
from .sendmail import parameter_name, plan

logger = logging.getLogger("mailbridge")

#: What may be sent: octets, a text in ASCII, a binary file, an iterable of octets, or a Body.
Content = bytes | bytearray | memoryview | str | IO[bytes] | Iterable[bytes] | Body


@dataclass(frozen=True, slots=True, init=False)
class Outgoing:
    """One mail as `Transport.send` takes it. Raises InvalidInput for what no server could take."""

    envelope: Envelope
    content: Body
    mail_options: tuple[str, ...]
    rcpt_options: tuple[str, ...]
    on_refused: OnRefused
    deadline: Deadline | None
    hooks: Hooks | None
    attempt: int

    def __init__(
        self,
        envelope: Envelope,
        content: Content,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused = OnRefused.RAISE,
        deadline: Deadline | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "envelope", envelope)
        put(self, "content", body(content))
        # UTF-8 in a parameter is judged when it is known whether SMTPUTF8 is used.
        put(self, "mail_options", check_parameters(mail_options, smtputf8=True))
        put(self, "rcpt_options", check_parameters(rcpt_options, smtputf8=True))
        put(self, "on_refused", on_refused)
        put(self, "deadline", deadline)
        put(self, "hooks", hooks)
        put(self, "attempt", 1)
        if self.mail_options or self.rcpt_options:
            _check_options(envelope, self.mail_options, self.rcpt_options)

    @property
    def message_id(self) -> str | None:
        """The Message-ID field, if it is in the first piece of the content."""
        return message_id(next(self.content.pieces(), b""))

    @property
    def has_utf8_header(self) -> bool:
        """True if a header field holds octets outside ASCII (RFC 6532)."""
        return not (self.content.is_ascii or header_of(self.content.pieces()).isascii())

    def only(self, recipients: Iterable[str]) -> Outgoing:
        """The same mail for some of its recipients."""
        return Outgoing(
            self.envelope.only(recipients),
            self.content,
            self.mail_options,
            self.rcpt_options,
            self.on_refused,
            self.deadline,
            self.hooks,
        )

    def after(self, attempts: int) -> Outgoing:
        """The same mail, after so many attempts."""
        changed = copy.copy(self)
        object.__setattr__(changed, "attempt", attempts + 1)
        return changed

    def by(self, deadline: Deadline | None) -> Outgoing:
        """The same mail, with that deadline."""
        changed = copy.copy(self)
        object.__setattr__(changed, "deadline", deadline)
        return changed

    def transaction(self, session: Session, relay: Relay) -> MailTransaction:
        """The transaction for what this server offers: SMTPUTF8 where needed, 7bit where it must.

        Raises NotSupported for a sender that this server cannot take, and for what the envelope
        asks for and the server does not offer; InvalidInput for content that cannot be
        re-encoded for it, or with the relay's `strict` is not to be, or cannot be signed.
        """
        envelope, mail_options = self.envelope, self.mail_options
        extensions = session.extensions
        unreachable: list[Address] = []
        if envelope.needs_smtputf8 or self.has_utf8_header:
            if extensions.offers("SMTPUTF8"):
                if "SMTPUTF8" not in mail_options:
                    mail_options = (*mail_options, "SMTPUTF8")
            elif envelope.reverse_path and envelope.reverse_path.needs_smtputf8:
                raise NotSupported(
                    f"the sender {envelope.sender} needs SMTPUTF8, which the server does not offer"
                )
            elif self.has_utf8_header:
                error = NotSupported("the header has octets outside ASCII, which needs SMTPUTF8")
                error.advice = "Write the field as encoded-words (RFC 2047)"
                raise error
            else:
                unreachable = [a for a in envelope.forward_paths if a.needs_smtputf8]
        content = self.content
        changes: tuple[str, ...] = ()
        if content.long_lines or not content.is_ascii:
            if isinstance(content, Binary):
                mail_options = (*mail_options, "BODY=BINARYMIME")
            else:
                utf8 = "SMTPUTF8" if self.has_utf8_header else "8BITMIME"
                takes = extensions.offers(utf8)
                content, changes = fitted(content, eight_bit=takes, strict=relay.strict)
        if relay.dkim is not None:
            if isinstance(content, Binary):
                # RFC 6376 section 5.3: on its way it may have to be encoded.
                raise InvalidInput("binary content cannot be signed: encode its parts as base64")
            # Last: the signature is over the octets that leave.
            content = Prefixed(relay.dkim.sign(b"".join(content.pieces())), content)
        esmtp = envelope.esmtp
        if esmtp is not None:
            check_offered(esmtp, extensions)
            mail_options = (*mail_options, *esmtp.mail_parameters())
        mail = plan(session, envelope, content, mail_options, self.rcpt_options)
        mail.changes = changes
        if esmtp is not None:
            mail.rcpt_parameters_of = esmtp.rcpt_parameters
        mail.by_bdat = session.chunking
        mail.all_or_nothing = self.on_refused is OnRefused.ABORT
        if unreachable:
            reason = "needs SMTPUTF8, not offered here"
            mail.settle(unreachable, State.REFUSED, None, reason=reason)
        if self.hooks is not None:
            told = self.message_id, envelope.sender, (), relay.address, self.attempt
            mail.witness = Witness(self.hooks, Handover(*told))
        return mail


def _check_options(
    envelope: Envelope, mail_options: Sequence[str], rcpt_options: Sequence[str]
) -> None:
    """Raise InvalidInput for a line that is too long, and for what the envelope says as well."""
    esmtp = envelope.esmtp
    Mail(envelope.reverse_path, mail_options, smtputf8=True)
    asked = () if esmtp is None else esmtp.mail_parameters()
    for address in envelope.forward_paths:
        Rcpt(address, rcpt_options, smtputf8=True)
        asked += () if esmtp is None else esmtp.rcpt_parameters(address)
    names = set(map(parameter_name, asked))
    for option in (*mail_options, *rcpt_options):
        if parameter_name(option) in names:
            raise InvalidInput(f"ESMTP option {option!a} is in the envelope's esmtp, too: drop one")


def not_attempted(
    outgoing: Outgoing | Envelope, error: MailError | InvalidInput, relay: Relay | None = None
) -> DeliveryReport:
    """The report on a mail that no server was asked to take."""
    envelope = outgoing.envelope if isinstance(outgoing, Outgoing) else outgoing
    reason, phase = str(error), None
    if isinstance(error, MailError) and error.phase in set(Phase):
        phase = Phase(error.phase)
    results = {
        address: RecipientResult(address, State.NOT_ATTEMPTED, phase, reason=reason)
        for address in envelope.recipients
    }
    report = DeliveryReport(results, envelope.sender, error=error)
    report.relay = None if relay is None else relay.address
    if isinstance(outgoing, Outgoing):
        report.message_id = outgoing.message_id
    if isinstance(error, MailError):
        error.located(host=report.relay)
    error.report = report
    return report


def describe(
    report: DeliveryReport, outgoing: Outgoing, relay: Relay, transcript: Transcript
) -> DeliveryReport:
    """Add to a report, and to its error, what the dialogue did not know."""
    report.relay = relay.address
    report.message_id = outgoing.message_id
    if not report.all_accepted:
        report.transcript = transcript.lines()
    if isinstance(report.error, MailError):
        report.error.report = report
        report.error.located(host=relay.address, transcript=report.transcript)
    return report


def describe_stopped(
    error: BaseException, outgoing: Outgoing, relay: Relay, transcript: Transcript
) -> None:
    """Add to the report that the driver gave a CancelledError, if it did."""
    report = getattr(error, "report", None)
    if isinstance(report, DeliveryReport):
        describe(report, outgoing, relay, transcript)


def warn_of_refused(report: DeliveryReport, on_refused: OnRefused) -> None:
    """Log the recipients that a policy accepts to lose."""
    if on_refused is OnRefused.RAISE_IF_ALL:
        for result in report:
            if result.state is not State.ACCEPTED:
                logger.warning("%s: recipient not reached: %s", report.relay, result)

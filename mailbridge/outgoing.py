"""A mail on its way out: checked once, fitted to each server it meets, described in its report."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING

from .deadline import Deadline
from .envelope import Address, Envelope
from .errors import InvalidInput, MailError, NotSupported
from .fitting import fitted
from .message import header_of, message_id
from .options import Relay
from .protocol.content import Binary, Body, Prefixed, body
from .protocol.mail import Mail, Rcpt, check_parameters
from .protocol.session import Session
from .protocol.transaction import MailTransaction
from .protocol.transcript import Transcript
from .report import DeliveryReport, OnRefused, Phase, RecipientResult, State
from .sendmail import parameter_name, plan

if TYPE_CHECKING:
    from .hooks import Hooks

logger = logging.getLogger("mailbridge")

#: What may be sent: octets, a text in ASCII, a binary file, an iterable of octets, or a Body.
Content = bytes | bytearray | memoryview | str | IO[bytes] | Iterable[bytes] | Body


class Outgoing:
    """One mail as `Transport.send` takes it. Raises InvalidInput for what no server could take.

    A value: `only`, `after` and `by` give another one.
    """

    __slots__ = (
        "attempt",
        "content",
        "deadline",
        "envelope",
        "hooks",
        "mail_options",
        "on_refused",
        "rcpt_options",
    )

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
        self.envelope = envelope
        self.content = body(content)
        self.mail_options: tuple[str, ...] = ()
        self.rcpt_options: tuple[str, ...] = ()
        self.on_refused = on_refused
        self.deadline = deadline
        self.hooks = hooks
        self.attempt = 1
        if mail_options or rcpt_options:
            # UTF-8 in a parameter is judged when it is known whether SMTPUTF8 is used.
            self.mail_options = check_parameters(mail_options, smtputf8=True)
            self.rcpt_options = check_parameters(rcpt_options, smtputf8=True)
            _check_options(envelope, self.mail_options, self.rcpt_options)

    @property
    def message_id(self) -> str | None:
        """The Message-ID field, if it is in the first piece of the content."""
        return message_id(next(self.content.pieces(), b""))

    @property
    def has_utf8_header(self) -> bool:
        """True if a header field holds octets outside ASCII (RFC 6532)."""
        return not header_of(self.content.pieces()).isascii()

    def only(self, recipients: Iterable[str]) -> Outgoing:
        """The same mail for some of its recipients, and at its first attempt."""
        return self._but(envelope=self.envelope.only(recipients), attempt=1)

    def after(self, attempts: int) -> Outgoing:
        """The same mail, after so many attempts."""
        return self._but(attempt=attempts + 1)

    def by(self, deadline: Deadline | None) -> Outgoing:
        """The same mail, with that deadline."""
        return self._but(deadline=deadline)

    def _but(self, **changes: object) -> Outgoing:
        changed = copy.copy(self)
        for name, value in changes.items():
            setattr(changed, name, value)
        return changed

    def transaction(self, session: Session, relay: Relay) -> MailTransaction:
        """The transaction for what this server offers: SMTPUTF8 where needed, 7bit where it must.

        Raises NotSupported for a sender that this server cannot take, and for what the envelope
        asks for and the server does not offer; InvalidInput for content that cannot be
        re-encoded for it, or with the relay's `strict` is not to be, or cannot be signed.
        """
        envelope, content, options = self.envelope, self.content, self.mail_options
        extensions = session.extensions
        utf8_header = not content.is_ascii and self.has_utf8_header
        unreachable: Sequence[Address] = ()
        if utf8_header or envelope.needs_smtputf8:
            if extensions.offers("SMTPUTF8"):
                options = options if "SMTPUTF8" in options else (*options, "SMTPUTF8")
            else:
                unreachable = _without_smtputf8(envelope, utf8_header)
        changes: tuple[str, ...] = ()
        if isinstance(content, Binary):
            options = (*options, "BODY=BINARYMIME")
        elif content.long_lines or not content.is_ascii:
            takes = extensions.offers("SMTPUTF8" if utf8_header else "8BITMIME")
            content, changes = fitted(content, eight_bit=takes, strict=relay.strict)
        if relay.dkim is not None:
            if isinstance(content, Binary):
                # RFC 6376 section 5.3: on its way it may have to be encoded.
                raise InvalidInput("binary content cannot be signed: encode its parts as base64")
            # Last: the signature is over the octets that leave.
            content = Prefixed(relay.dkim.sign(b"".join(content.pieces())), content)
        esmtp = envelope.esmtp
        if esmtp is not None:
            # Imported here: few ask for anything.
            from .protocol.parameters import check_offered

            check_offered(esmtp, extensions)
            options = (*options, *esmtp.mail_parameters())
        mail = plan(session, envelope, content, options, self.rcpt_options)
        mail.changes = changes
        if esmtp is not None:
            mail.rcpt_parameters_of = esmtp.rcpt_parameters
        mail.by_bdat = session.chunking
        mail.all_or_nothing = self.on_refused is OnRefused.ABORT
        if unreachable:
            reason = "needs SMTPUTF8, not offered here"
            mail.settle(unreachable, State.REFUSED, None, reason=reason)
        if self.hooks is not None:
            # Imported here: few keep a ledger.
            from .hooks import Handover, Witness

            told = self.message_id, envelope.sender, (), relay.address, self.attempt
            mail.witness = Witness(self.hooks, Handover(*told))
        return mail


def _without_smtputf8(envelope: Envelope, utf8_header: bool) -> Sequence[Address]:
    """The recipients that are out of reach. Raises NotSupported if that is all of them."""
    if envelope.reverse_path and envelope.reverse_path.needs_smtputf8:
        raise NotSupported(
            f"the sender {envelope.sender} needs SMTPUTF8, which the server does not offer"
        )
    if utf8_header:
        error = NotSupported("the header has octets outside ASCII, which needs SMTPUTF8")
        error.advice = "Write the field as encoded-words (RFC 2047)"
        raise error
    return [path for path in envelope.forward_paths if path.needs_smtputf8]


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
    """Log the recipients that a policy accepts to lose, if it accepts this report."""
    if on_refused is OnRefused.RAISE_IF_ALL and report.failure(on_refused) is None:
        for result in report:
            if result.state is not State.ACCEPTED:
                logger.warning("%s: recipient not reached: %s", report.relay, result)

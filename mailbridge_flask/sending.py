"""One message on its way: what comes before a transport takes it, and what comes after."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mailbridge import (
    DeliveryReport,
    Envelope,
    InvalidInput,
    OnRefused,
    RecipientResult,
    State,
    observe,
)
from mailbridge import MailError as CoreMailError
from mailbridge.protocol.content import Buffer, canonical
from mailbridge.render import Rendered

from . import fastpath, headers
from .exceptions import MissingAddress, about
from .message import Message, Recipient, unique_recipients
from .signals import email_dispatched, may_send, tell

if TYPE_CHECKING:
    from .state import MailState

#: Why a message is not sent that is in the outbox.
CAPTURED: Final = "captured by MAIL_OUTBOX; set MAIL_OUTBOX_SEND to send as well"


class Mail(NamedTuple):
    """What is sent for one message."""

    envelope: Envelope
    #: A Body: `bytes` of it is the whole.
    content: Rendered | Buffer


class SuppressedReport(DeliveryReport):
    """The report of a message that was not to be sent: "not_attempted", and yet no failure."""

    __slots__ = ()

    def failure(self, on_refused: OnRefused = OnRefused.RAISE) -> None:
        """None: what went as it was configured to go is no error, in tests above all."""


class Sending:
    """One message that is sent: `begin`, then `end` with a report, or `fail` with an error.

    The report is on the message by the time that a signal tells of it.
    """

    def __init__(self, state: MailState, message: Message) -> None:
        self._state = state
        self._message = message
        self._app = state.application()
        self._captured: str | None = None

    def begin(
        self, envelope_from: Recipient | None = None, *, suppressible: bool = True
    ) -> Mail | SuppressedReport:
        """What to send; or, if it is not to be sent, the report that says so.

        Raises BadHeaderError, AddressError or MissingAddress (ValueErrors), and what a receiver
        of `email_sending` raises; for what is not to be sent InvalidInput, as the transport would.
        """
        state, message = self._state, self._message
        message.delivery_report = None
        try:
            if not may_send(self._app, message, state.name):
                return self._suppressed(_named(message), "a receiver of email_sending kept it back")
            mail = prepared(state, message, envelope_from)
        except Exception as error:
            self._not_tried(error)
            raise
        reason = state._suppressed_because() if suppressible else None
        if state.outbox is not None and reason in (None, CAPTURED):
            self._captured = state.outbox.add(mail.envelope, bytes(mail.content)).id
        if reason is None:
            return mail
        self._check(mail)
        report = self._suppressed(mail.envelope.recipients, f"sending is suppressed: {reason}")
        email_dispatched.send(self._app, message=message)
        return report

    def end(self, report: DeliveryReport, error: Exception | None = None) -> DeliveryReport:
        """What became of it. Returns the report; a receiver of email_dispatched may raise."""
        message, outbox = self._message, self._state.outbox
        message.delivery_report = report
        if self._captured is not None and outbox is not None:
            outbox.settle(self._captured, report)
        accepted = bool(report.accepted)
        if error is None and not accepted:
            error = self._failure(report)
        tell(self._app, message, self._state.name, report, error)
        if accepted and email_dispatched.receivers:
            email_dispatched.send(self._app, message=message)
        return report

    def fail(self, error: CoreMailError | InvalidInput, envelope: Envelope) -> Exception:
        """What became of it when the transport raised `error`. Returns the error to be raised."""
        if error.report is None:
            results = _not_attempted(envelope.recipients, str(error))
            error.report = self._observed(
                DeliveryReport(results, envelope.sender, self._message.msgId, error=error)
            )
        report = error.report
        ours = error if isinstance(error, InvalidInput) else about(error, self._message)
        self.end(report, ours)
        return ours

    def _check(self, mail: Mail) -> None:
        """Raise for what no transport of this mailer would take: too many recipients, say."""
        message = self._message
        options = message.mail_options or (), message.rcpt_options or ()
        try:
            self._state._shared().outgoing(*mail, *options)
        except InvalidInput as error:
            raise self.fail(error, mail.envelope) from error.__cause__

    def _failure(self, report: DeliveryReport) -> Exception | None:
        """The error to tell of when nobody got the message, and a policy raises none."""
        failure = report.failure()
        return about(failure, self._message) if isinstance(failure, CoreMailError) else failure

    def _suppressed(self, recipients: Iterable[str], reason: str) -> SuppressedReport:
        message = self._message
        report = SuppressedReport(
            _not_attempted(recipients, reason), message.sender, message.msgId, attempts=0
        )
        message.delivery_report = report
        return report

    def _observed(self, report: DeliveryReport) -> DeliveryReport:
        """A report on what no transport has had, told to those who watch transports."""
        report.mailer = self._state.name
        observe.tell(report, self._state.config.on_report)
        return report

    def _not_tried(self, error: Exception) -> None:
        """Report a message that was found wrong before anybody was asked to take it."""
        ours = error if isinstance(error, (CoreMailError, InvalidInput)) else None
        results = _not_attempted(_named(self._message), str(error))
        report = self._observed(
            DeliveryReport(results, self._message.sender, self._message.msgId, error=ours)
        )
        if ours is not None and ours.report is None:
            ours.report = report
        self._message.delivery_report = report
        tell(self._app, self._message, self._state.name, report, error)


def prepared(state: MailState, message: Message, envelope_from: Recipient | None = None) -> Mail:
    """Envelope and content, after everything that can be wrong with them was looked at."""
    _set_sender(state, message)
    if not message.sender:
        raise MissingAddress("the message has no sender: give one, or set MAIL_DEFAULT_SENDER")
    if message.date is None:
        message.date = time.time()
    content = _rendered(message, state.ascii_attachments)
    recipients = [
        headers.parse_mailbox(recipient, "recipient").address for recipient in _send_to(message)
    ]
    if not recipients:
        raise MissingAddress("the message has no recipients: name one at least")
    # A message of Flask-Mail's own has no such attribute.
    esmtp = getattr(message, "esmtp", None)
    if envelope_from == "<>":
        return Mail(Envelope(None, recipients, esmtp), content)
    reverse_path = headers.parse_mailbox(envelope_from or message.sender, "sender").address
    return Mail(Envelope(reverse_path, recipients, esmtp), content)


def _set_sender(state: MailState, message: Message) -> None:
    """Give the message this mailer's default sender, if it has none but another default."""
    default = state.default_sender
    if default is not None and message.sender in (None, getattr(message, "default_sender", None)):
        message.sender = headers.mailbox_text(default)


def _rendered(message: Any, ascii_attachments: bool) -> Rendered | Buffer:
    if isinstance(message, Message):
        if type(message).as_bytes is not Message.as_bytes or "as_bytes" in vars(message):
            return Buffer(canonical(message.as_bytes()))  # somebody's own way to write it
        rendered = fastpath.render(message, ascii_attachments=ascii_attachments)
        if rendered is not None:
            return rendered
    # Imported here: nearly every message is one for the fast path.
    from . import compose

    return Buffer(canonical(compose.content(message, ascii_attachments=ascii_attachments)))


def _send_to(message: Any) -> Iterable[Recipient]:
    # Flask-Mail's own messages have it in no order.
    return message.send_to if isinstance(message, Message) else unique_recipients(message)


def _named(message: Any) -> list[str]:
    """The recipients as the message has them, for they may be what is wrong."""
    try:
        return [headers.mailbox_text(recipient) for recipient in _send_to(message)]
    except Exception:
        return []  # what is no message at all has no recipients either


def _not_attempted(recipients: Iterable[str], reason: str) -> dict[str, RecipientResult]:
    return {
        address: RecipientResult(address, State.NOT_ATTEMPTED, reason=reason)
        for address in recipients
    }

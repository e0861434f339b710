"""A stand-in for the server: tests written for Flask-Mail put one into ``connection.host``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mailbridge import DeliveryReport, MailError, Phase, RecipientResult, State
from mailbridge.protocol.reply import Reply

from . import headers
from .exceptions import about
from .message import Message, Recipient, unique_recipients
from .sending import Sending

if TYPE_CHECKING:
    from .state import MailState


def send(
    host: Any, state: MailState, message: Message, envelope_from: Recipient | None
) -> DeliveryReport:
    """Call `host.sendmail` as Flask-Mail does that of smtplib, also where sending is suppressed.

    It returns the refused recipients, as {address: (code, text)}, or what is as good as none.
    Raises what `host` raises, and what MAIL_ON_REFUSED asks for.
    """
    sending = Sending(state, message)
    mail = sending.begin(envelope_from, suppressible=False)
    if isinstance(mail, DeliveryReport):
        return mail
    null = envelope_from == "<>"
    names = [headers.mailbox(recipient) for recipient in unique_recipients(message)]
    refused = host.sendmail(
        "<>" if null else headers.mailbox(envelope_from or message.sender),
        names,
        message.as_bytes(),
        message.mail_options,
        message.rcpt_options,
    )
    results = {
        address: _result(address, dict(refused or {}).get(name))
        for address, name in zip(mail.envelope.recipients, names, strict=True)
    }
    report = DeliveryReport(results, mail.envelope.sender, message.msgId)
    failure = report.failure(state.config.on_refused)
    if isinstance(failure, MailError):
        failure = about(failure, message)
    sending.end(report, failure)
    if failure is not None:
        raise failure
    return report


def _result(address: str, refusal: tuple[int, bytes] | None) -> RecipientResult:
    if refusal is None:
        return RecipientResult(address, State.ACCEPTED)
    code, text = refusal
    state = State.REFUSED if code >= 500 else State.DEFERRED
    return RecipientResult(address, state, Phase.RCPT, Reply(code, (text,)))

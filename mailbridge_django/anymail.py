"""`message.anymail_status` on sites that have django-anymail in INSTALLED_APPS.

Code that was written for an API of django-anymail's finds there what became of each recipient.
"""

from __future__ import annotations

from typing import Any

from django.core.mail import EmailMessage

from mailbridge import DeliveryReport, Phase, RecipientResult, State


def set_status(message: EmailMessage, report: DeliveryReport | None) -> None:
    """Put an AnymailStatus on the message: that of the report, or a new one if there is none yet.

    `message_id` is the Message-ID, `esp_response` the report.
    """
    from anymail.message import AnymailRecipientStatus, AnymailStatus

    status: Any = AnymailStatus()
    if report is not None:
        status.esp_response = report
        if report.recipients:
            status.set_recipient_status(
                {
                    result.address: AnymailRecipientStatus(report.message_id, status_of(result))
                    for result in report
                }
            )
    message.anymail_status = status  # type: ignore[attr-defined]


def status_of(result: RecipientResult) -> str:
    """What django-anymail calls the state of a recipient."""
    if result.state is State.REFUSED:
        return _refused(result)
    # Accepted: the server took responsibility, and delivers when it can.
    return {State.ACCEPTED: "queued", State.IN_DOUBT: "unknown"}.get(result.state, "failed")


def _refused(result: RecipientResult) -> str:
    if result.reply is None:
        return "invalid"  # We know ourselves that nobody there takes this address.
    if result.phase is not Phase.RCPT:
        return "failed"  # The message was refused, not the recipient.
    # RFC 3463 section 3.2: X.1.Y is about the address.
    status = result.reply.status
    return "invalid" if status is not None and status.subject == 1 else "rejected"

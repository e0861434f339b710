"""The report of a message, and reports on messages that no server was asked to take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mailbridge import DeliveryReport, InvalidInput, MailError, RecipientResult, State


def report_of(message: Any) -> DeliveryReport | None:
    """What became of `message`, None if that is not known."""
    return getattr(message, "delivery_report", None)


def not_sent(
    recipients: Iterable[str], sender: str | None, reason: str, *, attempts: int = 0
) -> DeliveryReport:
    """A report that says: nobody was sent this, for this reason."""
    results = {
        address: RecipientResult(address, State.NOT_ATTEMPTED, reason=reason)
        for address in recipients
    }
    return DeliveryReport(results, sender, attempts=attempts)


def not_tried(message: Any, error: Exception) -> DeliveryReport:
    """A report that says: nobody was sent this, because of `error`.

    The addresses are as the message has them, for they may be what is wrong.
    """
    try:
        recipients = [str(address) for address in message.recipients() if address]
    except Exception:
        recipients = []  # what is no message at all has no recipients either
    sender = getattr(message, "from_email", None)
    report = not_sent(recipients, None if sender is None else str(sender), str(error), attempts=1)
    report.error = error if isinstance(error, (MailError, InvalidInput)) else None
    # There is no mail yet that could have a Message-ID; which server it was is known.
    report.relay = error.host if isinstance(error, MailError) else None
    return report

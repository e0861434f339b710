"""Reports on messages that no server was asked to take."""

from __future__ import annotations

from typing import Any

from mailbridge import DeliveryReport, InvalidInput, MailError, RecipientResult, State


def not_tried(message: Any, error: Exception) -> DeliveryReport:
    """A report that says: nobody was sent this, because of `error`.

    The addresses are as the message has them, for they may be what is wrong.
    """
    try:
        recipients = [str(address) for address in message.recipients() if address]
    except Exception:
        recipients = []  # what is no message at all has no recipients either
    results = {
        address: RecipientResult(address, State.NOT_ATTEMPTED, None, None, str(error))
        for address in recipients
    }
    sender = getattr(message, "from_email", None)
    return DeliveryReport(
        results,
        None if sender is None else str(sender),
        error=error if isinstance(error, (MailError, InvalidInput)) else None,
    )

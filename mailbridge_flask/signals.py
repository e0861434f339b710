"""Signals round each message. The sender is the application, `message` the Flask message.

`email_sending` comes before a message is turned into bytes: a receiver may change it, and raises
`CancelSend` to keep it back. What else it raises is the error of this message. Then one of two:
`email_sent` if somebody got it, `email_failed` if nobody is known to have. `email_refused` comes
beside them if recipients were refused or deferred. These three cannot break anything: what their
receivers raise is logged. With each signal comes `mailer`, "default" or a name in MAIL_MAILERS.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import blinker

from mailbridge import DeliveryReport

if TYPE_CHECKING:
    from flask import Flask

    from .message import Message

logger = logging.getLogger("mailbridge")
signals = blinker.Namespace()

#: Sent with the application as sender and ``message=`` when at least one recipient was accepted
#: (before SomeRecipientsRefused is raised for the others), and when sending is suppressed.
#: Never for a message that nobody got. ``message.delivery_report`` is set by then.
email_dispatched = signals.signal("email-dispatched")
#: ``message=, mailer=``
email_sending = signals.signal("email-sending")
#: ``message=, mailer=, report=``
email_sent = signals.signal("email-sent")
#: ``message=, mailer=, report=``
email_refused = signals.signal("email-refused")
#: ``message=, mailer=, report=, error=``
email_failed = signals.signal("email-failed")


class CancelSend(Exception):
    """Raised by a receiver of `email_sending`: this message is not to be sent."""


def may_send(app: Flask, message: Message, mailer: str) -> bool:
    """Send `email_sending`. False if a receiver keeps the message back."""
    if not email_sending.receivers:
        return True
    try:
        email_sending.send(app, message=message, mailer=mailer)
    except CancelSend:
        return False
    return True


def tell(
    app: Flask, message: Message, mailer: str, report: DeliveryReport, error: Exception | None
) -> None:
    """Send what follows the end of a message. Raises nothing."""
    about: dict[str, Any] = {"message": message, "mailer": mailer, "report": report}
    accepted = bool(report.accepted)
    if accepted:
        _robustly(email_sent, app, about)
        if report.all_accepted:
            return  # as nearly every mail is
    if report.refused or report.deferred:
        _robustly(email_refused, app, about)
    if not accepted:
        _robustly(email_failed, app, {**about, "error": error})


def _robustly(signal: blinker.NamedSignal, app: Flask, about: dict[str, Any]) -> None:
    """Send to every receiver, whatever the one before it raised."""
    if not signal.receivers or signal.is_muted:
        return
    for receiver in signal.receivers_for(app):
        try:
            if inspect.iscoroutinefunction(receiver):
                raise RuntimeError("a coroutine function cannot receive a signal of send()")
            receiver(app, **about)
        except Exception:
            logger.exception("a receiver of %s failed", signal.name)


@contextmanager
def recorded(app: Flask | None = None) -> Iterator[list[Message]]:
    """A list that grows with each message dispatched: by `app`, or by any application."""
    outbox: list[Message] = []

    def record(sender: Flask, message: Message, **extra: Any) -> None:
        outbox.append(message)

    senders = {} if app is None else {"sender": app}
    with email_dispatched.connected_to(record, **senders):
        yield outbox

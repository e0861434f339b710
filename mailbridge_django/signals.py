"""Signals round each message, with the argument names of django-anymail.

`sender` is the class of the backend, `message` the Django message, `esp_name` "mailbridge",
`status` the DeliveryReport.

`pre_send` comes before a message is turned into bytes: a receiver may change it, and raises
`CancelSend` to keep it back. What else it raises is the error of this message. The others cannot
break anything; what their receivers raise is logged by Django. For each message there is one
`post_send`, and with it, as the report says, `message_refused` (some recipients were refused or
deferred) and `send_failed` (nobody is known to have got it, with the `error` that says why).
"""

from __future__ import annotations

from typing import Any

from django.core.mail import EmailMessage
from django.dispatch import Signal

from mailbridge import DeliveryReport

__all__ = ["CancelSend", "message_refused", "post_send", "pre_send", "send_failed"]

ESP_NAME = "mailbridge"

pre_send = Signal()
post_send = Signal()
message_refused = Signal()
send_failed = Signal()


class CancelSend(Exception):
    """Raised by a receiver of `pre_send`: this message is not to be sent."""


def may_send(sender: type[Any], message: EmailMessage) -> bool:
    """Send `pre_send`. False if a receiver keeps the message back."""
    if not pre_send.receivers:
        return True
    try:
        pre_send.send(sender, message=message, esp_name=ESP_NAME)
    except CancelSend:
        return False
    return True


def tell(
    sender: type[Any], message: EmailMessage, status: DeliveryReport, error: Exception | None
) -> None:
    """Send what follows the end of a message. Raises nothing."""
    about: dict[str, Any] = {"message": message, "status": status, "esp_name": ESP_NAME}
    if post_send.receivers:
        post_send.send_robust(sender, **about)
    if status.recipients and status.all_accepted:
        return  # as nearly every mail is
    if status.refused or status.deferred:
        message_refused.send_robust(sender, **about)
    if not status.accepted:
        send_failed.send_robust(sender, error=error or status.failure(), **about)

"""The signal that a message has been dispatched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import blinker

if TYPE_CHECKING:
    from flask import Flask

    from .message import Message

signals = blinker.Namespace()

#: Sent with the application as sender and ``message=`` when at least one recipient was accepted
#: (before SomeRecipientsRefused is raised for the others), and when sending is suppressed.
#: Never for a message that nobody got. ``message.delivery_report`` is set by then.
email_dispatched = signals.signal("email-dispatched")


@contextmanager
def recorded(app: Flask | None = None) -> Iterator[list[Message]]:
    """A list that grows with each message dispatched: by `app`, or by any application."""
    outbox: list[Message] = []

    def record(sender: Flask, message: Message, **extra: Any) -> None:
        outbox.append(message)

    senders = {} if app is None else {"sender": app}
    with email_dispatched.connected_to(record, **senders):
        yield outbox

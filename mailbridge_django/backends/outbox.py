"""A backend that captures messages for the mailbox page, and sends them too if it is told to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.mail import EmailMessage

from ..batch import attach
from ..message import to_mail
from ..outbox import BACKEND, options, outbox_of
from ..report import not_sent, not_tried, report_of
from .wrapper import Wrapper


class EmailBackend(Wrapper):
    """Captures into a Maildir: this class's path is the EMAIL_BACKEND, or the BACKEND of a mailer.

    Options, in OPTIONS or MAILBRIDGE_OUTBOX: `path` of the Maildir; `max_messages`, the oldest go
    when there are more; `using`, a mailer's alias or a backend's dotted path, sends as well, and
    raises what that raises. Each message gets a `delivery_report`: that of the sending backend, or
    "not attempted".
    Raises ImproperlyConfigured for an option that is wrong.
    """

    OPTIONS = ("path", "max_messages")
    AT_LEAST = 0

    def configure(self, given: dict[str, Any]) -> None:
        """Take in the options, without any those of the settings."""
        found = options(given)
        super().configure(found)
        if BACKEND in self.using:
            raise ValueError("The outbox cannot send through itself: change 'using'.")
        self.outbox = outbox_of(found)

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Capture the messages, send them if told to; return how many were captured (or sent).

        Raises ValueError for an invalid message, OSError if the Maildir cannot be written, and
        what the sending backend raises.
        """
        messages = [m for m in email_messages or () if any(m.recipients())]
        names = [self._capture(message) for message in messages]
        if not self.using or not messages:
            return len(messages)
        try:
            return super().send_messages(messages)
        except Exception as exc:
            for message in messages:
                if report_of(message) is None and isinstance(exc, OSError):
                    attach(message, not_tried(message, exc))
            raise
        finally:
            for name, message in zip(names, messages, strict=True):
                report = report_of(message)
                if report is not None:
                    self.outbox.settle(name, report)

    def _capture(self, message: EmailMessage) -> str:
        envelope, content = to_mail(message, smtputf8=True)
        captured = self.outbox.add(envelope, bytes(content))
        told = not_sent(envelope.recipients, envelope.sender, "captured in the outbox, not sent")
        attach(message, None if self.using else told)
        return captured.id

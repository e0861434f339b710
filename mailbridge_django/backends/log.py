"""A backend that writes each message to the log, and sends it by another mailer if there is one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from django.core.mail import EmailMessage

from mailbridge.convert import boolean

from ..batch import attach
from ..message import to_mail
from ..report import not_sent, report_of
from .wrapper import Wrapper

logger = logging.getLogger("mailbridge.messages")


class EmailBackend(Wrapper):
    """Writes a record for each message to the logger ``mailbridge.messages``.

    It names sender, recipients and subject, and says what became of the message.

    `using`: a mailer to send by; without one nothing is sent. `level`: of the records, INFO unless
    set. `content`: true for the source of the message as well, which may hold secrets.
    """

    OPTIONS = ("level", "content")
    AT_LEAST = 0

    def configure(self, given: dict[str, Any]) -> None:
        """Take in `level` and `content`. Raises ValueError for what is none."""
        super().configure(given)
        name = str(given.get("level") or "INFO").upper()
        levels = logging.getLevelNamesMapping()
        if name not in levels:
            raise ValueError(f"'level' {given['level']!r} is no level of logging")
        self.level = levels[name]
        self.content = boolean("content", given.get("content", False))

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Log the messages when they are sent; return how many were, or were only logged.

        Raises what the mailer `using` raises, and without one ValueError for an invalid message.
        """
        messages = [m for m in email_messages or () if any(m.recipients())]
        began = time.monotonic()
        error: Exception | None = None
        try:
            return self._send(messages)
        except Exception as exc:
            error = exc
            raise
        finally:
            if logger.isEnabledFor(self.level):
                milliseconds = round((time.monotonic() - began) * 1000, 1)
                for message in messages:
                    self._log(message, milliseconds, error)

    def _send(self, messages: list[EmailMessage]) -> int:
        if self.using:
            return super().send_messages(messages)
        for message in messages:
            envelope, _ = to_mail(message, smtputf8=True)
            attach(message, not_sent(envelope.recipients, envelope.sender, "logged, not sent"))
        return len(messages)

    def _log(self, message: EmailMessage, milliseconds: float, error: Exception | None) -> None:
        about = {
            "mailer": self.using[0] if self.using else None,
            "sender": str(message.from_email),
            "recipients": [str(address) for address in message.recipients()],
            "subject": str(message.subject),
            "outcome": self._outcome(message, error),
            "milliseconds": milliseconds,
        }
        text = "%(sender)s to %(recipients)s: %(subject)r, %(outcome)s (%(milliseconds)s ms)"
        if self.content:
            about["content"] = _source(message)
            text += "\n%(content)s"
        logger.log(self.level, text, about, extra=about)

    def _outcome(self, message: EmailMessage, error: Exception | None) -> str:
        if not self.using:
            return "not sent"
        report = report_of(message)
        if report is not None:
            return str(report)
        return f"sent by {self.using[0]!r}" if error is None else type(error).__name__


def _source(message: EmailMessage) -> str:
    try:
        return bytes(to_mail(message, smtputf8=True).content).decode(errors="replace")
    except Exception as error:  # what is wrong with it is said where it is sent
        return f"<no source: {error}>"

"""A backend that captures messages for the mailbox page, and sends them too if it is told to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from mailbridge import DeliveryReport, Envelope, RecipientResult, State

from ..batch import attach
from ..message import to_mail
from ..outbox import BACKEND, OPTIONS, options, outbox_of
from ..report import not_tried


class EmailBackend(BaseEmailBackend):
    """Captures into a Maildir: this class's path is the EMAIL_BACKEND, or the BACKEND of a mailer.

    Options, in OPTIONS or MAILBRIDGE_OUTBOX: `path` of the Maildir; `max_messages`, the oldest go
    when there are more; `using`, a mailer's alias (Django 6.1) or a backend's dotted path, sends
    as well, and raises what that raises. Each message gets a `delivery_report`: that of the
    sending backend, or "not attempted".
    Raises ImproperlyConfigured for an option that is wrong.
    """

    cacheable = True

    def __init__(self, fail_silently: bool = False, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in list(kwargs) if name in OPTIONS}
        alias = kwargs.get("alias")
        super().__init__(**kwargs)
        self.alias = alias
        self.fail_silently = fail_silently
        found = options(given)
        self.using: str | None = found.get("using")
        if self.using is not None and self.using in (alias, BACKEND):
            raise ImproperlyConfigured("The outbox cannot send through itself: change 'using'.")
        self.outbox = outbox_of(found)

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Capture the messages, send them if told to; return how many were captured (or sent).

        Raises ValueError for an invalid message, OSError if the Maildir cannot be written, and
        what the sending backend raises.
        """
        messages = [m for m in email_messages or () if any(m.recipients())]
        names = [self._capture(message) for message in messages]
        if self.using is None or not messages:
            return len(messages)
        try:
            return self._sender().send_messages(messages) or 0
        except Exception as exc:
            for message in messages:
                if getattr(message, "delivery_report", None) is None and isinstance(exc, OSError):
                    attach(message, not_tried(message, exc))
            raise
        finally:
            for name, message in zip(names, messages, strict=True):
                report = getattr(message, "delivery_report", None)
                if report is not None:
                    self.outbox.settle(name, report)

    def _capture(self, message: EmailMessage) -> str:
        envelope, content = to_mail(message, smtputf8=True)
        captured = self.outbox.add(envelope, bytes(content))
        attach(message, None if self.using else _captured(envelope))
        return captured.id

    def _sender(self) -> Any:
        using = str(self.using)
        if "." in using:
            return import_string(using)(fail_silently=self.fail_silently)
        with suppress(ImportError):
            from django.core.mail import mailers

            return mailers[using]
        raise ImproperlyConfigured(
            f"'using' is {using!r}: before Django 6.1 it is the dotted path of a backend."
        )


def _captured(envelope: Envelope) -> DeliveryReport:
    reason = "captured in the outbox, not sent"
    results = {
        address: RecipientResult(address, State.NOT_ATTEMPTED, reason=reason)
        for address in envelope.recipients
    }
    return DeliveryReport(results, envelope.sender, attempts=0)

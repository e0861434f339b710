"""The messages of one `send_messages` call: each is tried, and what became of it is kept."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeAlias

from django.apps import apps
from django.core.mail import EmailMessage

import mailbridge
from mailbridge import DeliveryReport, observe

from . import exceptions, signals
from .connection import OpenConnection, attempt
from .fastpath import Common
from .message import Mail
from .report import not_tried, report_of

if TYPE_CHECKING:
    from .backends.smtp import EmailBackend

# Where these come from, the next message of a batch would only wait for the same again.
_UNREACHABLE = (
    mailbridge.ConnectError,
    mailbridge.TLSError,
    mailbridge.AuthenticationFailed,
    mailbridge.GreetingRefused,
    mailbridge.HeloRefused,
)


#: A message, and its place among those of its batch.
_Placed: TypeAlias = tuple[int, EmailMessage]


class Batch:
    """Sends messages by a backend, in their order. `finish` tells, or raises, how it went.

    Where `smtputf8` is given it says whether the server takes local parts outside ASCII.
    """

    def __init__(self, backend: EmailBackend, smtputf8: bool | None = None) -> None:
        self._backend = backend
        self._smtputf8 = smtputf8
        # What each message had when it ended, and the errors of those that failed.
        self._reports: list[DeliveryReport | None] = []
        self._errors: dict[int, Exception] = {}
        self._sent = 0
        self._unreachable: mailbridge.MailError | None = None

    def one_by_one(self, messages: Iterable[EmailMessage]) -> None:
        """Send through the backend's `_send`, or give them up if there is no way to the server."""
        for message in messages:
            self._try_alone(self._begin(message), message)

    def pipelined(self, messages: Iterable[EmailMessage], connection: OpenConnection) -> None:
        """Send through the transport, which has the next message ready while it waits."""
        rest = iter(messages)
        waiting: deque[_Placed] = deque()
        # The batch has the connection for as long as it lasts.
        self._smtputf8 = connection.takes_unicode
        with closing(connection.send_many(self._mails(rest, waiting))) as reports:
            for report in reports:
                place, message = waiting.popleft()
                self._settle(place, message, report)
                if self._unreachable is not None:
                    break
        for place, message in waiting:
            self._try_alone(place, message)
        self.one_by_one(rest)

    def finish(self) -> int:
        """How many messages the server took. Raises the error, BatchError if there are several."""
        errors = [self._errors[place] for place in sorted(self._errors)]
        return finish(self._sent, errors, self._reports)

    def _begin(self, message: EmailMessage) -> int:
        """Its place in the batch. It has no report yet."""
        attach(message, None)
        self._reports.append(None)
        return len(self._reports) - 1

    def _mails(self, messages: Iterator[EmailMessage], waiting: deque[_Placed]) -> Iterator[Mail]:
        """What is to be sent. Those that wait for a report are in `waiting`."""
        common = Common()
        for message in messages:
            place = self._begin(message)
            try:
                mail = self._backend.prepare(message, common, self._smtputf8)
            except Exception as exc:
                self._failed(place, message, exc)
                continue
            if mail is None:
                self._reports[place] = DeliveryReport({})
                continue
            waiting.append((place, message))
            yield mail

    def _try_alone(self, place: int, message: EmailMessage) -> None:
        because = self._unreachable
        try:
            if because is not None:
                self._give_up(message, because)
            elif self._backend._send(message):
                self._sent += 1
        except Exception as exc:
            self._failed(place, message, exc)
        self._ended(place, report_of(message))

    def _settle(self, place: int, message: EmailMessage, report: DeliveryReport) -> None:
        try:
            if self._backend.settle(message, report):
                self._sent += 1
        except Exception as exc:
            self._errors[place] = exc
        self._ended(place, report)

    def _ended(self, place: int, report: DeliveryReport | None) -> None:
        self._reports[place] = report
        if report is not None and isinstance(report.error, _UNREACHABLE):
            self._unreachable = report.error

    def _failed(self, place: int, message: EmailMessage, error: Exception) -> None:
        # One bad message must not stop the rest: it is raised when they are sent.
        self._errors[place] = error
        if report_of(message) is None:
            untried(self._backend, message, error)
        self._reports[place] = report_of(message)

    def _give_up(self, message: EmailMessage, because: mailbridge.MailError) -> None:
        """A message that is not tried any more, since there is no way to the server."""
        if any(message.recipients()):
            error = exceptions.about(copy.copy(because), message)
            error.report = untried(self._backend, message, error)
            self._backend.raise_or_log(error)


def finish(sent: int, errors: Sequence[Exception], reports: Iterable[DeliveryReport | None]) -> int:
    """How many messages were sent. Raises the error, BatchError if there are several."""
    if len(errors) > 1:
        each = tuple(report or DeliveryReport({}) for report in reports)
        raise exceptions.BatchError(tuple(errors), each) from errors[0]
    if errors:
        raise errors[0]
    return sent


def attempted(backend: EmailBackend, mail: Mail) -> DeliveryReport:
    """The report on one mail that the backend's connection was given, whatever kind it is of."""
    began = time.monotonic()
    report = attempt(backend.connection, mail.envelope, mail.content)
    if report.seconds is None:
        # A connection that is not ours has told nobody.
        report.mailer, report.seconds = backend.mailer, time.monotonic() - began
        observe.tell(report, backend.on_report)
    return report


def untried(backend: EmailBackend, message: EmailMessage, error: Exception) -> DeliveryReport:
    """The report on a message that no server was asked to take, told to who wants to know."""
    report = not_tried(message, error)
    report.mailer = backend.mailer
    attach(message, report)
    observe.tell(report, backend.on_report)
    signals.tell(type(backend), message, report, error)
    return report


def attach(message: EmailMessage, report: DeliveryReport | None) -> None:
    """Put the report on the message, and for django-anymail's users its own kind of report."""
    try:
        message.delivery_report = report  # type: ignore[attr-defined]
        # Not is_installed(): mail may be sent by a script that has no app registry.
        if "anymail" in apps.app_configs:
            from .anymail import set_status  # Imported here: few have it.

            set_status(message, report)
    except AttributeError:
        return  # Not everything in a batch takes attributes; that is its own error.

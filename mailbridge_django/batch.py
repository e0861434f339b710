"""The messages of one `send_messages` call: each is tried, and what became of it is kept."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.mail import EmailMessage

import mailbridge
from mailbridge import DeliveryReport, observe

from . import exceptions, signals
from .connection import OpenConnection, attempt
from .fastpath import Bodies
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


@dataclass(slots=True, eq=False)
class _Try:
    """A message, and the error if it failed. `report` is what the message had when it ended."""

    message: EmailMessage
    error: Exception | None = None
    report: DeliveryReport | None = None


class Batch:
    """Sends messages by a backend, in their order. `finish` tells, or raises, how it went.

    Where `smtputf8` is given it says whether the server takes local parts outside ASCII.
    """

    def __init__(self, backend: EmailBackend, smtputf8: bool | None = None) -> None:
        self._backend = backend
        self._smtputf8 = smtputf8
        self._tries: list[_Try] = []
        self._sent = 0
        self._unreachable: mailbridge.MailError | None = None

    def one_by_one(self, messages: Iterable[EmailMessage]) -> None:
        """Send through the backend's `_send`, or give them up if there is no way to the server."""
        for message in messages:
            self._try_alone(self._begin(message))

    def pipelined(self, messages: Iterable[EmailMessage], connection: OpenConnection) -> None:
        """Send through the transport, which has the next message ready while it waits."""
        rest = iter(messages)
        waiting: deque[_Try] = deque()
        # The batch has the connection for as long as it lasts.
        self._smtputf8 = connection.takes_unicode
        with closing(connection.send_many(self._mails(rest, waiting))) as reports:
            for report in reports:
                one = waiting.popleft()
                self._end(one, self._backend.settle, one.message, report)
                if self._unreachable is not None:
                    break
        for one in waiting:
            self._try_alone(one)
        self.one_by_one(rest)

    def finish(self) -> int:
        """How many messages the server took. Raises the error, BatchError if there are several."""
        errors = [one.error for one in self._tries if one.error is not None]
        return finish(self._sent, errors, [one.report for one in self._tries])

    def _begin(self, message: EmailMessage) -> _Try:
        attach(message, None)
        self._tries.append(_Try(message))
        return self._tries[-1]

    def _mails(self, messages: Iterator[EmailMessage], waiting: deque[_Try]) -> Iterator[Mail]:
        """What is to be sent. Those that wait for a report are in `waiting`."""
        bodies = Bodies()
        for message in messages:
            one = self._begin(message)
            try:
                mail = self._backend.prepare(message, bodies, self._smtputf8)
            except Exception as exc:
                self._failed(one, exc)
                continue
            if mail is None:
                one.report = DeliveryReport({})
                continue
            waiting.append(one)
            yield mail

    def _try_alone(self, one: _Try) -> None:
        because = self._unreachable
        if because is None:
            self._end(one, self._backend._send, one.message)
        else:
            self._end(one, self._give_up, one.message, because)

    def _end(self, one: _Try, send: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._sent += bool(send(*arguments))
        except Exception as exc:
            self._failed(one, exc)
        one.report = report_of(one.message)
        if one.report is not None and isinstance(one.report.error, _UNREACHABLE):
            self._unreachable = one.report.error

    def _failed(self, one: _Try, error: Exception) -> None:
        # One bad message must not stop the rest: it is raised when they are sent.
        one.error = error
        if report_of(one.message) is None:
            untried(self._backend, one.message, error)
        one.report = report_of(one.message)

    def _give_up(self, message: EmailMessage, because: mailbridge.MailError) -> bool:
        """A message that is not tried any more, since there is no way to the server."""
        if any(message.recipients()):
            error = exceptions.about(copy.copy(because), message)
            error.report = untried(self._backend, message, error)
            self._backend.raise_or_log(error)
        return False


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

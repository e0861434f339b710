"""A backend that sends by the next mailer when one cannot be reached."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.core.mail import EmailMessage

from mailbridge import DeliveryReport, policy

from ..batch import attach, finish
from ..report import not_tried, report_of
from .smtp import EmailBackend as SMTPBackend
from .wrapper import Wrapper, errors_of

logger = logging.getLogger("mailbridge")


class EmailBackend(Wrapper):
    """Sends by the first mailer of `using`; by the next, what the first could hand over to nobody.

    It goes on where the report of a message says that no recipient has it, may have it, or was
    refused for good; and where a backend that gives no reports cannot be opened. It does not for
    a wrong password or an untrusted certificate: those are for a person to mend.
    """

    AT_LEAST = 2
    AT_MOST = sys.maxsize

    def open(self) -> bool | None:
        """Nothing: each mailer is opened when its turn has come."""
        return None

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Send the messages; return how many were sent. Raises what is left after the last."""
        messages = waiting = list(email_messages or ())
        sent, errors = 0, list[Exception]()
        for name, further, backend in zip(
            self.using, (*self.using[1:], None), self.inner, strict=True
        ):
            outcome = _by(backend, waiting)
            left = outcome.left if further else []
            sent += outcome.sent
            errors += [error for error in outcome.errors if not _is_about(error, left)]
            if not left:
                break
            logger.warning(
                "%d of %d messages not sent by %r: going on to %r",
                len(left), len(waiting), name, further,
            )  # fmt: skip
            waiting = left
        return finish(sent, errors, map(report_of, messages))


class _Outcome(NamedTuple):
    """How many one mailer has sent, its errors, and the messages that the next may send."""

    sent: int
    errors: Sequence[Exception] = ()
    left: list[EmailMessage] = []  # noqa: RUF012 - nobody adds to it


def _by(backend: Any, messages: list[EmailMessage]) -> _Outcome:
    if isinstance(backend, (SMTPBackend, Wrapper)):
        return _by_ours(backend, messages)
    try:
        opened = backend.open()
    except OSError as error:
        # Nothing was handed over yet, whatever kind of backend this is.
        for message in messages:
            attach(message, not_tried(message, error))
        return _Outcome(0, (error,), messages)
    try:
        return _Outcome(int(backend.send_messages(messages) or 0))
    except Exception as error:
        # Only the backend knows what it had sent by then: to go on could send it twice.
        return _Outcome(0, (error,))
    finally:
        if opened:
            backend.close()


def _by_ours(backend: Any, messages: list[EmailMessage]) -> _Outcome:
    errors: Sequence[Exception] = ()
    try:
        backend.send_messages(messages)
    except Exception as error:
        errors = errors_of(error)
    reports = [(message, report_of(message)) for message in messages]
    sent = sum(bool(report and report.accepted) for _, report in reports)
    return _Outcome(sent, errors, [m for m, report in reports if report and _may_go_on(report)])


def _may_go_on(report: DeliveryReport) -> bool:
    """True if nobody has the mail, may have it, or was refused for good."""
    everybody = bool(report.recipients) and len(policy.remaining(report)) == len(report.recipients)
    return everybody and policy.may_fail_over(report)


def _is_about(error: Exception, left: list[EmailMessage]) -> bool:
    """True if the error is that of messages which another mailer tries now."""
    message = getattr(error, "message", None)
    whole = message is None and bool(left) and isinstance(error, OSError)
    return whole or any(message is each for each in left)

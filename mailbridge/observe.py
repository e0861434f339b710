"""What became of each mail, told to the log and to whoever else is to know.

One record a mail in the logger ``mailbridge``, at INFO, with counts; the addresses in a second
one at DEBUG. No record holds a secret or a piece of the content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from .convert import function
from .errors import OptionError
from .report import DeliveryReport, State

logger = logging.getLogger("mailbridge")

#: Called with the report of each mail when it has ended. What it raises is logged.
Observer = Callable[[DeliveryReport], object]


def observers(value: Any) -> tuple[Observer, ...]:
    """One observer or several: callables, or their dotted paths, in a text with commas too.

    Raises OptionError.
    """
    if value is None or value == ():
        return ()
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    given = (value,) if callable(value) else value
    if not isinstance(given, Iterable):
        raise OptionError(f"on_report {value!r} is neither a callable nor its dotted path")
    return tuple(function("on_report", each) for each in given)


def tell(report: DeliveryReport, to: Iterable[Observer] = ()) -> None:
    """Log how a mail ended, and call the observers. Raises nothing."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", _Line(report), extra=fields(report))
        if logger.isEnabledFor(logging.DEBUG):
            results = "; ".join(map(str, report))
            logger.debug("%s: %s", report.message_id, results, extra=addresses(report))
    for observer in to:
        try:
            observer(report)
        except Exception:
            logger.exception("on_report: %r failed; the mail is not touched by it", observer)


def fields(report: DeliveryReport) -> dict[str, Any]:
    """What the record at INFO has as attributes: numbers and names, no address."""
    return {
        "mailer": report.mailer,
        "message_id": report.message_id,
        "relay": report.relay,
        **counts(report),
        "queue_id": report.queue_id,
        "milliseconds": None if report.seconds is None else round(report.seconds * 1000, 1),
        "reused": report.reused,
        "attempts": report.attempts,
        "code": None if report.reply is None else report.reply.code,
        "error": error_of(report),
    }


def addresses(report: DeliveryReport) -> dict[str, Any]:
    """What the record at DEBUG has as attributes: the sender, and each recipient's result."""
    return {
        "mailer": report.mailer,
        "message_id": report.message_id,
        "sender": report.sender,
        "recipients": {result.address: result.to_dict() for result in report},
    }


def counts(report: DeliveryReport) -> dict[str, int]:
    """How many recipients ended in each state, by its name."""
    found = dict.fromkeys(map(str, State), 0)
    for result in report:
        found[str(result.state)] += 1
    return found


def error_of(report: DeliveryReport) -> str | None:
    """The name of the error that this report is, or would be; None if everybody has the mail."""
    if report.error is not None:
        return type(report.error).__name__
    states = {result.state for result in report}
    if states <= {State.ACCEPTED}:
        return None
    return "SomeRecipientsRefused" if State.ACCEPTED in states else "RecipientsRefused"


class _Line:
    """The readable text of a record; made only if a handler asks for it."""

    def __init__(self, report: DeliveryReport) -> None:
        self._report = report

    def __str__(self) -> str:
        report = self._report
        known = fields(report)
        states = ", ".join(f"{n} {state}" for state, n in counts(report).items() if n)
        details = [f"queued as {known['queue_id']}" if known["queue_id"] else ""]
        details.append(str(known["error"] or ""))
        details.append("" if report.seconds is None else f"{known['milliseconds']} ms")
        if report.reused is not None:
            details.append(f"connection {'reused' if report.reused else 'new'}")
        if report.attempts > 1:
            details.append(f"{report.attempts} attempts")
        by = " ".join(filter(None, (report.mailer, report.relay and f"to {report.relay}")))
        more = ", ".join(filter(None, details))
        return f"{by or 'no relay'} {report.message_id or '<>'}: {states or 'nobody'} ({more})"

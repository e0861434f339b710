"""Attempts at a mail: at one relay, over one connection, and again as policy says.

Written once as generators, like the dialogues. They yield what has to be waited for, a `Step`; a
transport takes it, blocking or in an event loop, and sends the result back, or throws the error in.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from . import policy
from .deadline import Deadline, is_over
from .errors import InvalidInput, MailError
from .options import Relay, RetryPolicy
from .outgoing import Outgoing, describe, describe_stopped, not_attempted
from .protocol import delivery
from .protocol.alone import Alone, goes_alone
from .protocol.session import Dialogue
from .protocol.shortcut import Shortcut
from .report import DeliveryReport
from .stock import Lease

AnyLease: TypeAlias = Lease[Any]
# A pool: a stock that the transport knows how to wait for.
AnyStock: TypeAlias = Any


class Lend(NamedTuple):
    """A connection from the stock is wanted. The result is a Lease; may raise MailError.

    With `mail_follows` a new one may have a login that is not answered yet.
    """

    stock: AnyStock
    fresh: bool = False
    deadline: Deadline | None = None
    mail_follows: bool = False


class Pace(NamedTuple):
    """The next mail is to wait until the stock's `max_per_second` allows it; or a MailError."""

    stock: AnyStock
    deadline: Deadline | None = None


@dataclass(slots=True, eq=False, repr=False)
class Converse:
    """A dialogue is to be run over a connection. The result is its own."""

    lease: AnyLease
    dialogue: Dialogue[Any]
    deadline: Deadline | None = None


class Exchange(NamedTuple):
    """A mail is to be sent by a shortcut over a connection. The result is the report."""

    lease: AnyLease
    shortcut: Shortcut


class Try(NamedTuple):
    """A mail is to be tried at this relay. The result is a report; may raise InvalidInput."""

    relay: Relay
    outgoing: Outgoing


T = TypeVar("T")
Step: TypeAlias = Lend | Pace | Converse | Exchange | Try | policy.Retry
Steps: TypeAlias = Generator[Step, Any, T]


def over(lease: AnyLease, outgoing: Outgoing) -> Steps[DeliveryReport]:
    """Deliver one mail over a leased connection. Every failure is in the report.

    Raises InvalidInput for a mail that cannot be fitted to this server.
    """
    stock, session = lease.stock, lease.connection.session
    try:
        if stock.bucket is not None:
            yield Pace(stock, outgoing.deadline)
        lease.use.messages += 1
        mail = outgoing.transaction(session, stock.relay)
        last = not lease.room()
        report: DeliveryReport
        if outgoing.deadline is None and not last and goes_alone(session, mail):
            report = yield Exchange(lease, Alone(session, mail))
        else:
            dialogue = delivery.deliver(session, mail, last=last)
            report = yield Converse(lease, dialogue, outgoing.deadline)
    except MailError as error:
        report = not_attempted(outgoing, error, stock.relay)
    except BaseException as stopped:
        describe_stopped(stopped, outgoing, stock.relay, session.transcript)
        raise
    lease.use.last_used = time.monotonic()
    stock.learn(report)
    report.reused = lease.use.messages > 1
    return describe(report, outgoing, stock.relay, session.transcript)


def at(stock: AnyStock, outgoing: Outgoing) -> Steps[DeliveryReport]:
    """One try at one relay; two if a connection that was kept turns out to be dead."""
    report, stale = yield from _once(stock, outgoing, fresh=False)
    if stale:
        report, _ = yield from _once(stock, outgoing.after(outgoing.attempt), fresh=True)
        report.attempts += 1
    return report


def _once(
    stock: AnyStock, outgoing: Outgoing, *, fresh: bool
) -> Steps[tuple[DeliveryReport, bool]]:
    try:
        lease = yield Lend(stock, fresh, outgoing.deadline, mail_follows=not fresh)
    except MailError as error:
        return not_attempted(outgoing, error, stock.relay), False
    reused = lease.reused
    try:
        report = yield from over(lease, outgoing)
    finally:
        lease.give_back()
    return report, reused and is_stale(report, outgoing)


def is_stale(report: DeliveryReport, outgoing: Outgoing) -> bool:
    """True if the connection was dead before, and there is time for another."""
    return policy.was_stale(report) and not is_over(outgoing.deadline)


def again(
    outgoing: Outgoing,
    report: DeliveryReport,
    relays: tuple[Relay, ...],
    retry: RetryPolicy,
) -> Steps[DeliveryReport]:
    """What comes of `report`, that of the first of `relays`, when those left over are tried."""
    place, attempt, deadline = 0, 1, outgoing.deadline
    while True:
        decision = policy.after(
            report,
            retry,
            attempt=attempt,
            relays_left=len(relays) - 1 - place,
            seconds_left=None if deadline is None else deadline.left,
        )
        match decision:
            case policy.Stop():
                return report
            case policy.Failover():
                place += 1
            case policy.Retry():
                place, attempt = 0, attempt + 1
        rest = outgoing.only(policy.remaining(report)).after(report.attempts)
        try:
            if isinstance(decision, policy.Retry):
                yield decision
            later = yield Try(relays[place], rest)
        except InvalidInput as error:
            # This relay offers less than the last; that is no reason to lose the report.
            later = not_attempted(rest, error, relays[place])
        except BaseException as stopped:
            if not isinstance(stopped, Exception):
                # Cancelled: who has the mail already must not be forgotten.
                known = getattr(stopped, "report", None)
                so_far = report.followed_by(known) if isinstance(known, DeliveryReport) else report
                stopped.report = so_far  # type: ignore[attr-defined]
            raise
        report = report.followed_by(later)

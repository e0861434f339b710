"""When a connection may be used again, and when a mail may be tried again. Decisions only.

Functions of values and a clock reading: no lock, no sleep, no socket. Whoever asks acts.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from .errors import (
    AuthenticationFailed,
    CertificateError,
    ConnectError,
    Disconnected,
    GreetingRefused,
    MailError,
    SenderRefused,
    TLSError,
)
from .options import PoolOptions, RetryPolicy
from .report import DeliveryReport, State


class Stop:
    """The report stands."""


class Retry(NamedTuple):
    """Try those that are left again, after `delay` seconds."""

    delay: float


class Failover:
    """Try those that are left at the next relay, now."""


Decision = Stop | Retry | Failover


def after(
    report: DeliveryReport,
    policy: RetryPolicy,
    *,
    attempt: int,
    relays_left: int,
    seconds_left: float | None = None,
) -> Decision:
    """What to do about a report. `attempt` counts from 1, `seconds_left` is until the deadline.

    Never anything once a recipient is in doubt: the mail may have been delivered (RFC 1047).
    """
    if report.in_doubt or not remaining(report) or seconds_left == 0:
        return Stop()
    if relays_left and may_fail_over(report):
        return Failover()
    if attempt >= policy.tries or not may_retry(report):
        return Stop()
    # Full jitter: many clients that failed together must not come back together.
    delay = random.uniform(0, min(policy.max_delay, policy.delay * 2 ** (attempt - 1)))  # noqa: S311
    if seconds_left is not None and delay >= seconds_left:
        return Stop()
    return Retry(delay)


def remaining(report: DeliveryReport) -> tuple[str, ...]:
    """The recipients that another try could help: deferred, or not attempted."""
    return tuple(
        r.address
        for r in report
        if r.state is State.DEFERRED or (r.state is State.NOT_ATTEMPTED and _helpable(report))
    )


def _helpable(report: DeliveryReport) -> bool:
    # Without an error, "not attempted" is our own doing (on_refused="abort").
    return report.error is not None and (may_retry(report) or may_fail_over(report))


def may_retry(report: DeliveryReport) -> bool:
    """True if the same server may be asked again later."""
    error = report.error
    if error is not None:
        return isinstance(error, MailError) and error.retryable
    return bool(report.deferred)


def may_fail_over(report: DeliveryReport) -> bool:
    """True if another relay may be asked now: nothing was handed over, and it is not the mail.

    Not for wrong credentials or an untrusted certificate: those are for a person to mend, and
    going on elsewhere would hide them.
    """
    error = report.error
    if isinstance(error, (AuthenticationFailed, CertificateError)):
        return isinstance(error, AuthenticationFailed) and error.retryable
    if isinstance(error, (ConnectError, GreetingRefused, Disconnected)):
        return not report.in_doubt
    if isinstance(error, TLSError):
        return error.retryable
    if isinstance(error, MailError):
        return error.retryable
    return bool(report.deferred) and not report.accepted


def is_down(error: MailError) -> bool:
    """True if no session came about, for a reason that the next one would probably meet as well.

    Wrong credentials or an untrusted certificate are no such reason: the server is there.
    """
    if isinstance(error, TLSError):
        return error.retryable
    return isinstance(error, (ConnectError, Disconnected, GreetingRefused))


def was_stale(report: DeliveryReport) -> bool:
    """True if a kept connection turned out to be dead before anything was handed over.

    A 421 to MAIL is an idle time-out of the server's that met our command half-way.
    """
    error = report.error
    closed = isinstance(error, Disconnected) or (
        isinstance(error, SenderRefused) and error.smtp_code == 421
    )
    return closed and len(report.not_attempted) == len(report.recipients)


def was_throttled(report: DeliveryReport) -> bool:
    """True if the server asked for less: a 421, or a policy reply 4.7.x (RFC 3463)."""
    replies = [result.reply for result in report if result.reply is not None]
    if isinstance(report.error, MailError) and report.error.reply is not None:
        replies.append(report.error.reply)
    return any(
        reply.code == 421 or (reply.status is not None and reply.status[:2] == (4, 7))
        for reply in replies
    )


class Use:
    """How a connection has been used, and `most` mails that it may carry in all.

    Times are of a monotonic clock.
    """

    __slots__ = ("last_used", "messages", "most", "opened")

    def __init__(self, opened: float, most: float) -> None:
        self.opened = self.last_used = opened
        self.most = most
        self.messages = 0


def most(options: PoolOptions, mail_max: int | None) -> float:
    """How many mails a connection may carry, inf without a limit. `mail_max` is the server's."""
    limits = [limit for limit in (options.max_messages, mail_max) if limit is not None]
    return min(limits, default=math.inf)


def room(use: Use, options: PoolOptions, now: float) -> float:
    """How many mails more a connection may carry: 0 if it has aged, inf without a limit."""
    if now - use.opened >= options.max_age or now - use.last_used >= options.idle_timeout:
        return 0
    return max(0, use.most - use.messages)


class Breaker:
    """Stops knocking at a door that does not open.

    After `failures` connections in a row that failed, none is tried for `pause` seconds; then one.
    """

    def __init__(self, failures: int, pause: float) -> None:
        self.failures = failures
        self.pause = pause
        self.failed = 0
        self.closed_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a connection may be tried; 0 for now."""
        if self.failed < self.failures:
            return 0.0
        return max(0.0, self.closed_until - now)

    def note(self, ok: bool, now: float) -> None:
        """Take in how a try to connect ended."""
        self.failed = 0 if ok else self.failed + 1
        if self.failed >= self.failures:
            self.closed_until = now + self.pause


class Bucket:
    """A token bucket: `per_second` mails on average, and no burst beyond one second's worth.

    A 421 or 4.7.x slows it down for a while (`throttle`); each mail that is accepted speeds it
    up again, to where it was.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.tokens = self.at = 0.0
        self.factor = 1.0

    def take(self, now: float) -> float:
        """Take a token. Returns the seconds to wait before it may be used."""
        rate = self.per_second * self.factor
        capacity = max(1.0, rate)
        if self.at == 0.0:
            self.tokens = capacity
        else:
            self.tokens = min(capacity, self.tokens + (now - self.at) * rate)
        self.at = now
        self.tokens -= 1.0
        return max(0.0, -self.tokens / rate)

    def give_back(self) -> None:
        """Nothing was sent for the token that was taken last."""
        self.tokens += 1.0

    def throttle(self) -> None:
        """The server complained: half the rate, to a sixteenth at the least."""
        self.factor = max(1 / 16, self.factor / 2)

    def recover(self) -> None:
        """The server was content."""
        self.factor = min(1.0, self.factor * 1.1)

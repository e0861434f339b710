"""Transport: mails in, reports out. Leases connections, and tries again as policy says."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from .. import policy
from ..envelope import Envelope
from ..errors import InvalidInput, MailError
from ..options import Relay, RetryPolicy
from ..outgoing import Content, Outgoing, describe, not_attempted, warn_of_refused
from ..protocol import delivery
from ..protocol.transcript import Listener
from ..report import DeliveryReport, OnRefused
from .batch import Batch
from .driver import Connection
from .forks import renew_after_fork
from .pool import Lease, Pool, pool_for

# Whose turn it is, for the transports of this process that take the same relays in turn.
_turns: dict[tuple[Relay, ...], Iterator[int]] = {}


class Transport:
    """Sends mail through a relay, or the next of several. Safe to share between threads.

    `relay` is a Relay, a URL, or a list of them for failover (`round_robin` starts with another
    each time). Connections come from the process's pool and go back to it; between `open()` and
    `close()`, or inside ``with``, one is kept for this transport. `retry` says how often to try
    again where nothing was handed over; `on_refused` what to do about refused recipients;
    `listener` is told each line of the dialogue, "C" or "S" and the lines, secrets masked.
    """

    def __init__(
        self,
        relay: Relay | str | Sequence[Relay | str],
        *,
        on_refused: OnRefused | str = OnRefused.RAISE,
        retry: RetryPolicy | None = None,
        round_robin: bool = False,
        listener: Listener | None = None,
    ) -> None:
        given = [relay] if isinstance(relay, (Relay, str)) else list(relay)
        self.relays = tuple(Relay.from_url(r) if isinstance(r, str) else r for r in given)
        if not self.relays:
            raise InvalidInput("no relay: give at least one Relay or URL")
        self.on_refused = OnRefused.parse(on_refused)
        self.retry = retry or RetryPolicy()
        self.round_robin = round_robin
        self.listener = listener
        self._lock = threading.RLock()
        self._kept: Lease | None = None
        renew_after_fork(self)

    @property
    def relay(self) -> Relay:
        """The first relay."""
        return self.relays[0]

    @property
    def connection(self) -> Connection | None:
        """The connection that is kept, None if there is none."""
        return None if self._kept is None else self._kept.connection

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def __repr__(self) -> str:
        relays = ", ".join(map(repr, self.relays))
        return f"Transport({relays}, on_refused={str(self.on_refused)!r})"

    def open(self) -> bool:
        """Lease a connection now and keep it. True if that was done, False if it was open.

        Raises ConnectError, TLSError, AuthenticationFailed or another MailError.
        """
        with self._lock:
            if self._kept is not None and self._kept.connection.alive():
                return False
            self.close()
            self._kept = self._first_that_opens()
            return True

    def _first_that_opens(self) -> Lease:
        *others, last = self.order()
        for relay in others:
            try:
                return pool_for(relay).acquire(listener=self.listener)
            except MailError as error:
                if not policy.may_fail_over(DeliveryReport({}, error=error)):
                    raise
        return pool_for(last).acquire(listener=self.listener)

    def borrow(self) -> Lease | None:
        """Take the kept connection for a while, if there is one; `put_back` ends that."""
        with self._lock:
            kept, self._kept = self._kept, None
            if kept is not None:
                # It has waited, so it may be dead, like any that was used before.
                kept.reused = True
            return kept

    def put_back(self, lease: Lease) -> None:
        """Keep this connection again."""
        with self._lock:
            if self._kept is None and lease.fit():
                self._kept = lease
                return
        lease.give_back()

    def renew_lock(self) -> None:
        """In a forked child: the thread that may have held the lock does not exist here."""
        self._lock = threading.RLock()

    def close(self) -> None:
        """Give the kept connection back to the pool, if there is one. Never raises."""
        with self._lock:
            kept, self._kept = self._kept, None
            if kept is not None:
                kept.give_back()

    def send(
        self,
        envelope: Envelope,
        content: Content,
        *,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused | str | None = None,
    ) -> DeliveryReport:
        """Send one mail and return the report on every recipient.

        Raises what `on_refused` says of refused recipients (RecipientsRefused,
        SomeRecipientsRefused), SenderRefused, MessageRefused, DeliveryInDoubt, ConnectError,
        TLSError, AuthenticationFailed, Disconnected: each with its `report`.
        """
        on_refused = self._policy(on_refused)
        report = self.attempt(
            envelope,
            content,
            mail_options=mail_options,
            rcpt_options=rcpt_options,
            on_refused=on_refused,
        )
        failure = report.failure(on_refused)
        if failure is not None:
            raise failure
        warn_of_refused(report, on_refused)
        return report

    def send_many(
        self,
        mails: Iterable[tuple[Envelope, Content]],
        *,
        on_refused: OnRefused | str | None = None,
        concurrency: int = 1,
    ) -> Iterator[DeliveryReport]:
        """Send mails as they come, and yield a report for each, in their order.

        Nothing is raised for a mail that fails: its report says so, and `report.failure()` is
        the error. One connection carries them all, pipelined where the server allows; with
        `concurrency` that many connections do, each in a thread of its own.
        """
        return Batch(self, mails, self._policy(on_refused), concurrency).reports()

    def attempt(
        self,
        envelope: Envelope,
        content: Content,
        *,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused = OnRefused.RAISE,
    ) -> DeliveryReport:
        """Like `send`, but every failure is in the report. Raises for invalid input only."""
        outgoing = Outgoing(envelope, content, mail_options, rcpt_options, on_refused)
        return self.submit(outgoing)

    def _policy(self, on_refused: OnRefused | str | None) -> OnRefused:
        return self.on_refused if on_refused is None else OnRefused.parse(on_refused)

    # Trying, and trying again.

    def submit(self, outgoing: Outgoing) -> DeliveryReport:
        """Try a mail at the relays in turn, and again, as far as `retry` allows."""
        relays = self.order()
        return self.go_on(outgoing, self._try(relays[0], outgoing), relays)

    def may_go_on(self, report: DeliveryReport) -> bool:
        """True if there is somebody left to try again for, and a policy that allows it."""
        asked_for = self.retry.tries > 1 or len(self.relays) > 1
        return asked_for and not report.in_doubt and bool(policy.remaining(report))

    def go_on(
        self, outgoing: Outgoing, report: DeliveryReport, relays: tuple[Relay, ...] = ()
    ) -> DeliveryReport:
        """What comes of `report` when those that are left are tried again, as policy says."""
        relays = relays or self.relays
        started = time.monotonic()
        place, attempt = 0, 1
        while True:
            decision = policy.after(
                report,
                self.retry,
                attempt=attempt,
                elapsed=time.monotonic() - started,
                relays_left=len(relays) - 1 - place,
            )
            match decision:
                case policy.Stop():
                    return report
                case policy.Failover():
                    place += 1
                case policy.Retry(delay):
                    time.sleep(delay)
                    place, attempt = 0, attempt + 1
            rest = outgoing.only(policy.remaining(report))
            try:
                later = self._try(relays[place], rest)
            except InvalidInput as error:
                # This relay offers less than the last; that is no reason to lose the report.
                later = not_attempted(rest, error, relays[place])
            report = report.followed_by(later)

    def order(self) -> tuple[Relay, ...]:
        """The relays, in the order they are tried for the next mail."""
        if self._kept is not None:
            first = self.relays.index(self._kept.pool.relay)
        elif self.round_robin:
            first = next(_turns.setdefault(self.relays, itertools.count())) % len(self.relays)
        else:
            first = 0
        return self.relays[first:] + self.relays[:first]

    def _try(self, relay: Relay, outgoing: Outgoing) -> DeliveryReport:
        """One try at one relay; two if a kept connection turns out to be dead."""
        with self._lock:
            if self._kept is not None and self._kept.pool.relay == relay:
                return self._try_kept(self._kept.pool, outgoing)
        pool = pool_for(relay)
        report, stale = self._lease_and_deliver(pool, outgoing, fresh=False)
        if stale:
            report, _ = self._lease_and_deliver(pool, outgoing, fresh=True)
            report.attempts += 1
        return report

    def _lease_and_deliver(
        self, pool: Pool, outgoing: Outgoing, *, fresh: bool
    ) -> tuple[DeliveryReport, bool]:
        try:
            lease = pool.acquire(fresh=fresh, listener=self.listener)
        except MailError as error:
            return not_attempted(outgoing, error, pool.relay), False
        reused = lease.reused
        try:
            report = deliver(pool, lease, outgoing)
        finally:
            lease.give_back()
        return report, reused and policy.was_stale(report)

    def _try_kept(self, pool: Pool, outgoing: Outgoing) -> DeliveryReport:
        lease = self._kept
        if lease is None:
            return self._try(pool.relay, outgoing)
        report = deliver(pool, lease, outgoing)
        if lease.fit():
            return report
        # Its place in the pool is kept; only the connection is a new one.
        self._kept = None
        lease.give_back()
        try:
            if policy.was_stale(report):
                self._kept = pool.acquire(fresh=True, listener=self.listener)
                report = deliver(pool, self._kept, outgoing)
                report.attempts += 1
        except MailError as error:
            return not_attempted(outgoing, error, pool.relay)
        return report


def deliver(pool: Pool, lease: Lease, outgoing: Outgoing) -> DeliveryReport:
    """Deliver one mail over a leased connection. Every failure is in the report.

    Raises InvalidInput for a mail that cannot be fitted to this server.
    """
    pool.pace()
    connection = lease.connection
    session = connection.session
    lease.use.messages += 1
    try:
        mail = outgoing.transaction(session)
        report = connection.run(delivery.deliver(session, mail))
    except MailError as error:
        report = not_attempted(outgoing, error, pool.relay)
    pool.learn(report)
    return describe(report, outgoing, pool.relay, session.transcript)

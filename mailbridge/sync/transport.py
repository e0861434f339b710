"""Transport: mails in, reports out. Leases connections, and tries again as policy says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

from .. import attempt as tries
from .. import forks, policy
from ..convert import seconds
from ..envelope import Envelope
from ..line import Line, line_for
from ..options import Relay
from ..outgoing import Content, Outgoing
from ..report import DeliveryReport, OnRefused
from ..route import Route
from .batch import Batch
from .driver import Connection
from .pool import Lease, pool_for

T = TypeVar("T")


class Transport(Route[Connection]):
    """Sends mail through a relay, or the next of several. Safe to share between threads.

    `relay` is a Relay, a URL, or a list of them for failover (`round_robin` starts with another
    each time). Connections come from the process's pool and go back to it; between `open()` and
    `close()`, or inside ``with``, one is kept for this transport. `retry` says how often to try
    again where nothing was handed over; `on_refused` what to do about refused recipients;
    `deadline` how many seconds a send may take in all; `max_recipients` how many a mail may have,
    if there is to be a limit; `esmtp` what every mail asks of the server, where its envelope does
    not say otherwise; `before_final_dot` and `after_reply` are called with a Handover when a mail
    is handed over, `on_report` with the report when it has ended, which has this transport's
    `name`; `listener` is told each line of the dialogue, "C" or "S" and the lines, secrets masked.
    """

    def _start(self) -> None:
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """In a forked child: the thread that may have held the lock does not exist here."""
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def open(self) -> bool:
        """Lease a connection now and keep it. True if that was done, False if it was open.

        It takes no longer than a send may take. Raises ConnectError, TLSError,
        AuthenticationFailed or another MailError.
        """
        with self._lock:
            if self._kept is not None and self._kept.connection.alive():
                return False
            self._let_go()
            steps = self._first_that_opens(pool_for, self._running or self.begin())
            self._kept = self.take(steps)
            self._open = True
            return True

    def close(self) -> None:
        """Give the kept connection back to the pool, if there is one. Never raises."""
        with self._lock:
            self._let_go()

    def send(
        self,
        envelope: Envelope,
        content: Content,
        *,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused | str | None = None,
        deadline: float | None = None,
    ) -> DeliveryReport:
        """Send one mail and return the report on every recipient.

        After `deadline` seconds it is over, whatever it waits for: a free connection, the
        network, another try, or a reply.

        Raises what `on_refused` says of refused recipients (RecipientsRefused,
        SomeRecipientsRefused), SenderRefused, MessageRefused, DeliveryInDoubt, ConnectError,
        TLSError, AuthenticationFailed, Disconnected: each with its `report`.
        """
        on_refused = self._policy(on_refused)
        by = self.begin(deadline)
        outgoing = self.outgoing(envelope, content, mail_options, rcpt_options, on_refused, by)
        return self.settle(self.submit(outgoing), on_refused)

    def send_many(
        self,
        mails: Iterable[tuple[Envelope, Content]],
        *,
        on_refused: OnRefused | str | None = None,
        concurrency: int = 1,
        deadline: float | None = None,
    ) -> Iterator[DeliveryReport]:
        """Send mails as they come, and yield a report for each, in their order.

        Nothing is raised for a mail that fails: its report says so, and `report.failure()` is
        the error. One connection carries them all, pipelined where the server allows; with
        `concurrency` that many connections do, each in a thread of its own. `deadline` is for
        each mail by itself.
        """
        deadline = seconds("deadline", deadline)
        return Batch(self, mails, self._policy(on_refused), concurrency, deadline).reports()

    def attempt(
        self,
        envelope: Envelope,
        content: Content,
        *,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused = OnRefused.RAISE,
        deadline: float | None = None,
    ) -> DeliveryReport:
        """Like `send`, but every failure is in the report. Raises for invalid input only."""
        by = self.begin(deadline)
        outgoing = self.outgoing(envelope, content, mail_options, rcpt_options, on_refused, by)
        return self.submit(outgoing)

    # Trying, and trying again.

    def submit(self, outgoing: Outgoing) -> DeliveryReport:
        """Try a mail at the relays in turn, and again, as far as `retry` allows."""
        began = time.monotonic()
        relays = self.order()
        report = self._try(relays[0], outgoing)
        if self.may_go_on(report):
            report = self.take(tries.again(outgoing, report, relays, self.retry))
        return self.tell(report, began)

    def _try(self, relay: Relay, outgoing: Outgoing) -> DeliveryReport:
        """One try at one relay; two if a kept connection turns out to be dead."""
        if self._kept is not None:
            with self._lock:
                if self._keeps(relay):
                    return self.take(self._over_kept(outgoing))
        return self.take(tries.at(pool_for(relay), outgoing))

    def take(self, steps: tries.Steps[T]) -> T:
        """Take each step, to the end, and return the result."""
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, tries.Exchange):
                        result = step.lease.connection.exchange(step.shortcut)
                    elif isinstance(step, tries.Converse):
                        result = step.lease.connection.run(step.dialogue, step.deadline)
                    else:
                        result = self._take(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: T = done.value
            return value

    def _take(self, step: tries.Lend | tries.Pace | tries.Try | policy.Retry) -> Any:
        match step:
            case tries.Lend(pool, fresh, deadline, mail_follows):
                return pool.acquire(
                    fresh=fresh,
                    listener=self.listener,
                    deadline=deadline,
                    mail_follows=mail_follows,
                )
            case tries.Pace(pool, deadline):
                return pool.pace(deadline)
            case tries.Try(relay, outgoing):
                return self._try(relay, outgoing)
            case policy.Retry(delay):
                return time.sleep(delay)

    # For a batch.

    def line(self, on_refused: OnRefused, deadline: float | None = None) -> Line:
        """A line over the kept connection if there is one, else over one from the pool."""
        pool = pool_for(self.order()[0])
        with self._lock:
            return line_for(self, pool, self._take_kept(), on_refused, deadline)

    def put_back(self, lease: Lease) -> None:
        """Keep this connection again."""
        with self._lock:
            kept = self._keep_again(lease)
        if not kept:
            lease.give_back()

"""AsyncTransport: mails in, reports out, in an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable
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


class AsyncTransport(Route[Connection]):
    """Sends mail through a relay, or the next of several. Safe to share between tasks.

    Takes what `Transport` takes. Connections come from the running loop's pool and go back to it;
    between `open()` and `close()`, or inside ``async with``, one is kept for this transport. A
    task that is cancelled leaves no session in the middle of a mail; its CancelledError has the
    `report` on the mail that was on its way.
    """

    def _start(self) -> None:
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """In a forked child: no task runs on here, with the lock or in the kept connection."""
        self._lock = asyncio.Lock()
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.connection.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()

    async def open(self) -> bool:
        """Lease a connection now and keep it. True if that was done, False if it was open.

        It takes no longer than a send may take. Raises ConnectError, TLSError,
        AuthenticationFailed or another MailError.
        """
        async with self._lock:
            if self._kept is not None and self._kept.connection.alive():
                return False
            self._let_go()
            steps = self._first_that_opens(pool_for, self._running or self.begin())
            self._kept = await self.take(steps)
            self._open = True
            return True

    async def close(self) -> None:
        """Give the kept connection back to the pool, if there is one. Never raises."""
        async with self._lock:
            self._let_go()

    async def send(
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
        return self.settle(await self.submit(outgoing), on_refused)

    def send_many(
        self,
        mails: Iterable[tuple[Envelope, Content]] | AsyncIterable[tuple[Envelope, Content]],
        *,
        on_refused: OnRefused | str | None = None,
        concurrency: int = 1,
        deadline: float | None = None,
    ) -> AsyncGenerator[DeliveryReport]:
        """Send mails as they come, and yield a report for each, in their order.

        Nothing is raised for a mail that fails: its report says so, and `report.failure()` is
        the error. One connection carries them all, pipelined where the server allows; with
        `concurrency` that many connections do, each in a task of its own. `deadline` is for
        each mail by itself.
        """
        deadline = seconds("deadline", deadline)
        return Batch(self, mails, self._policy(on_refused), concurrency, deadline).reports()

    async def attempt(
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
        return await self.submit(outgoing)

    # Trying, and trying again.

    async def submit(self, outgoing: Outgoing) -> DeliveryReport:
        """Try a mail at the relays in turn, and again, as far as `retry` allows."""
        began = time.monotonic()
        relays = self.order()
        report = await self._try(relays[0], outgoing)
        if self.may_go_on(report):
            report = await self.take(tries.again(outgoing, report, relays, self.retry))
        return self.tell(report, began)

    def _try(self, relay: Relay, outgoing: Outgoing) -> Coroutine[Any, Any, DeliveryReport]:
        """One try at one relay; two if a kept connection turns out to be dead."""
        if self._kept is not None:
            return self._try_kept(relay, outgoing)
        return self.take(tries.at(pool_for(relay), outgoing))

    async def _try_kept(self, relay: Relay, outgoing: Outgoing) -> DeliveryReport:
        async with self._lock:
            if self._keeps(relay):
                return await self.take(self._over_kept(outgoing))
        return await self.take(tries.at(pool_for(relay), outgoing))

    async def take(self, steps: tries.Steps[T]) -> T:
        """Take each step, to the end, and return the result."""
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, tries.Exchange):
                        result = await step.lease.connection.exchange(step.shortcut)
                    elif isinstance(step, tries.Converse):
                        result = await step.lease.connection.run(step.dialogue, step.deadline)
                    elif isinstance(step, tries.Lend):
                        stock, fresh, deadline, mail_follows = step
                        result = await stock.acquire(
                            fresh=fresh,
                            listener=self.listener,
                            deadline=deadline,
                            mail_follows=mail_follows,
                        )
                    else:
                        result = await self._take(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _take(self, step: tries.Pace | tries.Try | policy.Retry) -> Any:
        match step:
            case tries.Pace(pool, deadline):
                return await pool.pace(deadline)
            case tries.Try(relay, outgoing):
                return await self._try(relay, outgoing)
            case policy.Retry(delay):
                return await asyncio.sleep(delay)

    # For a batch.

    async def line(self, on_refused: OnRefused, deadline: float | None = None) -> Line:
        """A line over the kept connection if there is one, else over one from the pool."""
        pool = pool_for(self.order()[0])
        async with self._lock:
            return line_for(self, pool, self._take_kept(), on_refused, deadline)

    def put_back(self, lease: Lease) -> None:
        """Keep this connection again."""
        if not self._keep_again(lease):
            lease.give_back()

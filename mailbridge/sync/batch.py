"""Many mails over one connection, pipelined, or over several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .. import policy
from ..envelope import Envelope
from ..errors import InvalidInput, MailError
from ..outgoing import Content, Outgoing, describe, not_attempted, warn_of_refused
from ..protocol import delivery
from ..protocol.transaction import MailTransaction
from ..report import DeliveryReport, OnRefused
from .pool import Lease, Pool, pool_for

if TYPE_CHECKING:
    from .transport import Transport

# Mails that a thread takes at a time: enough that their group goes out behind another's content.
SHARE = 20


class Batch:
    """The mails of one `send_many`. Holds no more of them than are on their way."""

    def __init__(
        self,
        transport: Transport,
        mails: Iterable[tuple[Envelope, Content]],
        on_refused: OnRefused,
        concurrency: int = 1,
    ) -> None:
        self._transport = transport
        self._mails = iter(mails)
        self._on_refused = on_refused
        self._concurrency = concurrency

    def reports(self) -> Iterator[DeliveryReport]:
        """A report for each mail, in their order."""
        reports = self._in_threads() if self._concurrency > 1 else self._in_line(self._mails)
        for report in reports:
            if report.failure(self._on_refused) is None:
                warn_of_refused(report, self._on_refused)
            yield report

    def _in_threads(self) -> Iterator[DeliveryReport]:
        with ThreadPoolExecutor(self._concurrency, "mailbridge") as executor:
            running: deque[Future[list[DeliveryReport]]] = deque()
            while True:
                while len(running) <= self._concurrency and (share := self._share()):
                    running.append(executor.submit(self._all_in_line, share))
                if not running:
                    return
                yield from running.popleft().result()

    def _all_in_line(self, share: list[tuple[Envelope, Content]]) -> list[DeliveryReport]:
        return list(self._in_line(iter(share)))

    def _share(self) -> list[tuple[Envelope, Content]]:
        return [mail for _, mail in zip(range(SHARE), self._mails, strict=False)]

    def _in_line(self, mails: Iterator[tuple[Envelope, Content]]) -> Iterator[DeliveryReport]:
        line = _Line(self._transport, self._on_refused)
        try:
            while (mail := line.next_of(mails)) is not None:
                yield from line.put(*mail)
            yield from line.end()
            if line.source_error is not None:
                raise line.source_error
        finally:
            line.close()


class _Line:
    """One connection and the mails on it: the one before the last waits for the last's group."""

    def __init__(self, transport: Transport, on_refused: OnRefused) -> None:
        self._transport = transport
        self._on_refused = on_refused
        self._pool: Pool = pool_for(transport.order()[0])
        self._lease: Lease | None = transport.borrow()
        self._borrowed = self._lease is not None
        if self._lease is not None:
            self._pool = self._lease.pool
        self._waiting: Outgoing | None = None
        self._begun: MailTransaction | None = None
        self.source_error: Exception | None = None

    def next_of(self, mails: Iterator[tuple[Envelope, Content]]) -> tuple[Envelope, Content] | None:
        """The next mail, None at the end. An error of the source's waits for the mail before it."""
        try:
            return next(mails, None)
        except Exception as error:
            self.source_error = error
            return None

    def put(self, envelope: Envelope, content: Content) -> Iterator[DeliveryReport]:
        """Take a mail in. Yields the report on the one before, and on itself if it is invalid."""
        try:
            outgoing = Outgoing(envelope, content, on_refused=self._on_refused)
        except InvalidInput as error:
            yield from self.end()
            yield not_attempted(envelope, error)
            return
        waiting, self._waiting = self._waiting, outgoing
        if waiting is not None:
            yield self._deliver(waiting, outgoing)

    def end(self) -> Iterator[DeliveryReport]:
        """Deliver the mail that waits, if one does."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            yield self._deliver(waiting, None)

    def close(self) -> None:
        """Let go of the connection. A transaction that was begun on it dies with it."""
        lease, self._lease = self._lease, None
        begun, self._begun = self._begun, None
        if lease is None:
            return
        if begun is not None:
            self._pool.discard(lease)
        elif self._borrowed:
            self._transport.put_back(lease)
        else:
            lease.give_back()

    def _deliver(self, outgoing: Outgoing, following: Outgoing | None) -> DeliveryReport:
        report, stale = self._try(outgoing, following)
        if stale:
            report, _ = self._try(outgoing, None, fresh=True)
            report.attempts += 1
        if self._transport.may_go_on(report):
            # Other tries take other connections; holding this one could be waiting for ourselves.
            self.close()
            return self._transport.go_on(outgoing, report)
        return report

    def _try(
        self, outgoing: Outgoing, following: Outgoing | None, *, fresh: bool = False
    ) -> tuple[DeliveryReport, bool]:
        """Deliver, pipelined with `following`. Also says if the connection was dead before."""
        begun, self._begun = self._begun, None
        try:
            lease = self._lease = self._lease or self._pool.acquire(
                fresh=fresh, listener=self._transport.listener
            )
            self._pool.pace()
            session = lease.connection.session
            mail = begun or outgoing.transaction(session)
            ahead = self._ahead(lease, following)
            lease.use.messages += 1
            report = lease.connection.run(
                delivery.deliver(session, mail, ahead, leave_reset=following is not None)
            )
        except (MailError, InvalidInput) as error:
            return not_attempted(outgoing, error, self._pool.relay), False
        self._pool.learn(report)
        describe(report, outgoing, self._pool.relay, session.transcript)
        if ahead is not None and ahead.begun:
            self._begun = ahead
        stale = (lease.reused or lease.use.messages > 1) and policy.was_stale(report)
        if not lease.fit():
            self.close()
        return report, stale

    def _ahead(self, lease: Lease, following: Outgoing | None) -> MailTransaction | None:
        """The transaction that may be begun behind this one's content."""
        session = lease.connection.session
        if following is None or not session.pipelining:
            return None
        if not lease.fit(mails=2):
            return None
        try:
            return following.transaction(session)
        except (InvalidInput, MailError):
            return None  # It is told why when it is its turn.

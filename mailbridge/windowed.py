"""WindowedLine: whole transactions on their way together, for a relay that is known to bear it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from .attempt import AnyLease, AnyStock, Converse, Lend, Pace, Steps, again, is_stale
from .envelope import Envelope
from .errors import InvalidInput, MailError
from .line import Line, Sender
from .outgoing import Content, Outgoing, describe, not_attempted
from .protocol import delivery
from .protocol.session import Session
from .protocol.transaction import MailTransaction
from .protocol.window import Window
from .report import DeliveryReport, OnRefused

# Who lets the line wait longer than this for the next mail hears at once what became of this one.
LINGER = 1.0


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A mail in the window. `second` if its first connection was lost before its content left.

    `began` is when it was put, `reused` whether its connection had served before.
    """

    outgoing: Outgoing
    began: float
    reused: bool
    mail: MailTransaction
    lease: AnyLease
    window: Window
    second: bool


class WindowedLine(Line):
    """One connection, and on it up to `bdat_window` mails that wait for no reply.

    A mail that the window does not admit goes alone, when those before it are heard.
    """

    def __init__(
        self,
        sender: Sender,
        stock: AnyStock,
        borrowed: AnyLease | None,
        on_refused: OnRefused,
        within: float | None = None,
    ) -> None:
        super().__init__(sender, stock, borrowed, on_refused, within)
        self._window: Window | None = None
        self._under_way: deque[_UnderWay] = deque()
        self._asked_at = time.monotonic()

    def put(self, envelope: Envelope, content: Content) -> Steps[list[DeliveryReport]]:
        """Take a mail in. Returns the reports on those before it that were heard."""
        began = time.monotonic()
        slow = began - self._asked_at > LINGER
        try:
            outgoing = self._sender.outgoing(envelope, content, on_refused=self._on_refused)
        except InvalidInput as error:
            reports = yield from self.end()
            invalid = not_attempted(envelope, error)
            return [*reports, self._sender.tell(invalid, time.monotonic())]
        deadline = self._sender.begin(self._within)
        if deadline is not None:
            outgoing = outgoing.by(deadline)
        reports = yield from self._send(outgoing, began)
        if slow:
            reports += yield from self.end()
        self._asked_at = time.monotonic()
        return reports

    def end(self) -> Steps[list[DeliveryReport]]:
        """Hear all that are under way."""
        reports: list[DeliveryReport] = []
        while self._under_way:
            reports += yield from self._take()
        return reports

    def close(self) -> None:
        """Let go of the connection. What is under way on it dies with it."""
        lease, self._window = self._lease, None
        if lease is None or not self._under_way:
            super().close()
            return
        self._lease = None
        self._under_way.clear()
        self._stock.discard(lease)

    def _send(
        self, outgoing: Outgoing, began: float, *, second: bool = False
    ) -> Steps[list[DeliveryReport]]:
        """Send a mail, in the window if it may. Returns the reports on those before it."""
        reports: list[DeliveryReport] = []
        if self._lease is not None and not self._lease.room():
            reports += yield from self.end()
            self.close()
        try:
            lease, window = yield from self._open(outgoing, fresh=second)
            mail = outgoing.transaction(lease.connection.session, self._stock.relay)
            if self._stock.bucket is not None and window.admits(mail):
                yield Pace(self._stock, outgoing.deadline)
        except (MailError, InvalidInput) as error:
            reports += yield from self.end()
            report = not_attempted(outgoing, error, self._stock.relay)
            return [*reports, self._sender.tell(report, began)]
        if not window.admits(mail):
            reports += yield from self.end()
            return [*reports, (yield from self._deliver(outgoing, None))]
        lease.use.messages += 1
        reused = lease.use.messages > 1
        each = _UnderWay(outgoing, began, reused, mail, lease, window, second)
        self._under_way.append(each)
        if window:
            window.add(mail)
        else:
            yield Converse(lease, window.begin(mail), outgoing.deadline)
        while self._window is not None and self._window.full:
            reports += yield from self._take()
        return reports

    def _open(self, outgoing: Outgoing, *, fresh: bool) -> Steps[tuple[AnyLease, Window]]:
        if self._lease is None:
            self._lease = yield Lend(self._stock, fresh, outgoing.deadline)
        lease: AnyLease = self._lease
        if self._window is None:
            self._window = Window(lease.connection.session, self._stock.relay.bdat_window or 1)
        return lease, self._window

    # What was heard.

    def _take(self) -> Steps[list[DeliveryReport]]:
        """The report on the oldest; on all, if that one is not over."""
        each = yield from self._hear()
        report = None if each.mail.unsettled else _report_on(each)
        if report is not None and not self._is_left(each, report):
            return [self._sender.tell(report, each.began)]
        # What is left of it takes a transaction or a connection that others are in the way of.
        heard = [(each, report)]
        while self._under_way:
            heard.append(((yield from self._hear()), None))
        finished = []
        for each, report in heard:
            finished.append((each, report or (yield from self._finish(each))))
        reports: list[DeliveryReport] = []
        for each, report in finished:
            reports += yield from self._settle(each, report)
        return reports

    def _hear(self) -> Steps[_UnderWay]:
        each = self._under_way.popleft()
        dialogue = each.window.take()
        try:
            next(dialogue)
        except StopIteration:
            return each  # Its replies came together with another's.
        yield Converse(each.lease, dialogue, each.outgoing.deadline)
        return each

    def _finish(self, each: _UnderWay) -> Steps[DeliveryReport]:
        """Deliver to those that the server wants in another transaction."""
        if each.mail.unsettled:
            dialogue = delivery.deliver(_session(each), each.mail)
            yield Converse(each.lease, dialogue, each.outgoing.deadline)
        return _report_on(each)

    def _is_left(self, each: _UnderWay, report: DeliveryReport) -> bool:
        return _was_stale(each, report) or self._sender.may_go_on(report)

    def _settle(self, each: _UnderWay, report: DeliveryReport) -> Steps[list[DeliveryReport]]:
        """Send it once more if its connection died before it left, and again as policy says."""
        if _was_stale(each, report):
            return (yield from self._send(each.outgoing, each.began, second=True))
        reports = yield from self.end()
        if self._sender.may_go_on(report):
            # Other tries take other connections; holding this one could be waiting for ourselves.
            self.close()
            sender = self._sender
            report = yield from again(each.outgoing, report, sender.relays, sender.retry)
        return [*reports, self._sender.tell(report, each.began)]


def _session(each: _UnderWay) -> Session:
    session: Session = each.lease.connection.session
    return session


def _report_on(each: _UnderWay) -> DeliveryReport:
    session, stock = _session(each), each.lease.stock
    report = delivery.report_on(session, each.mail)
    report.attempts += each.second
    report.reused = each.reused
    each.lease.use.last_used = time.monotonic()
    stock.learn(report)
    return describe(report, each.outgoing, stock.relay, session.transcript)


def _was_stale(each: _UnderWay, report: DeliveryReport) -> bool:
    """True if the connection was lost before this one's content left, and had served before."""
    served = each.lease.reused or each.lease.use.messages > 1
    return served and not each.second and is_stale(report, each.outgoing)

"""Line: mails one behind the other on one connection, pipelined. Waits for nothing by itself."""

from __future__ import annotations

import time
from typing import Protocol

from .attempt import AnyLease, AnyStock, Converse, Lend, Pace, Steps, again, is_stale
from .convoy import Convoy, Teller
from .deadline import Deadline
from .envelope import Envelope
from .errors import InvalidInput, MailError
from .options import Relay, RetryPolicy
from .outgoing import Content, Outgoing, describe, not_attempted
from .protocol import delivery
from .protocol.lane import Ordinary, lane_for
from .protocol.session import Session
from .protocol.transaction import MailTransaction
from .report import DeliveryReport, OnRefused

Mail = tuple[Envelope, Content]
# Mails that a thread or a task takes at a time from a batch: enough that nearly every group goes
# out behind another's content.
SHARE = 20


class Sender(Teller, Protocol):
    """The transport that a line works for."""

    relays: tuple[Relay, ...]
    retry: RetryPolicy

    @property
    def asks_nothing(self) -> bool:
        """True if each mail goes out as it is given, whenever that is, and nobody is asked."""
        ...

    def outgoing(self, envelope: Envelope, content: Content, *, on_refused: OnRefused) -> Outgoing:
        """A mail as the transport sends it. Raises InvalidInput."""
        ...

    def begin(self, within: float | None = None) -> Deadline | None:
        """The deadline of a mail that begins now."""
        ...

    def may_go_on(self, report: DeliveryReport) -> bool:
        """True if another try is allowed and could help."""
        ...

    def put_back(self, lease: AnyLease) -> None:
        """Keep this connection again."""
        ...


class Line:
    """One connection and the mails on it: the one before the last waits for the last's group.

    `borrowed` is the connection that the sender keeps, None for one of `stock`. Each mail is
    given `within` seconds, as `Sender.begin` has it.
    """

    def __init__(
        self,
        sender: Sender,
        stock: AnyStock,
        borrowed: AnyLease | None,
        on_refused: OnRefused,
        within: float | None = None,
    ) -> None:
        self._sender = sender
        self._on_refused = on_refused
        self._within = within
        self._lease = borrowed
        self._borrowed = borrowed is not None
        self._stock = stock if borrowed is None else borrowed.stock
        self._waiting: Outgoing | None = None
        self._begun: MailTransaction | None = None
        #: While there is one, the mail that waits is in it.
        self.convoy: Convoy | None = None

    def put(self, envelope: Envelope, content: Content) -> Steps[list[DeliveryReport]]:
        """Take a mail in that does not follow in the `convoy`.

        Returns the report on the one before, and on itself if it is invalid.
        """
        self._leave_lane()
        try:
            outgoing = self._sender.outgoing(envelope, content, on_refused=self._on_refused)
        except InvalidInput as error:
            reports = yield from self.end()
            invalid = not_attempted(envelope, error)
            return [*reports, self._sender.tell(invalid, time.monotonic())]
        waiting, self._waiting = self._waiting, outgoing
        if waiting is None:
            return []
        report = yield from self._deliver(waiting, outgoing)
        self._enter_lane()
        return [report]

    def end(self) -> Steps[list[DeliveryReport]]:
        """Deliver the mail that waits, if one does."""
        self._leave_lane()
        waiting, self._waiting = self._waiting, None
        return [] if waiting is None else [(yield from self._deliver(waiting, None))]

    def close(self) -> None:
        """Let go of the connection. A transaction that was begun on it dies with it."""
        lease, self._lease = self._lease, None
        begun = self._begun is not None or self.convoy is not None
        self._begun = self.convoy = None
        if lease is None:
            return
        if begun:
            self._stock.discard(lease)
        elif self._borrowed:
            self._sender.put_back(lease)
        else:
            lease.give_back()

    def _deliver(self, outgoing: Outgoing, following: Outgoing | None) -> Steps[DeliveryReport]:
        began = time.monotonic()
        deadline = self._sender.begin(self._within)
        if deadline is not None:
            outgoing = outgoing.by(deadline)
        report, stale = yield from self._try(outgoing, following)
        return (yield from self._conclude(outgoing, report, began, stale=stale))

    def _conclude(
        self, outgoing: Outgoing, report: DeliveryReport, began: float, *, stale: bool
    ) -> Steps[DeliveryReport]:
        """What comes of a report: perhaps another try, and in the end it is told."""
        if stale:
            outgoing = outgoing.after(1)
            report, _ = yield from self._try(outgoing, None, fresh=True)
            report.attempts += 1
        if self._sender.may_go_on(report):
            # Other tries take other connections; holding this one could be waiting for ourselves.
            self.close()
            report = yield from again(outgoing, report, self._sender.relays, self._sender.retry)
        return self._sender.tell(report, began)

    def _try(
        self, outgoing: Outgoing, following: Outgoing | None, *, fresh: bool = False
    ) -> Steps[tuple[DeliveryReport, bool]]:
        """Deliver, pipelined with `following`. Also says if the connection was dead before."""
        stock = self._stock
        try:
            lease: AnyLease | None = self._lease
            room = 0.0 if lease is None else lease.room()
            if lease is None or not (room or self._begun):
                self.close()
                lease = self._lease = yield Lend(
                    stock, fresh, outgoing.deadline, mail_follows=not fresh
                )
                room = lease.room()
            if stock.bucket is not None:
                yield Pace(stock, outgoing.deadline)
            session = lease.connection.session
            mail = self._begun or outgoing.transaction(session, stock.relay)
            # Kept until here: if it is not delivered after all, nobody may hear its replies.
            self._begun = None
            ahead = self._ahead(session, following) if room > 1 else None
            lease.use.messages += 1
            dialogue = delivery.deliver(
                session, mail, ahead, leave_reset=following is not None, last=room <= 1
            )
            report: DeliveryReport = yield Converse(lease, dialogue, outgoing.deadline)
        except (MailError, InvalidInput) as error:
            if self._lease is not None and (self._begun or not self._lease.room()):
                self.close()
            return not_attempted(outgoing, error, stock.relay), False
        if ahead is not None and ahead.begun:
            self._begun = ahead
        stale = self._take_in(lease, outgoing, report)
        if room <= 1:
            self.close()
        return report, stale

    def _take_in(self, lease: AnyLease, outgoing: Outgoing, report: DeliveryReport) -> bool:
        """Complete a report on what went over the connection, and say if that was dead before."""
        use, session = lease.use, lease.connection.session
        use.last_used = time.monotonic()
        self._stock.learn(report)
        describe(report, outgoing, self._stock.relay, session.transcript)
        report.reused = use.messages > 1
        stale = (
            report.error is not None
            and bool(lease.reused or report.reused)
            and is_stale(report, outgoing)
        )
        if not session.alive:
            self.close()
        return stale

    def _ahead(self, session: Session, following: Outgoing | None) -> MailTransaction | None:
        """The transaction that may be begun behind this one's content."""
        if following is None or not session.pipelining:
            return None
        try:
            return following.transaction(session, self._stock.relay)
        except (InvalidInput, MailError):
            return None  # It is told why when it is its turn.

    # In a lane.

    def _enter_lane(self) -> None:
        """Let what waits do so in a lane, if its group is granted, and what is asked allows it."""
        lease, granted, stock = self._lease, self._begun, self._stock
        if lease is None or granted is None or not granted.granted:
            return
        if not (self._within is None and self._sender.asks_nothing) or stock.bucket is not None:
            return
        if self._on_refused is OnRefused.ABORT or stock.relay.dkim is not None:
            return
        lane = lane_for(lease.connection.session, granted)
        if lane is not None:
            self.convoy = Convoy(self._sender, lease, lane)
            self._waiting = self._begun = None

    def leave(self, convoy: Convoy, report: DeliveryReport) -> Steps[DeliveryReport]:
        """What comes of the report with which a convoy has ended."""
        outgoing = self._outgoing(convoy.lane.sent)
        self._leave_lane()
        stale = self._take_in(convoy.lease, outgoing, report)
        return (yield from self._conclude(outgoing, report, convoy.began, stale=stale))

    def _leave_lane(self) -> None:
        """Go on the long way, with the mail that waits in the lane as it stands there."""
        convoy, self.convoy = self.convoy, None
        if convoy is not None:
            self._begun = convoy.lane.begun or convoy.lane.transaction()
            self._waiting = self._outgoing(convoy.lane.waiting)

    def _outgoing(self, mail: Ordinary) -> Outgoing:
        return self._sender.outgoing(mail.envelope, mail.body, on_refused=self._on_refused)


def line_for(
    sender: Sender,
    stock: AnyStock,
    borrowed: AnyLease | None,
    on_refused: OnRefused,
    within: float | None = None,
) -> Line:
    """The line for a batch, with a window if the relay's options say so."""
    relay = (stock if borrowed is None else borrowed.stock).relay
    if relay.bdat_window is None:
        return Line(sender, stock, borrowed, on_refused, within)
    # Imported here: a window is for the few relays that are known to bear it.
    from .windowed import WindowedLine

    return WindowedLine(sender, stock, borrowed, on_refused, within)

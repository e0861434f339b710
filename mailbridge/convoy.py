"""Convoy: the mails of a line that follow one another in a lane. Waits for nothing by itself."""

from __future__ import annotations

import time
from typing import Any, Protocol

from . import policy
from .attempt import AnyLease
from .envelope import Envelope
from .errors import InvalidInput
from .message import message_id
from .outgoing import Content
from .protocol.content import in_memory
from .protocol.lane import Lane
from .report import DeliveryReport

# Who has waited longer than this for the next mail finds out first if the server is still there: a
# content that is written to one that has gone is in doubt.
PAUSE = 0.0002


class Teller(Protocol):
    """Who tells of a report."""

    def tell(self, report: DeliveryReport, began: float) -> DeliveryReport:
        """The report, told to who wants to know."""
        ...


class Convoy:
    """A lane on a leased connection.

    Whoever has let a mail `follow` has the connection exchange what is due (`exchange(lane)`). The
    report that comes of it is for `complete`, or if the lane has `ended` with it for the line.
    """

    def __init__(self, teller: Teller, lease: AnyLease, lane: Lane) -> None:
        self.lease = lease
        self.lane = lane
        self.connection: Any = lease.connection
        #: When the mail that was let in last was, by the monotonic clock.
        self.began = 0.0
        self._teller = teller
        self._options = lease.stock.options
        self._relay = lease.stock.relay.address

    def follow(self, envelope: Envelope, content: Content) -> bool:
        """Let a mail in. False if it is not for a lane, or the connection carries no more."""
        use = self.lease.use
        self.began = now = time.monotonic()
        if now - use.last_used > PAUSE:
            self.connection.look()
        if policy.room(use, self._options, now) <= 1:
            return False
        try:
            held = in_memory(content)
        except InvalidInput:
            return False  # It is told why when it is its turn.
        if held is None or not self.lane.follow(envelope, held):
            return False
        use.messages += 1
        return True

    @property
    def ended(self) -> bool:
        """True if the lane has ended."""
        return self.lane.begun is not None

    def complete(self, report: DeliveryReport) -> DeliveryReport:
        """The report on a mail that was accepted, with what the lane does not know."""
        report.relay = self._relay
        report.message_id = message_id(self.lane.sent.content)
        report.reused = True
        self._teller.tell(report, self.began)
        self.lease.use.last_used = self.began + (report.seconds or 0.0)
        return report

"""Route: which relays a mail may go to, in what order, and how often. What both transports are."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import attempt, policy
from .convert import limit, seconds
from .deadline import Deadline
from .envelope import Envelope
from .errors import InvalidInput, MailError, OptionError
from .link import Link
from .observe import Observer, observers, tell
from .options import Relay, RetryPolicy
from .outgoing import Content, Outgoing, not_attempted, warn_of_refused
from .protocol.transcript import Listener
from .report import DeliveryReport, OnRefused
from .stock import Lease

if TYPE_CHECKING:
    from .esmtp import Esmtp
    from .hooks import Hook, Hooks

L = TypeVar("L", bound=Link)

# Whose turn it is, for the routes of this process that take the same relays in turn.
_turns: dict[tuple[Relay, ...], Iterator[int]] = {}


class Route(Generic[L]):
    """The relays of a transport and its policies, and the connection that it keeps.

    Raises InvalidInput without a relay, OptionError for a bad URL.
    """

    def __init__(
        self,
        relay: Relay | str | Sequence[Relay | str],
        *,
        on_refused: OnRefused | str = OnRefused.RAISE,
        retry: RetryPolicy | None = None,
        round_robin: bool = False,
        deadline: float | None = None,
        max_recipients: int | None = None,
        esmtp: Esmtp | Mapping[str, Any] | None = None,
        on_report: Observer | str | Iterable[Observer | str] | None = None,
        name: str | None = None,
        before_final_dot: Hook | str | None = None,
        after_reply: Hook | str | None = None,
        listener: Listener | None = None,
    ) -> None:
        given = [relay] if isinstance(relay, (Relay, str)) else relay or ()
        if not isinstance(given, Iterable):
            raise OptionError(f"relay is {given!r}: give a Relay, a URL, or a list of them")
        self.relays = tuple(map(_relay, given))
        if not self.relays:
            raise InvalidInput("no relay: give at least one Relay or URL")
        self.on_refused = OnRefused.parse(on_refused)
        if not isinstance(retry, (RetryPolicy, type(None))):
            raise OptionError(f"retry is {retry!r}: give a RetryPolicy, as RetryPolicy(tries=3)")
        self.retry = retry or RetryPolicy()
        self.round_robin = round_robin
        self.deadline = seconds("deadline", deadline)
        self.max_recipients = limit("max_recipients", max_recipients)
        self.hooks = _hooks(before_final_dot, after_reply)
        self.esmtp = None if esmtp is None else _esmtp(esmtp)
        self.on_report = observers(on_report)
        self.name = name
        self.listener = listener
        self._kept: Lease[L] | None = None
        self._open = False
        self._running: Deadline | None = None
        self._start()

    def _start(self) -> None:
        """Make the lock that the transport has."""

    @property
    def relay(self) -> Relay:
        """The first relay."""
        return self.relays[0]

    @property
    def connection(self) -> L | None:
        """The connection that is kept, None if there is none."""
        return None if self._kept is None else self._kept.connection

    def __repr__(self) -> str:
        relays = ", ".join(map(repr, self.relays))
        return f"{type(self).__name__}({relays}, on_refused={str(self.on_refused)!r})"

    def order(self) -> tuple[Relay, ...]:
        """The relays, in the order they are tried for the next mail."""
        if self._kept is not None:
            first = self.relays.index(self._kept.stock.relay)
        elif self.round_robin:
            first = next(_turns.setdefault(self.relays, itertools.count())) % len(self.relays)
        else:
            first = 0
        return self.relays[first:] + self.relays[:first]

    def outgoing(
        self,
        envelope: Envelope,
        content: Content,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused = OnRefused.RAISE,
        deadline: Deadline | None = None,
    ) -> Outgoing:
        """A mail as this transport sends it, with its `esmtp`. Raises InvalidInput."""
        if self.max_recipients is not None:
            self._check_number(len(envelope.forward_paths), self.max_recipients)
        if self.esmtp is not None:
            envelope = envelope.asking(self.esmtp)
        return Outgoing(
            envelope, content, mail_options, rcpt_options, on_refused, deadline, self.hooks
        )

    def _check_number(self, recipients: int, most: int) -> None:
        if recipients > most:
            raise InvalidInput(
                f"the mail has {recipients} recipients, and max_recipients allows {most};"
                " it was sent to nobody: name fewer, or raise the limit"
            )

    def begin(self, within: float | None = None) -> Deadline | None:
        """The deadline of what begins now: `within` seconds, or this transport's `deadline`.

        Raises OptionError for what is no number of seconds.
        """
        running, self._running = self._running, None
        within = self.deadline if within is None else seconds("deadline", within)
        return running if running or within is None else Deadline.after(within)

    def resume(self, deadline: Deadline | None) -> None:
        """The next mail began before now: its deadline runs already."""
        self._running = deadline

    @property
    def asks_nothing(self) -> bool:
        """True if each mail goes out as it is given, whenever that is, and nobody is asked."""
        asked = self.esmtp, self.hooks, self.max_recipients, self.deadline, self._running
        return asked == (None,) * len(asked)

    def may_go_on(self, report: DeliveryReport) -> bool:
        """True if there is somebody left to try again for, and a policy that allows it."""
        asked_for = self.retry.tries > 1 or len(self.relays) > 1
        return asked_for and not report.in_doubt and bool(policy.remaining(report))

    def tell(self, report: DeliveryReport, began: float) -> DeliveryReport:
        """The report on a mail that was begun then: whose it is, and told to who wants to know."""
        report.mailer = self.name
        report.seconds = time.monotonic() - began
        tell(report, self.on_report)
        return report

    def settle(self, report: DeliveryReport, on_refused: OnRefused) -> DeliveryReport:
        """The report, if it is none to raise for. Raises what `on_refused` says of it."""
        failure = report.failure(on_refused)
        if failure is not None:
            raise failure
        warn_of_refused(report, on_refused)
        return report

    def _policy(self, on_refused: OnRefused | str | None) -> OnRefused:
        return self.on_refused if on_refused is None else OnRefused.parse(on_refused)

    # The connection that is kept.

    def _first_that_opens(
        self, stock_for: Callable[[Relay], attempt.AnyStock], deadline: Deadline | None
    ) -> attempt.Steps[Lease[L]]:
        """A connection to the first relay that there is one to. Raises what the last raised."""
        relays = list(self.order())
        while True:
            try:
                lease: Lease[L] = yield attempt.Lend(stock_for(relays.pop(0)), deadline=deadline)
                return lease
            except MailError as error:
                if not relays or not policy.may_fail_over(DeliveryReport({}, error=error)):
                    raise

    def _let_go(self) -> None:
        """Give the kept connection back to the pool, if there is one. Never raises."""
        kept, self._kept, self._open = self._kept, None, False
        if kept is not None:
            kept.give_back()

    def _keeps(self, relay: Relay) -> bool:
        # Mostly the same one; to compare two is to compare all their options.
        kept = None if self._kept is None else self._kept.stock.relay
        return kept is relay or kept == relay

    def _take_kept(self) -> Lease[L] | None:
        kept, self._kept = self._kept, None
        if kept is not None:
            # It has waited, so it may be dead, like any that was used before.
            kept.reused = True
        return kept

    def _keep_again(self, lease: Lease[L]) -> bool:
        """Keep what was taken, unless somebody waits for it, or has no use for it any more."""
        keeps = self._open and self._kept is None and lease.room() > 0 and not lease.stock.wanted
        if keeps:
            self._kept = lease
        return keeps

    def _over_kept(self, outgoing: Outgoing) -> attempt.Steps[DeliveryReport]:
        """One try over the kept connection; one more over a new one if it turns out to be dead."""
        lease: Any = self._kept
        stock = lease.stock
        report = yield from attempt.over(lease, outgoing)
        if lease.room():
            return report
        # Its place in the pool is kept; only the connection is a new one.
        self._kept = None
        lease.give_back()
        try:
            if attempt.is_stale(report, outgoing):
                self._kept = yield attempt.Lend(stock, True, outgoing.deadline)
                outgoing = outgoing.after(outgoing.attempt)
                report = yield from attempt.over(self._kept, outgoing)
                report.attempts += 1
        except MailError as error:
            return not_attempted(outgoing, error, stock.relay)
        return report


def _relay(given: object) -> Relay:
    if isinstance(given, Relay):
        return given
    if isinstance(given, str):
        return Relay.from_url(given)
    raise OptionError(f"{given!r} is no relay: give a Relay or a URL")


def _hooks(before_final_dot: Hook | str | None, after_reply: Hook | str | None) -> Hooks | None:
    if before_final_dot is None and after_reply is None:
        return None
    # Imported here: few keep a ledger.
    from .hooks import Hooks

    return Hooks.of(before_final_dot, after_reply)


def _esmtp(given: Esmtp | Mapping[str, Any]) -> Esmtp:
    # Imported here: few ask for anything.
    from .esmtp import Esmtp

    return Esmtp.of(given)

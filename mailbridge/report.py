"""What became of a mail: one state for each recipient, and what the server said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from .advice import ODD
from .errors import (
    InvalidInput,
    MailError,
    MessageRefused,
    OptionError,
    RecipientsRefused,
    ResponseError,
    SenderRefused,
    SomeRecipientsRefused,
)

if TYPE_CHECKING:
    from .protocol.reply import Reply


class State(StrEnum):
    """Where a recipient ended. Each ends in exactly one."""

    ACCEPTED = "accepted"
    """The server took responsibility: a 2yz reply after the content."""
    REFUSED = "refused"
    """5yz: do not try again."""
    DEFERRED = "deferred"
    """4yz: try again later."""
    NOT_ATTEMPTED = "not_attempted"
    """Never offered to a server, or not to the end: safe to try again."""
    IN_DOUBT = "in_doubt"
    """The content was handed over and the reply never came: it may have been delivered."""


class Phase(StrEnum):
    """The step of the dialogue in which something happened."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    RSET = "rset"
    QUIT = "quit"
    COMMAND = "command"
    """A command of the caller's own: NOOP, VRFY, docmd."""


# Named once, since they are in every mail: to ask an enum takes longer (in Python 3.11).
ACCEPTED, CONTENT = State.ACCEPTED, Phase.CONTENT


class OnRefused(StrEnum):
    """What to do when the server refuses recipients."""

    RAISE = "raise"
    """Deliver to the rest, then raise SomeRecipientsRefused; RecipientsRefused if all are."""
    RAISE_IF_ALL = "raise_if_all"
    """Deliver to the rest and log a warning; raise RecipientsRefused only if all are refused."""
    ABORT = "abort"
    """Deliver to nobody unless all are accepted, and raise RecipientsRefused."""
    REPORT = "report"
    """Deliver to the rest; a refusal is in the report only."""

    @classmethod
    def parse(cls, value: OnRefused | str) -> OnRefused:
        """The policy of that name. Raises OptionError (a ValueError)."""
        if isinstance(value, cls):
            return value
        try:
            return cls(str(value).lower())
        except ValueError:
            allowed = ", ".join(repr(str(policy)) for policy in cls)
            raise OptionError(f"on_refused {value!r} is not one of {allowed}") from None


class RecipientResult(NamedTuple):
    """The fate of one recipient: its state, the phase it was decided in, and the server's reply.

    `reason` is our own account where there is no reply.
    """

    address: str
    state: State
    phase: Phase | None = None
    reply: Reply | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        reply = self.reply
        return {
            "state": str(self.state),
            "phase": None if self.phase is None else str(self.phase),
            "code": None if reply is None else reply.code,
            "status": None if reply is None or reply.status is None else str(reply.status),
            "text": reply.text if reply is not None else self.reason,
        }

    def __str__(self) -> str:
        said = self.reply if self.reply is not None else self.reason
        return f"{self.address}: {self.state}" + (f" ({said})" if said else "")


# Postfix "queued as 4F2", Exim "id=1abc-...", Sendmail "<id> Message accepted", Exchange
# "<message-id> [InternalId=...]", Gmail "OK 1700000000 abc - gsmtp".
_QUEUE_ID = (
    r"(?i)queued as ([\w.+-]+)|\bid=([\w.+-]+)|InternalId=(\d+)|queued \(?([\w.+-]+)\)?$"
    r"|^(?:\d\.\d\.\d )?([\w.-]{6,}) Message accepted|OK\s+(\d+ \S+) - gsmtp"
)


@dataclass(slots=True)
class DeliveryReport:
    """The result of sending one mail. Plain data: survives pickle, deepcopy and JSON.

    `recipients` maps each address, in the order given, to its RecipientResult. `reply` is the
    server's reply to the content, `relay` "host:port", `attempts` the connections tried,
    `changes` what was re-encoded or folded for this server, in short texts (mostly none),
    `transcript` the last lines of the dialogue if somebody was not reached, `session_usable`
    whether the connection outlived it, `error` what ended the attempt, if anything did (None
    for refused recipients): a MailError, or an InvalidInput that was found when the mail was
    fitted to the server. `mailer` names the transport, `seconds` is how long all this took, and
    `reused` says whether the connection had carried another mail before.
    """

    recipients: dict[str, RecipientResult]
    sender: str | None = None
    message_id: str | None = None
    relay: str | None = None
    reply: Reply | None = None
    attempts: int = 1
    changes: tuple[str, ...] = ()
    transcript: tuple[str, ...] = ()
    session_usable: bool = True
    error: MailError | InvalidInput | None = field(default=None, compare=False)
    mailer: str | None = None
    seconds: float | None = field(default=None, compare=False)
    reused: bool | None = field(default=None, compare=False)

    def _with(self, state: State) -> tuple[str, ...]:
        return tuple([a for a, result in self.recipients.items() if result.state is state])

    @property
    def all_accepted(self) -> bool:
        """True if the server took responsibility for every recipient."""
        for result in self.recipients.values():  # noqa: SIM110 - asked for with every mail
            if result.state is not ACCEPTED:
                return False
        return True

    @property
    def accepted(self) -> tuple[str, ...]:
        """Addresses for which the server took responsibility."""
        return self._with(ACCEPTED)

    @property
    def refused(self) -> tuple[str, ...]:
        """Addresses refused for good."""
        return self._with(State.REFUSED)

    @property
    def deferred(self) -> tuple[str, ...]:
        """Addresses refused for now."""
        return self._with(State.DEFERRED)

    @property
    def not_attempted(self) -> tuple[str, ...]:
        """Addresses that no server was asked to take, or that it was never able to take."""
        return self._with(State.NOT_ATTEMPTED)

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """Addresses to which the mail may or may not have been delivered."""
        return self._with(State.IN_DOUBT)

    @property
    def queue_id(self) -> str | None:
        """The server's name for the mail, where its reply to the content tells it."""
        match = re.search(_QUEUE_ID, self.reply.text) if self.reply is not None else None
        return None if match is None else next(group for group in match.groups() if group)

    def __getitem__(self, address: str) -> RecipientResult:
        return self.recipients[address]

    def __iter__(self) -> Iterator[RecipientResult]:
        return iter(self.recipients.values())

    def followed_by(self, later: DeliveryReport) -> DeliveryReport:
        """This report, brought up to date by one on another try for some of its recipients."""
        earlier = self.changes if self.accepted else ()
        report = replace(
            later,
            recipients={**self.recipients, **later.recipients},
            attempts=self.attempts + later.attempts,
            sender=self.sender,
            changes=tuple(dict.fromkeys((*earlier, *later.changes))),
        )
        report.own_error()
        return report

    def own_error(self) -> None:
        """Make `error` one that speaks of all recipients of this report."""
        if isinstance(self.error, ResponseError) and self.accepted:
            # Some got it earlier: "nobody got the mail" would make them get it twice.
            self.error = None
        if self.error is not None:
            self.error.report = self

    def raise_for_refused(self) -> None:
        """Raise what stands in the way of "everybody got it"; return None if nothing does.

        Raises `error` if there is one, SomeRecipientsRefused if some recipients were refused or
        deferred, RecipientsRefused if all were.
        """
        error = self.failure()
        if error is not None:
            raise error

    def failure(self, on_refused: OnRefused = OnRefused.RAISE) -> MailError | InvalidInput | None:
        """The error that `on_refused` makes of this report, or None."""
        if self.error is not None:
            if isinstance(self.error, MailError) and self.accepted:
                # Sending all of it again would reach them twice.
                self.error.retryable = False
                if not self.in_doubt:
                    self.error.advice = "Send it again to those only who are not in report.accepted"
            refused_by_server = isinstance(self.error, (SenderRefused, MessageRefused))
            return None if on_refused is OnRefused.REPORT and refused_by_server else self.error
        if self.all_accepted or on_refused is OnRefused.REPORT:
            return None
        refused = {a: r for a, r in self.recipients.items() if r.state is not State.ACCEPTED}
        if self.accepted and on_refused is OnRefused.RAISE_IF_ALL:
            return None
        cls = SomeRecipientsRefused if self.accepted else RecipientsRefused
        error = cls(
            {a: _refusal(result) for a, result in refused.items()},
            named={a: _refusal(result) for a, result in refused.items() if result.reply},
            accepted=self.accepted,
        )
        error.report = self
        error.located(host=self.relay, phase=Phase.RCPT, transcript=self.transcript)
        error.session_usable = error.session_usable and self.session_usable
        error.advice = _advice(error)
        return error

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "sender": self.sender,
            "message_id": self.message_id,
            "relay": self.relay,
            "reply": None if self.reply is None else str(self.reply),
            "queue_id": self.queue_id,
            "attempts": self.attempts,
            "changes": list(self.changes),
            "mailer": self.mailer,
            "seconds": self.seconds,
            "reused": self.reused,
            "error": None if self.error is None else str(self.error),
            "recipients": {a: result.to_dict() for a, result in self.recipients.items()},
        }

    def __str__(self) -> str:
        counts = ", ".join(
            f"{len(addresses)} {state}" for state in State if (addresses := self._with(state))
        )
        return f"{self.relay or 'no relay'}: {counts}"


def _advice(error: RecipientsRefused) -> str:
    what = "Try these again later" if error.transient else "Correct or drop these addresses"
    if not error.accepted and all(
        b"relay" in text.lower() for _, text in error.recipients.values()
    ):
        what = "The server takes mail for them from those it knows: set username and password"
    if not error.accepted and all(code < 400 for code, _ in error.recipients.values()):
        what = ODD
    return what + ("; do not send again to those that were accepted" if error.accepted else "")


def _refusal(result: RecipientResult) -> tuple[int, bytes]:
    if result.reply is not None:
        return result.reply.code, result.reply.message
    # Refused by us before the server was asked (no SMTPUTF8, say): 553 is its nearest reply code.
    code = 553 if result.state is State.REFUSED else 451
    return code, (result.reason or "").encode()

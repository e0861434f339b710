"""MailTransaction: one envelope and content, what was heard about it, and what that comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..envelope import Address, Envelope
from ..errors import MailError, MessageRefused
from ..report import ACCEPTED, CONTENT, DeliveryReport, Phase, RecipientResult, State
from .command import RSET, Bdat, Content, Errand
from .content import Body, wire_of
from .mail import Group, mail_line, rcpt_line
from .reply import Reply

NOTHING = Group([])


class Told(Errand, Protocol):
    """A call of somebody who is told of the hand-over, with the exception that it raised."""

    error: Exception | None


class Witness(Protocol):
    """Who is told before a mail is handed over, and after."""

    def before_final_dot(self, recipients: Sequence[Address]) -> Told | None:
        """What to run before the end of the content is sent; its error stops the send."""
        ...

    def after_reply(self, recipients: Sequence[Address], reply: Reply) -> Told | None:
        """What to run after the reply to the content, or LMTP's for one recipient."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class MailTransaction:
    """One envelope and one content on their way through a session.

    `content` is a Body of canonical CRLF; `changes` says how it differs from what was given.
    `mail_parameters` and `rcpt_parameters` are ESMTP parameters, already known to be allowed;
    `rcpt_parameters_of` gives those of one recipient alone; `size` is that of MAIL, where it is
    offered. With `all_or_nothing` no content is sent unless every recipient was accepted;
    `by_bdat` sends it by BDAT rather than DATA, which takes CHUNKING. `witness` is told of the
    hand-over. Recipients that are settled already are not offered.
    """

    envelope: Envelope
    content: Body
    mail_parameters: Sequence[str] = ()
    size: int | None = None
    rcpt_parameters: Sequence[str] = ()
    rcpt_parameters_of: Callable[[Address], Sequence[str]] | None = None
    smtputf8: bool = False
    all_or_nothing: bool = False
    by_bdat: bool = False
    max_recipients: int | None = None
    witness: Witness | None = None
    changes: tuple[str, ...] = ()
    results: dict[str, RecipientResult] = field(default_factory=dict)
    reply: Reply | None = None
    error: MailError | None = None
    in_doubt: bool = False
    # What this round, one MAIL to its end, has come to.
    begun: bool = False
    granted: bool = False
    lines: list[bytes] = field(default_factory=list)
    group: Group = NOTHING
    offered: Sequence[Address] = ()
    heard: list[Reply] = field(default_factory=list)
    data_reply: Reply | None = None
    accepted: Sequence[Address] = ()
    refusals: Sequence[tuple[Address, Reply]] = ()
    too_many: Sequence[tuple[Address, Reply]] = ()

    def start(self) -> list[bytes]:
        """The lines of MAIL and RCPT for the next round; empty if nobody is left to offer.

        Every line is made before the first is sent: what is invalid is found out here.
        """
        limit = None if self.all_or_nothing else self.max_recipients
        self.offered = (self.unsettled if self.results else self.envelope.forward_paths)[:limit]
        if not self.offered:
            return []
        self.granted = False
        self.heard = []
        self.accepted = self.refusals = self.too_many = ()
        self.data_reply = None
        utf8, common, own = self.smtputf8, self.rcpt_parameters, self.rcpt_parameters_of
        lines = [mail_line(self.envelope.reverse_path, self.mail_parameters, utf8, self.size)]
        for path in self.offered:
            parameters = common if own is None else (*common, *own(path))
            lines.append(rcpt_line(path, parameters, utf8))
        self.lines = lines
        return lines

    def whole_content(self, replies: int = 1) -> Content:
        """The content in one command, which is so often answered."""
        size, wire = self.content.size, wire_of(self.content, dots=not self.by_bdat)
        if self.by_bdat:
            return Bdat(size, wire, last=True, replies=replies)
        return Content(wire, size, replies)

    @property
    def unsettled(self) -> Sequence[Address]:
        """The recipients without a final state."""
        paths = self.envelope.forward_paths
        return [a for a in paths if a.text not in self.results] if self.results else paths

    def grant(self, replies: list[Reply]) -> None:
        """What was heard of the round, the `replies` to its group, says yes to everything."""
        self.granted, self.accepted = True, self.offered
        self.heard = replies[1:] if self.group.lines[0] is RSET else replies
        if self.group.asks_for_data:
            self.data_reply = replies[-1]

    def sort_replies(self) -> None:
        """Find out from what was `heard` of the round who was accepted and who was not.

        `heard` begins with the reply to MAIL. Nothing is judged before all are heard.
        """
        if len(self.heard) > 1 + len(self.offered):
            self.data_reply = self.heard[-1]
        accepted: list[Address] = []
        refusals: list[tuple[Address, Reply]] = []
        too_many: list[tuple[Address, Reply]] = []
        for address, reply in zip(self.offered, self.heard[1:], strict=False):
            if reply.positive:
                accepted.append(address)
            elif accepted and _too_many(reply):
                too_many.append((address, reply))
            else:
                refusals.append((address, reply))
        self.accepted, self.refusals, self.too_many = accepted, refusals, too_many

    def settle(
        self,
        addresses: Iterable[Address | str],
        state: State,
        phase: Phase | None,
        reply: Reply | None = None,
        reason: str | None = None,
    ) -> None:
        """Give each address its final state, unless it has one."""
        results = self.results
        for address in addresses:
            text = address if isinstance(address, str) else address.text
            if text not in results:
                results[text] = RecipientResult(text, state, phase, reply, reason)

    def accept(self, addresses: Iterable[Address], reply: Reply) -> None:
        """The server has taken responsibility for these, by this reply to the content."""
        results = self.results
        for address in addresses:
            text = address.text
            if text not in results:
                results[text] = RecipientResult(text, ACCEPTED, CONTENT, reply)

    def refuse(self, addresses: Iterable[Address | str], phase: Phase, reply: Reply) -> None:
        """Settle addresses by a reply that is no acceptance."""
        if reply.code == 421 or not (reply.transient or reply.permanent):
            # RFC 5321 section 3.8: 421 speaks of the server, not of the recipient.
            self.settle(addresses, State.NOT_ATTEMPTED, phase, reply)
        else:
            state = State.DEFERRED if reply.transient else State.REFUSED
            self.settle(addresses, state, phase, reply)

    def refuse_all(self, error: MailError, phase: Phase, reply: Reply) -> None:
        """Settle all that are left by a reply to the sender or to the message."""
        self.reply = reply if phase is not Phase.MAIL else self.reply
        self.error = error
        error.phase = phase
        self.refuse(self.envelope.forward_paths, phase, reply)

    def refuse_locally(self, code: int, text: str) -> None:
        """Refuse the whole mail before the server is asked."""
        self.settle(self.envelope.forward_paths, State.REFUSED, Phase.MAIL, reason=f"{code} {text}")
        self.error = MessageRefused(code, text.encode())
        self.error.phase = Phase.MAIL

    def report(self) -> DeliveryReport:
        """The results, in the envelope's order."""
        results, paths = self.results, self.envelope.forward_paths
        if len(results) < len(paths):
            self.settle(paths, State.NOT_ATTEMPTED, None)
        if len(paths) > 1:
            results = {path.text: results[path.text] for path in paths}
        report = DeliveryReport(
            results,
            self.envelope.sender,
            reply=self.reply,
            changes=self.changes,
            error=self.error,
        )
        if self.error is not None:
            report.own_error()
            if report.error is None:
                self.error = None
        return report


def _too_many(reply: Reply) -> bool:
    # RFC 5321 section 4.5.3.1.10: 452, or 552 from older servers, after some were accepted,
    # means "these in another transaction", unless the enhanced code speaks of the mailbox.
    return reply.code in (452, 552) and (reply.status is None or reply.status[1:] == (5, 3))

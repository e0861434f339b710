"""Window: whole transactions on their way, ``MAIL RCPT ... BDAT n LAST`` each, without waiting.

RFC 3030 section 2 has a client wait for the replies to MAIL and RCPT before it sends BDAT. Who does
not wait has content on its way to a server that may have refused the envelope. RFC 3030 makes the
server swallow that content; one that does not would take it for commands. So a window is for a
server that is known to.

Each group begins with RSET, since nothing else is sure after a BDAT that was refused.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

from ..errors import Disconnected, MessageRefused, ProtocolViolation
from ..report import Phase, State
from .command import RSET, Content
from .delivery import doubt_of
from .group import hear_group, judge_envelope
from .mail import Group
from .reply import closed_by
from .session import Dialogue, Session
from .transaction import MailTransaction

# Octets of content on their way: all of it is in doubt when the connection is lost.
OCTETS = 1024 * 1024


@dataclass(slots=True)
class _Sent:
    """A transaction on its way. `content` is None if it was not sent."""

    mail: MailTransaction
    content: Content | None = None
    envelope_heard: bool = False


class Window:
    """At most `size` transactions on their way through a session, in their order."""

    def __init__(self, session: Session, size: int) -> None:
        self._session = session
        self._size = size
        self._sent: deque[_Sent] = deque()
        self._octets = 0
        self._lost: Disconnected | None = None

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def full(self) -> bool:
        """True if one is to be taken before the next is added."""
        return len(self._sent) >= self._size or self._octets >= OCTETS

    def admits(self, mail: MailTransaction) -> bool:
        """True if this one may be sent without waiting.

        Not where the replies decide what is sent (`all_or_nothing`, a witness who may object) or
        how many there are (LMTP).
        """
        most = mail.max_recipients
        return (
            self._session.pipelining
            and mail.by_bdat
            and not (mail.all_or_nothing or mail.witness or self._session.lmtp)
            and (most is None or len(mail.unsettled) <= most)
            and bool(mail.unsettled)
            and mail.content.size <= OCTETS
        )

    def begin(self, mail: MailTransaction) -> Dialogue[None]:
        """Send the first, and wait for the replies to its envelope before its content is queued.

        So a connection that has died in the meantime is found out before anything is handed over.
        """
        sent = self._append(mail)
        try:
            self._session.send(self._envelope(mail))
            yield from self._hear_envelope(sent)
            if mail.accepted:
                content = mail.whole_content()
                self._session.send(content)
                sent.content = content
        except Disconnected as lost:
            self._lost = lost

    def add(self, mail: MailTransaction) -> None:
        """Queue one behind those that are on their way. It is written when `take` has to wait."""
        sent, content = self._append(mail), mail.whole_content()
        try:
            self._session.send(self._envelope(mail), content)
            sent.content = content
        except Disconnected as lost:
            self._lost = lost

    def take(self) -> Dialogue[MailTransaction]:
        """Hear the oldest to its end, and return it.

        All its recipients are settled, but for those that the server wants in another transaction.
        Nothing is raised for the loss of the connection: it is the mail's error.
        """
        sent = self._sent.popleft()
        self._octets -= sent.mail.content.size
        if self._lost is None:
            try:
                yield from self._hear(sent)
            except Disconnected as lost:
                self._lost = lost
        if self._lost is not None and sent.mail.unsettled:
            self._lose(sent, self._lost)
        return sent.mail

    # What goes out.

    def _append(self, mail: MailTransaction) -> _Sent:
        sent = _Sent(mail)
        self._sent.append(sent)
        self._octets += mail.content.size
        return sent

    def _envelope(self, mail: MailTransaction) -> Group:
        lines = mail.start()
        if len(self._sent) > 1 or self._session.in_transaction:
            lines = [RSET, *lines]
        mail.group = Group(lines, mail.smtputf8)
        return mail.group

    # What comes in.

    def _hear_envelope(self, sent: _Sent) -> Dialogue[None]:
        mail = sent.mail
        sent.envelope_heard = True
        yield from hear_group(self._session, mail)
        if mail.heard[-1].code == 421:
            raise closed_by(mail.heard[-1])

    def _hear(self, sent: _Sent) -> Dialogue[None]:
        mail, session = sent.mail, self._session
        if not sent.envelope_heard:
            yield from self._hear_envelope(sent)
        if sent.content is None:
            judge_envelope(mail)
            return
        reply = yield from session.reply()
        if reply.intermediate:
            raise ProtocolViolation(f"not an answer to a message: {reply}", reply.code)
        if reply.positive:
            # Whatever was said of the sender before: the server has taken it for these.
            mail.accept(mail.accepted, reply)
            mail.reply = reply if mail.accepted else None
        if judge_envelope(mail) and not reply.positive:
            mail.refuse_all(MessageRefused.of(reply), Phase.CONTENT, reply)

    # The end of the connection.

    def _lose(self, sent: _Sent, lost: Disconnected) -> None:
        """The connection is gone: what was handed over is in doubt, the rest was not attempted."""
        mail, session = sent.mail, self._session
        for address, refusal in mail.refusals:
            mail.refuse([address], Phase.RCPT, refusal)
        elsewhere = {address.text for address, _ in mail.too_many}
        doubtful = [a for a in mail.unsettled if a.text not in elsewhere]
        reply = mail.heard[0] if mail.heard else None
        refused = reply is not None and not reply.positive and reply.code != 421
        if refused and not mail.accepted:
            judge_envelope(mail)
        elif sent.content is not None and session.has_left(sent.content) and doubtful:
            mail.settle(doubtful, State.IN_DOUBT, Phase.CONTENT, reason=str(lost))
            mail.error = doubt_of(lost)
        elif mail.unsettled:
            # Each mail has a report of its own, and so an error of its own.
            mail.error = copy.copy(lost)
            mail.error.phase = lost.phase or session.phase
        mail.settle(
            mail.envelope.forward_paths, State.NOT_ATTEMPTED, session.phase, None, str(lost)
        )
        session.abandon("the connection was lost")

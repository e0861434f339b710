"""Lane: ordinary mails behind one another, each group granted before its content is sent.

The steady state of a batch: for each mail one write, its content with the next one's group behind
it, and one read, a yes to each. Nothing is kept but what that takes. Whatever else happens is for
`delivery`, which goes on with transactions that stand where the lane was left.
"""

from __future__ import annotations

from ..envelope import Envelope
from ..errors import Disconnected
from ..report import ACCEPTED, CONTENT, DeliveryReport, RecipientResult
from . import delivery
from .command import Content
from .content import PIECE, Body
from .group import grouped
from .mail import Group, mail_line, rcpt_line
from .reply import Reply
from .session import Dialogue, Session
from .transaction import MailTransaction, in_one


class Ordinary:
    """A mail for a lane: its group, and its content in one write."""

    __slots__ = ("body", "content", "envelope", "group")

    def __init__(self, envelope: Envelope, body: Body, content: Content, group: Group) -> None:
        self.envelope = envelope
        self.body = body
        self.content = content
        self.group = group


class Lane:
    """A session on which a mail waits whose group was granted: its content is what comes next."""

    def __init__(self, session: Session, granted: MailTransaction, waiting: Ordinary) -> None:
        self.waiting = waiting
        #: Set when the lane has ended: the transaction that was begun, and is to be delivered next.
        self.begun: MailTransaction | None = None
        self._session = session
        # How the mail that waits was granted: as a transaction, or by these replies.
        self._granted: MailTransaction | None = granted
        self._replies: list[Reply] = []

    def send(self, following: Ordinary) -> Dialogue[DeliveryReport]:
        """Send the content of the mail that waits, and the group of `following`, which waits then.

        Returns the report on the first. Unless the server says yes to everything the lane has
        ended, and `begun` is the transaction of `following`.
        """
        session, mail, replies, lost = self._session, self.waiting, None, None
        try:
            session.send(mail.content, following.group)
            if not session.has_input:
                yield from session.wait()
            replies = session.take_consent(following.group, mail.content)
        except Disconnected as gone:
            lost = gone
        if replies is None:
            sent = self.transaction()
            self.begun = _begun(session, following)
            return (yield from delivery.hear_content(session, sent, lost))
        self._granted, self._replies, self.waiting = None, replies[1:], following
        envelope, reply = mail.envelope, replies[0]
        results = {
            path.text: RecipientResult(path.text, ACCEPTED, CONTENT, reply)
            for path in envelope.forward_paths
        }
        return DeliveryReport(results, envelope.sender, reply=reply, session_usable=session.alive)

    def transaction(self) -> MailTransaction:
        """The mail that waits, as others deliver it."""
        if self._granted is not None:
            return self._granted
        granted = _begun(self._session, self.waiting)
        granted.grant(self._replies)
        return granted


def lane_for(session: Session, granted: MailTransaction) -> Lane | None:
    """A lane that begins with this mail, if the session can have one, and the mail is ordinary."""
    if not session.pipelining or session.lmtp or "limits" in session.extensions:
        return None
    waiting = ordinary(session, granted.envelope, granted.content)
    return None if waiting is None else Lane(session, granted, waiting)


def ordinary(session: Session, envelope: Envelope, body: Body) -> Ordinary | None:
    """The mail, if it is one: a small content in ASCII, and addresses that any server takes."""
    size, extensions, by_bdat = body.size, session.extensions, session.chunking
    if size > (extensions.size_limit or PIECE) or size > PIECE:
        return None
    if not body.is_ascii or body.long_lines or envelope.esmtp or envelope.needs_smtputf8:
        return None
    try:
        content = in_one(body, by_bdat=by_bdat)
    except Exception:
        return None  # A file that was closed or changed: that is told when it is its turn.
    lines = [mail_line(envelope.reverse_path, size=size if "size" in extensions else None)]
    for path in envelope.forward_paths:
        lines.append(rcpt_line(path))  # noqa: PERF401 - nearly always one
    return Ordinary(envelope, body, content, grouped(lines, reset=by_bdat, data=not by_bdat))


def _begun(session: Session, mail: Ordinary) -> MailTransaction:
    """The transaction of a mail whose group was sent."""
    begun = MailTransaction(mail.envelope, mail.body, by_bdat=session.chunking)
    if "size" in session.extensions:
        begun.size = mail.body.size
    begun.start()
    begun.group = mail.group
    begun.begun = True
    return begun

"""Lane: ordinary mails behind one another, each group granted before its content is sent.

The steady state of a batch: for each mail one write, its content with the next one's group behind
it, and one read, a yes to each. It is a `Shortcut` past the session; where it is left, `delivery`
goes on with transactions that stand there.
"""

from __future__ import annotations

from collections import deque

from ..envelope import Envelope
from ..report import ACCEPTED, CONTENT, DeliveryReport, RecipientResult
from . import delivery
from .command import Bdat, Content, bdat_line
from .content import FINAL_DOT, PIECE, Body, in_one_piece
from .group import framed
from .mail import Group, mail_line, rcpt_line
from .reply import Reply
from .session import Dialogue, Session
from .transaction import MailTransaction

# How many mails of a lane the transcript has, once it is looked at.
REMEMBERED = 8


class Ordinary:
    """A mail for a lane: its content, with leading dots doubled for DATA; the lines of its group.

    Of `body` no more is asked than its size: where it came from may be closed by now.
    """

    __slots__ = ("body", "content", "envelope", "lines")

    def __init__(self, envelope: Envelope, body: Body, content: bytes, lines: list[bytes]) -> None:
        self.envelope = envelope
        self.body = body
        self.content = content
        self.lines = lines


class Lane:
    """A session on which a mail waits whose group was granted: its content is what comes next."""

    opens = False
    need = Content.need
    #: The mail whose content was sent last, the one that waits, and the one that follows that.
    sent: Ordinary
    waiting: Ordinary
    following: Ordinary

    def __init__(self, session: Session, granted: MailTransaction) -> None:
        #: On the mail that was sent last.
        self.report: DeliveryReport | None = None
        #: Set when the lane has ended: the transaction that was begun, and is to be delivered next.
        self.begun: MailTransaction | None = None
        self._session = session
        self._by_bdat = session.chunking
        self._tells_size = "size" in session.extensions
        self._most = min(session.extensions.size_limit or PIECE, PIECE)
        # How the mail that waits was granted: the first as a transaction, the others by replies.
        self._granted = granted
        self._replies: list[Reply] | None = None
        # Octets of content, the group behind it, and the replies.
        self._past: deque[tuple[int, list[bytes], list[Reply]]] = deque(maxlen=REMEMBERED)

    def follow(self, envelope: Envelope, body: Body) -> bool:
        """Let this be the mail that follows. False if it is not for a lane.

        It is, with a small content in ASCII, and addresses that any server takes.
        """
        session = self._session
        if session.has_input or not session.alive:
            return False  # It said what it was not asked for, or is gone.
        size, by_bdat = body.size, self._by_bdat
        if size > self._most or envelope.esmtp or not body.is_ascii or body.long_lines:
            return False
        try:
            content = in_one_piece(body, dots=not by_bdat)
            lines = [mail_line(envelope.reverse_path, size=size if self._tells_size else None)]
            for path in envelope.forward_paths:
                lines.append(rcpt_line(path))  # noqa: PERF401 - nearly always one
        except Exception:
            # An address outside ASCII; a file that was closed or changed: told when it is its turn.
            return False
        self.following = Ordinary(
            envelope, body, content, framed(lines, reset=by_bdat, data=not by_bdat)
        )
        return True

    def octets(self) -> bytes:
        """What is to be written: the content of the one that waits, the group of the following."""
        content, lines = self.waiting.content, self.following.lines
        if self._by_bdat:
            return b"".join((bdat_line(self.waiting.body.size, last=True), content, *lines))
        return b"".join((content, FINAL_DOT, *lines))

    def consent(self, said: bytes) -> bool:
        """True if `said` is a yes to everything and no more. Then the following one waits.

        False for anything else: nothing is taken then.
        """
        session, mail, following = self._session, self.waiting, self.following
        lines = following.lines
        replies = session.parser.consent(said, len(lines) + 1, 2 if self._by_bdat else 3)
        if replies is None:
            return False
        session.mail_accepted += 1
        session.answered += len(replies)
        self._past.append((mail.body.size, lines, replies))
        self._replies, self.sent, self.waiting = replies, mail, following
        envelope, reply = mail.envelope, replies[0]
        results = {}
        for path in envelope.forward_paths:
            results[path.text] = RecipientResult(path.text, ACCEPTED, CONTENT, reply)
        self.report = DeliveryReport(results, envelope.sender, reply=reply)
        return True

    def resume(self) -> None:
        """Let the session have sent what is written; how much has left is to be told it."""
        session, mail = self._session, self.waiting
        self._note()
        content = self._command(mail.body.size, mail.content)
        session.send(content, Group(self.following.lines))
        session.data_to_send()

    def hear(self) -> Dialogue[DeliveryReport]:
        """The report on the mail that waits, after `resume`. The lane has ended then."""
        sent = self.transaction()
        self.begun = self._begun(self.following)
        self.sent, self.waiting = self.waiting, self.following
        return (yield from delivery.hear_content(self._session, sent, leave_reset=True))

    def transaction(self) -> MailTransaction:
        """The mail that waits, as others deliver it."""
        self._note()
        if self._replies is None:
            return self._granted
        granted = self._begun(self.waiting)
        granted.grant(self._replies[1:])
        return granted

    def _begun(self, mail: Ordinary) -> MailTransaction:
        """The transaction of a mail whose group was sent."""
        begun = MailTransaction(mail.envelope, mail.body, by_bdat=self._by_bdat)
        if self._tells_size:
            begun.size = mail.body.size
        begun.start()
        begun.group = Group(mail.lines)
        begun.begun = True
        return begun

    def _note(self) -> None:
        """Let the transcript have what went on in the lane."""
        for size, lines, replies in self._past:
            self._session.transcript.note(self._command(size), Group(lines), *replies)
        self._past.clear()

    def _command(self, size: int, octets: bytes = b"") -> Content:
        """A content of that size as one command."""
        if self._by_bdat:
            return Bdat(size, octets, last=True)
        return Content(octets + FINAL_DOT, size)


def lane_for(session: Session, granted: MailTransaction) -> Lane | None:
    """A lane that begins with this mail, if the session can have one, and the mail is ordinary."""
    if not session.pipelining or session.lmtp or "limits" in session.extensions:
        return None
    if session.has_input or session.transcript.listener is not None:
        return None  # It said more; or somebody wants to hear each line when it comes.
    lane = Lane(session, granted)
    if not lane.follow(granted.envelope, granted.content):
        return None
    lane.waiting = lane.following
    session.granted = True
    return lane

"""Alone: an ordinary mail by itself, its group in one write, its content in the next.

Nearly every mail is one. What is out of the ordinary, or turns out to be, is for `delivery`.
"""

from __future__ import annotations

from ..report import DeliveryReport
from . import delivery
from .command import Content, Need
from .content import PIECE
from .express import is_ordinary
from .group import group_of
from .session import Dialogue, Session
from .transaction import MailTransaction


class Alone:
    """A mail on an idle session: a `Shortcut` in two steps.

    The content is read at once. Raises what that raises.
    """

    opens = True

    def __init__(self, session: Session, mail: MailTransaction) -> None:
        self.need = Need.REPLY
        self.report: DeliveryReport | None = None
        self._session = session
        self._mail = mail
        self._content = mail.whole_content()
        self._granted = False

    def octets(self) -> bytes:
        """The group, then the content."""
        session, mail = self._session, self._mail
        if self._granted:
            return self._content.ahead or b""
        mail.start()
        group = group_of(mail, reset=session.in_transaction)
        # Whoever is interrupted from here on must not send the next mail into this one.
        session.in_transaction = session.granted = True
        return group.wire

    def consent(self, said: bytes) -> bool:
        """True if the group is granted, or then the content accepted, and nothing else was said."""
        session, mail, granted = self._session, self._mail, self._granted
        command = self._content if granted else mail.group
        last = 3 if mail.group.asks_for_data and not granted else 2
        replies = session.parser.consent(said, command.replies, last)
        if replies is None:
            return False
        session.note_exchange(command, replies)
        if not granted:
            mail.grant(replies)
            self._granted, self.need = True, Content.need
            return True
        self._content.ahead = None
        mail.reply = replies[0]
        mail.accept(mail.accepted, mail.reply)
        session.mail_accepted += 1
        session.granted = False
        session.end_transaction()
        self.report = delivery.report_on(session, mail)
        return True

    def resume(self) -> None:
        """Let the session have sent what was written last."""
        session, mail = self._session, self._mail
        session.send(self._content if self._granted else mail.group)
        session.data_to_send()
        mail.begun = not self._granted

    def hear(self) -> Dialogue[DeliveryReport]:
        """Go on the long way."""
        if self._granted:
            return delivery.hear_content(self._session, self._mail, leave_reset=False)
        return delivery.deliver(self._session, self._mail)


def goes_alone(session: Session, mail: MailTransaction) -> bool:
    """True if `Alone` may be tried: one write takes the content, and nobody wants to hear more."""
    return (
        mail.content.size <= PIECE
        and is_ordinary(session, mail)
        and session.transcript.listener is None
    )

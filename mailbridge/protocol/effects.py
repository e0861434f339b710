"""What a reply does to the state of a session: a function for each kind of command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .command import (
    Auth,
    AuthResponse,
    Bdat,
    Command,
    Content,
    Ehlo,
    Helo,
    Lhlo,
    Quit,
    Rset,
)
from .mail import Mail, Rcpt
from .reply import Reply

if TYPE_CHECKING:
    from .session import Session


def _after_mail(session: Session, command: Command, reply: Reply, _: int) -> None:
    session.in_transaction = True
    session.smtputf8 = reply.positive and isinstance(command, Mail) and command.smtputf8


def _after_rcpt(session: Session, command: Command, reply: Reply, _: int) -> None:
    session.recipients_accepted += reply.positive


def _after_content(session: Session, command: Command, reply: Reply, place: int) -> None:
    session.mail_accepted += reply.positive
    # LMTP answers content once for each recipient (RFC 2033 section 4.2).
    if place + 1 == command.replies:
        session.end_transaction()


def _after_chunk(session: Session, command: Command, reply: Reply, place: int) -> None:
    if reply.positive and isinstance(command, Bdat) and command.last:
        _after_content(session, command, reply, place)
    else:
        # RFC 3030 section 2: after a refused chunk only RSET is sure.
        session.in_transaction = True


def _after_reset(session: Session, command: Command, reply: Reply, _: int) -> None:
    if reply.positive:
        session.end_transaction()


def _after_quit(session: Session, command: Command, reply: Reply, _: int) -> None:
    session.abandon("QUIT was sent")


def _after_auth(session: Session, command: Command, reply: Reply, _: int) -> None:
    if reply.positive:
        session.logged_in()


EFFECTS: dict[type[Command], Callable[[Session, Command, Reply, int], None]] = {
    Mail: _after_mail,
    Rcpt: _after_rcpt,
    Content: _after_content,
    Bdat: _after_chunk,
    **dict.fromkeys((Rset, Ehlo, Helo, Lhlo), _after_reset),
    Quit: _after_quit,
    **dict.fromkeys((Auth, AuthResponse), _after_auth),
}

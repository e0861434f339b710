"""A mail by itself on its shortcut: what it writes and takes in, and how the session takes over."""

from __future__ import annotations

import io

import pytest

from mailbridge import (
    DeliveryInDoubt,
    DeliveryReport,
    Disconnected,
    Envelope,
    InvalidInput,
    State,
)
from mailbridge.protocol.alone import Alone, goes_alone
from mailbridge.protocol.command import FINAL_REPLY, Need
from mailbridge.protocol.content import PIECE, Buffer, File
from mailbridge.protocol.extension import Extensions
from mailbridge.protocol.session import Dialogue, Session
from mailbridge.protocol.transaction import MailTransaction

ENVELOPE = Envelope("a@x.org", ["b@x.org", "c@x.org"])
TEXT = Buffer(b"text\r\n.\r\n")
GROUP = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nRCPT TO:<c@x.org>\r\n"
YES = b"250 Ok\r\n" * 3 + b"354 Go\r\n"


def alone(*extensions: str) -> tuple[Session, Alone]:
    session = Session()
    session.extensions = Extensions(dict.fromkeys(("pipelining", *extensions), ""))
    mail = MailTransaction(ENVELOPE, TEXT, by_bdat=session.chunking)
    assert goes_alone(session, mail)
    return session, Alone(session, mail)


def left(session: Session, mail: Alone, octets: int | None = None) -> Dialogue[DeliveryReport]:
    """The dialogue behind a shortcut that was left when so much was written, or all."""
    mail.resume()
    session.sending(octets or 10_000)
    session.sent(octets or 10_000)
    return mail.hear()


def result_of(dialogue: Dialogue[DeliveryReport]) -> DeliveryReport:
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    report = done.value.value
    assert isinstance(report, DeliveryReport)
    return report


def test_two_writes_and_two_reads() -> None:
    session, mail = alone()
    assert session.idle
    assert (mail.octets(), mail.need) == (GROUP + b"DATA\r\n", Need.REPLY)
    assert not session.usable
    assert mail.consent(YES)
    assert mail.report is None
    assert (mail.octets(), mail.need) == (b"text\r\n..\r\n.\r\n", FINAL_REPLY)
    assert not session.usable
    assert mail.consent(b"250 Ok: queued as 4F2\r\n")
    report = mail.report
    assert report is not None
    assert report.accepted == ("b@x.org", "c@x.org")
    assert report.queue_id == "4F2"
    assert report.session_usable
    assert (session.usable, session.in_transaction, session.mail_accepted) == (True, False, 1)
    assert session.phase == "content"
    assert session.transcript.lines()[-2:] == (
        "C: (9 octets of content)",
        "S: 250 Ok: queued as 4F2",
    )


def test_chunks_and_a_transaction_that_is_open() -> None:
    session, mail = alone("chunking")
    session.in_transaction = True
    assert mail.octets() == b"RSET\r\n" + GROUP
    assert not mail.consent(YES)
    assert mail.consent(b"250 Ok\r\n" * 4)
    assert mail.octets() == b"BDAT 9 LAST\r\ntext\r\n.\r\n"
    assert mail.consent(b"250 Ok\r\n")
    assert mail.report is not None
    assert mail.report.all_accepted
    assert not session.in_transaction


def test_a_recipient_is_refused() -> None:
    session, mail = alone()
    mail.octets()
    said = b"250 Ok\r\n250 Ok\r\n550 No\r\n354 Go\r\n"
    assert not mail.consent(said)
    dialogue = left(session, mail)
    session.receive_data(said)
    next(dialogue)
    assert session.data_to_send() == b"text\r\n..\r\n.\r\n"
    session.sending(13), session.sent(13)
    session.receive_data(b"250 Ok\r\n")
    report = result_of(dialogue)
    assert [result.state for result in report] == [State.ACCEPTED, State.REFUSED]


def test_the_content_is_refused() -> None:
    session, mail = alone("chunking")
    mail.octets()
    assert mail.consent(b"250 Ok\r\n" * 3)
    mail.octets()
    assert not mail.consent(b"554 No\r\n")
    dialogue = left(session, mail)
    session.receive_data(b"554 No\r\n")
    # After a chunk that was refused nothing but RSET is sure.
    next(dialogue)
    assert session.data_to_send() == b"RSET\r\n"
    session.sending(6), session.sent(6)
    session.receive_data(b"250 Ok\r\n")
    report = result_of(dialogue)
    assert report.refused == ("b@x.org", "c@x.org")
    assert session.usable


@pytest.mark.parametrize(
    ("granted", "written", "state"),
    [
        (False, None, State.NOT_ATTEMPTED),
        (True, 8, State.NOT_ATTEMPTED),
        (True, 13, State.IN_DOUBT),
    ],
)
def test_the_connection_is_lost(granted: bool, written: int | None, state: State) -> None:
    session, mail = alone()
    mail.octets()
    if granted:
        assert mail.consent(YES)
        mail.octets()
    dialogue = left(session, mail, written)
    next(dialogue)
    with pytest.raises(StopIteration) as done:
        dialogue.throw(Disconnected("gone"))
    report = done.value.value
    assert [result.state for result in report] == [state] * 2
    assert isinstance(report.error, DeliveryInDoubt) == (state is State.IN_DOUBT)
    assert not session.alive


@pytest.mark.parametrize("said", [b"", YES[:-1], YES + b"2", YES + YES, b"250-Ok\r\n" + YES])
def test_anything_but_a_yes_is_not_taken(said: bytes) -> None:
    session, mail = alone()
    mail.octets()
    assert not mail.consent(said)
    assert (session.answered, session.has_input) == (0, False)


@pytest.mark.parametrize("said", [b"250", b"250 Ok: queued a", b"250 Ok: queued as 5A1\r"])
def test_half_a_yes_is_none_though_a_whole_one_was_heard_before(said: bytes) -> None:
    session, mail = alone()
    for reply in (YES, b"250 Ok: queued as 4F2\r\n"):
        mail.octets()
        assert mail.consent(reply)
    mail = Alone(session, MailTransaction(ENVELOPE, TEXT))
    mail.octets()
    assert mail.consent(YES)
    mail.octets()
    assert not mail.consent(said)
    dialogue = left(session, mail)
    session.receive_data(said)
    assert next(dialogue) is FINAL_REPLY
    session.receive_data(b"250 Ok: queued as 5A1\r\n"[len(said) :])
    assert result_of(dialogue).queue_id == "5A1"
    assert session.usable


def test_a_yes_to_one_thing_is_none_to_another() -> None:
    """What was said before is known again only where as many replies of the same kind are due."""
    _, mail = alone()
    mail.octets()
    assert mail.consent(b"250 Ok\r\n" * 3 + b"354 Go\r\n")
    mail.octets()
    assert not mail.consent(b"250 Ok\r\n" * 3 + b"354 Go\r\n")
    assert not mail.consent(b"354 Go\r\n")
    assert mail.consent(b"250 Ok\r\n")


def test_who_does_not_go_alone() -> None:
    session, _ = alone()
    assert not goes_alone(session, MailTransaction(ENVELOPE, Buffer(b"x\r\n" * PIECE)))
    assert not goes_alone(session, MailTransaction(ENVELOPE, TEXT, all_or_nothing=True))
    assert not goes_alone(session, MailTransaction(ENVELOPE, TEXT, max_recipients=1))
    session.transcript.listener = lambda side, lines: None
    assert not goes_alone(session, MailTransaction(ENVELOPE, TEXT))
    assert not goes_alone(Session(), MailTransaction(ENVELOPE, TEXT))


def test_a_content_that_cannot_be_read_is_told_before_anything_is_sent() -> None:
    session, _ = alone()
    file = io.BytesIO(b"text\r\n")
    mail = MailTransaction(ENVELOPE, File(file))
    file.truncate(0)
    with pytest.raises(InvalidInput, match="changed"):
        Alone(session, mail)
    assert session.usable

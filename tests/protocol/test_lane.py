"""The lane of a batch: what it writes and takes in, when it ends, and who is not for it.

That it comes to what the long way comes to, whatever the server makes of it, is tested with a
model of a server in ``tests/hostile/test_model.py``.
"""

from __future__ import annotations

import io

import pytest

from mailbridge import (
    DeliveryInDoubt,
    DeliveryReport,
    Disconnected,
    Envelope,
    Esmtp,
    ReplyTimeout,
    State,
)
from mailbridge.protocol.command import DATA, RSET
from mailbridge.protocol.content import PIECE, Buffer, File
from mailbridge.protocol.extension import Extensions
from mailbridge.protocol.group import begin
from mailbridge.protocol.lane import Lane, lane_for
from mailbridge.protocol.session import Dialogue, Session
from mailbridge.protocol.transaction import MailTransaction

ENVELOPE = Envelope("a@x.org", ["b@x.org", "c@x.org"])
TEXT = Buffer(b"text\r\n.\r\n")
YES = b"250 Ok\r\n" * 3 + b"354 Go\r\n"
PIPELINING = Extensions(pipelining="", size="1000")
CHUNKING = Extensions(pipelining="", chunking="")


def session_with(extensions: Extensions, *, lmtp: bool = False) -> Session:
    session = Session(lmtp=lmtp)
    session.extensions = extensions
    return session


def written(session: Session) -> bytes:
    data = session.data_to_send()
    session.sending(len(data))
    session.sent(len(data))
    return data


def granted(session: Session) -> MailTransaction:
    """A mail whose group the server has said yes to."""
    mail = MailTransaction(ENVELOPE, TEXT, by_bdat=session.chunking)
    assert begin(session, mail)
    mail.begun = True
    written(session)
    session.receive_data(b"250 Ok\r\n" * 3 + (b"" if session.chunking else b"354 Go\r\n"))
    replies = session.take_consent(mail.group)
    assert replies is not None
    mail.grant(replies)
    return mail


def entered(extensions: Extensions = PIPELINING) -> tuple[Session, Lane]:
    """A session, and its lane with the next mail in it."""
    session = session_with(extensions)
    found = lane_for(session, granted(session))
    assert found is not None
    assert found.follow(ENVELOPE, TEXT)
    return session, found


def left(session: Session, found: Lane) -> Dialogue[DeliveryReport]:
    """The dialogue behind a lane that was left when everything was written."""
    octets = len(found.octets())
    found.resume()
    session.sending(octets)
    session.sent(octets)
    return found.hear()


def result_of(dialogue: Dialogue[DeliveryReport]) -> DeliveryReport:
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    report = done.value.value
    assert isinstance(report, DeliveryReport)
    return report


def test_a_mail_is_one_write_and_one_read() -> None:
    session, found = entered()
    following = found.following
    group = b"MAIL FROM:<a@x.org> SIZE=9\r\nRCPT TO:<b@x.org>\r\nRCPT TO:<c@x.org>\r\nDATA\r\n"
    assert found.octets() == b"text\r\n..\r\n.\r\n" + group
    assert found.consent(b"250 Ok: queued as 4F2\r\n" + YES)
    report = found.report
    assert report is not None
    assert report.accepted == ("b@x.org", "c@x.org")
    assert report.queue_id == "4F2"
    assert (found.waiting, found.begun) == (following, None)
    assert session.granted
    assert not session.idle


def test_what_was_said_before_is_known_again() -> None:
    """The replies to a group are mostly the same ones; that to a content is not."""
    _, found = entered()
    for number in range(3):
        assert found.follow(ENVELOPE, TEXT)
        assert found.consent(b"250 Ok: queued as 4F%d\r\n" % number + YES)
        assert found.report is not None
        assert found.report.queue_id == f"4F{number}"
        assert [reply.code for reply in found.transaction().heard] == [250, 250, 250, 354]


@pytest.mark.parametrize("before", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"250 Ok\r\n",
        b"250 Ok\r\n" + YES[:-1],
        b"250 Ok\r\n" + YES + b"2",
        b"250 Ok\r\n" + YES + b"250 Ok\r\n",
        b"250 Ok\r\n" * 5,
        b"250-Ok\r\n" + YES,
        b"250-Ok\r\n250 Ok\r\n" + YES,
        b"354 Ok\r\n" + YES,
        b"451 No\r\n" + YES,
        b"421 Bye\r\n" + YES,
        b"Ok\r\n" + YES,
        b"250 Ok\r\n250 Ok\r\n550 No\r\n250 Ok\r\n354 Go\r\n",
        b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n554 No\r\n",
    ],
)
def test_anything_but_a_yes_to_everything_is_not_taken(said: bytes, before: bool) -> None:
    session, found = entered()
    if before:
        assert found.consent(b"250 Ok\r\n" + YES)
        assert found.follow(ENVELOPE, TEXT)
    waiting, answered = found.waiting, session.answered
    assert not found.consent(said)
    assert (found.waiting, session.answered) == (waiting, answered)
    assert not session.has_input


def test_chunks_go_with_a_reset_before_each_group() -> None:
    _, found = entered(CHUNKING)
    group = b"RSET\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nRCPT TO:<c@x.org>\r\n"
    assert found.octets() == b"BDAT 9 LAST\r\ntext\r\n.\r\n" + group
    assert not found.consent(b"250 Ok\r\n" + YES)
    assert found.consent(b"250 Ok\r\n" * 5)
    assert found.report is not None
    assert found.report.accepted == ("b@x.org", "c@x.org")
    # Left in the middle, it goes on as if it had never been there.
    waits = found.transaction()
    assert waits.group.lines[0] == RSET
    assert DATA not in waits.group.lines
    assert (waits.begun, waits.granted, len(waits.heard)) == (True, True, 3)


@pytest.mark.parametrize("lost", [Disconnected("gone"), ReplyTimeout("timed out")])
def test_a_connection_that_is_lost_is_not_waited_for_again(lost: Disconnected) -> None:
    session, found = entered()
    dialogue = left(session, found)
    next(dialogue)
    with pytest.raises(StopIteration) as done:
        dialogue.throw(lost)
    report = done.value.value
    assert report.in_doubt == ("b@x.org", "c@x.org")
    assert isinstance(report.error, DeliveryInDoubt)
    assert str(lost) in str(report.error)
    assert found.begun is not None
    assert not session.alive


def test_what_was_not_written_to_its_end_is_not_in_doubt() -> None:
    session, found = entered()
    content = len(b"text\r\n..\r\n.\r\n")
    for written, state in ((content - 1, State.NOT_ATTEMPTED), (content, State.IN_DOUBT)):
        session, found = entered()
        found.resume()
        session.sending(written)
        session.sent(written)
        dialogue = found.hear()
        next(dialogue)
        with pytest.raises(StopIteration) as done:
            dialogue.throw(Disconnected("gone"))
        assert [result.state for result in done.value.value] == [state] * 2


def test_a_server_that_says_yes_and_leaves() -> None:
    session, found = entered()
    dialogue = left(session, found)
    session.receive_data(b"250 Ok\r\n" + YES)
    session.receive_data(b"")
    report = result_of(dialogue)
    assert report.accepted == ("b@x.org", "c@x.org")
    assert not report.session_usable


def test_a_recipient_that_is_refused_ends_it() -> None:
    session, found = entered()
    following = found.following
    dialogue = left(session, found)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n550 No\r\n250 Ok\r\n354 Go\r\n")
    report = result_of(dialogue)
    assert [result.state for result in report] == [State.ACCEPTED] * 2
    assert found.begun is not None
    assert (found.begun.begun, found.begun.granted) == (True, False)
    assert found.begun.group.lines == following.lines
    assert session.alive


def test_the_transcript_has_the_last_mails() -> None:
    session, found = entered()
    for number in range(20):
        assert found.consent(b"250 Ok: queued as 4F%d\r\n" % number + YES)
        assert found.follow(ENVELOPE, TEXT)
    dialogue = left(session, found)
    next(dialogue)
    lines = session.transcript.lines()
    assert "S: 250 Ok: queued as 4F19" in lines
    assert "S: 250 Ok: queued as 4F11" not in lines
    assert lines[-5:] == (
        "C: (9 octets of content)",
        "C: MAIL FROM:<a@x.org> SIZE=9",
        "C: RCPT TO:<b@x.org>",
        "C: RCPT TO:<c@x.org>",
        "C: DATA",
    )


def test_what_nobody_asked_for_is_not_for_the_lane() -> None:
    session, found = entered()
    assert found.consent(b"250 Ok\r\n" + YES)
    session.receive_data(b"421 Bye\r\n")
    assert not found.follow(ENVELOPE, TEXT)


def test_not_where_somebody_listens() -> None:
    """Each line is told when it comes."""
    session = session_with(PIPELINING)
    mail = granted(session)
    session.transcript.listener = lambda side, lines: None
    assert lane_for(session, mail) is None


def test_no_lane() -> None:
    for session in (
        session_with(Extensions(size="")),
        session_with(Extensions(pipelining="", limits="RCPTMAX=1")),
        session_with(PIPELINING, lmtp=True),
    ):
        assert lane_for(session, MailTransaction(ENVELOPE, TEXT)) is None


def test_the_first_mail_must_be_ordinary() -> None:
    session = session_with(PIPELINING)
    mail = granted(session)
    mail.content = Buffer(b"\xe9\r\n")
    assert lane_for(session, mail) is None


UNUSUAL = {
    "8 bit": Buffer(b"\xe9\r\n"),
    "a long line": Buffer(b"x" * 999 + b"\r\n"),
    "larger than the server takes": Buffer(b"x\r\n" * 334),
}


@pytest.mark.parametrize("content", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_not_for_the_lane(content: Buffer) -> None:
    _, found = entered()
    assert found.follow(ENVELOPE, Buffer(b"x\r\n" * 333))
    assert not found.follow(ENVELOPE, content)


def test_not_more_than_one_piece() -> None:
    _, found = entered(CHUNKING)
    assert found.follow(ENVELOPE, Buffer(b"x\r\n" * (PIECE // 3)))
    assert not found.follow(ENVELOPE, Buffer(b"x\r\n" * (PIECE // 3 + 1)))


def test_not_for_who_asks_for_something() -> None:
    _, found = entered()
    notified = Envelope("a@x.org", ["b@x.org"], esmtp=Esmtp(mt_priority=1))
    assert not found.follow(notified, TEXT)
    assert not found.follow(Envelope("a@x.org", ["ö@x.org"]), TEXT)
    assert not found.follow(Envelope("ö@x.org", ["b@x.org"]), TEXT)


def test_what_cannot_be_read_is_told_in_its_turn() -> None:
    file = io.BytesIO(b"text\r\n")
    content = File(file)
    _, found = entered()
    assert found.follow(ENVELOPE, content)
    file.close()
    assert not found.follow(ENVELOPE, content)


@pytest.mark.parametrize("extensions", [PIPELINING, CHUNKING])
def test_what_was_read_is_not_read_again(extensions: Extensions) -> None:
    """A file may be closed when the next mail is asked for; what is on its way is known."""
    session, found = entered(extensions)
    file = io.BytesIO(b"from a file\r\n")
    assert found.follow(ENVELOPE, File(file))
    assert found.consent(b"250 Ok\r\n" + YES) or found.consent(b"250 Ok\r\n" * 5)
    file.close()
    assert found.follow(ENVELOPE, TEXT)
    octets = found.octets()
    assert b"from a file\r\n" in octets
    dialogue = left(session, found)
    next(dialogue)
    with pytest.raises(StopIteration) as done:
        dialogue.throw(Disconnected("gone"))
    assert done.value.value.in_doubt == ("b@x.org", "c@x.org")
    assert session.transcript.lines()

"""The lane of a batch: what it writes and takes in, when it ends, and who is not for it.

That it comes to what the long way comes to, whatever the server makes of it, is tested with a
model of a server in ``tests/hostile/test_model.py``.
"""

from __future__ import annotations

import io

import pytest

from mailbridge import DeliveryInDoubt, Disconnected, Envelope, Esmtp, ReplyTimeout, State
from mailbridge.protocol import lane
from mailbridge.protocol.command import DATA, RSET
from mailbridge.protocol.content import PIECE, Buffer, File
from mailbridge.protocol.extension import Extensions
from mailbridge.protocol.group import begin
from mailbridge.protocol.lane import Lane, Ordinary, lane_for
from mailbridge.protocol.session import Session
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


def entered(extensions: Extensions = PIPELINING) -> tuple[Session, Lane, Ordinary]:
    """A session, its lane, and the next mail for it."""
    session = session_with(extensions)
    found = lane_for(session, granted(session))
    following = lane.ordinary(session, ENVELOPE, TEXT)
    assert found is not None
    assert following is not None
    return session, found, following


def test_a_mail_is_one_write_and_one_read() -> None:
    session, found, following = entered()
    dialogue = found.send(following)
    next(dialogue)
    group = b"MAIL FROM:<a@x.org> SIZE=9\r\nRCPT TO:<b@x.org>\r\nRCPT TO:<c@x.org>\r\nDATA\r\n"
    assert written(session) == b"text\r\n..\r\n.\r\n" + group
    session.receive_data(b"250 Ok: queued as 4F2\r\n" + YES)
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    report = done.value.value
    assert report.accepted == ("b@x.org", "c@x.org")
    assert report.queue_id == "4F2"
    assert (found.waiting, found.begun) == (following, None)
    assert session.granted
    assert not session.idle


def test_chunks_go_with_a_reset_before_each_group() -> None:
    session, found, following = entered(CHUNKING)
    dialogue = found.send(following)
    next(dialogue)
    group = b"RSET\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nRCPT TO:<c@x.org>\r\n"
    assert written(session) == b"BDAT 9 LAST\r\ntext\r\n.\r\n" + group
    session.receive_data(b"250 Ok\r\n" * 5)
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    assert done.value.value.accepted == ("b@x.org", "c@x.org")
    # Left in the middle, it goes on as if it had never been there.
    left = found.transaction()
    assert left.group.lines[0] == RSET
    assert DATA not in left.group.lines
    assert (left.begun, left.granted, len(left.heard)) == (True, True, 3)


@pytest.mark.parametrize("lost", [Disconnected("gone"), ReplyTimeout("timed out")])
def test_a_connection_that_is_lost_is_not_waited_for_again(lost: Disconnected) -> None:
    session, found, following = entered()
    dialogue = found.send(following)
    next(dialogue)
    written(session)
    with pytest.raises(StopIteration) as done:
        dialogue.throw(lost)
    report = done.value.value
    assert report.in_doubt == ("b@x.org", "c@x.org")
    assert isinstance(report.error, DeliveryInDoubt)
    assert str(lost) in str(report.error)
    assert found.begun is not None
    assert not session.alive


def test_a_server_that_says_yes_and_leaves() -> None:
    session, found, following = entered()
    dialogue = found.send(following)
    next(dialogue)
    written(session)
    session.receive_data(b"250 Ok\r\n" + YES)
    session.receive_data(b"")
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    assert done.value.value.accepted == ("b@x.org", "c@x.org")
    assert not done.value.value.session_usable


def test_a_recipient_that_is_refused_ends_it() -> None:
    session, found, following = entered()
    dialogue = found.send(following)
    next(dialogue)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n550 No\r\n250 Ok\r\n354 Go\r\n")
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    assert [result.state for result in done.value.value] == [State.ACCEPTED] * 2
    assert found.begun is not None
    assert (found.begun.begun, found.begun.granted) == (True, False)
    assert found.begun.group is following.group
    assert session.alive


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
    session = session_with(PIPELINING)
    assert lane.ordinary(session, ENVELOPE, Buffer(b"x\r\n" * 333)) is not None
    assert lane.ordinary(session, ENVELOPE, content) is None


def test_not_more_than_one_piece() -> None:
    session = session_with(CHUNKING)
    assert lane.ordinary(session, ENVELOPE, Buffer(b"x\r\n" * (PIECE // 3))) is not None
    assert lane.ordinary(session, ENVELOPE, Buffer(b"x\r\n" * (PIECE // 3 + 1))) is None


def test_not_for_who_asks_for_something() -> None:
    session = session_with(PIPELINING)
    notified = Envelope("a@x.org", ["b@x.org"], esmtp=Esmtp(mt_priority=1))
    assert lane.ordinary(session, notified, TEXT) is None
    assert lane.ordinary(session, Envelope("a@x.org", ["ö@x.org"]), TEXT) is None
    assert lane.ordinary(session, Envelope("ö@x.org", ["b@x.org"]), TEXT) is None


def test_what_cannot_be_read_is_told_in_its_turn() -> None:
    file = io.BytesIO(b"text\r\n")
    content = File(file)
    session = session_with(PIPELINING)
    assert lane.ordinary(session, ENVELOPE, content) is not None
    file.close()
    assert lane.ordinary(session, ENVELOPE, content) is None

"""Whole transactions on their way without waiting: what is sent, and what becomes of each mail."""

from __future__ import annotations

from typing import TypeVar

import pytest

from mailbridge import (
    DeliveryInDoubt,
    DeliveryInDoubtTimeout,
    Disconnected,
    Envelope,
    MessageRefused,
    ProtocolViolation,
    ReplyTimeout,
    SenderRefused,
)
from mailbridge.protocol.content import Buffer
from mailbridge.protocol.session import Dialogue, Session
from mailbridge.protocol.transaction import MailTransaction
from mailbridge.protocol.window import OCTETS, Window

T = TypeVar("T")
OK = b"250 Ok\r\n"


def session_with(*extensions: str, lmtp: bool = False) -> Session:
    session = Session(lmtp=lmtp)
    session.extensions.update(dict.fromkeys(extensions, ""))
    return session


def mail(*recipients: str, content: bytes = b"x\r\n") -> MailTransaction:
    envelope = Envelope("a@x.org", recipients or ("b@x.org", "c@x.org"))
    return MailTransaction(envelope, Buffer(content), by_bdat=True)


def written(session: Session) -> bytes:
    """Everything that the session has to send; the kernel takes it all."""
    data = b""
    while block := session.data_to_send():
        data += block
        session.sending(len(block))
        session.sent(len(block))
    return data


def group(*recipients: str, content: str = "x\r\n", reset: bool = True) -> bytes:
    rcpts = "".join(f"RCPT TO:<{name}>\r\n" for name in recipients or ("b@x.org", "c@x.org"))
    head = ("RSET\r\n" if reset else "") + f"MAIL FROM:<a@x.org>\r\n{rcpts}"
    return f"{head}BDAT {len(content)} LAST\r\n{content}".encode()


def end_of(dialogue: Dialogue[T]) -> T:
    with pytest.raises(StopIteration) as done:
        next(dialogue)
    result: T = done.value.value
    return result


def filled(*others: MailTransaction) -> tuple[Session, Window]:
    """A window with a first mail whose envelope was accepted, and the others; all of it written."""
    session = session_with("pipelining", "chunking")
    window = Window(session, 10)
    begin = window.begin(mail())
    next(begin)
    assert written(session) == b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nRCPT TO:<c@x.org>\r\n"
    session.receive_data(OK * 3)
    end_of(begin)
    for other in others:
        window.add(other)
    next(taking := window.take())
    assert written(session) == b"BDAT 3 LAST\r\nx\r\n" + group() * len(others)
    session.receive_data(OK)
    end_of(taking)
    return session, window


def states(mail: MailTransaction) -> list[str]:
    return [str(result.state) for result in mail.report()]


def test_the_first_envelope_is_heard_then_all_goes_at_once() -> None:
    session, window = filled(mail(), mail())
    assert len(window) == 2
    next(taking := window.take())
    session.receive_data(OK * 10)
    assert states(end_of(taking)) == ["accepted", "accepted"]
    assert states(end_of(window.take())) == ["accepted", "accepted"]
    assert not window
    assert session.usable


ROWS = {
    "some refused": (
        b"250 Ok\r\n250 Ok\r\n550 No\r\n250 Ok\r\n259 Ok\r\n",
        ["refused", "accepted"],
        None,
    ),
    "sender refused": (
        b"250 Ok\r\n550 No\r\n503 Bad\r\n503 Bad\r\n503 Bad\r\n",
        ["refused", "refused"],
        SenderRefused,
    ),
    "sender deferred": (
        b"250 Ok\r\n451 No\r\n503 Bad\r\n503 Bad\r\n554 Bad\r\n",
        ["deferred", "deferred"],
        SenderRefused,
    ),
    # Whatever was said before: the server has taken the mail for these.
    "sender refused, yet taken": (
        b"250 Ok\r\n550 No\r\n550 No\r\n250 Ok\r\n250 Ok\r\n",
        ["refused", "accepted"],
        None,
    ),
    "nobody accepted": (
        b"250 Ok\r\n250 Ok\r\n550 No\r\n451 Later\r\n503 Bad\r\n",
        ["refused", "deferred"],
        None,
    ),
    "nobody accepted, yet taken": (
        b"250 Ok\r\n250 Ok\r\n550 No\r\n451 Later\r\n250 Ok\r\n",
        ["refused", "deferred"],
        None,
    ),
    "content refused": (
        b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n552 No\r\n",
        ["refused", "refused"],
        MessageRefused,
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_refusal_is_that_of_its_own_mail(row: str) -> None:
    replies, expected, error = ROWS[row]
    session, window = filled(mail(), mail())
    next(taking := window.take())
    session.receive_data(replies + OK * 5)
    refused = end_of(taking)
    assert states(refused) == expected
    assert type(refused.error) is (error or type(None))
    assert states(end_of(window.take())) == ["accepted", "accepted"]
    assert session.usable


DOUBT = ["in_doubt", "in_doubt"]
ENDS = {
    "lost": (b"", DOUBT),
    "lost in the envelope": (b"250 Ok\r\n250 Ok\r\n", DOUBT),
    "lost before the last reply": (OK * 4, DOUBT),
    "garbage": (b"250 Ok\r\nwhat\r\n", DOUBT),
    "codes that differ": (b"250 Ok\r\n250-Ok\r\n550 No\r\n", DOUBT),
    "354 to the content": (OK * 4 + b"354 Go\r\n", DOUBT),
    "RSET refused": (b"500 What\r\n" + OK * 4, DOUBT),
    # The server may have gone on all the same.
    "421 to MAIL": (b"250 Ok\r\n421 Bye\r\n", DOUBT),
    "421 to a recipient": (b"250 Ok\r\n250 Ok\r\n421 Bye\r\n", ["not_attempted", "in_doubt"]),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_handed_over_and_not_answered_is_in_doubt(end: str) -> None:
    replies, expected = ENDS[end]
    session, window = filled(mail(), mail())
    next(taking := window.take())
    session.receive_data(replies)
    session.receive_data(b"")
    first = end_of(taking)
    # No reply that comes later is paired with anything.
    session.receive_data(OK * 9)
    second = end_of(window.take())
    assert states(first) == expected
    assert states(second) == DOUBT
    assert type(first.error) is type(second.error) is DeliveryInDoubt
    assert first.error is not second.error
    assert not session.usable


def test_421_to_the_content_is_an_answer() -> None:
    session, window = filled(mail(), mail())
    next(taking := window.take())
    session.receive_data(OK * 4 + b"421 Later\r\n")
    assert states(end_of(taking)) == ["not_attempted", "not_attempted"]
    assert states(end_of(window.take())) == ["in_doubt", "in_doubt"]


@pytest.mark.parametrize(("answers", "expected"), [(4, DOUBT), (5, ["accepted"] * 2)])
def test_nobody_waits_or_writes_on_after_a_time_out(answers: int, expected: list[str]) -> None:
    """What was answered by then is taken; the rest has had its time."""
    session, window = filled(mail(), mail())
    window.add(mail())
    next(taking := window.take())
    session.receive_data(OK * answers)
    session.abandon("timed out")
    with pytest.raises(StopIteration) as done:
        taking.throw(ReplyTimeout("timed out after 5 s waiting for the server to read"))
    first, second, third = done.value.value, end_of(window.take()), end_of(window.take())
    assert [states(each) for each in (first, second, third)] == [
        expected,
        DOUBT,
        ["not_attempted"] * 2,
    ]
    assert [type(each.error) for each in (second, third)] == [DeliveryInDoubtTimeout, ReplyTimeout]


def test_who_was_refused_is_not_in_doubt() -> None:
    session, window = filled(mail(), mail())
    next(taking := window.take())
    session.receive_data(b"250 Ok\r\n250 Ok\r\n550 No\r\n")
    session.receive_data(b"")
    assert states(end_of(taking)) == ["refused", "in_doubt"]
    session, window = filled(mail())
    next(taking := window.take())
    session.receive_data(b"250 Ok\r\n550 No\r\n503 Bad\r\n")
    session.receive_data(b"")
    refused = end_of(taking)
    assert states(refused) == ["refused", "refused"]
    assert isinstance(refused.error, SenderRefused)


def test_what_had_not_left_was_not_attempted() -> None:
    session = session_with("pipelining", "chunking")
    window = Window(session, 10)
    next(begin := window.begin(mail()))
    written(session)
    session.receive_data(OK * 3)
    end_of(begin)
    window.add(mail())
    next(taking := window.take())
    sent = session.data_to_send()
    # The kernel takes the first content, and all but the last octet of the second.
    session.sending(len(sent) - 1)
    session.sent(len(sent) - 1)
    session.receive_data(b"")
    assert states(end_of(taking)) == ["in_doubt", "in_doubt"]
    lost = end_of(window.take())
    assert states(lost) == ["not_attempted", "not_attempted"]
    assert type(lost.error) is Disconnected


def test_a_dead_connection_is_found_out_before_anything_is_handed_over() -> None:
    session = session_with("pipelining", "chunking")
    window = Window(session, 10)
    next(begin := window.begin(mail()))
    written(session)
    session.receive_data(b"")
    end_of(begin)
    window.add(mail())
    assert [states(end_of(window.take())) for _ in range(2)] == [["not_attempted"] * 2] * 2
    assert written(session) == b""


def test_nobody_accepted_in_the_first_sends_no_content() -> None:
    session = session_with("pipelining", "chunking")
    window = Window(session, 10)
    next(begin := window.begin(mail()))
    written(session)
    session.receive_data(b"250 Ok\r\n550 No\r\n450 Later\r\n")
    end_of(begin)
    window.add(mail())
    assert states(end_of(window.take())) == ["refused", "deferred"]
    next(taking := window.take())
    assert written(session) == group()
    session.receive_data(OK * 5)
    assert states(end_of(taking)) == ["accepted", "accepted"]


def test_too_many_recipients_are_left() -> None:
    session, window = filled(mail())
    next(taking := window.take())
    session.receive_data(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n452 4.5.3 Too many\r\n250 Ok\r\n")
    left = end_of(taking)
    assert [address.text for address in left.unsettled] == ["c@x.org"]
    assert session.usable


def test_an_acceptance_of_what_was_not_sent_is_none() -> None:
    session = session_with("pipelining", "chunking")
    window = Window(session, 10)
    next(begin := window.begin(mail()))
    written(session)
    session.receive_data(OK * 3)
    end_of(begin)
    next(taking := window.take())
    session.receive_data(OK)
    early = end_of(taking)
    assert states(early) == ["not_attempted", "not_attempted"]
    assert isinstance(early.error, ProtocolViolation)


def test_what_a_window_does_not_admit() -> None:
    """What depends on replies: how much is sent, and how many of them there are."""
    both = ("pipelining", "chunking")
    window = Window(session_with(*both), 3)
    assert window.admits(mail())
    assert not window.admits(mail(content=b"x" * (OCTETS - 1) + b"\r\n"))
    for change in ("all_or_nothing", "max_recipients"):
        changed = mail()
        setattr(changed, change, 1)
        assert not window.admits(changed)
    assert not Window(session_with(*both, lmtp=True), 3).admits(mail())
    assert not Window(session_with("chunking"), 3).admits(mail())
    settled = mail()
    settled.refuse_locally(552, "too large")
    assert not window.admits(settled)
    by_data = mail()
    by_data.by_bdat = False
    assert not window.admits(by_data)


def test_a_window_is_full_by_number_and_by_octets() -> None:
    _, window = filled()
    assert not window.full
    large = mail(content=b"x" * (OCTETS - 2) + b"\r\n")
    window.add(large)
    assert window.full
    _, window = filled(*(mail() for _ in range(9)))
    assert len(window) == 9
    assert not window.full
    window.add(mail())
    assert window.full

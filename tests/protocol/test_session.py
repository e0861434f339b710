"""The session by itself: what it writes, what it believes, and when it is over."""

from __future__ import annotations

import pytest

from mailbridge import (
    DeliveryInDoubt,
    Disconnected,
    Envelope,
    MessageRefused,
    Phase,
    ProtocolViolation,
    State,
    TLSError,
)
from mailbridge.protocol import auth, delivery, dialogue
from mailbridge.protocol.command import Content, Data, Raw
from mailbridge.protocol.content import PIECE, Buffer, canonical, stuffed
from mailbridge.protocol.mail import Mail, Rcpt
from mailbridge.protocol.session import Session
from mailbridge.protocol.transaction import MailTransaction
from mailbridge.testing import ScriptedPeer

HELLO = "S: 220 mx\nC: EHLO client.example\nS: 250-mx\nS: 250 HELP\n"


def greeted(script: str, *, lmtp: bool = False) -> tuple[Session, ScriptedPeer]:
    """A session that has said EHLO to a peer with this script to follow."""
    session = Session(lmtp=lmtp)
    hello = HELLO.replace("EHLO", "LHLO") if lmtp else HELLO
    peer = ScriptedPeer(hello + script)
    peer.run(session, dialogue.greet(session))
    peer.run(session, dialogue.hello(session, "client.example"))
    return session, peer


def test_a_group_is_written_at_once_and_answered_by_counting() -> None:
    session, peer = greeted(
        "C: MAIL FROM:<a@x.org>\nC: RCPT TO:<b@x.org>\nC: RCPT TO:<c@x.org>\nC: DATA\n"
        "S: 250-Ok\nS: 250 Ok\nS: 550 No\nS: 250 Ok\nS: 354 Go\n"
    )
    commands = Mail("a@x.org"), Rcpt("b@x.org"), Rcpt("c@x.org"), Data()
    session.send(*commands)
    replies = peer.run(session, delivery.hear(session, 4))
    assert [reply.code for reply in replies] == [250, 550, 250, 354]
    assert (session.in_transaction, session.recipients_accepted, session.idle) == (True, 1, True)
    peer.finish()


def test_a_421_answers_all_that_is_unanswered() -> None:
    session, peer = greeted(
        "C: MAIL FROM:<a@x.org>\nC: RCPT TO:<b@x.org>\nS: 421 Bye\nS: (close)\n"
    )
    session.send(Mail("a@x.org"), Rcpt("b@x.org"))
    with pytest.raises(Disconnected) as caught:
        peer.run(session, delivery.hear(session, 2))
    assert caught.value.reply is not None
    assert caught.value.reply.code == 421
    assert not session.usable


@pytest.mark.parametrize("said", [b"250 Ok\r\n", b"2", b"421 Bye\r\n", b"\r\n", b""])
def test_nothing_is_sent_after_what_was_said_unasked(said: bytes) -> None:
    session, _ = greeted("")
    session.receive_data(said)
    with pytest.raises(Disconnected):
        session.send(Raw("NOOP"))
    assert session.data_to_send() == b""
    assert not session.usable


@pytest.mark.parametrize("why", ["a bad reply", "the end", "time"])
def test_nothing_is_sent_by_a_session_that_has_ended(why: str) -> None:
    session, _ = greeted("C: NOOP\nS: 250 Ok\n")
    noop = session.command(Raw("NOOP"))
    next(noop)
    session.data_to_send()
    if why == "time":
        session.abandon("timed out")
    else:
        session.receive_data(b"garbage\r\n" if why == "a bad reply" else b"")
        with pytest.raises(Disconnected):
            next(noop)
    with pytest.raises(Disconnected):
        next(session.command(Raw("RSET")))
    assert session.data_to_send() == b""


def content(size: int) -> bytes:
    return canonical(b"x" * 70 + b"\r\n") * (size // 72)


def test_content_is_written_piece_by_piece() -> None:
    data = content(3 * PIECE)
    session, _ = greeted("")
    session.send(Content(iter([data[:PIECE], data[PIECE:]]), len(data)))
    assert not session.may_be_cut_short
    assert session.data_to_send() == data[:PIECE]
    assert session.may_be_cut_short
    assert not session.handed_over
    assert session.data_to_send() == data[PIECE:]
    assert session.data_to_send() == b""
    session.sending(len(data))
    assert session.handed_over


@pytest.mark.parametrize("written", ["nothing", "a piece", "all but an octet", "all"])
def test_in_doubt_begins_with_the_last_octet(written: str) -> None:
    data = content(2 * PIECE)
    wire = stuffed(data)
    session, _ = greeted("")
    mail = MailTransaction(Envelope("a@x.org", "b@x.org"), Buffer(data))
    deliver = delivery.deliver(session, mail)
    next(deliver)
    for reply in (b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n"):
        session.sent(len(session.data_to_send()))
        session.receive_data(reply)
        next(deliver)
    limit = {"nothing": 0, "a piece": PIECE, "all but an octet": len(wire) - 1}.get(written)
    left = len(wire) if limit is None else limit
    while left and (data := session.data_to_send()):
        taken = min(left, len(data))
        session.sent(taken)
        left -= taken
    session.receive_data(b"")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    report = done.value.value
    if written == "all":
        assert report["b@x.org"].state is State.IN_DOUBT
        assert isinstance(report.error, DeliveryInDoubt)
    else:
        assert report["b@x.org"].state is State.NOT_ATTEMPTED
        assert not isinstance(report.error, DeliveryInDoubt)


def test_a_refusal_in_the_middle_of_the_content_is_one() -> None:
    session, _ = greeted("")
    mail = MailTransaction(Envelope("a@x.org", "b@x.org"), Buffer(content(3 * PIECE)))
    deliver = delivery.deliver(session, mail)
    next(deliver)
    for reply in (b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n"):
        session.sent(len(session.data_to_send()))
        session.receive_data(reply)
        next(deliver)
    session.sent(len(session.data_to_send()))
    session.receive_data(b"552 5.3.4 Too big\r\n")
    assert session.answered_early
    session.stop_writing()
    with pytest.raises(StopIteration) as done:
        next(deliver)
    report = done.value.value
    assert report["b@x.org"].state is State.REFUSED
    assert report["b@x.org"].phase is Phase.CONTENT
    assert isinstance(report.error, MessageRefused)
    assert not session.usable


def test_all_or_nothing_stops_before_data() -> None:
    session, peer = greeted(
        "C: MAIL FROM:<a@x.org>\nS: 250 Ok\nC: RCPT TO:<b@x.org>\nS: 250 Ok\n"
        "C: RCPT TO:<c@x.org>\nS: 550 No\nC: RSET\nS: 250 Ok\n"
    )
    mail = MailTransaction(Envelope("a@x.org", ["b@x.org", "c@x.org"]), Buffer(b"x\r\n"))
    mail.all_or_nothing = True
    report = peer.run(session, delivery.deliver(session, mail))
    assert report.not_attempted == ("b@x.org",)
    assert report.refused == ("c@x.org",)
    assert session.usable
    peer.finish()


def test_what_is_settled_is_not_offered() -> None:
    session, peer = greeted(
        "C: MAIL FROM:<a@x.org>\nS: 250 Ok\nC: RCPT TO:<b@x.org>\nS: 250 Ok\n"
        "C: DATA\nS: 354 Go\nC: (content) x\\r\\n\nS: 250 Ok\n"
    )
    mail = MailTransaction(Envelope("a@x.org", ["b@x.org", "c@x.org"]), Buffer(b"x\r\n"))
    mail.settle(["c@x.org"], State.REFUSED, None, reason="not here")
    report = peer.run(session, delivery.deliver(session, mail))
    assert report.accepted == ("b@x.org",)
    assert list(report.recipients) == ["b@x.org", "c@x.org"]
    peer.finish()


def test_the_transcript_holds_no_content_and_no_secret() -> None:
    session = Session()
    peer = ScriptedPeer(
        "S: 220 mx\nC: EHLO client.example\nS: 250-mx\nS: 250 AUTH PLAIN\n"
        "C: AUTH PLAIN AHVzZXIAaHVudGVyMjI=\n"
        "S: 535 AHVzZXIAaHVudGVyMjI= is hunter22\n"
        "C: MAIL FROM:<a@x.org>\nS: 250 Ok\nC: RCPT TO:<b@x.org>\nS: 250 Ok\n"
        "C: DATA\nS: 354 Go\nC: (content)\nS: 250 Ok\n"
    )
    from mailbridge import AuthenticationFailed, Secret
    from mailbridge.protocol.sasl import Credentials

    peer.run(session, dialogue.greet(session))
    peer.run(session, dialogue.hello(session, "client.example"))
    credentials = Credentials("user", Secret("hunter22"))
    with pytest.raises(AuthenticationFailed) as caught:
        peer.run(session, auth.login(session, credentials, confidential=True))
    mail = MailTransaction(Envelope("a@x.org", "b@x.org"), Buffer(b"private\r\n"))
    peer.run(session, delivery.deliver(session, mail))
    shown = "\n".join([*session.transcript.lines(), str(caught.value), repr(credentials)])
    assert "C: AUTH PLAIN ***" in shown
    for secret in ("hunter22", "AHVzZXIAaHVudGVyMjI=", "private"):
        assert secret not in shown


def test_lmtp_counts_its_replies() -> None:
    session, peer = greeted(
        "C: MAIL FROM:<a@x.org>\nS: 250 Ok\nC: RCPT TO:<b@x.org>\nS: 250 Ok\n"
        "C: RCPT TO:<c@x.org>\nS: 250 Ok\nC: DATA\nS: 354 Go\nC: (content)\n"
        "S: 250 Ok\nS: 250 Ok\nS: 250 one too many\n",
        lmtp=True,
    )
    mail = MailTransaction(Envelope("a@x.org", ["b@x.org", "c@x.org"]), Buffer(b"x\r\n"))
    report = peer.run(session, delivery.deliver(session, mail))
    assert report.accepted == ("b@x.org", "c@x.org")
    with pytest.raises(ProtocolViolation):
        peer.run(session, session.command(Raw("NOOP")))


@pytest.mark.parametrize("early", [b"220 mx\r\n", b"220", b"421 4.3.2 busy\r\n"])
def test_what_comes_before_tls_is_not_the_greeting(early: bytes) -> None:
    session = Session()
    session.receive_data(early)
    greeting = dialogue.greet(session, implicit_tls=True)
    with pytest.raises(TLSError, match="handshake failed") as caught:
        next(greeting)
    assert "tls='starttls'" in caught.value.advice
    assert not session.usable

"""The connection breaks: at each phase, by a close, a reset or silence. And servers out of step."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import mailbridge
from mailbridge import Envelope
from mailbridge.testing import ScriptedServer
from tests.sync.servers import PATIENCE, Peer, RawServer
from tests.sync.support import (
    BOTH,
    CC,
    CONTENT,
    ENVELOPE,
    SENDER,
    TO,
    client,
    heard,
    transport,
    verbs,
)

BIG = b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000  # more than any socket buffer
SMALL_BUFFER = 4096
BEFORE = ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"]


def _close(peer: Peer) -> None:
    peer.sock.close()


def _until(verb: str, end: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def dialogue(peer: Peer) -> None:
        if verb != "GREETING":
            peer.until(verb)
        end(peer)

    return dialogue


# -- lost before the content: safe to try again


@pytest.mark.parametrize("verb", BEFORE)
@pytest.mark.parametrize("end", [_close, Peer.reset], ids=["close", "reset"])
def test_lost_before_the_content(verb: str, end: Callable[[Peer], None]) -> None:
    """Connection lost before the last octet of content: not attempted, safe to retry."""
    # A reset that is faster than the end of connect() looks like one.
    early = verb == "GREETING" and end is Peer.reset
    lost = (mailbridge.Disconnected, mailbridge.ConnectError) if early else mailbridge.Disconnected
    with RawServer(_until(verb, end)) as server:
        with pytest.raises(lost) as caught:
            transport(server).send(BOTH, CONTENT)
    error = caught.value
    assert not isinstance(error, mailbridge.DeliveryInDoubt)
    assert error.report.not_attempted == (TO, CC)
    assert (error.retryable, error.session_usable) == (True, False)
    assert error.host == f"{server.host}:{server.port}"
    assert error.phase == verb.lower() or (early and error.phase == "connect")
    assert len(server.peers) == 1  # a fresh connection that fails is not tried twice


@pytest.mark.parametrize("verb", BEFORE[1:])
@pytest.mark.parametrize("end", [_close, Peer.reset], ids=["close", "reset"])
def test_lost_before_the_content_smtp(verb: str, end: Callable[[Peer], None]) -> None:
    """Connection lost: SMTPServerDisconnected, and the socket is closed at once."""
    with RawServer(_until(verb, end)) as server:
        smtp = client(server)
        with pytest.raises(mailbridge.SMTPServerDisconnected):
            smtp.sendmail(SENDER, TO, CONTENT)
        assert smtp.sock is None


@pytest.mark.parametrize("verb", BEFORE)
def test_silence_before_the_content(smtpd: ScriptedServer, verb: str) -> None:
    """No answer at any step: a time-out that is also TimeoutError, nobody attempted."""
    smtpd.silent(verb)
    with pytest.raises(mailbridge.ReplyTimeout) as caught:
        transport(smtpd, timeout=0.4).send(ENVELOPE, CONTENT)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.report.not_attempted == (TO,)
    assert caught.value.retryable
    assert caught.value.phase == verb.lower()


def test_timeout_is_a_timeout_error(smtpd: ScriptedServer) -> None:
    """Timeout: TimeoutError and SMTPServerDisconnected; closed, so no late reply is mispaired."""
    smtpd.silent("NOOP")
    smtp = client(smtpd, timeout=0.4)
    with pytest.raises(TimeoutError) as caught:
        smtp.noop()
    assert isinstance(caught.value, mailbridge.SMTPServerDisconnected)
    assert smtp.sock is None
    with pytest.raises(mailbridge.SMTPServerDisconnected):
        smtp.rset()


def test_lost_while_some_are_refused(smtpd: ScriptedServer) -> None:
    """The connection breaks after a refusal: that one is refused, the rest not attempted."""
    smtpd.refuse(TO)
    smtpd.drop("DATA")
    recipients = (TO, CC, "d@example.com")
    with pytest.raises(mailbridge.Disconnected) as caught:
        transport(smtpd).send(Envelope(SENDER, recipients), CONTENT)
    assert caught.value.report.refused == (TO,)
    assert caught.value.report.not_attempted == recipients[1:]


# -- in the content


@pytest.mark.parametrize("end", [_close, Peer.reset], ids=["close", "reset"])
def test_lost_in_the_content(end: Callable[[Peer], None]) -> None:
    """Connection lost before the last octet was handed over: the server cannot have accepted."""

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.receive()
        end(peer)

    with RawServer(dialogue, receive_buffer=SMALL_BUFFER) as server:
        with pytest.raises(mailbridge.Disconnected) as caught:
            transport(server).send(BOTH, BIG)
        assert caught.value.report.not_attempted == (TO, CC)
        assert caught.value.retryable
        smtp = client(server)
        with pytest.raises(mailbridge.Disconnected) as caught:
            smtp.sendmail(SENDER, TO, BIG)
        assert not isinstance(caught.value, mailbridge.DeliveryInDoubt)
        assert smtp.sock is None


@pytest.mark.parametrize("then", ["reads on", "closes", "resets", "stops reading"])
def test_early_552_is_reported(then: str) -> None:
    """Early 552 during DATA: is reported, not "broken pipe", whatever the server does next."""
    done = threading.Event()
    ends: dict[str, Callable[[Peer], object]] = {
        "reads on": Peer.wait_for_close,
        "closes": _close,
        "resets": Peer.reset,
        "stops reading": lambda peer: done.wait(PATIENCE),
    }

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.receive()
        peer.say("552 5.3.4 too big")
        ends[then](peer)

    with RawServer(dialogue, receive_buffer=SMALL_BUFFER) as server:
        with pytest.raises(mailbridge.MessageRefused, match="too big") as caught:
            transport(server).send(BOTH, BIG)
        assert caught.value.report.refused == (TO, CC)
        assert (caught.value.smtp_code, caught.value.retryable) == (552, False)
        smtp = client(server)
        with pytest.raises(mailbridge.SMTPDataError) as caught:
            smtp.sendmail(SENDER, TO, BIG)
        assert (caught.value.smtp_code, smtp.sock) == (552, None)
        done.set()


@pytest.mark.parametrize("end", [Peer.wait_for_close, _close], ids=["reads on", "closes"])
def test_early_421_is_reported(end: Callable[[Peer], None]) -> None:
    """421 in the middle of the content: the service closes, nobody was attempted."""

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.receive()
        peer.say("421 4.3.2 going down")
        end(peer)

    with RawServer(dialogue, receive_buffer=SMALL_BUFFER) as server:
        with pytest.raises(mailbridge.MailError, match="going down") as caught:
            transport(server).send(BOTH, BIG)
    assert caught.value.report.not_attempted == (TO, CC)
    assert (caught.value.retryable, caught.value.session_usable) == (True, False)


def test_250_in_the_middle_is_no_success() -> None:
    """250 before the message is complete: never a success, and not sent to the end."""

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.receive()
        peer.say("250 2.0.0 Ok")
        peer.wait_for_close()

    with RawServer(dialogue, receive_buffer=SMALL_BUFFER) as server:
        with pytest.raises(mailbridge.ProtocolViolation) as caught:
            transport(server).send(BOTH, BIG)
        assert caught.value.report.not_attempted == (TO, CC)


@pytest.mark.parametrize("reply", ["250 2.0.0 Ok", "354 again"])
def test_250_with_the_354_is_no_success(smtpd: ScriptedServer, reply: str) -> None:
    """250 with the 354: never a success; the content is not sent."""
    smtpd.inject("DATA", f"{reply}\r\n".encode())
    with pytest.raises(mailbridge.ProtocolViolation) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    smtp = client(smtpd)
    with pytest.raises(mailbridge.ProtocolViolation):
        smtp.sendmail(SENDER, TO, CONTENT)
    assert smtp.sock is None
    assert smtpd.messages == ()


def test_552_with_the_354_is_a_refusal(smtpd: ScriptedServer) -> None:
    """A refusal that comes with the 354 is reported as one; the connection is closed."""
    smtpd.inject("DATA", b"552 5.3.4 too big\r\n")
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.MessageRefused, match="too big") as caught:
            relay.send(ENVELOPE, CONTENT)
        assert not caught.value.session_usable
    assert caught.value.report.refused == (TO,)
    assert smtpd.messages == ()


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "CONTENT", "RSET"])
def test_extra_reply_ends_the_session(smtpd: ScriptedServer, verb: str) -> None:
    """Extra replies: found when the next command is about to be sent; the session is over."""
    smtpd.inject(verb, b"250 2.0.0 and another\r\n")
    smtp = client(smtpd)
    steps = [lambda: smtp.sendmail(SENDER, TO, CONTENT), smtp.rset, smtp.noop]
    with pytest.raises(mailbridge.ProtocolViolation):
        [step() for step in steps]
    assert smtp.sock is None
    assert len(smtpd.messages) == (verb in ("CONTENT", "RSET"))
    assert "NOOP" not in verbs(smtpd)


# -- after the dot: in doubt


@pytest.mark.parametrize("end", [_close, Peer.reset], ids=["close", "reset"])
@pytest.mark.parametrize("content", [CONTENT, BIG], ids=["small", "big"])
def test_lost_after_the_dot(end: Callable[[Peer], None], content: bytes) -> None:
    """Connection lost after "." and before its reply: unknown, and no automatic retry."""

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.read_content()
        end(peer)

    with RawServer(lambda peer: peer.until("NONE"), dialogue) as server:
        client(server).close()  # the first connection is for nothing
        with pytest.raises(mailbridge.DeliveryInDoubt) as caught:
            transport(server).send(BOTH, content)
        assert caught.value.report.in_doubt == (TO, CC)
        assert not caught.value.retryable
        assert "twice" in str(caught.value)
        smtp = client(server)
        with pytest.raises(mailbridge.DeliveryInDoubt):
            smtp.sendmail(SENDER, TO, content)
        assert smtp.sock is None
        assert len(server.peers) == 3


def test_silence_after_the_dot(smtpd: ScriptedServer) -> None:
    """Timeout after the dot: told apart from "never sent", and still a TimeoutError."""
    smtpd.silent("CONTENT")
    with pytest.raises(mailbridge.DeliveryInDoubtTimeout) as caught:
        transport(smtpd, final_reply_timeout=0.4).send(BOTH, CONTENT)
    assert caught.value.report.in_doubt == (TO, CC)
    smtp = client(smtpd, timeout=1.5)
    with pytest.raises(TimeoutError) as caught:
        smtp.sendmail(SENDER, TO, CONTENT)
    assert isinstance(caught.value, mailbridge.DeliveryInDoubt)
    assert smtp.sock is None


def test_data_by_itself_after_the_dot(smtpd: ScriptedServer) -> None:
    """The same for data(), the caller's own step."""
    smtpd.drop("CONTENT")
    smtp = client(smtpd)
    smtp.ehlo()
    smtp.mail(SENDER)
    smtp.rcpt(TO)
    with pytest.raises(mailbridge.DeliveryInDoubt):
        smtp.data(CONTENT)
    assert smtp.sock is None


def test_nothing_is_sent_again_after_the_dot(smtpd: ScriptedServer) -> None:
    """Never a second try once content was handed over, on a kept connection neither."""
    with transport(smtpd) as relay:
        relay.send(ENVELOPE, CONTENT)
        smtpd.drop("CONTENT")
        with pytest.raises(mailbridge.DeliveryInDoubt) as caught:
            relay.send(ENVELOPE, CONTENT)
    assert (caught.value.report.attempts, smtpd.connections) == (1, 1)
    assert verbs(smtpd).count("DATA") == 2


@pytest.mark.parametrize(
    ("reply", "state"), [("451 4.3.0 later", "deferred"), ("554 5.6.0 no", "refused")]
)
def test_refused_after_the_dot(smtpd: ScriptedServer, reply: str, state: str) -> None:
    """4yz / 5yz after the dot: not accepted, and the connection goes on."""
    smtpd.reply("CONTENT", reply, times=1)
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.MessageRefused) as caught:
            relay.send(BOTH, CONTENT)
        assert getattr(caught.value.report, state) == (TO, CC)
        assert caught.value.retryable == (state == "deferred")
        assert relay.send(BOTH, CONTENT).accepted == (TO, CC)
    assert smtpd.connections == 1
    assert f"<{len(CONTENT)} octets of content>" in heard(smtpd)


OPENINGS = {
    "greeting": ("GREETING", "554 5.7.1 no"),
    "EHLO": ("EHLO", "554 5.7.1 no"),
    "STARTTLS": ("STARTTLS", "454 4.7.0 no"),
    "AUTH": ("AUTH", "535 5.7.8 no"),
}


@pytest.mark.parametrize("where", OPENINGS)
def test_an_opening_that_fails_closes_at_once(where: str) -> None:
    """The socket is closed when the error is raised, not when the error is forgotten."""
    verb, refusal = OPENINGS[where]

    def dialogue(peer: Peer) -> None:
        if verb != "GREETING":
            peer.until(verb, ehlo=("250-raw.example", "250-STARTTLS", "250 AUTH PLAIN"))
        peer.say(refusal)
        if verb == "EHLO":
            peer.line()  # HELO is tried then.
            peer.say(refusal)
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        options = {"tls": "starttls"} if verb == "STARTTLS" else {}
        sender = transport(server, username="user", password="secret", **options)
        with pytest.raises(mailbridge.MailError) as caught:
            sender.send(ENVELOPE, CONTENT)
        server.wait_until_closed()
        assert caught.value.report.not_attempted == (TO,)
        with pytest.raises(mailbridge.MailError) as again:
            sender.open()
        if verb != "AUTH":  # That one is remembered.
            server.wait_until_closed()
        assert again.value.host == caught.value.host

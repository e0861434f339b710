"""After the final dot: in doubt, and never a second copy, whoever sends and however often it tries.

And several mails on their way at once: what is told of each is true.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import django.core.mail
import flask
import pytest

import mailbridge
import mailbridge.aio
import mailbridge_django
import mailbridge_flask
from mailbridge import Envelope, Relay, RetryPolicy, Transport, link
from mailbridge.testing import ScriptedServer
from tests.django_settings import configure
from tests.hostile.servers import CHUNKING, ENDS, IN_TURN, PIPELINING, WAYS, Counted
from tests.sync.servers import PATIENCE, Gone, Peer, RawServer
from tests.sync.support import BOTH, CC, CONTENT, ENVELOPE, SENDER, TO, transport

MAILS = [(Envelope(SENDER, [f"{n}@example.com"]), b"Number: %d\r\n\r\n" % n) for n in range(5)]
STUBBORN = RetryPolicy(tries=4, delay=0.001)


def relay(server: RawServer) -> Relay:
    return Relay.from_options(host=server.host, port=server.port, tls="none", timeout=5)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_no_second_copy(way: str, end: str) -> None:
    """Retry, failover and a kept connection: none of them sends what may have been taken."""
    counted = Counted(WAYS[way], ENDS[end])
    with RawServer(counted) as server:
        sender = Transport([relay(server), relay(server)], retry=STUBBORN)
        with pytest.raises(mailbridge.DeliveryInDoubt) as caught:
            sender.send(ENVELOPE, CONTENT)
        assert caught.value.report.in_doubt == (TO,)
        assert caught.value.report.attempts == 1
        assert not caught.value.retryable
        assert counted.taken == [CONTENT]
        # The next mail is not disturbed, over a connection of its own.
        assert sender.send(ENVELOPE, b"next\r\n").accepted == (TO,)
        assert counted.taken == [CONTENT, b"next\r\n"]
        assert len(server.peers) == 2


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lost", [0, 1, 4])
def test_no_second_copy_in_a_batch(way: str, end: str, lost: int) -> None:
    """One of five mails is lost sight of: that one is in doubt, the others arrive once."""
    counted = Counted(WAYS[way], *[None] * lost, ENDS[end])
    with RawServer(counted) as server:
        sender = Transport([relay(server), relay(server)], retry=STUBBORN)
        reports = list(sender.send_many(MAILS))
    states = [next(iter(report)).state for report in reports]
    assert states == ["accepted"] * lost + ["in_doubt"] + ["accepted"] * (4 - lost)
    assert sorted(counted.taken) == [content for _, content in MAILS]


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("end", ["close", "reset", "garbage"])
def test_no_second_copy_through_django(end: str, in_a_loop: bool) -> None:
    counted = Counted(CHUNKING, ENDS[end])
    configure()
    with RawServer(counted) as server:
        backend = mailbridge_django.EmailBackend(
            alias="test",
            host=server.host,
            port=server.port,
            tls="none",
            tries=4,
            retry_delay=0.001,
        )
        messages = [
            django.core.mail.EmailMessage(f"{n}", "x", SENDER, [f"{n}@example.com"])
            for n in range(3)
        ]

        def send() -> int:
            if in_a_loop:
                return asyncio.run(backend.asend_messages(messages))
            return backend.send_messages(messages)

        with pytest.raises(mailbridge.DeliveryInDoubt):
            send()
    assert [len(m.delivery_report.in_doubt) for m in messages] == [1, 0, 0]
    assert [len(m.delivery_report.accepted) for m in messages] == [0, 1, 1]
    assert len(counted.taken) == len(set(counted.taken)) == 3


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("end", ["close", "reset", "garbage"])
def test_no_second_copy_through_flask(end: str, in_a_loop: bool) -> None:
    counted = Counted(PIPELINING, ENDS[end])
    with RawServer(counted) as server:
        app = flask.Flask("hostile")
        app.config.update(
            MAIL_SERVER=server.host,
            MAIL_PORT=server.port,
            MAIL_TLS="none",
            MAIL_TRIES=4,
            MAIL_RETRY_DELAY=0.001,
            MAIL_DEFAULT_SENDER=SENDER,
        )
        mail = mailbridge_flask.Mail(app)

        def send(message: mailbridge_flask.Message) -> mailbridge.DeliveryReport:
            return asyncio.run(mail.asend(message)) if in_a_loop else mail.send(message)

        with app.app_context():
            message = mailbridge_flask.Message("one", [TO], "text")
            with pytest.raises(mailbridge.DeliveryInDoubt):
                send(message)
            assert len(counted.taken) == 1
            send(mailbridge_flask.Message("two", [TO], "text"))
    assert len(counted.taken) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reply", ["450 4.2.0 later", "554 5.6.0 no", "421 4.3.2 bye"])
def test_a_refused_content_in_a_batch(way: str, reply: str) -> None:
    """A refusal after the dot is told of the mail it was for, with the next one's group behind."""
    refused = threading.Event()

    class Refusing(Counted):
        def __call__(self, peer: Peer) -> None:
            said = peer.say

            def say(*lines: str) -> None:
                if len(self.taken) == 2 and not refused.is_set() and lines == ("250 2.0.0 Ok",):
                    refused.set()
                    self.taken.pop()
                    lines = (reply,)
                said(*lines)
                if lines[0].startswith("421"):
                    peer.sock.close()

            peer.say = say  # type: ignore[method-assign]
            super().__call__(peer)

    counted = Refusing(WAYS[way])
    with RawServer(counted) as server:
        reports = list(Transport(relay(server)).send_many(MAILS))
    expected = {"4": "deferred", "5": "refused"}[reply[0]] if reply[:3] != "421" else None
    assert next(iter(reports[1])).state == (expected or "not_attempted")
    assert [len(report.accepted) for report in reports] == [1, 0, 1, 1, 1]
    assert sorted(counted.taken) == [content for n, (_, content) in enumerate(MAILS) if n != 1]


@pytest.mark.parametrize("ehlo", [PIPELINING, CHUNKING], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("small", [8192, 32768])
def test_a_server_that_answers_before_it_reads_on(ehlo: tuple[str, ...], small: int) -> None:
    """Many recipients, tiny windows on both sides, a server that blocks in writing: no deadlock."""
    everybody = [f"r{n:05}@{'x' * 60}.example" for n in range(2000)]
    text = "250 " + "x" * 400

    def dialogue(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, small)
        peer.until("MAIL", ehlo=ehlo)
        peer.say("250 Ok")
        for _ in everybody:
            peer.line()
            peer.say(text)
        line = peer.line()
        if line == "DATA":
            peer.say("354 go on")
            peer.read_content()
        else:
            peer.read(int(line.split()[1]))
        peer.say("250 Ok")
        peer.until("QUIT")

    with RawServer(dialogue, receive_buffer=small) as server:
        with transport(server, timeout=5) as sender:
            # Else the kernel takes all there is on both sides, and nobody need read to write.
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sender.connection.sock.setsockopt(socket.SOL_SOCKET, buffer, small)
            report = sender.send(Envelope(SENDER, everybody), CONTENT)
    assert (len(report.accepted), report.attempts) == (2000, 1)


def test_a_flood_of_replies_while_we_write() -> None:
    """More replies than commands, without end, from one who does not read: memory stays bounded."""
    everybody = [f"r{n:05}@{'x' * 60}.example" for n in range(20_000)]
    flood = b"250 Ok\r\n" * 8192
    sent = 0

    def dialogue(peer: Peer) -> None:
        nonlocal sent
        peer.until("MAIL", ehlo=PIPELINING)
        while sent < 200_000_000:
            peer.send(flood)
            sent += len(flood)

    with RawServer(dialogue, receive_buffer=4096) as server:
        with pytest.raises(mailbridge.MailError) as caught:
            transport(server, timeout=10).send(Envelope(SENDER, everybody), CONTENT)
    assert sent < 50_000_000
    assert len(caught.value.report.not_attempted) == 20_000


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("early", ["552 5.3.4 too big", "451 4.3.0 full"])
@pytest.mark.parametrize("then", ["reads on", "closes", "resets", "stops reading"])
def test_early_refusal(way: str, early: str, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early 4yz or 5yz in the middle of the content, by DATA or BDAT: read and reported."""
    # What a silent server is waited for once the mail's outcome is known.
    monkeypatch.setattr(link, "PATIENCE_AT_QUIT", 0.1)
    done = threading.Event()
    big = b"x" * 76 + b"\r\n"
    ends = {
        "reads on": Peer.wait_for_close,
        "closes": lambda peer: peer.sock.close(),
        "resets": Peer.reset,
        "stops reading": lambda peer: done.wait(PATIENCE),
    }

    def dialogue(peer: Peer) -> None:
        line = peer.until("BDAT" if way == "chunked" else "DATA", ehlo=WAYS[way])
        if line == "DATA":
            peer.say("354 go on")
        peer.receive()
        peer.say(early)
        ends[then](peer)

    patience = 1 if then == "stops reading" else 10
    started = time.monotonic()
    with RawServer(dialogue, receive_buffer=4096) as server:
        with pytest.raises(mailbridge.MessageRefused, match=early[10:]) as caught:
            transport(server, timeout=patience).send(ENVELOPE, big * 150_000)
        done.set()
    assert time.monotonic() - started < 9
    report = caught.value.report
    assert (report.refused if early[0] == "5" else report.deferred) == (TO,)
    assert not caught.value.session_usable


def _content(peer: Peer, reply: str) -> None:
    peer.until("DATA")
    peer.say("354 go on")
    peer.read_content()
    peer.say(reply)


LATER = {
    "lost": (lambda peer: peer.until("MAIL"), mailbridge.Disconnected, "not_attempted"),
    "in doubt": (lambda peer: _content(peer, "2"), mailbridge.DeliveryInDoubt, "in_doubt"),
    "content": (
        lambda peer: (_content(peer, "554 5.6.0 no"), peer.until("QUIT")),
        mailbridge.SomeRecipientsRefused,
        "refused",
    ),
    "sender": (
        lambda peer: (peer.until("MAIL"), peer.say("550 5.7.1 no"), peer.until("QUIT")),
        mailbridge.SomeRecipientsRefused,
        "refused",
    ),
}
"""What comes of a second try: how the server ends it, the error, and the recipient's state."""


@pytest.mark.parametrize("later", LATER)
def test_an_error_of_a_later_try_speaks_of_everybody(later: str) -> None:
    """One has the mail, the other is tried again: nobody is told to send all of it again."""
    end, kind, state = LATER[later]

    def dialogue(peer: Peer) -> None:
        peer.until("RCPT")
        peer.say("450 4.2.0 later")
        _content(peer, "250 Ok")
        end(peer)

    with RawServer(dialogue, lambda peer: None) as server:
        sender = Transport(relay(server), retry=RetryPolicy(tries=2, delay=0.001))
        with pytest.raises(kind) as caught:
            sender.send(BOTH, CONTENT)
    report = caught.value.report
    assert {r.address: str(r.state) for r in report} == {TO: state, CC: "accepted"}
    assert not caught.value.retryable
    if kind is mailbridge.SomeRecipientsRefused:
        assert caught.value.accepted == (CC,)


@pytest.mark.parametrize("way", WAYS)
def test_half_close_in_the_content(way: str) -> None:
    """A server that talks no more, and still reads, in the content: not attempted."""

    def dialogue(peer: Peer) -> None:
        line = peer.until("BDAT" if way == "chunked" else "DATA", ehlo=WAYS[way])
        if line == "DATA":
            peer.say("354 go on")
        peer.stop_talking()
        peer.wait_for_close()

    with RawServer(dialogue, receive_buffer=4096) as server:
        with pytest.raises(mailbridge.Disconnected) as caught:
            transport(server).send(ENVELOPE, (b"x" * 98 + b"\r\n") * 100_000)
    assert caught.value.report.not_attempted == (TO,)


@pytest.mark.parametrize("ehlo", [IN_TURN, PIPELINING], ids=["in turn", "pipelined"])
def test_354_to_rcpt_is_no_acceptance(ehlo: tuple[str, ...]) -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("RCPT", ehlo=ehlo)
        peer.say("354 go on")
        peer.until("QUIT")

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.MailError) as caught:
            transport(server).send(ENVELOPE, CONTENT)
    assert caught.value.report.accepted == ()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BDAT"])
def test_421_at_each_step_of_a_group(verb: str) -> None:
    """421 to any command of a group: nobody was attempted; the next mail has a new connection.

    The server does not close: that is for the client to do, at once, and without another word.
    """
    counted = Counted(CHUNKING if verb == "BDAT" else PIPELINING)
    left = threading.Event()

    def dialogue(peer: Peer) -> None:
        line = peer.until(verb, ehlo=CHUNKING if verb == "BDAT" else PIPELINING)
        if verb == "BDAT":
            peer.read(int(line.split()[1]))
        peer.say("421 4.3.2 going down")
        try:
            while True:
                peer.line()
        except Gone:
            left.set()

    with RawServer(dialogue, counted) as server:
        sender = transport(server)
        with pytest.raises(mailbridge.MailError, match="going down") as caught:
            sender.send(ENVELOPE, CONTENT)
        assert left.wait(4)  # Before any time-out.
        verbs = [line.split()[0] for line in server.peers[0].commands]
        assert {"RSET", "QUIT"}.isdisjoint(verbs)
        assert caught.value.report.not_attempted == (TO,)
        assert (caught.value.retryable, caught.value.session_usable) == (True, False)
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)


def test_a_send_that_is_cancelled_between_two_tries_says_who_has_the_mail() -> None:
    async def main(smtpd: ScriptedServer) -> mailbridge.DeliveryReport:
        sender = mailbridge.AsyncTransport(
            f"{smtpd.url}?tls=none", retry=RetryPolicy(tries=2, delay=600, max_delay=600)
        )
        sending = asyncio.ensure_future(sender.send(BOTH, CONTENT))
        await asyncio.to_thread(smtpd.wait_for, 1)
        for _ in range(50):
            await asyncio.sleep(0.01)
        sending.cancel()
        try:
            await sending
        except asyncio.CancelledError as stopped:
            return stopped.report  # type: ignore[attr-defined,no-any-return]
        finally:
            await mailbridge.aio.close_pools()
        raise AssertionError("not cancelled")

    with ScriptedServer() as smtpd:
        smtpd.defer(TO)
        report = asyncio.run(main(smtpd))
    assert (report.accepted, report.deferred) == ((CC,), (TO,))

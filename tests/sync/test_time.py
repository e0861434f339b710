"""Time: every phase has its limit as a whole, a steady upload has none, nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import mailbridge
from mailbridge import link
from mailbridge.convert import LONGEST
from mailbridge.testing import ScriptedServer
from tests.sync.servers import PATIENCE, Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, transport

BIG = b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000
# Long enough for the steps before the one that is late, on a busy machine.
TIMEOUT = 0.4
# What is not bounded as a whole takes at least five seconds here.
BOUND = 4.0


@contextmanager
def within(seconds: float = BOUND) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def _drip(peer: Peer, data: bytes) -> None:
    """One octet every 50 ms, until the client has had enough."""
    for octet in data:
        peer.send(bytes([octet]))
        threading.Event().wait(0.05)


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
def test_dripped_reply_has_one_deadline(smtpd: ScriptedServer, verb: str) -> None:
    """Dripping octets: the deadline is for the whole reply."""
    smtpd.drip(verb, 0.05)
    with within(), pytest.raises(TimeoutError) as caught:
        transport(smtpd, timeout=TIMEOUT).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)


def test_dripped_final_reply_is_in_doubt(smtpd: ScriptedServer) -> None:
    smtpd.drip("CONTENT", 0.05)
    with within(), pytest.raises(mailbridge.DeliveryInDoubtTimeout):
        transport(smtpd, timeout=TIMEOUT).send(ENVELOPE, CONTENT)


def test_dripped_lines_have_one_deadline() -> None:
    """Dripping whole lines of one reply: the same."""

    def dialogue(peer: Peer) -> None:
        peer.until("EHLO")
        for _ in range(100):
            peer.say("250-KEYWORD")
            threading.Event().wait(0.05)

    with RawServer(dialogue) as server, within(), pytest.raises(TimeoutError):
        transport(server, timeout=TIMEOUT).send(ENVELOPE, CONTENT)


@pytest.mark.parametrize("name", ["greeting", "handshake"])
def test_silent_tls_port(name: str, ca: mailbridge.testing.TestCA) -> None:
    """A TLS handshake that never finishes, or drips, ends with the connect time-out."""

    def dialogue(peer: Peer) -> None:
        peer.receive()
        if name == "handshake":
            _drip(peer, b"\x16\x03\x03\x40\x00" + b"\x00" * 100)
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        with within(), pytest.raises(mailbridge.MailError) as caught:
            transport(server, tls="implicit", ca_file=ca.ca_file, timeout=TIMEOUT).open()
        assert isinstance(caught.value, (TimeoutError, mailbridge.TLSError))
        server.wait_until_closed()


def test_sum_of_the_steps_may_be_longer(smtpd: ScriptedServer) -> None:
    """The sum of the steps may be longer than one time-out."""
    for verb in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"):
        smtpd.delay(verb, 0.2)
    report = transport(smtpd, timeout=1).send(ENVELOPE, CONTENT)
    assert report.accepted == (TO,)


def _read_slowly(peer: Peer, pause: float) -> None:
    peer.until("DATA")
    peer.say("354 go on")
    wire = b""
    while not wire.endswith(b"\r\n.\r\n"):
        threading.Event().wait(pause)
        wire = wire[-5:] + peer.sock.recv(1_000_000)
    peer.say("250 2.0.0 Ok")
    peer.until("QUIT")


def test_steady_upload_is_not_cut_off() -> None:
    """A slow but steady upload: the timer is per block, not for the whole content."""
    with RawServer(lambda peer: _read_slowly(peer, 0.05), receive_buffer=200_000) as server:
        # What is in the kernel's buffers when the last block is written is read within the last.
        timeouts = mailbridge.Timeouts(5, 0.6, 10)
        sender = mailbridge.Transport(transport(server).relay.using(timeouts=timeouts))
        started = time.monotonic()
        assert sender.send(ENVELOPE, BIG).accepted == (TO,)
        assert time.monotonic() - started > 0.6


def test_reader_that_stops_is_bounded() -> None:
    """A reader that stops: bounded by the block timer; the content was not handed over."""
    done = threading.Event()

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        done.wait(PATIENCE)

    with RawServer(dialogue, receive_buffer=4096) as server:
        with within(), pytest.raises(mailbridge.ReplyTimeout) as caught:
            transport(server, timeout=TIMEOUT).send(ENVELOPE, BIG)
        assert not isinstance(caught.value, mailbridge.DeliveryInDoubt)
        assert caught.value.report.not_attempted == (TO,)
        smtp = client(server, timeout=TIMEOUT)
        with within(), pytest.raises(TimeoutError):
            smtp.sendmail(SENDER, TO, BIG)
        assert smtp.sock is None
        done.set()


def test_reader_that_stops_under_tls_is_bounded(ca: mailbridge.testing.TestCA) -> None:
    """The same under TLS, where a blocked write looks otherwise."""
    done = threading.Event()
    context = ca.server_context("127.0.0.1")

    def dialogue(peer: Peer) -> None:
        peer.start_tls(context)
        peer.until("DATA")
        peer.say("354 go on")
        done.wait(PATIENCE)

    with RawServer(dialogue, receive_buffer=4096) as server:
        options = {"tls": "implicit", "ca_file": ca.ca_file, "reply_timeout": TIMEOUT}
        with within(), pytest.raises(mailbridge.ReplyTimeout) as caught:
            transport(server, **options).send(ENVELOPE, BIG)
        assert caught.value.report.not_attempted == (TO,)
        done.set()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_server_that_writes_while_we_write(secure: bool, ca: mailbridge.testing.TestCA) -> None:
    """Reading goes on while writing: a 552 is heard under TLS too, from one who stopped reading."""
    done = threading.Event()
    context = ca.server_context("127.0.0.1")

    def dialogue(peer: Peer) -> None:
        if secure:
            peer.start_tls(context)
        peer.until("DATA")
        peer.say("354 go on")
        peer.receive()
        peer.say("552 5.3.4 too big")
        done.wait(PATIENCE)

    with RawServer(dialogue, receive_buffer=4096) as server:
        options = {"tls": "implicit", "ca_file": ca.ca_file} if secure else {}
        with within(), pytest.raises(mailbridge.MessageRefused, match="too big"):
            transport(server, **options).send(ENVELOPE, BIG)
        done.set()


def test_final_reply_may_take_longer(smtpd: ScriptedServer) -> None:
    """The wait for the final reply has a limit of its own, by default the longest."""
    smtpd.delay("CONTENT", 2)
    report = transport(smtpd, timeout=1.5, final_reply_timeout=60).send(ENVELOPE, CONTENT)
    assert report.accepted == (TO,)
    assert mailbridge.Timeouts().final_reply >= 600


def test_quit_is_waited_for_briefly(smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers QUIT costs seconds, not the time-out of a reply."""
    assert link.PATIENCE_AT_QUIT <= 10
    monkeypatch.setattr(link, "PATIENCE_AT_QUIT", TIMEOUT)
    smtpd.silent("QUIT")
    with within():
        assert transport(smtpd, timeout=60).send(ENVELOPE, CONTENT).accepted == (TO,)
    smtp = client(smtpd, timeout=60)
    with within(), pytest.raises(mailbridge.SMTPServerDisconnected):
        smtp.quit()
    with within(), client(smtpd, timeout=60) as smtp:
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}


def test_the_longest_time_can_be_waited(smtpd: ScriptedServer) -> None:
    """What is taken as a time-out is none too long for anything that waits."""
    relay = transport(smtpd, timeout=LONGEST, pool_timeout=LONGEST).relay
    assert mailbridge.Transport(relay, deadline=LONGEST).send(ENVELOPE, CONTENT).accepted == (TO,)


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
def test_rset_behind_a_refusal_is_waited_for_briefly(
    smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The caller is told of the refusal, and does not wait for a server that says no more."""
    monkeypatch.setattr(link, "PATIENCE_AT_QUIT", TIMEOUT)
    smtpd.reply(verb, "554 5.7.1 Spam", times=1)
    smtpd.silent("RSET")
    sender = transport(smtpd, timeout=60)
    with within(), pytest.raises(mailbridge.MailError) as caught:
        sender.send(ENVELOPE, CONTENT)
    assert caught.value.report.refused == (TO,)
    with within():
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
    assert smtpd.connections == 2


def test_rset_behind_a_refused_chunk_is_waited_for_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same where the content was refused, after which BDAT wants a RSET."""
    monkeypatch.setattr(link, "PATIENCE_AT_QUIT", TIMEOUT)
    with ScriptedServer(extensions=["PIPELINING", "CHUNKING"]) as chunks:
        chunks.reply("CONTENT", "554 5.7.1 Spam", times=1)
        chunks.silent("RSET", times=1)
        sender = transport(chunks, timeout=60)
        with within(), pytest.raises(mailbridge.MessageRefused) as caught:
            sender.send(ENVELOPE, CONTENT)
        assert caught.value.report.refused == (TO,)
        with within():
            assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
        assert chunks.connections == 2

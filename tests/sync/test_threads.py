"""Threads, signals and what is left behind when one of them gets in the way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import mailbridge
from mailbridge import SMTP_SSL, Envelope
from mailbridge.protocol.reply import Reply
from mailbridge.protocol.transcript import Transcript
from mailbridge.testing import ScriptedServer
from tests.sync.servers import PATIENCE, Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, transport

# -- threads


@pytest.mark.parametrize("keep", [False, True], ids=["one each", "kept"])
def test_threads_share_a_transport(smtpd: ScriptedServer, keep: bool) -> None:
    """Each mail goes to its own recipients, with its own content."""
    relay = transport(smtpd)
    if keep:
        relay.open()

    def send(number: int) -> mailbridge.DeliveryReport:
        return relay.send(Envelope(SENDER, [f"{number}@example.com"]), f"mail {number}\r\n")

    with ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(send, range(40)))
    relay.close()
    assert [report.accepted for report in reports] == [(f"{n}@example.com",) for n in range(40)]
    for message in smtpd.messages:
        assert message.content == f"mail {message.recipients[0].split('@')[0]}\r\n".encode()
    assert len(smtpd.messages) == 40


def _in_thread(function) -> list[object]:
    """Call ``function`` in a thread of its own; its result, or nothing if it does not end."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(10)
    return results


def test_reports_may_be_taken_by_another_thread(smtpd: ScriptedServer) -> None:
    """An iterator of reports that moves between threads, as a streamed response does."""
    reports = transport(smtpd).send_many([(ENVELOPE, CONTENT)] * 2)
    assert next(reports).accepted == (TO,)
    (second,) = _in_thread(lambda: next(reports))
    assert second.accepted == (TO,)
    assert _in_thread(lambda: next(reports, "end")) == ["end"]


def test_unfinished_batch_blocks_nobody(smtpd: ScriptedServer) -> None:
    """A batch whose reports nobody takes does not stop other threads for ever."""
    relay = transport(smtpd)
    reports = relay.send_many([(ENVELOPE, CONTENT)] * 2)
    next(reports)
    (report,) = _in_thread(lambda: relay.send(ENVELOPE, CONTENT))
    assert report.accepted == (TO,)
    assert len(list(reports)) == 1


def test_send_inside_a_batch(smtpd: ScriptedServer) -> None:
    """The source of a batch may itself send a mail."""
    relay = transport(smtpd)

    def mails() -> Iterator[tuple[Envelope, bytes]]:
        yield ENVELOPE, CONTENT
        relay.send(ENVELOPE, CONTENT)
        yield ENVELOPE, CONTENT

    assert all(report.accepted for report in relay.send_many(mails()))
    assert len(smtpd.messages) == 3


def test_two_batches_side_by_side(smtpd: ScriptedServer) -> None:
    """Two batches in turn leave nothing open behind them."""
    relay = transport(smtpd)
    pairs = zip(*(relay.send_many([(ENVELOPE, CONTENT)] * 2) for _ in range(2)), strict=True)
    assert all(report.accepted for pair in pairs for report in pair)
    relay.send(ENVELOPE, CONTENT)
    assert smtpd.connections == 2


def test_source_of_a_batch_that_fails(smtpd: ScriptedServer) -> None:
    """An exception of the source's own comes through, and leaves nothing open."""

    def mails() -> Iterator[tuple[Envelope, bytes]]:
        yield ENVELOPE, CONTENT
        raise ZeroDivisionError

    reports = transport(smtpd).send_many(mails())
    assert next(reports).accepted == (TO,)
    with pytest.raises(ZeroDivisionError):
        next(reports)
    assert len(smtpd.messages) == smtpd.connections == 1


# -- signals


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGUSR1 raises KeyboardInterrupt in the main thread, as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _interrupt(peer: Peer) -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    peer.wait_for_close()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX only")
@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
def test_interrupt_while_waiting_closes(verb: str) -> None:
    """KeyboardInterrupt in mid-transaction: the connection is closed, the next one is new."""

    def dialogue(peer: Peer) -> None:
        if verb == "CONTENT":
            peer.until("DATA")
            peer.say("354 go on")
            peer.read_content()
        elif verb != "GREETING":
            peer.until(verb)
        _interrupt(peer)

    def healthy(peer: Peer) -> None:
        peer.until("QUIT")
        peer.say("221 bye")

    with interruptible(), RawServer(dialogue, healthy) as server:
        relay = transport(server)
        if verb in ("MAIL", "RCPT", "DATA", "CONTENT"):
            relay.open()
        with pytest.raises(KeyboardInterrupt):
            relay.send(ENVELOPE, CONTENT)
        server.wait_until_closed()
        assert relay.send(ENVELOPE, CONTENT).accepted == (TO,)
        relay.close()
        assert len(server.peers) == 2


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX only")
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_interrupt_while_waiting_closes_smtp(verb: str) -> None:
    def dialogue(peer: Peer) -> None:
        peer.until(verb)
        _interrupt(peer)

    with interruptible(), RawServer(dialogue) as server:
        smtp = client(server)
        with pytest.raises(KeyboardInterrupt):
            smtp.sendmail(SENDER, TO, CONTENT)
        assert smtp.sock is None
        server.wait_until_closed()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX only")
def test_interrupt_in_the_handshake_closes(ca: mailbridge.testing.TestCA) -> None:
    """KeyboardInterrupt in the TLS handshake of a constructor: nothing is left open."""

    def dialogue(peer: Peer) -> None:
        peer.receive()
        _interrupt(peer)

    with interruptible(), RawServer(dialogue) as server:
        with pytest.raises(KeyboardInterrupt):
            SMTP_SSL(server.host, server.port, context=ca.client_context(), timeout=PATIENCE)
        server.wait_until_closed()


@pytest.mark.parametrize("code", ["RCPT", "MAIL"])
def test_interrupt_between_two_commands(
    smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A signal may come at any place: half a transaction is never continued by the next mail."""
    note = Transcript.note
    text = {"MAIL": b"2.1.0 Ok", "RCPT": b"2.1.5 Ok"}[code]

    def noting(self: Transcript, entry: object) -> None:
        note(self, entry)
        if isinstance(entry, Reply) and entry.lines == (text,):
            raise KeyboardInterrupt

    with transport(smtpd) as relay:
        with monkeypatch.context() as patch:
            patch.setattr(Transcript, "note", noting)
            with pytest.raises(KeyboardInterrupt):
                relay.send(Envelope(SENDER, ["first@example.com"]), b"first")
        assert relay.send(ENVELOPE, CONTENT).accepted == (TO,)
    assert [message.recipients for message in smtpd.messages] == [(TO,)]


def test_error_of_our_own_between_mail_and_data(
    smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other exception in the middle of a transaction, by sendmail(): the same."""
    note = Transcript.note

    def noting(self: Transcript, entry: object) -> None:
        note(self, entry)
        if isinstance(entry, Reply) and entry.lines == (b"2.1.5 Ok",):
            raise ZeroDivisionError

    smtp = client(smtpd)
    with monkeypatch.context() as patch:
        patch.setattr(Transcript, "note", noting)
        with pytest.raises(ZeroDivisionError):
            smtp.sendmail(SENDER, "first@example.com", b"first")
    if smtp.sock is None:
        smtp.connect(smtpd.host, smtpd.port)
    smtp.sendmail(SENDER, TO, CONTENT)
    smtp.quit()
    assert [message.recipients for message in smtpd.messages] == [(TO,)]

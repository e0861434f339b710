"""ScriptedServer as a whole: its life, what it records, LMTP."""

from __future__ import annotations

import smtplib
import socket
import threading
import time

import pytest

from mailbridge.testing import ReceivedEnvelope, ScriptedServer
from mailbridge.testing.wire import Channel
from tests.testing.client import Client

MESSAGE = "From: a@example.org\r\nSubject: Hello\r\n\r\n.dots\r\n..\r\nend\r\n"


def server_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "scripted-server" in thread.name]


def test_a_message_from_smtplib_arrives_as_it_was_sent() -> None:
    with ScriptedServer() as smtpd:
        with smtplib.SMTP(smtpd.host, smtpd.port, local_hostname="client.example") as client:
            refused = client.sendmail(
                "a@example.org",
                ["b@example.org", "c@example.org"],
                MESSAGE,
                mail_options=["BODY=8BITMIME"],
                rcpt_options=["NOTIFY=NEVER"],
            )
        assert refused == {}
        (message,) = smtpd.messages
    assert message.mail_from == "a@example.org"
    assert message.mail_parameters == (f"size={len(MESSAGE)}", "BODY=8BITMIME")
    assert message.recipients == ("b@example.org", "c@example.org")
    assert message.rcpt_parameters["c@example.org"] == ("NOTIFY=NEVER",)
    assert message.refused == {}
    assert message.content == MESSAGE.encode()
    assert message.message["Subject"] == "Hello"
    assert (message.tls, message.user, message.helo) == (False, None, "client.example")
    assert len(repr(message)) < 100
    assert smtpd.envelopes == smtpd.transactions
    assert smtpd.envelopes == (
        ReceivedEnvelope("a@example.org", ("b@example.org", "c@example.org")),
    )


def test_the_transcript_shows_both_sides_and_elides_content() -> None:
    with ScriptedServer(extensions=["HELP"]) as smtpd, Client(smtpd) as client:
        client.begin()
        client.data(b"Subject: secret plans\r\n\r\n")
        client.say("QUIT")
        assert client.reply() == ""
    assert smtpd.transcript.splitlines() == [
        "[1] -- connected",
        "[1] S: 220 scripted.example ESMTP",
        "[1] C: EHLO client.example",
        "[1] S: 250-scripted.example greets you",
        "[1] S: 250 HELP",
        "[1] C: MAIL FROM:<a@example.org>",
        "[1] S: 250 Ok",
        "[1] C: RCPT TO:<b@example.org>",
        "[1] S: 250 Ok",
        "[1] C: DATA",
        "[1] S: 354 End data with <CR><LF>.<CR><LF>",
        "[1] C: <25 octets of content>",
        "[1] S: 250 Ok: queued as 00010001",
        "[1] C: QUIT",
        "[1] S: 221 Bye",
        "[1] -- server closes: QUIT",
    ]


def test_url_names_scheme_host_and_port() -> None:
    with ScriptedServer() as smtpd, ScriptedServer(lmtp=True) as lmtpd:
        assert smtpd.url == f"smtp://127.0.0.1:{smtpd.port}"
        assert lmtpd.url == f"lmtp://127.0.0.1:{lmtpd.port}"
        assert smtpd.port != lmtpd.port
    assert ScriptedServer(host="::1", port=25).url == "smtp://[::1]:25"


def test_it_can_be_stopped_and_started_again_on_the_same_port() -> None:
    smtpd = ScriptedServer()
    assert smtpd.port == 0
    smtpd.start()
    with pytest.raises(RuntimeError, match="runs already"):
        smtpd.start()
    port = smtpd.port
    smtpd.stop()
    smtpd.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((smtpd.host, port), timeout=5)
    with smtpd, Client(smtpd) as client:
        assert smtpd.port == port
        assert client.greeting == "220 scripted.example ESMTP"


def test_stop_ends_every_connection_and_thread_at_once() -> None:
    smtpd = ScriptedServer().start()
    smtpd.silent("NOOP")
    smtpd.delay("RSET", 60)
    smtpd.drip("HELP", 60)
    begun = time.monotonic()
    with Client(smtpd) as idle, Client(smtpd) as silent, Client(smtpd) as slow:
        with Client(smtpd) as dripping, Client(smtpd) as in_content:
            in_content.begin()
            in_content.say("DATA")
            silent.send(b"NOOP\r\n")
            slow.send(b"RSET\r\n")
            dripping.send(b"HELP\r\n")
            assert dripping.socket.recv(1) == b"2"
            smtpd.stop()
            for client in (idle, silent, slow, dripping, in_content):
                assert client.reply() == ""
    assert time.monotonic() - begun < 10
    assert server_threads() == []
    assert smtpd.connections == 5


def test_clients_that_vanish_are_no_errors() -> None:
    with ScriptedServer() as smtpd:
        for _ in range(3):
            with Client(smtpd) as client:
                client.send(b"EHLO half a li")
        with Client(smtpd) as client:
            client.begin()
            client.say("DATA")
            # Linger for no time: close() becomes a reset.
            linger = b"\x01\0\0\0\0\0\0\0"
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert smtpd.messages == ()


def break_a_connection(smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(channel: Channel) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Channel, "read_line", broken)
    with Client(smtpd) as client:
        assert client.reply() == ""


def test_a_bug_in_a_connection_is_raised_by_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    smtpd = ScriptedServer().start()
    break_a_connection(smtpd, monkeypatch)
    with pytest.raises(ExceptionGroup) as caught:
        smtpd.stop()
    assert caught.group_contains(ZeroDivisionError)
    assert "ZeroDivisionError" in smtpd.transcript


def test_a_bug_does_not_hide_the_failure_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_test() -> None:
        with ScriptedServer() as smtpd:
            break_a_connection(smtpd, monkeypatch)
            raise KeyError

    with pytest.raises(KeyError) as caught:
        failing_test()
    assert "ZeroDivisionError" in caught.value.__notes__[0]


def test_an_idle_client_is_closed_with_421() -> None:
    with ScriptedServer(idle_timeout=0.05) as smtpd, Client(smtpd) as client:
        assert client.reply() == "421 4.4.2 Idle for too long"
        assert client.reply() == ""


def test_wait_for_returns_the_messages() -> None:
    with ScriptedServer() as smtpd, Client(smtpd) as client:
        smtpd.delay("DATA", 0.05)
        client.begin()
        client.send(b"DATA\r\nSubject: x\r\n\r\n.\r\n")
        assert [message.content for message in smtpd.wait_for(1)] == [b"Subject: x\r\n\r\n"]


def test_wait_for_fails_with_the_transcript() -> None:
    with ScriptedServer() as smtpd, Client(smtpd) as client:
        client.say("NOOP")
        with pytest.raises(AssertionError, match="C: NOOP"):
            smtpd.wait_for(1, timeout=0.01)


def test_clear_forgets_what_was_recorded_and_keeps_the_rules() -> None:
    with ScriptedServer() as smtpd, Client(smtpd) as client:
        smtpd.refuse("gone@example.org")
        client.begin()
        client.data(b"")
        smtpd.clear()
        assert (smtpd.messages, smtpd.transcript, smtpd.connections) == ((), "", 0)
        client.say("MAIL FROM:<>")
        assert client.say("RCPT TO:<gone@example.org>") == "550 5.1.1 No such user"
        with Client(smtpd) as other:
            other.begin()
            other.data(b"")
        assert smtpd.connections == 1
        assert smtpd.messages[0].connection == 2


def test_many_clients_at_once() -> None:
    def send() -> None:
        with Client(smtpd) as client:
            client.begin()
            for _ in range(5):
                client.data(b"x\r\n")
                client.say("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>")

    with ScriptedServer() as smtpd:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(smtpd.messages) == 40
        assert smtpd.connections == 8


def test_options_that_need_a_certificate_say_so() -> None:
    with pytest.raises(ValueError, match="tls_context"):
        ScriptedServer(implicit_tls=True)


def test_lmtp_replies_once_for_each_recipient() -> None:
    with ScriptedServer(lmtp=True) as lmtpd, Client(lmtpd) as client:
        lmtpd.reply("CONTENT", "452 4.2.2 Mailbox full", recipient="b@example.org")
        assert client.ehlo() == "500 5.5.2 Command unrecognized"
        assert client.say("LHLO client.example").startswith("250-scripted.example")
        client.say("MAIL FROM:<>")
        assert client.say("DATA") == "503 5.5.1 No valid recipients"
        for name in "abc":
            client.say(f"RCPT TO:<{name}@example.org>")
        assert client.data(b"x\r\n").startswith("250")
        assert client.reply() == "452 4.2.2 Mailbox full"
        assert client.reply().startswith("250")
    (message,) = lmtpd.messages
    assert message.recipients == ("a@example.org", "c@example.org")
    assert message.refused == {"b@example.org": "452 4.2.2 Mailbox full"}


def test_lmtp_can_lose_the_connection_between_two_replies() -> None:
    with ScriptedServer(lmtp=True) as lmtpd, Client(lmtpd) as client:
        lmtpd.drop("CONTENT", recipient="b@example.org")
        client.say("LHLO client.example")
        client.say("MAIL FROM:<>", "RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>")
        assert client.data(b"x\r\n").startswith("250")
        assert client.reply() == ""
    assert len(lmtpd.messages) == 1

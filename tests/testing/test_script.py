"""What the scripted server does differently when it is told to."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from mailbridge.testing import ScriptedServer
from tests.testing.client import Client


@pytest.fixture
def smtpd() -> Iterator[ScriptedServer]:
    with ScriptedServer() as smtpd:
        yield smtpd


@pytest.fixture
def client(smtpd: ScriptedServer) -> Iterator[Client]:
    with Client(smtpd) as client:
        yield client


# -- replies


def test_recipients_are_refused_and_deferred(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.refuse("*@gone.example")
    smtpd.refuse("full@example.org", 552, "5.2.2 Full")
    smtpd.defer("Slow@example.org", times=1)
    assert client.say("RCPT TO:<x@gone.example>").startswith("503")
    client.begin("ok@example.org")
    assert client.say("RCPT TO:<x@gone.example>") == "550 5.1.1 No such user"
    assert client.say("RCPT TO:<full@example.org>") == "552 5.2.2 Full"
    assert client.say("RCPT TO:<slow@EXAMPLE.org>").startswith("451 4.7.1 Greylisted")
    assert client.say("RCPT TO:<slow@example.org>").startswith("250")
    client.data(b"")
    (message,) = smtpd.messages
    assert message.recipients == ("ok@example.org", "slow@example.org")
    assert message.refused["x@gone.example"] == "550 5.1.1 No such user"


def test_an_address_literal_is_no_pattern(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.refuse("a@[127.0.0.1]")
    client.begin("a@1")
    assert client.say("RCPT TO:<a@[127.0.0.1]>").startswith("550")
    smtpd.refuse("a@[*]", 553)
    assert client.say("RCPT TO:<a@[IPv6:::1]>").startswith("553")


def test_the_newest_rule_comes_first_and_ends_after_its_times(
    client: Client, smtpd: ScriptedServer
) -> None:
    smtpd.reply("noop", "250 old")
    smtpd.reply("NOOP", "250 new", times=2)
    assert [client.say("NOOP") for _ in range(3)] == ["250 new", "250 new", "250 old"]


def test_a_reply_of_several_lines(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("EHLO", "250-a\r\n250 b")
    assert client.ehlo() == "250-a\n250 b"


def test_a_reply_of_raw_bytes(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("NOOP", b"\xff\0garbage")
    client.send(b"NOOP\r\n")
    assert client.socket.recv(9, socket.MSG_WAITALL) == b"\xff\0garbage"
    assert r"[1] S: \xff\x00garbage" in smtpd.transcript


def test_a_scripted_refusal_has_no_effect(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("MAIL", "451 4.3.2 Busy", times=1)
    client.ehlo()
    assert client.say("MAIL FROM:<>") == "451 4.3.2 Busy"
    assert client.say("RCPT TO:<b@example.org>").startswith("503")
    assert client.say("MAIL FROM:<>").startswith("250")


def test_a_scripted_acceptance_has_its_effect(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("RCPT", "251 User not local; will forward")
    smtpd.reply("DATA", "354 Go on")
    smtpd.reply("CONTENT", "299 Fine")
    client.ehlo()
    client.say("MAIL FROM:<>", "RCPT TO:<b@example.org>")
    assert client.data(b"") == "299 Fine"
    assert smtpd.messages[0].recipients == ("b@example.org",)


def test_354_without_recipients_reads_content_and_records_nothing(
    client: Client, smtpd: ScriptedServer
) -> None:
    smtpd.reply("DATA", "354 Go on")
    client.ehlo()
    client.say("MAIL FROM:<>")
    assert client.data(b"").startswith("554 5.5.1")
    assert smtpd.messages == ()


@pytest.mark.parametrize("end", [b"DATA\r\nx\r\n.\r\n", b"BDAT 1 LAST\r\nx"])
def test_a_refused_content_is_not_recorded(
    client: Client, smtpd: ScriptedServer, end: bytes
) -> None:
    smtpd.reply("CONTENT", "554 5.7.1 Spam", recipient="b@*")
    client.begin()
    client.send(end)
    replies = [client.reply() for _ in range(2 if end.startswith(b"DATA") else 1)]
    assert replies[-1] == "554 5.7.1 Spam"
    assert smtpd.messages == ()
    client.begin("c@example.org")
    assert client.data(b"").startswith("250")


def test_421_closes_the_connection(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("NOOP", "421 4.3.2 Shutting down")
    assert client.say("NOOP") == "421 4.3.2 Shutting down"
    assert client.reply() == ""


def test_after_a_refusing_greeting_only_quit_works(smtpd: ScriptedServer) -> None:
    smtpd.reply("GREETING", "554 No service", times=1)
    with Client(smtpd) as client:
        assert client.greeting == "554 No service"
        assert client.ehlo().startswith("503")
        assert client.say("QUIT").startswith("221")


def test_greylisting(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.greylist()
    client.ehlo()
    client.say("MAIL FROM:<>")
    assert client.say("RCPT TO:<b@example.org>").startswith("450 4.2.0")
    assert client.say("RCPT TO:<c@example.org>").startswith("450 4.2.0")
    assert client.say("RCPT TO:<b@example.org>").startswith("250")


def test_max_recipients(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.max_recipients = 2
    client.begin("a@example.org", "b@example.org")
    assert client.say("RCPT TO:<c@example.org>") == "452 4.5.3 Too many recipients"


def test_max_connections(smtpd: ScriptedServer) -> None:
    smtpd.max_connections = 1
    for _ in range(5):
        with Client(smtpd) as client, Client(smtpd) as other:
            assert client.greeting.startswith("220")
            assert other.greeting == "421 4.7.0 Too many connections"
            assert other.reply() == ""
            assert client.say("QUIT").startswith("221")
    assert smtpd.connections == 10


def test_injected_bytes_come_behind_the_reply(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.inject("NOOP", b"250 injected\r\n", times=1)
    client.send(b"NOOP\r\n")
    assert client.socket.recv(100) == b"250 2.0.0 Ok\r\n250 injected\r\n"


def test_a_rule_for_no_point_of_the_dialogue_is_an_error(smtpd: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="'TURN'"):
        smtpd.reply("TURN", "250 ok")


# -- extensions


def test_extensions_come_and_go(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.without("PIPELINING", "dsn", "chunking")
    smtpd.with_("LIMITS RCPTMAX=5", "SIZE 77")
    lines = client.ehlo().splitlines()
    assert "250 LIMITS RCPTMAX=5" in lines
    assert "250-SIZE 77" in lines
    assert not {"250-PIPELINING", "250-DSN", "250-CHUNKING"} & set(lines)
    assert client.say("MAIL FROM:<> RET=HDRS").startswith("555")
    assert client.say("BDAT 0 LAST").startswith("502")
    smtpd.max_size = None
    assert "250-SIZE\n" in client.ehlo()
    # Commands are read from a buffer, whether or not PIPELINING is offered.
    assert client.say("MAIL FROM:<>", "RCPT TO:<b@example.org>", "DATA").startswith("354")


def test_without_enhanced_status_codes_replies_have_none(
    client: Client, smtpd: ScriptedServer
) -> None:
    smtpd.without("ENHANCEDSTATUSCODES")
    assert client.say("NOOP") == "250 Ok"
    assert client.say("FOO") == "500 Command unrecognized"


# -- closing and timing


@pytest.mark.parametrize("before_reply", [True, False])
@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"])
def test_drop(client: Client, smtpd: ScriptedServer, verb: str, before_reply: bool) -> None:
    smtpd.drop(verb, before_reply, times=1)
    commands = {
        "EHLO": "EHLO x",
        "MAIL": "MAIL FROM:<>",
        "RCPT": "RCPT TO:<b@example.org>",
        "DATA": "DATA",
        "QUIT": "QUIT",
    }
    # All in one write: what was answered before the drop arrives, in spite of what was not read.
    client.send("".join(f"{command}\r\n" for command in commands.values()).encode())
    answered = list(commands).index(verb) + (not before_reply)
    replies = [client.reply() for _ in range(min(answered, 4))]
    assert all(reply[:1] in ("2", "3") for reply in replies)
    if verb != "QUIT":
        assert client.reply() == ""


def test_drop_at_the_greeting(smtpd: ScriptedServer) -> None:
    smtpd.drop("GREETING", times=1)
    with Client(smtpd) as client:
        assert client.greeting == ""
    with Client(smtpd) as client:
        assert client.greeting.startswith("220")


def test_drop_after_the_content_has_recorded_it(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.drop("CONTENT")
    client.begin()
    assert client.data(b"") == ""
    assert len(smtpd.messages) == 1


@pytest.mark.parametrize("start", [b"DATA\r\n", b"BDAT 1000\r\n"])
def test_drop_in_the_content(client: Client, smtpd: ScriptedServer, start: bytes) -> None:
    smtpd.drop("IN_CONTENT")
    client.begin()
    client.send(start)
    if start == b"DATA\r\n":
        assert client.reply().startswith("354")
    client.send(b"some")
    assert client.reply() == ""
    assert smtpd.messages == ()


def test_an_early_reply_in_the_content(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("IN_CONTENT", "552 5.3.4 Too big", times=1)
    client.begin()
    client.say("DATA")
    client.send(b"some")
    assert client.reply() == "552 5.3.4 Too big"
    client.send(b"more\r\n.\r\n")
    assert client.say("NOOP") == "250 2.0.0 Ok"
    smtpd.reply("IN_CONTENT", "552 5.3.4 Too big")
    smtpd.drop("IN_CONTENT", before_reply=False)
    client.begin()
    client.send(b"BDAT 10\r\nx")
    assert client.reply() == "552 5.3.4 Too big"
    assert client.reply() == ""


def test_drop_after_some_messages(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.drop_after(2)
    for _ in range(2):
        client.begin()
        client.data(b"")
    assert client.say("NOOP") == ""
    assert len(smtpd.messages) == 2
    with Client(smtpd) as other:
        assert other.ehlo().startswith("250")


def test_delay(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.delay("NOOP", 0.1, times=1)
    begun = time.monotonic()
    assert client.say("NOOP") == "250 2.0.0 Ok"
    assert time.monotonic() - begun >= 0.1
    smtpd.delay("NOOP", 60)
    client.send(b"RSET\r\nNOOP\r\n")
    assert client.reply() == "250 2.0.0 Ok"  # to RSET, and at once


def test_silence_lasts_longer_than_the_idle_timeout() -> None:
    with ScriptedServer(idle_timeout=0.05) as smtpd:
        smtpd.silent("EHLO")
        with Client(smtpd) as client:
            client.socket.settimeout(0.2)
            client.send(b"EHLO x\r\nNOOP\r\n")
            with pytest.raises(TimeoutError):
                client.socket.recv(1)


def test_silence_in_the_content_stops_reading() -> None:
    with ScriptedServer() as smtpd, Client(smtpd) as client:
        smtpd.silent("IN_CONTENT")
        client.begin()
        client.say("DATA")
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.send(bytes(50_000_000))


def test_drip(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.drip("NOOP", 0.001, times=1)
    assert client.say("NOOP") == "250 2.0.0 Ok"
    smtpd.drip("NOOP", 60)
    client.send(b"NOOP\r\n")
    assert client.socket.recv(100) == b"2"

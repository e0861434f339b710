"""The scripted server without a script is a strict MTA."""

from __future__ import annotations

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


def test_ehlo_lists_the_extensions(client: Client) -> None:
    assert client.ehlo().splitlines() == [
        "250-scripted.example greets you",
        "250-PIPELINING",
        "250-SIZE 10485760",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES",
        "250-DSN",
        "250-CHUNKING",
        "250 HELP",
    ]


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ([], "MAIL FROM:<a@example.org>", "503 5.5.1"),
        ([], "RCPT TO:<b@example.org>", "503 5.5.1"),
        ([], "DATA", "503 5.5.1"),
        (["EHLO x"], "RCPT TO:<b@example.org>", "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<>"], "MAIL FROM:<>", "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<>"], "DATA", "554 5.5.1"),
        (["EHLO x", "MAIL FROM:<>", "RSET"], "RCPT TO:<b@example.org>", "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<>", "EHLO x"], "RCPT TO:<b@example.org>", "503 5.5.1"),
        (["EHLO x"], "MAIL FROM:a@example.org", "501 5.1.7"),
        (["EHLO x"], "MAIL FROM: <a@example.org>", "501 5.1.7"),
        (["EHLO x"], "MAIL FROM:<<>>", "501 5.1.7"),
        (["EHLO x"], "MAIL TO:<a@example.org>", "501 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org>SIZE=1", "501 5.1.7"),
        (["EHLO x"], "MAIL FROM:<a@example.org> FOO=1", "555 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> NOTIFY=NEVER", "555 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> SIZE=x", "501 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> SIZE", "501 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> SIZE=1 size=2", "501 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> =", "501 5.5.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> SIZE=10485761", "552 5.3.4"),
        (["EHLO x"], "MAIL FROM:<a@example.org> BODY=BINARYMIME", "555 5.5.4"),
        (["EHLO x"], "MAIL FROM:<jürgen@example.org>", "553 5.6.7"),
        (["EHLO x"], "MAIL FROM:<jürgen@example.org> SMTPUTF8", "250 2.1.0"),
        (["EHLO x"], 'MAIL FROM:<"a b>"@example.org> BODY=8BITMIME', "250 2.1.0"),
        (["HELO x"], "MAIL FROM:<a@example.org> SIZE=1", "555 5.5.4"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<>", "501 5.1.3"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<a@x.org,b@x.org>", "501 5.1.3"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<ü@example.org>", "553 5.6.7"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<b@x.org> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<b@x.org> NOTIFY=DELAY,DELAY", "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<b@x.org> NOTIFY=DELAY,SUCCESS", "250 2.1.5"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<b@x.org> ORCPT=rfc822;b@x.org", "250 2.1.5"),
        (["EHLO x", "MAIL FROM:<>"], "RCPT TO:<postmaster>", "250 2.1.5"),
        ([], "EHLO", "501 5.5.4"),
        ([], "EHLO ü", "501 5.5.4"),
        ([], "LHLO x", "500 5.5.2"),
        ([], "FOO", "500 5.5.2"),
        ([], "", "500 5.5.2"),
        ([], "NOOP " + "x" * 506, "500 5.5.2"),
        ([], "NOOP " + "x" * 505, "250 2.0.0"),
        ([], "NOOP " + "x" * 100_000, "500 5.5.2"),
        ([], "RSET now", "501 5.5.4"),
        ([], "QUIT now", "501 5.5.4"),
        ([], "VRFY a", "252 2.5.2"),
        ([], "VRFY", "501 5.5.4"),
        ([], "EXPN list", "502 5.5.1"),
        ([], "HELP", "214 2.0.0"),
        ([], "STARTTLS", "502 5.5.1"),
        (["EHLO x"], "AUTH PLAIN AGEAYg==", "502 5.5.1"),
        (["EHLO x"], "BDAT", "501 5.5.4"),
        (["EHLO x"], "BDAT -1", "501 5.5.4"),
        (["EHLO x"], "BDAT 0 LAST", "503 5.5.1"),
    ],
)
def test_reply(client: Client, before: list[str], command: str, code: str) -> None:
    for line in before:
        assert client.say(line)[0] == "2"
    assert client.say(command).startswith(f"{code} ")
    assert client.say("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("BY=60;R", "250"),
        ("BY=59;R", "501"),
        ("BY=-1;NT", "250"),
        ("MT-PRIORITY=-9", "250"),
        ("MT-PRIORITY=10", "501"),
        ("HOLDFOR=3600", "250"),
        ("HOLDFOR=3601", "501"),
        ("HOLDUNTIL=2030-01-01T00:00:00Z", "250"),
        ("HOLDUNTIL=2030-01-01T00:00:01Z", "501"),
        ("HOLDUNTIL=2030-13-01T00:00:00Z", "501"),
        ("HOLDFOR=1 HOLDUNTIL=2029-01-01T00:00:00Z", "501"),
    ],
)
def test_limits_that_are_offered(
    client: Client, smtpd: ScriptedServer, parameters: str, code: str
) -> None:
    assert client.ehlo()
    assert client.say(f"MAIL FROM:<> {parameters}").startswith("555")
    smtpd.with_("DELIVERBY 60", "MT-PRIORITY", "FUTURERELEASE 3600 2030-01-01T00:00:00Z")
    assert client.say(f"MAIL FROM:<> {parameters}").startswith(code)


@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP a\rb\r\n", b"NOOP\0\r\n", b"NOOP\r\r\n"])
def test_a_command_with_bare_line_ends_is_refused(client: Client, line: bytes) -> None:
    client.send(line)
    assert client.reply().startswith("500 5.5.2")
    assert client.say("NOOP") == "250 2.0.0 Ok"


def test_octets_that_are_no_utf8_are_refused(client: Client, smtpd: ScriptedServer) -> None:
    client.ehlo()
    client.send(b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n\xff\r\n")
    assert client.reply().startswith("501 5.1.7")
    assert client.reply().startswith("500 5.5.2")
    assert r"<\xff@example.org>" in smtpd.transcript


@pytest.mark.parametrize(
    "content", [b"a\nb\r\n", b"a\rb\r\n", b"a\n.\nMAIL FROM:<>\r\n", b"a\r\n.\n", b"a\n.\r\n"]
)
def test_bare_line_ends_in_content_are_refused_and_do_not_end_it(
    client: Client, smtpd: ScriptedServer, content: bytes
) -> None:
    client.begin()
    assert client.data(content + b"\r\n").startswith("554 5.6.0")
    assert client.say("NOOP") == "250 2.0.0 Ok"
    assert smtpd.messages == ()


def test_bare_line_ends_are_kept_when_that_is_wanted() -> None:
    with ScriptedServer(strict_content=False) as smtpd, Client(smtpd) as client:
        client.begin()
        assert client.data(b"a\n.\nb\r\n").startswith("250")
        assert smtpd.messages[0].content == b"a\n.\nb\r\n"


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b"", b""),
        (b"..\r\n", b".\r\n"),
        (b".a\r\n...b\r\n\r\n", b"a\r\n..b\r\n\r\n"),
        (b"a.\r\n", b"a.\r\n"),
    ],
)
def test_dot_stuffing_is_undone(
    client: Client, smtpd: ScriptedServer, sent: bytes, content: bytes
) -> None:
    client.begin()
    assert client.data(sent).startswith("250")
    assert smtpd.messages[0].content == content


def test_the_end_of_content_is_found_octet_by_octet(client: Client, smtpd: ScriptedServer) -> None:
    client.begin()
    client.say("DATA")
    for octet in b"a\r\n.\r\nNOOP\r\n":
        client.send(bytes([octet]))
    assert client.reply().startswith("250 2.0.0 Ok: queued")
    assert client.reply() == "250 2.0.0 Ok"
    assert smtpd.messages[0].content == b"a\r\n"


def test_a_pipelined_session_in_one_write(client: Client, smtpd: ScriptedServer) -> None:
    transaction = b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n"
    client.send(b"EHLO x\r\n" + transaction * 2 + b"QUIT\r\n")
    replies = [client.reply()[:3] for _ in range(10)]
    assert replies == ["250", *["250", "250", "354", "250"] * 2, "221"]
    assert len(smtpd.messages) == 2


def test_content_over_the_limit_is_refused(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.max_size = 5
    assert "250-SIZE 5" in client.ehlo()
    client.begin()
    assert client.data(b"1234\r\n").startswith("552 5.3.4")
    client.begin()
    assert client.data(b"123\r\n").startswith("250")


def test_chunks_are_joined_and_taken_as_they_are(client: Client, smtpd: ScriptedServer) -> None:
    client.begin()
    client.send(b"BDAT 5\r\n.\r\n.\rBDAT 1\r\n\nBDAT 0 LAST\r\n")
    assert client.reply() == "250 2.0.0 5 octets received"
    assert client.reply() == "250 2.0.0 1 octets received"
    assert client.reply().startswith("250 2.0.0 Ok: queued")
    assert smtpd.messages[0].content == b".\r\n.\r\n"


def test_a_refused_chunk_is_swallowed_and_spoils_the_transaction(
    client: Client, smtpd: ScriptedServer
) -> None:
    smtpd.reply("BDAT", "451 4.3.0 Disk full", times=1)
    client.begin()
    client.send(b"BDAT 6\r\nQUIT\r\nBDAT 3 LAST\r\na\r\n")
    assert client.reply() == "451 4.3.0 Disk full"
    assert client.reply() == "503 5.5.1 A chunk was refused before"
    assert client.say("RSET") == "250 2.0.0 Ok"
    assert smtpd.messages == ()


def test_chunks_without_recipient_are_swallowed(client: Client) -> None:
    client.say("EHLO x")
    client.say("MAIL FROM:<>")
    client.send(b"BDAT 6 LAST\r\nQUIT\r\n")
    assert client.reply() == "554 5.5.1 No valid recipients"
    assert client.say("NOOP") == "250 2.0.0 Ok"


def test_data_and_bdat_do_not_mix(client: Client) -> None:
    client.begin()
    client.send(b"BDAT 2\r\n\r\n")
    client.reply()
    assert client.say("DATA").startswith("503 5.5.1")
    assert client.say("RCPT TO:<c@example.org>").startswith("503 5.5.1")
    client.send(b"BDAT 10485760 LAST\r\n" + bytes(10485760))
    assert client.reply().startswith("552 5.3.4")


def test_binarymime_allows_any_octets_in_bdat_only(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.with_("BINARYMIME")
    client.ehlo()
    client.say("MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<b@example.org>")
    assert client.say("DATA").startswith("503 5.5.1")
    client.send(b"BDAT 3 LAST\r\n\n\0\r")
    assert client.reply().startswith("250")
    assert smtpd.messages[0].content == b"\n\0\r"

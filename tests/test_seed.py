"""Every sentence of the documentation of SMTP objects that mailbridge must fulfil, with its test.

The documentation is "SMTP Objects" of the Python Library Reference, 2.5.1. Sentences that describe
no behaviour ("it should not be necessary to call this method") are shown by `test_not_necessary`.

set_debuglevel
    A true value results in debug messages for connection and for all messages sent to and
    received from the server: `test_debug_messages`
connect
    Connect to a host on a given port; a suffix ":number" is stripped off and is the port:
    `test_connect`, `test_connect_with_the_port_in_the_name`
    The defaults are the local host and the standard port 25: `test_connect_defaults`
    Automatically invoked by the constructor if a host is specified: `test_constructor_connects`
docmd
    Sends cmd, the argument concatenated, separated by a space; returns a 2-tuple of a numeric code
    and the response, several lines joined into one: `test_docmd`, `test_docmd_joins_lines`
    SMTPServerDisconnected if the connection is lost while waiting: `test_docmd_disconnected`
helo, ehlo
    Identify yourself; hostname defaults to the FQDN of the local host: `test_helo`, `test_ehlo`,
    `test_name_defaults_to_this_host`
    Implicitly called by sendmail: `test_not_necessary`
    Examine the response for ESMTP options and store them for has_extn: `test_has_extn`
has_extn
    True if name is in the set of extensions, False otherwise; case is ignored: `test_has_extn`
verify
    A tuple of 250 and a full address if valid; a code of 400 or greater and an error string
    otherwise: `test_verify`
login
    Logs in; returns normally if successful: `test_login`; tries EHLO first: `test_login_greets`
    SMTPHeloError, SMTPAuthenticationError, SMTPException: `test_login_errors`
starttls
    All commands that follow are encrypted; you should call ehlo() again: `test_starttls`
    keyfile and certfile are passed on: `test_starttls_with_a_key`
sendmail
    A from-address, a list of to-addresses (or one string), a message: `test_sendmail`,
    `test_sendmail_to_a_string`
    ESMTP options for MAIL ("8bitmime") and for all RCPT commands: `test_sendmail_options`
    Different options for different recipients by mail, rcpt and data: `test_low_level_methods`
    The addresses make the envelope; the headers are not modified: `test_sendmail_headers`
    No EHLO or HELO before: EHLO is tried; message size and each option are passed if the server
    advertises it: `test_sendmail_size`, `test_sendmail_options`
    EHLO fails: HELO is tried and ESMTP options are suppressed: `test_sendmail_helo`
    Returns normally if accepted for at least one recipient; a dictionary with one entry for each
    refused one, (code, message): `test_sendmail_partial`
    SMTPRecipientsRefused with the attribute recipients: `test_sendmail_all_refused`
    SMTPHeloError, SMTPSenderRefused, SMTPDataError: `test_sendmail_errors`
    The connection is open even after an exception: `test_sendmail_errors`
quit
    Terminates the session and closes the connection: `test_quit`
HELP, RSET, NOOP, MAIL, RCPT, DATA
    Are supported by low-level methods: `test_low_level_methods`
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import mailbridge
from mailbridge import SMTP
from mailbridge.testing import ScriptedServer, TestCA

MESSAGE = "Subject: hi\r\n\r\nHello\r\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def smtp(server: ScriptedServer) -> Iterator[SMTP]:
    with SMTP(server.host, server.port, "client.example") as smtp:
        yield smtp


@pytest.fixture(scope="module")
def ca() -> Iterator[TestCA]:
    with TestCA() as ca:
        yield ca


def test_debug_messages(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    with SMTP() as smtp:
        smtp.set_debuglevel(1)
        smtp.connect(server.host, server.port)
        smtp.noop()
    shown = capsys.readouterr().err
    assert "connect:" in shown
    assert "send: 'NOOP'" in shown
    assert "reply: '250 " in shown
    with SMTP(server.host, server.port) as smtp:
        smtp.set_debuglevel(0)
        smtp.noop()
    assert capsys.readouterr().err == ""


def test_connect(server: ScriptedServer) -> None:
    with SMTP() as smtp:
        code, text = smtp.connect("127.0.0.1", server.port)
        assert (code, text) == (220, b"scripted.example ESMTP")


def test_connect_with_the_port_in_the_name(server: ScriptedServer) -> None:
    with SMTP() as smtp:
        assert smtp.connect(f"127.0.0.1:{server.port}")[0] == 220
    with SMTP(f"127.0.0.1:{server.port}") as smtp:
        assert smtp.noop()[0] == 250


def test_connect_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def resolve(host: str, port: int, *rest: object) -> list[object]:
        asked.append((host, port))
        raise socket.gaierror(socket.EAI_NONAME, "no name service in this test")

    smtp = SMTP()
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(OSError, match="no name service"):
        smtp.connect()
    assert asked == [("localhost", 25)]


def test_constructor_connects(server: ScriptedServer) -> None:
    with SMTP(server.host, server.port) as smtp:
        assert smtp.sock is not None
    assert SMTP().sock is None


def test_docmd(smtp: SMTP, server: ScriptedServer) -> None:
    server.reply("NOOP", "250 as you like")
    assert smtp.docmd("NOOP", "with argument") == (250, b"as you like")
    assert "C: NOOP with argument" in server.transcript
    smtp.docmd("NOOP")
    assert server.transcript.count("C: NOOP\n") == 1


def test_docmd_joins_lines(smtp: SMTP, server: ScriptedServer) -> None:
    server.reply("NOOP", "250-one\n250-two\n250 three")
    assert smtp.docmd("NOOP") == (250, b"one\ntwo\nthree")


def test_docmd_disconnected(smtp: SMTP, server: ScriptedServer) -> None:
    server.drop("NOOP")
    with pytest.raises(mailbridge.SMTPServerDisconnected):
        smtp.docmd("NOOP")


def test_helo(smtp: SMTP, server: ScriptedServer) -> None:
    assert smtp.helo("other.example")[0] == 250
    assert smtp.helo()[0] == 250
    assert "C: HELO other.example" in server.transcript
    assert "C: HELO client.example" in server.transcript
    assert not smtp.does_esmtp


def test_ehlo(smtp: SMTP, server: ScriptedServer) -> None:
    assert smtp.ehlo("other.example")[0] == 250
    assert smtp.ehlo()[0] == 250
    assert "C: EHLO other.example" in server.transcript
    assert "C: EHLO client.example" in server.transcript
    assert smtp.does_esmtp


def test_name_defaults_to_this_host(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda *_: "this.host.example")
    with SMTP(server.host, server.port) as smtp:
        smtp.ehlo()
        smtp.helo()
    assert "C: EHLO this.host.example" in server.transcript
    assert "C: HELO this.host.example" in server.transcript


def test_not_necessary(smtp: SMTP, server: ScriptedServer) -> None:
    smtp.sendmail("a@x.org", ["b@x.org"], MESSAGE)
    smtp.sendmail("a@x.org", ["b@x.org"], MESSAGE)
    assert server.transcript.count("C: EHLO") == 1


def test_has_extn(smtp: SMTP) -> None:
    assert smtp.has_extn("SIZE") is False
    smtp.ehlo()
    assert smtp.has_extn("SIZE") is smtp.has_extn("size") is smtp.has_extn("SiZe") is True
    assert smtp.has_extn("NONESUCH") is False
    smtp.helo()
    assert smtp.has_extn("SIZE") is False


def test_verify(smtp: SMTP, server: ScriptedServer) -> None:
    server.reply("VRFY", "250 Anna Bell <anna@x.org>", times=1)
    assert smtp.verify("anna") == (250, b"Anna Bell <anna@x.org>")
    server.reply("VRFY", "550 No such user")
    code, text = smtp.verify("nobody@x.org")
    assert code >= 400
    assert text == b"No such user"
    assert "C: VRFY nobody@x.org" in server.transcript


@pytest.fixture
def auth_server() -> Iterator[ScriptedServer]:
    with ScriptedServer(users={"user": "password"}) as server:
        yield server


def test_login(auth_server: ScriptedServer) -> None:
    with SMTP(auth_server.host, auth_server.port) as smtp:
        smtp.ehlo()
        assert smtp.login("user", "password")[0] == 235
        smtp.sendmail("a@x.org", ["b@x.org"], MESSAGE)
    assert auth_server.messages[0].user == "user"


def test_login_greets(auth_server: ScriptedServer) -> None:
    with SMTP(auth_server.host, auth_server.port, "client.example") as smtp:
        smtp.login("user", "password")
    assert auth_server.transcript.count("C: EHLO client.example") == 1


def test_login_errors(auth_server: ScriptedServer) -> None:
    with SMTP(auth_server.host, auth_server.port) as smtp:
        with pytest.raises(mailbridge.SMTPAuthenticationError) as caught:
            smtp.login("user", "wrong")
        assert caught.value.smtp_code == 535
        assert smtp.noop()[0] == 250
    auth_server.reply("AUTH", "504 5.5.4 Unknown", times=None)
    auth_server.without("AUTH")
    with SMTP(auth_server.host, auth_server.port) as smtp:
        with pytest.raises(mailbridge.SMTPException):
            smtp.login("user", "password")
    auth_server.reply("EHLO", "550 no")
    auth_server.reply("HELO", "550 no")
    with SMTP(auth_server.host, auth_server.port) as smtp:
        with pytest.raises(mailbridge.SMTPHeloError):
            smtp.login("user", "password")


def test_starttls(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context("localhost")) as server:
        with SMTP("localhost", server.port) as smtp:
            smtp.ehlo()
            assert smtp.starttls(context=ca.client_context())[0] == 220
            assert smtp.ehlo()[0] == 250
            assert not smtp.has_extn("STARTTLS")
            smtp.sendmail("a@x.org", ["b@x.org"], MESSAGE)
        assert server.messages[0].tls


def test_starttls_with_a_key(smtp: SMTP, server: ScriptedServer) -> None:
    # Read before anything is sent: what cannot be used is named.
    for arguments in ({"certfile": "/nonexistent/cert.pem"}, {"keyfile": "/nonexistent/key.pem"}):
        with pytest.raises(ValueError, match="file"):
            smtp.starttls(**arguments)
    assert "STARTTLS" not in server.transcript


def test_sendmail(smtp: SMTP, server: ScriptedServer) -> None:
    assert smtp.sendmail("a@x.org", ["b@x.org", "c@x.org"], MESSAGE) == {}
    (message,) = server.messages
    assert message.mail_from == "a@x.org"
    assert message.recipients == ("b@x.org", "c@x.org")
    assert message.content == MESSAGE.encode()


def test_sendmail_to_a_string(smtp: SMTP, server: ScriptedServer) -> None:
    assert smtp.sendmail("a@x.org", "b@x.org", MESSAGE) == {}
    assert server.messages[0].recipients == ("b@x.org",)


def test_sendmail_headers(smtp: SMTP, server: ScriptedServer) -> None:
    text = "From: other@x.org\r\nTo: others@x.org\r\nBcc: b@x.org\r\nX:  y \r\n\r\nHello\r\n"
    smtp.sendmail("a@x.org", ["b@x.org"], text)
    assert server.messages[0].content == text.encode()
    assert server.messages[0].recipients == ("b@x.org",)


def test_sendmail_options(smtp: SMTP, server: ScriptedServer) -> None:
    smtp.sendmail("a@x.org", "b@x.org", MESSAGE, ["8bitmime", "NONESUCH"], ["NOTIFY=NEVER", "NO=1"])
    (message,) = server.messages
    assert message.mail_parameters == (f"SIZE={len(MESSAGE)}", "BODY=8BITMIME")
    assert message.rcpt_parameters == {"b@x.org": ("NOTIFY=NEVER",)}


def test_sendmail_size(smtp: SMTP, server: ScriptedServer) -> None:
    smtp.sendmail("a@x.org", "b@x.org", "Subject: x\n\n.\n")
    # RFC 1870 section 5: CRLFs count, doubled dots do not.
    assert server.messages[0].mail_parameters == ("SIZE=17",)
    server.without("SIZE")
    smtp.ehlo()
    smtp.sendmail("a@x.org", "b@x.org", MESSAGE)
    assert server.messages[1].mail_parameters == ()


def test_sendmail_helo(smtp: SMTP, server: ScriptedServer) -> None:
    server.reply("EHLO", "502 What?")
    smtp.sendmail("a@x.org", "b@x.org", MESSAGE, ["BODY=8BITMIME"], ["NOTIFY=NEVER"])
    assert "C: HELO client.example" in server.transcript
    assert server.messages[0].mail_parameters == ()


def test_sendmail_partial(smtp: SMTP, server: ScriptedServer) -> None:
    server.refuse("gone@x.org")
    server.defer("late@x.org")
    refused = smtp.sendmail("a@x.org", ["gone@x.org", "b@x.org", "late@x.org"], MESSAGE)
    assert refused == {
        "gone@x.org": (550, b"5.1.1 No such user"),
        "late@x.org": (451, b"4.7.1 Greylisted, try again later"),
    }
    assert server.messages[0].recipients == ("b@x.org",)


def test_sendmail_all_refused(smtp: SMTP, server: ScriptedServer) -> None:
    server.refuse("*@gone.example")
    with pytest.raises(mailbridge.SMTPRecipientsRefused) as caught:
        smtp.sendmail("a@x.org", ["b@gone.example", "c@gone.example"], MESSAGE)
    refusal = (550, b"5.1.1 No such user")
    assert caught.value.recipients == {"b@gone.example": refusal, "c@gone.example": refusal}
    assert server.messages == ()
    assert smtp.sendmail("a@x.org", "b@x.org", MESSAGE) == {}


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("HELO", mailbridge.SMTPHeloError),
        ("MAIL", mailbridge.SMTPSenderRefused),
        ("DATA", mailbridge.SMTPDataError),
        ("CONTENT", mailbridge.SMTPDataError),
    ],
)
def test_sendmail_errors(
    smtp: SMTP, server: ScriptedServer, verb: str, error: type[mailbridge.MailError]
) -> None:
    for point in ("EHLO", "HELO") if verb == "HELO" else (verb,):
        server.reply(point, "554 5.0.0 No", times=1)
    with pytest.raises(error) as caught:
        smtp.sendmail("a@x.org", ["b@x.org"], MESSAGE)
    assert getattr(caught.value, "smtp_code", None) == 554
    # "Unless otherwise noted, the connection will be open even after an exception is raised."
    assert smtp.sendmail("a@x.org", "b@x.org", MESSAGE) == {}
    assert server.connections == 1


def test_quit(server: ScriptedServer) -> None:
    smtp = SMTP(server.host, server.port)
    assert smtp.quit()[0] == 221
    assert smtp.sock is None
    with pytest.raises(mailbridge.SMTPServerDisconnected):
        smtp.noop()


def test_low_level_methods(smtp: SMTP, server: ScriptedServer) -> None:
    smtp.ehlo()
    assert isinstance(smtp.help(), bytes)
    assert smtp.noop()[0] == 250
    assert smtp.mail("x@x.org")[0] == 250
    assert smtp.rset()[0] == 250
    assert smtp.mail("a@x.org", ["BODY=8BITMIME"])[0] == 250
    assert smtp.rcpt("b@x.org", ["NOTIFY=NEVER"])[0] == 250
    assert smtp.rcpt("c@x.org", ["NOTIFY=DELAY"])[0] == 250
    assert smtp.data("Subject: x\n\n.dot")[0] == 250
    (message,) = server.messages
    assert message.rcpt_parameters == {"b@x.org": ("NOTIFY=NEVER",), "c@x.org": ("NOTIFY=DELAY",)}
    assert message.content == b"Subject: x\r\n\r\n.dot\r\n"


def test_every_test_named_above_exists() -> None:
    import re

    named = set(re.findall(r"`(test_\w+)`", __doc__))
    defined = {name for name in globals() if name.startswith("test_")}
    assert named | {"test_every_test_named_above_exists"} == defined

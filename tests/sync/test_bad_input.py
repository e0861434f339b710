"""Bad input: one clear error of the right class, that names the option, before anything is sent."""

from __future__ import annotations

import email.message
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import mailbridge
from mailbridge import SMTP, Envelope, Relay, Transport
from mailbridge.testing import ScriptedServer, TestCA
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, heard, transport, verbs

# -- options

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"hots": "x"}, "unknown option 'hots'.*'host'"),
    ({"use_tls": True}, "unknown option 'use_tls'"),
    ({"host": None}, "host is missing"),
    ({"host": ""}, "host is missing"),
    ({"host": "  "}, "host is missing"),
    ({"host": 5}, "host"),
    ({"host": "mail.example\r\n.org"}, "host"),
    ({"host": "mail example.org"}, "host"),
    ({"host": "mail.example.org:587"}, "host|port"),
    ({"host": "smtp://mail.example.org"}, "host|url"),
    ({"port": "smtp"}, "port"),
    ({"port": "25x"}, "port"),
    ({"port": "2_5"}, "port"),
    ({"port": -1}, "port"),
    ({"port": 65536}, "port"),
    ({"port": 25.0}, "port"),
    ({"port": True}, "port"),
    ({"tls": "yes"}, "tls 'yes' is not one of 'none'"),
    ({"tls": True}, "tls"),
    ({"username": "user"}, "password"),
    ({"password": "secret-secret"}, "username"),
    ({"username": 5, "password": "x"}, "username"),
    ({"username": "user", "password": 5}, "password"),
    ({"username": "us\0er", "password": "x"}, "username.*NUL"),
    ({"username": "user", "password": "secret\0"}, "password.*NUL"),
    ({"local_hostname": "a b"}, "local_hostname"),
    ({"local_hostname": "a\r\nRSET"}, "local_hostname"),
    ({"local_hostname": ""}, "local_hostname"),
    ({"local_hostname": 5}, "local_hostname"),
    ({"timeout": "soon"}, "timeout"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": float("nan")}, "timeout"),
    ({"connect_timeout": "x"}, "connect_timeout"),
    ({"timeouts": 5}, "timeout"),
    ({"source_address": "localhost"}, "source_address"),
    ({"source_address": 5}, "source_address"),
    ({"source_address": ("127.0.0.1", "x")}, "port|source_address"),
    ({"ca_file": "/nowhere/ca.pem"}, "ca_file '/nowhere/ca.pem' cannot be read: No such file"),
    ({"ca_file": "/"}, "ca_file '/' cannot be read"),
    ({"ca_file": 5}, "ca_file"),
    ({"ca_path": "/nowhere"}, "ca_path"),
    ({"certfile": "/nowhere/cert.pem"}, "certfile '/nowhere/cert.pem' cannot be read"),
    ({"keyfile": os.devnull}, "keyfile.*certfile"),
    ({"ca_file": os.devnull, "tls": "none"}, "ca_file.*tls"),
    ({"server_hostname": "x", "tls": "none"}, "server_hostname.*tls"),
    ({"server_hostname": "a\nb", "tls": "starttls"}, "server_hostname"),
    ({"ssl_context": "x"}, "ssl_context"),
    ({"tls_verify": "maybe"}, "tls_verify"),
    ({"ignore_extensions": 5}, "ignore_extensions"),
    ({"url": 5}, "url"),
    ({"url": "http://mail.example.org"}, "url: scheme 'http'"),
    ({"url": "mail.example.org"}, "url"),
    ({"url": "smtp://"}, "host is missing"),
    ({"url": "smtp://mail.example.org:smtp"}, "url: the port"),
    ({"url": "smtp://mail.example.org/inbox"}, "url"),
    ({"url": "smtp://mail.example.org?tls=on"}, "tls"),
    ({"url": "smtp://mail.example.org?hots=1"}, "url: unknown option"),
    ({"url": "smtp://mail.example.org?tls=none&tls=implicit"}, "url: tls is given twice"),
    ({"url": "smtps://mail.example.org?tls=starttls"}, "smtps:// and tls=starttls"),
    ({"url": "smtp://user@mail.example.org"}, "password"),
]


@pytest.mark.parametrize(
    ("options", "message"), BAD_OPTIONS, ids=[repr(options)[:50] for options, _ in BAD_OPTIONS]
)
def test_bad_option(options: dict[str, Any], message: str) -> None:
    """Unknown, malformed or contradictory options: OptionError, a ValueError, naming the option."""
    if "url" not in options:
        options = {"host": "mail.example.org", **options}
    with pytest.raises(mailbridge.OptionError, match=message) as caught:
        Relay.from_options(options)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_contradictory_contexts(ca: TestCA) -> None:
    context = ca.client_context()
    for name, value in (("ca_file", ca.ca_file), ("tls_verify", False), ("certfile", ca.ca_file)):
        with pytest.raises(mailbridge.OptionError, match=f"ssl_context and {name}"):
            Relay(host="mail.example.org", ssl_context=context, **{name: value})


def test_scheme_is_read_in_any_case() -> None:
    """What is no contradiction is not called one."""
    assert Relay.from_url("SMTPS://mail.example.org?tls=IMPLICIT").port == 465


def test_unknown_policy() -> None:
    with pytest.raises(mailbridge.OptionError, match="on_refused 'ignore' is not one of 'raise'"):
        Transport("smtp://mail.example.org", on_refused="ignore")
    relay = Transport("smtp://mail.example.org")
    with pytest.raises(mailbridge.OptionError, match="on_refused"):
        relay.send(ENVELOPE, CONTENT, on_refused="ignore")


@pytest.mark.parametrize("relay", [None, "", [], 25, [25], {"host": "x"}.items(), object()])
def test_what_is_no_relay(relay: Any) -> None:
    """What an environment variable that is not set gives, say."""
    with pytest.raises(mailbridge.InvalidInput, match=r"relay|url: scheme ''"):
        Transport(relay)


def test_what_is_no_retry_policy() -> None:
    with pytest.raises(mailbridge.OptionError, match="retry is 3: give a RetryPolicy"):
        Transport("smtp://mail.example.org", retry=3)


@pytest.mark.parametrize("name", ["ca_file", "certfile", "keyfile"])
def test_certificate_file_that_is_garbage(
    smtpd: ScriptedServer, ca: TestCA, tmp_path: Path, name: str
) -> None:
    """A certificate file that is garbage: OptionError naming it, before a connection is made."""
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    options = {name: str(garbage)}
    if name == "keyfile":
        options["certfile"] = ca.certificate_file("client.example")
    with pytest.raises(mailbridge.OptionError, match=f"{name}.*garbage.pem"):
        transport(smtpd, tls="starttls", **options).send(ENVELOPE, CONTENT)
    assert smtpd.connections == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_certificate_file_that_is_unreadable(ca: TestCA, tmp_path: Path) -> None:
    closed = tmp_path / "closed.pem"
    closed.touch(mode=0)
    with pytest.raises(mailbridge.OptionError, match=r"ca_file.*closed\.pem.*denied"):
        Relay(host="mail.example.org", ca_file=closed)


# -- options of a mail

BAD_PARAMETERS = [
    "RET=FULL\r\nRSET",
    "FOO=1\r\nRSET",
    "RET=FULL\n",
    "RET=\x00",
    "RET=FULL SIZE=1",
    "FOO 1",
    "",
    "=x",
]


@pytest.mark.parametrize("bad", BAD_PARAMETERS)
@pytest.mark.parametrize("place", ["mail_options", "rcpt_options"])
def test_bad_parameter_sends_nothing(smtpd: ScriptedServer, place: str, bad: str) -> None:
    """An option with CR or LF or a second option in it: ValueError before anything is sent."""
    with pytest.raises(ValueError, match=r"option|newline"):
        transport(smtpd).send(ENVELOPE, CONTENT, **{place: [bad]})
    assert smtpd.connections == 0
    with client(smtpd) as smtp:
        with pytest.raises(ValueError, match=r"option|newline"):
            smtp.sendmail(SENDER, TO, CONTENT, **{place: [bad]})
    assert heard(smtpd) == ["QUIT"]


@pytest.mark.parametrize("place", ["mail_options", "rcpt_options"])
def test_options_are_a_list(smtpd: ScriptedServer, place: str) -> None:
    """A text where a list is wanted is taken apart by nobody."""
    with pytest.raises(ValueError, match="list"):
        transport(smtpd).send(ENVELOPE, CONTENT, **{place: "SMTPUTF8"})
    with client(smtpd) as smtp:
        with pytest.raises(ValueError, match="list"):
            smtp.sendmail(SENDER, TO, CONTENT, **{place: "SMTPUTF8"})
    assert "MAIL" not in verbs(smtpd)


@pytest.mark.parametrize("command", ["NOOP\r\nRSET", "NOOP\n", "\r", "NOOP \x00"])
def test_raw_command_with_a_line_break(smtpd: ScriptedServer, command: str) -> None:
    with client(smtpd) as smtp:
        for method in (smtp.docmd, smtp.putcmd, smtp.help):
            with pytest.raises(ValueError, match="newline"):
                method(command)
        with pytest.raises(ValueError, match="newline"):
            smtp.ehlo(command)
    assert heard(smtpd) == ["QUIT"]


@pytest.mark.parametrize("recipients", [None, [], (), "", [""], [None]])
def test_no_recipients(smtpd: ScriptedServer, recipients: Any) -> None:
    """An empty or missing recipient list: AddressError before anything is sent."""
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.AddressError):
            smtp.sendmail(SENDER, recipients, CONTENT)
    with pytest.raises(mailbridge.AddressError):
        Envelope(SENDER, recipients)
    assert heard(smtpd) == ["QUIT"]


@pytest.mark.parametrize("fields", [{"To": TO}, {"From": SENDER}, {}])
def test_message_without_sender_or_recipient(smtpd: ScriptedServer, fields: dict[str, str]) -> None:
    """A message without a sender or a recipient: an error that says which."""
    message = email.message.EmailMessage()
    for name, value in fields.items():
        message[name] = value
    missing = "no recipients" if "From" in fields else "no sender"
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.AddressError, match=missing):
            smtp.send_message(message)
    assert heard(smtpd) == ["QUIT"]


# -- where to connect


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No host name resolves; the names that were asked for."""
    asked: list[object] = []

    def getaddrinfo(host: object, *args: object, **kwargs: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_host_that_does_not_resolve(nowhere: list[object]) -> None:
    """A host that does not resolve: HostNotFound, naming host and option."""
    with pytest.raises(socket.gaierror, match=r"mail\.invalid:25.*host") as caught:
        SMTP("mail.invalid")
    assert isinstance(caught.value, mailbridge.HostNotFound)
    assert caught.value.errno == socket.EAI_NONAME
    with pytest.raises(mailbridge.HostNotFound, match=r"mail\.invalid:587") as caught:
        Transport("smtp://mail.invalid:587").send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)


@pytest.mark.parametrize("host", ["a\r\nb.invalid", "a\0b.invalid", "a b.invalid", "\udc80"])
def test_host_that_cannot_be_one(nowhere: list[object], host: str) -> None:
    """A host with a line break or a space: an error of one line, whatever class."""
    with pytest.raises((ValueError, mailbridge.ConnectError)) as caught:
        SMTP(host)
    assert str(caught.value).isprintable()


def test_international_host_is_the_right_one(nowhere: list[object]) -> None:
    """faß.invalid is not fass.invalid."""
    for connect in (SMTP, lambda host: Transport(f"smtp://{host}").open()):
        with pytest.raises(mailbridge.HostNotFound):
            connect("faß.invalid")
    assert nowhere == ["xn--fa-hia.invalid"] * 2


@pytest.mark.parametrize("host", ["mail.invalid:smtp", "mail.invalid:", "[::1]:x"])
def test_port_in_the_host_that_is_no_number(nowhere: list[object], host: str) -> None:
    """A port that is no number: OSError as in smtplib, and a ValueError."""
    with pytest.raises(OSError, match="port") as caught:
        SMTP(host)
    assert isinstance(caught.value, mailbridge.OptionError)
    assert nowhere == []


def test_refused_port() -> None:
    """A refused port: ConnectRefused, naming host and port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening
        port = bound.getsockname()[1]
        where = f"127.0.0.1:{port}"
        with pytest.raises(ConnectionRefusedError, match=where) as caught:
            SMTP("127.0.0.1", port, timeout=5)
        assert isinstance(caught.value, mailbridge.ConnectRefused)
        with pytest.raises(mailbridge.ConnectRefused, match=f"{where}.*port") as caught:
            Transport(f"smtp://{where}").send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    assert (caught.value.retryable, caught.value.phase) == (True, "connect")


def test_silent_port(smtpd: ScriptedServer) -> None:
    """A silent port: the greeting's time-out, with the hint that TLS may be wanted."""
    smtpd.silent("GREETING")
    with pytest.raises(TimeoutError, match=r"465.*tls='implicit'"):
        client(smtpd, timeout=0.4)
    with pytest.raises(mailbridge.ReplyTimeout, match=f":{smtpd.port}, greeting") as caught:
        transport(smtpd, timeout=0.4).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)


def test_something_that_is_no_mail_server(smtpd: ScriptedServer) -> None:
    smtpd.reply("GREETING", b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(mailbridge.GreetingRefused, match="mail server"):
        transport(smtpd).send(ENVELOPE, CONTENT)


def test_timeout_of_zero() -> None:
    with pytest.raises(ValueError, match="timeout"):
        SMTP(timeout=0)

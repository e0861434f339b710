"""The table in README.md: each of its cells is tried, with each client, against the same server."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from email import charset
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

import django.core.mail
import pytest
from django.core.mail.backends.smtp import EmailBackend as DjangosBackend
from flask import Flask

import mailbridge
from mailbridge.testing import ReplayServer, ScriptedServer, TestCA
from mailbridge.testing import replay as replaying

README = Path(__file__).parent.parent.parent / "README.md"
TO = ["ada@example.org", "gone@example.net"]


class Server(Protocol):
    """What a client needs to know of a server."""

    host: str
    port: int


class Client(Protocol):
    """A way to send mail, used as its documentation says, with its defaults."""

    def send(self, server: Server, batches: Sequence[Sequence[str]], tls: bool = False) -> object:
        """Send one mail to each list of recipients; return whatever the caller is told."""

    def batch(self, server: Server, batches: Sequence[Sequence[str]]) -> bool:
        """Hand over one mail for each list of recipients, together. False if it takes one only."""

    def patience(self, server: Server) -> float | None:
        """Seconds that it waits for a reply, None for ever."""


class Mailbridge:
    """`Transport`, which mailbridge's backend for Django and extension for Flask send by, too."""

    def _transport(self, server: Server, tls: bool = False) -> mailbridge.Transport:
        mode = "starttls" if tls else "none"
        relay = mailbridge.Relay(host=server.host, port=server.port, tls=mailbridge.TLS(mode))
        return mailbridge.Transport(relay)

    def send(self, server: Server, batches: Sequence[Sequence[str]], tls: bool = False) -> object:
        return [self._transport(server, tls).send(*mail) for mail in self._mails(batches)]

    def batch(self, server: Server, batches: Sequence[Sequence[str]]) -> bool:
        return bool(list(self._transport(server).send_many(self._mails(batches))))

    def _mails(self, batches: Sequence[Sequence[str]]) -> list[tuple[mailbridge.Envelope, str]]:
        content = "Subject: Hi\n\nHi.\n"
        return [(mailbridge.Envelope("me@example.org", to), content) for to in batches]

    def patience(self, server: Server) -> float | None:
        return self._transport(server).relay.timeouts.reply


class Smtplib:
    def send(self, server: Server, batches: Sequence[Sequence[str]], tls: bool = False) -> object:
        told = []
        for to in batches:
            with smtplib.SMTP(server.host, server.port) as smtp:
                if tls:
                    smtp.starttls()
                message = EmailMessage()
                message["From"], message["To"] = "me@example.org", ", ".join(to)
                message["Subject"] = "Hi"
                told.append(smtp.send_message(message))
        return told

    def batch(self, server: Server, batches: Sequence[Sequence[str]]) -> bool:
        return False

    def patience(self, server: Server) -> float | None:
        with smtplib.SMTP(server.host, server.port) as smtp:
            return smtp.sock.gettimeout()


class Django:
    def _backend(self, server: Server, tls: bool = False) -> DjangosBackend:
        alias = {"alias": "default"} if django.VERSION >= (6, 1) else {}
        options: dict[str, Any] = {"host": server.host, "port": server.port, "use_tls": tls}
        return DjangosBackend(**options, **alias)

    def send(self, server: Server, batches: Sequence[Sequence[str]], tls: bool = False) -> object:
        told = []
        for to in batches:
            message = self._message(to)
            told += [self._backend(server, tls).send_messages([message])]
            told += [getattr(message, "delivery_report", None)]
        return told

    def batch(self, server: Server, batches: Sequence[Sequence[str]]) -> bool:
        self._backend(server).send_messages([self._message(to) for to in batches])
        return True

    def _message(self, to: Sequence[str]) -> django.core.mail.EmailMessage:
        return django.core.mail.EmailMessage("Hi", "Hi.", "me@example.org", list(to))

    def patience(self, server: Server) -> float | None:
        backend = self._backend(server)
        backend.open()
        try:
            timeout: float | None = backend.connection.sock.gettimeout()
            return timeout
        finally:
            backend.close()


@pytest.fixture(autouse=True)
def _charsets(monkeypatch: pytest.MonkeyPatch) -> None:
    # Flask-Mail changes, for the whole process, how UTF-8 is encoded; later tests are spared.
    monkeypatch.setattr(charset, "CHARSETS", dict(charset.CHARSETS))


class FlaskMail:
    @contextlib.contextmanager
    def _mail(self, server: Server, tls: bool = False) -> Any:
        flask_mail = pytest.importorskip("flask_mail", reason="Flask-Mail is in the group test")
        app = Flask("shop")
        app.config.update(MAIL_SERVER=server.host, MAIL_PORT=server.port, MAIL_USE_TLS=tls)
        with app.app_context():
            yield flask_mail, flask_mail.Mail(app)

    def send(self, server: Server, batches: Sequence[Sequence[str]], tls: bool = False) -> object:
        with self._mail(server, tls) as (flask_mail, mail):
            return [
                mail.send(flask_mail.Message("Hi", list(to), "Hi.", sender="me@example.org"))
                for to in batches
            ]

    def batch(self, server: Server, batches: Sequence[Sequence[str]]) -> bool:
        return False

    def patience(self, server: Server) -> float | None:
        with self._mail(server) as (_, mail), mail.connect() as connection:
            timeout: float | None = connection.host.sock.gettimeout()
            return timeout


CLIENTS: dict[str, Client] = {
    "mailbridge": Mailbridge(),
    "smtplib": Smtplib(),
    "Django": Django(),
    "Flask-Mail": FlaskMail(),
}


# -- what is claimed: each function tries it with one client


def refused_are_known(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    smtpd.refuse("gone@example.net")
    try:
        told = repr(client.send(smtpd, [TO]))
    except OSError as error:
        told = repr(error)
    assert smtpd.messages[0].recipients == ("ada@example.org",)
    return "gone@example.net" in told and "550" in told


def doubt_is_told(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    errors = []
    for point in ("MAIL", "CONTENT"):
        smtpd.drop(point, times=1)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - whichever it is
            client.send(smtpd, [TO])
        errors.append(caught.type)
    assert len(smtpd.messages) == 1, "the second one did arrive"
    return errors[0] is not errors[1]


def certificates_are_verified(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    with ScriptedServer(tls_context=ca.server_context("another.example")) as server:
        try:
            client.send(server, [TO], tls=True)
        except ssl.SSLError:
            return True
        assert server.messages[0].tls
        return False


def silence_is_given_up_on(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    assert socket.getdefaulttimeout() is None
    return client.patience(smtpd) is not None


def connections_are_kept(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    client.send(smtpd, [TO, TO])
    assert len(smtpd.messages) == 2
    return smtpd.connections == 1


def commands_go_in_groups(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    # This server answers when it has three commands, and hangs up if they do not come.
    script = """
        S: 220 mx.example.org ESMTP
        C: (like) *
        S: 250-mx.example.org
        S: 250 PIPELINING
        C: (like) MAIL FROM:<me@example.org>*
        C: (like) RCPT TO:<ada@example.org>*
        C: (like) DATA
        S: 250 Ok
        S: 250 Ok
        S: 354 Go on
        C: (content)
        S: 250 Ok
        C: (anything)
    """
    try:
        with ReplayServer(script) as server:
            client.send(server, [["ada@example.org"]])
            mailbridge.close_pools()
    except (OSError, AssertionError):
        return False
    return True


def batches_go_on(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool | None:
    smtpd.refuse("gone@example.net")
    with contextlib.suppress(OSError):
        if not client.batch(smtpd, [["gone@example.net"], ["ada@example.org"]]):
            return None
    return len(smtpd.messages) == 1


def domains_are_what_they_are_today(client: Client, smtpd: ScriptedServer, ca: TestCA) -> bool:
    for withheld in ("HELP", "SMTPUTF8"):
        smtpd.without(withheld)
        with contextlib.suppress(UnicodeError, OSError):
            client.send(smtpd, [["ada@faß.de"]])
    reached = [message.recipients[0] for message in smtpd.messages]
    # What IDNA 2008 makes of it, what IDNA 2003 did, and no change at all (SMTPUTF8).
    assert set(reached) <= {"ada@xn--fa-hia.de", "ada@fass.de", "ada@faß.de"}
    return len(reached) == 2 and "ada@fass.de" not in reached


CELLS = {"yes": True, "no": False, "–": None}
CLAIMS: dict[str, Callable[[Client, ScriptedServer, TestCA], bool | None]] = {
    "the caller learns which recipients were refused": refused_are_known,
    '"not sent" can be told from "may have been sent"': doubt_is_told,
    "the certificate is verified, if nothing else is said": certificates_are_verified,
    "a silent server is given up on, if nothing else is said": silence_is_given_up_on,
    "the next mail uses the same connection": connections_are_kept,
    "commands are sent in groups (PIPELINING)": commands_go_in_groups,
    "a batch goes on behind a refused mail": batches_go_on,
    "mail for `faß.de` gets there, whatever the server offers": domains_are_what_they_are_today,
}


def table() -> list[list[str]]:
    """The rows of the table, the first one being its head."""
    section = README.read_text("utf-8").partition("## What is different")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows if "---" not in row]


def test_every_cell_is_tried() -> None:
    head, *rows = table()
    assert head[1:] == list(CLIENTS)
    assert [row[0] for row in rows] == list(CLAIMS)
    assert {cell for row in rows for cell in row[1:]} == set(CELLS)


@pytest.mark.parametrize(
    ("claim", "name", "cell"),
    [(row[0], name, row[1:][i]) for row in table()[1:] for i, name in enumerate(CLIENTS)],
)
def test_a_cell_is_true(
    claim: str,
    name: str,
    cell: str,
    smtpd: ScriptedServer,
    ca: TestCA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "_PATIENCE", 1.0)
    assert CLAIMS[claim](CLIENTS[name], smtpd, ca) is CELLS[cell]

"""Backends that others have written over Django's: they go on working over ours."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.utils.functional import cached_property

import mailbridge
from mailbridge import SMTP, SMTP_SSL, State
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_django import EmailBackend, exceptions

Make = Callable[..., EmailBackend]


def message(*to: str, **kwargs: Any) -> EmailMessage:
    return EmailMessage("Subject", "Body", "me@example.org", list(to) or ["a@example.com"])


class OldStyle(EmailBackend):
    """Opens for itself, in the words of Django's own backend."""

    def open(self) -> bool | None:
        if self.connection:
            return False
        parameters: dict[str, Any] = {}
        if self.timeout is not None:
            parameters["timeout"] = self.timeout
        if self.use_ssl:
            parameters["context"] = self.ssl_context
        try:
            self.connection = self.connection_class(self.host, self.port, **parameters)
            if not self.use_ssl and self.use_tls:
                self.connection.starttls(context=self.ssl_context)
            if self.username and self.password:
                self.connection.login(self.username, self.password)
            return True
        except OSError:
            if not self.fail_silently:
                raise
        return None


class OldStyleOverSmtplib(OldStyle):
    @property
    def connection_class(self) -> type[Any]:
        return smtplib.SMTP_SSL if self.use_ssl else smtplib.SMTP


class OtherClass(EmailBackend):
    """Changes only the class."""

    connection_class = smtplib.SMTP


STYLES = [OldStyle, OldStyleOverSmtplib, OtherClass]


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> type[EmailBackend]:
    return request.param


def test_connection_class(backend: Make) -> None:
    assert backend().connection_class is SMTP
    assert backend(use_ssl=True).connection_class is SMTP_SSL


def test_they_send(style: type[EmailBackend], backend: Make, smtpd: ScriptedServer) -> None:
    mails = [message(), message("b@example.com")]
    sender = backend(style, timeout=5)
    with sender:
        assert sender.connection.timeout == 5
        assert sender.send_messages(mails) == 2
    assert sender.connection is None
    assert smtpd.connections == 1
    assert "c: quit" in smtpd.transcript.lower()
    report = mails[1].delivery_report
    assert report.accepted == ("b@example.com",)
    assert report.message_id == smtpd.messages[1].message["Message-ID"]


def test_they_are_told_of_refusals(
    style: type[EmailBackend], backend: Make, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("gone@*")
    mail = message("a@example.com", "gone@example.com")
    with pytest.raises(exceptions.SomeRecipientsRefused) as caught:
        backend(style).send_messages([mail])
    assert caught.value.recipients == {"gone@example.com": (550, b"5.1.1 No such user")}
    assert caught.value.message is mail
    assert mail.delivery_report["gone@example.com"].state is State.REFUSED
    smtpd.defer("*")
    with pytest.raises(exceptions.RecipientsRefused) as caught:
        backend(style).send_messages([message()])
    assert caught.value.transient


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("MAIL", exceptions.SenderRefused),
        ("CONTENT", exceptions.MessageRefused),
        ("DATA", exceptions.MessageRefused),
    ],
)
def test_they_are_told_of_errors(
    point: str,
    expected: type[Exception],
    style: type[EmailBackend],
    backend: Make,
    smtpd: ScriptedServer,
) -> None:
    smtpd.without("CHUNKING")
    smtpd.reply(point, "554 5.7.1 no")
    mail = message()
    with pytest.raises(expected) as caught:
        backend(style).send_messages([mail])
    assert caught.value.smtp_code == 554
    assert mail.delivery_report.refused == ("a@example.com",)


def test_a_connection_that_is_lost_is_in_doubt_for_all_that_is_known(
    style: type[EmailBackend], backend: Make, smtpd: ScriptedServer
) -> None:
    smtpd.drop("CONTENT")
    mail = message()
    with pytest.raises(exceptions.DeliveryInDoubt):
        backend(style).send_messages([mail])
    assert mail.delivery_report.in_doubt == ("a@example.com",)
    assert backend(style, fail_silently=True).send_messages([message()]) == 0


def test_eight_bits_only_where_they_are_taken(
    style: type[EmailBackend], backend: Make, smtpd: ScriptedServer
) -> None:
    smtpd.without("8BITMIME")
    mail = EmailMessage("Subject", "Grüße", "me@straße.example", ["a@faß.example"])
    assert backend(style).send_messages([mail]) == 1
    (received,) = smtpd.messages
    assert received.content.isascii()
    assert "Grüße" in received.message.get_content()
    assert received.envelope == ("me@xn--strae-oqa.example", ("a@xn--fa-hia.example",))


def test_abort_cannot_be_promised_over_a_foreign_connection(
    style: type[EmailBackend], backend: Make, smtpd: ScriptedServer
) -> None:
    with pytest.raises(ImproperlyConfigured, match="on_refused='abort'"):
        backend(style, on_refused="abort").send_messages([message()])
    assert smtpd.messages == ()


@pytest.mark.parametrize("implicit", [False, True])
def test_they_start_tls_and_log_in(implicit: bool, backend: Make, ca: TestCA) -> None:
    with ScriptedServer(
        tls_context=ca.server_context("localhost"),
        implicit_tls=implicit,
        users={"ida": "s3cret"},
    ) as server:
        sender = backend(
            OldStyle,
            host="localhost",
            port=server.port,
            use_tls=not implicit,
            use_ssl=implicit,
            username="ida",
            password="s3cret",
            ca_file=ca.ca_file,
        )
        assert sender.send_messages([message()]) == 1
        assert (server.messages[0].tls, server.messages[0].user) == (True, "ida")


def test_a_partial_connection_is_closed(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend(OtherClass, username="u", password="p")
    with pytest.raises(smtplib.SMTPNotSupportedError):
        sender.open()
    assert sender.connection is None
    partial = sender._partial_connection
    with pytest.raises(smtplib.SMTPNotSupportedError):
        sender.open()
    assert partial.sock is None
    assert sender._partial_connection not in (None, partial)
    sender.close()
    assert sender._partial_connection is None


def test_an_ssl_context_of_their_own(backend: Make, ca: TestCA) -> None:
    class Trusting(EmailBackend):
        @cached_property
        def ssl_context(self) -> ssl.SSLContext:
            context = super().ssl_context
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

    with ScriptedServer(
        tls_context=ca.server_context("other.example"), users={"ida": "s3cret"}
    ) as server:
        options = {"port": server.port, "use_tls": True, "username": "ida", "password": "s3cret"}
        assert backend(Trusting, **options).send_messages([message()]) == 1
        assert server.messages[0].user == "ida"
        # What one changes is not what the others use.
        with pytest.raises(exceptions.CertificateError):
            backend(**options).open()


def test_attributes_set_in_their_init(backend: Make, smtpd: ScriptedServer) -> None:
    class FromDatabase(EmailBackend):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.port = smtpd.port

    assert backend(FromDatabase, port=1).send_messages([message()]) == 1


def test_send_and_prep_address_can_be_overridden(backend: Make, smtpd: ScriptedServer) -> None:
    class Careful(EmailBackend):
        def prep_address(self, address: str, force_ascii: bool = True) -> str:
            return super().prep_address(address, force_ascii).replace("example.com", "example.net")

        def _send(self, email_message: EmailMessage) -> bool:
            return "secret" not in email_message.body and super()._send(email_message)

    secret = message()
    secret.body = "secret"
    assert backend(Careful).send_messages([message(), secret]) == 1
    assert smtpd.messages[0].recipients == ("a@example.net",)


# What tests do.


def test_a_mocked_sendmail(backend: Make, smtpd: ScriptedServer) -> None:
    with backend() as sender, mock.patch.object(sender.connection, "sendmail") as sendmail:
        assert sender.send_messages([message("a@example.com", "b@example.com")]) == 1
    sendmail.assert_called_once_with("me@example.org", ["a@example.com", "b@example.com"], mock.ANY)
    assert b"\n" not in sendmail.call_args.args[2].replace(b"\r\n", b"")
    assert smtpd.messages == ()


def test_a_mocked_connection(backend: Make) -> None:
    sender = backend()
    sender.connection = mock.Mock()
    assert sender.open() is False
    assert sender.send_messages([message()]) == 1
    assert sender.send_messages([EmailMessage(to=[])]) == 0
    sender.connection.sendmail.assert_called_once()
    sender.connection.sendmail.side_effect = smtplib.SMTPException("odd")
    with pytest.raises(exceptions.MailError, match="odd"):
        sender.send_messages([message()])
    sender.connection.sendmail.side_effect = BrokenPipeError
    mail = message()
    with pytest.raises(BrokenPipeError):
        sender.send_messages([mail])
    assert mail.delivery_report.not_attempted == ("a@example.com",)


def test_an_open_that_fails_without_a_word(backend: Make) -> None:
    sender = backend()
    sender.connection = mock.Mock()
    sender.open = lambda: None
    assert sender.send_messages([message()]) == 0
    sender.connection.sendmail.assert_not_called()


@pytest.mark.parametrize("fail_silently", [False, True])
def test_errors_at_quit(fail_silently: bool, backend: Make) -> None:
    sender = backend(fail_silently=fail_silently)
    connection = sender.connection = mock.Mock()
    connection.quit.side_effect = smtplib.SMTPServerDisconnected
    sender.close()
    connection.close.assert_called_once_with()
    sender.connection = mock.Mock()
    sender.connection.quit.side_effect = smtplib.SMTPException("odd")
    if fail_silently:
        sender.close()
    else:
        with pytest.raises(smtplib.SMTPException):
            sender.close()
    assert sender.connection is None


def test_an_error_at_quit_does_not_make_sent_mail_unsent(backend: Make) -> None:
    class Grumpy(EmailBackend):
        connection_class = mock.Mock()

    Grumpy.connection_class.return_value.quit.side_effect = smtplib.SMTPException("odd")
    assert backend(Grumpy).send_messages([message()]) == 1


def test_every_error_is_the_cores_too() -> None:
    for name in exceptions.__all__:
        ours, core = getattr(exceptions, name), getattr(mailbridge, name)
        assert issubclass(ours, core)
        assert issubclass(ours, exceptions.MailError)
        assert issubclass(ours, smtplib.SMTPException)

"""What Flask-Mail 0.10 does wrong over the wire, each thing with the test that shows it right."""

from __future__ import annotations

import socket

import pytest
from flask import Flask

from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_flask import BadHeaderError, Mail, Message, SomeRecipientsRefused
from mailbridge_flask.exceptions import CertificateError, Disconnected, ReplyTimeout
from tests.flask.conftest import MakeApp


@pytest.mark.parametrize("implicit", [False, True])
def test_the_certificate_is_verified(make_app: MakeApp, ca: TestCA, implicit: bool) -> None:
    context = ca.server_context("127.0.0.1")
    with ScriptedServer(tls_context=context, implicit_tls=implicit) as server:
        setting = {"MAIL_USE_SSL": True} if implicit else {"MAIL_USE_TLS": True}
        stranger = make_app(MAIL_PORT=server.port, **setting)
        with stranger.app_context(), pytest.raises(CertificateError, match="MAIL_CA_FILE"):
            stranger.extensions["mail"].send_message("Hi", ["b@example.com"])
        friend = make_app(MAIL_PORT=server.port, MAIL_CA_FILE=ca.ca_file, **setting)
        with friend.app_context():
            friend.extensions["mail"].send_message("Hi", ["b@example.com"])
        (received,) = server.messages
        assert received.tls


def test_a_silent_server_does_not_hang_us(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    smtpd.silent("MAIL")
    app = make_app(MAIL_TIMEOUT=0.3)
    with app.app_context(), pytest.raises(ReplyTimeout) as caught:
        Mail().send_message("Hi", ["b@example.com"])
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.report is not None
    assert caught.value.report.not_attempted == ("b@example.com",)


def test_a_partial_refusal_is_told(mail: Mail, message: Message, smtpd: ScriptedServer) -> None:
    smtpd.refuse("b@example.com")
    with pytest.raises(SomeRecipientsRefused) as caught:
        mail.send(message)
    assert caught.value.accepted == ("a@example.com",)
    assert set(caught.value.recipients) == {"b@example.com"}
    assert smtpd.messages[0].recipients == ("a@example.com",)


def test_extra_headers_inject_nothing(mail: Mail, smtpd: ScriptedServer) -> None:
    message = Message("Hi", ["a@example.com"], extra_headers={"X-A": "1\r\nBcc: evil@example.net"})
    with pytest.raises(BadHeaderError):
        mail.send(message)
    assert smtpd.connections == 0


@pytest.mark.parametrize("cc", ["", "not an address", "a@", "@b", "a@b, c@d", "<>"])
def test_a_malformed_cc_is_refused_before_anything_is_sent(
    mail: Mail, smtpd: ScriptedServer, cc: str
) -> None:
    with pytest.raises(ValueError, match="address"):
        mail.send_message("Hi", ["a@example.com"], cc=[cc])
    assert smtpd.connections == 0


def test_recipients_keep_their_order(mail: Mail, smtpd: ScriptedServer) -> None:
    to = [f"to{n}@example.com" for n in range(20)]
    mail.send_message("Hi", to, cc=["cc@example.com"], bcc=["bcc@example.com"])
    assert smtpd.messages[0].recipients == (*to, "cc@example.com", "bcc@example.com")
    assert str(smtpd.messages[0].message["To"]) == ", ".join(to)


def test_a_mailbox_gets_one_copy_however_it_is_named(mail: Mail, smtpd: ScriptedServer) -> None:
    message = Message(
        "Hi",
        ["a@example.com", ("Anna", "a@example.com")],
        cc=["Anna <a@EXAMPLE.com>"],
        bcc=[("Anna", "a@example.com")],
    )
    assert list(message.send_to) == ["a@example.com"]
    mail.send(message)
    assert smtpd.messages[0].recipients == ("a@example.com",)


def test_nothing_goes_out_as_8bit_unannounced(mail: Mail, smtpd: ScriptedServer) -> None:
    smtpd.without("8BITMIME", "SMTPUTF8")
    mail.send_message("Grüße", ["a@example.com"], body="Schöne Grüße", html="<p>Grüße</p>")
    (received,) = smtpd.messages
    assert received.content.isascii()
    plain = received.message.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().strip() == "Schöne Grüße"


def test_an_error_in_the_block_is_not_masked_by_quit(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    def block() -> None:
        with mail.connect() as connection:
            connection.send(message)
            raise ZeroDivisionError

    smtpd.drop("QUIT")
    with pytest.raises(ZeroDivisionError):
        block()
    smtpd.drop("MAIL")
    with pytest.raises(Disconnected):
        block()


def test_testing_may_be_set_after_init_app(
    app: Flask, mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    app.config["TESTING"] = True
    mail.send(message)
    assert smtpd.connections == 0
    app.config["TESTING"] = False
    mail.send(message)
    assert smtpd.connections == 1


@pytest.mark.parametrize("name", ["anything", "sned", "app", "_private"])
def test_an_unknown_attribute_is_an_error(mail: Mail, name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(mail, name)
    assert not hasattr(Mail(), name)


def test_debug_does_not_show_the_password(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(users={"me": "s3cret"}, require_auth=True) as server:
        app = make_app(
            MAIL_PORT=server.port, MAIL_USERNAME="me", MAIL_PASSWORD="s3cret", MAIL_DEBUG=True
        )
        with app.app_context():
            Mail().send_message("Hi", ["b@example.com"], body="confidential")
        (received,) = server.messages
    assert received.user == "me"
    said = capfd.readouterr().err
    assert "C: MAIL FROM:<site@example.org>" in said
    assert "C: AUTH" in said
    for secret in ("s3cret", "AG1lAHMzY3JldA==", "czNjcmV0", "confidential"):
        assert secret not in said


def test_making_a_message_asks_no_name_service(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: object) -> str:
        raise AssertionError("the name service was asked")

    monkeypatch.setattr(socket, "getfqdn", asked)
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    assert Message("Hi", ["a@example.com"]).msgId.endswith("@example.org>")
    for sender in ("a@bücher.example", "root", "no body", "a@[127.0.0.1]"):
        domain = Message("Hi", ["a@example.com"], sender=sender).msgId.partition("@")[2]
        assert domain.isascii()
        assert len(domain) > 1

"""TLS and login by Flask's settings: pins, tokens, mechanisms, remembered refusals."""

from __future__ import annotations

import hashlib
import ssl

import pytest
from flask import Flask

from mailbridge import OptionError
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge.testing.certificates import certificate_of
from mailbridge_flask import Mail, Message, exceptions

USERS = {"user": "right"}


def fresh_token() -> str:
    return "right"


def send(smtpd: ScriptedServer, **config: object) -> None:
    app = Flask("site")
    app.config.update(MAIL_SERVER=smtpd.host, MAIL_PORT=smtpd.port, MAIL_TIMEOUT=5, **config)
    mail = Mail(app)
    with app.app_context():
        mail.send(Message("Hello", sender="a@example.org", recipients=["b@example.com"], body="x"))


@pytest.fixture
def unknown() -> ssl.SSLContext:
    with TestCA() as ca:
        return ca.server_context("other.example")


def test_a_fingerprint(unknown: ssl.SSLContext) -> None:
    pin = hashlib.sha256(certificate_of(unknown) or b"").hexdigest()
    with ScriptedServer(tls_context=unknown) as smtpd:
        send(smtpd, MAIL_TLS="starttls", MAIL_FINGERPRINT=pin)
        with pytest.raises(exceptions.MailError, match="none that is pinned"):
            send(smtpd, MAIL_TLS="starttls", MAIL_FINGERPRINT="0" * 64)
        assert len(smtpd.messages) == 1


@pytest.mark.parametrize("by_path", [False, True])
def test_a_token_provider_or_its_path(monkeypatch: pytest.MonkeyPatch, by_path: bool) -> None:
    monkeypatch.setattr("mailbridge.testing.example_token", fresh_token, raising=False)
    provider = "mailbridge.testing.example_token" if by_path else fresh_token
    with ScriptedServer(users=USERS, mechanisms=["XOAUTH2"], require_auth=True) as smtpd:
        send(smtpd, MAIL_USERNAME="user", MAIL_TOKEN_PROVIDER=provider)
        assert smtpd.messages[0].user == "user"


def test_auth_mechanisms_from_a_text() -> None:
    with ScriptedServer(users=USERS) as smtpd:
        login = {"MAIL_USERNAME": "user", "MAIL_PASSWORD": "right"}
        send(smtpd, MAIL_AUTH_MECHANISMS="LOGIN, CRAM-MD5", **login)
        assert "C: AUTH LOGIN" in smtpd.transcript
        with pytest.raises(OptionError, match="MAIL_AUTH_MECHANISMS"):
            send(smtpd, MAIL_AUTH_MECHANISMS="PLIAN", **login)


def test_a_refused_login_is_remembered_for_the_whole_process() -> None:
    with ScriptedServer(users=USERS) as smtpd:
        for _ in range(3):
            with pytest.raises(exceptions.MailError, match="535"):
                send(smtpd, MAIL_USERNAME="user", MAIL_PASSWORD="wrong")
        assert smtpd.connections == 1
        send(smtpd, MAIL_USERNAME="user", MAIL_PASSWORD="right")
        assert smtpd.messages[0].user == "user"

"""The names that Flask-Mail's users import, and nothing that was not meant to be public."""

from __future__ import annotations

import sys
from email import charset
from importlib import resources

import pytest
from flask import Flask

import mailbridge_flask
from mailbridge.testing import ScriptedServer
from mailbridge_flask import (
    BadHeaderError,
    Mail,
    exceptions,
    sanitize_address,
    sanitize_addresses,
    sanitize_subject,
)


def test_the_names_of_flask_mail() -> None:
    for name in ("Mail", "Message", "Attachment", "Connection", "BadHeaderError"):
        assert isinstance(getattr(mailbridge_flask, name), type)
    assert mailbridge_flask.email_dispatched.name == "email-dispatched"
    assert set(mailbridge_flask.__all__) <= set(dir(mailbridge_flask))
    assert issubclass(BadHeaderError, ValueError)


def test_the_errors_are_the_same_in_both_places() -> None:
    for name in mailbridge_flask.__all__:
        if hasattr(exceptions, name):
            assert getattr(exceptions, name) is getattr(mailbridge_flask, name)


def test_types_are_shipped() -> None:
    assert resources.files(mailbridge_flask).joinpath("py.typed").is_file()


def test_sanitize_address() -> None:
    assert sanitize_address("Änne <a@bücher.example>") == (
        "=?utf-8?b?w4RubmU=?= <a@xn--bcher-kva.example>"
    )
    assert sanitize_address(("A. B", "a@b.example")) == '"A. B" <a@b.example>'
    with pytest.raises(BadHeaderError):
        sanitize_address("a@b.example\n")


def test_sanitize_addresses_and_subject() -> None:
    assert sanitize_addresses(["a@b.example", ("Ä", "c@d.example")]) == [
        "a@b.example",
        "=?utf-8?b?w4Q=?= <c@d.example>",
    ]
    assert sanitize_subject("Hello") == "Hello"
    assert sanitize_subject("sübject") == "=?utf-8?q?s=C3=BCbject?="
    assert "\n" not in sanitize_subject("a\nBcc: b@example.org")


def test_messages_of_flask_mail_itself_can_be_sent(
    app: Flask, smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Importing it changes, for the whole process, how UTF-8 is encoded; later tests are spared.
    monkeypatch.setattr(charset, "CHARSETS", dict(charset.CHARSETS))
    monkeypatch.delitem(sys.modules, "flask_mail", raising=False)
    flask_mail = pytest.importorskip("flask_mail")
    message = flask_mail.Message("Grüße", ["b@example.com"], html="<p>", bcc=["c@example.com"])
    message.attach("a.txt", data="text")
    report = app.extensions["mail"].send(message)
    assert report.accepted == ("b@example.com", "c@example.com")
    assert message.delivery_report is report
    assert smtpd.messages[0].message["Subject"] == "Grüße"
    bad = flask_mail.Message("x", ["b@example.com"], extra_headers={"X": "a\r\nBcc: b@c"})
    with pytest.raises(BadHeaderError):
        Mail().send(bad)

"""Django and Flask against a real Postfix: what is stored is what the message renders to."""

from __future__ import annotations

import email
import email.policy
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

pytest.importorskip("django")
pytest.importorskip("flask")

from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail
from django.test import override_settings
from flask import Flask

import mailbridge_django.exceptions
import mailbridge_flask.exceptions
import tests.django.conftest as site
from mailbridge_flask import Mail, Message
from tests.interop.postfix import Postfix, queue_id, without_trace

SENDER = "me@example.org"
TEXT = "Grüße\n.\n..two\n.leading dot\n\n" + "a long line " * 150 + "\nno end"
ATTACHMENT = bytes(range(256)) * 20


def _crlf(content: bytes) -> bytes:
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _stored(postfix: Postfix, recipient: str) -> bytes:
    (content,) = postfix.stored(recipient)
    return without_trace(content)


# -- Django


@pytest.fixture
def django_site(postfix: Postfix) -> Iterator[None]:
    options = {"host": postfix.host, "port": postfix.port, "timeout": 20}
    if "mailers" in site.MODES:
        mailer = {"BACKEND": site.BACKEND, "OPTIONS": options}
        settings = override_settings(MAILERS={"default": mailer})
    else:
        old_names = {site.LEGACY[name]: value for name, value in options.items()}
        settings = override_settings(EMAIL_BACKEND=site.BACKEND, **old_names)
    with settings:
        yield


class Remembering(EmailMultiAlternatives):
    """Keeps what it rendered, which is another text each time: boundaries are random."""

    rendered: Any = None

    def message(self, **options: Any) -> Any:
        self.rendered = super().message(**options)
        return self.rendered


def _django_message(*recipients: str, **options: Any) -> Remembering:
    message = Remembering("Grüße, Ελλάδα", TEXT, SENDER, recipients, **options)
    message.attach_alternative("<p>Grüße</p>", "text/html")
    message.attach("Grüße.bin", ATTACHMENT, "application/octet-stream")
    message.attach("notes.txt", "Ελλάδα\n.\n", "text/plain")
    return message


@pytest.mark.usefixtures("django_site")
def test_django_stored_is_what_was_rendered(postfix: Postfix) -> None:
    message = _django_message("django-1@example.com", bcc=["django-bcc@example.com"])
    assert message.send() == 1
    stored = _stored(postfix, "django-1@example.com")
    assert stored == _crlf(message.rendered.as_bytes())
    assert stored == _stored(postfix, "django-bcc@example.com")
    assert b"django-bcc" not in stored
    assert queue_id(*postfix.stored("django-1@example.com")) == message.delivery_report.queue_id


@pytest.mark.usefixtures("django_site")
def test_django_send_mail(postfix: Postfix) -> None:
    assert send_mail("Hello", ".dot\n.\n", SENDER, ["django-2@example.com"]) == 1
    assert _stored(postfix, "django-2@example.com").endswith(b"\r\n\r\n.dot\r\n.\r\n")


@pytest.mark.usefixtures("django_site")
def test_django_some_are_refused(postfix: Postfix) -> None:
    message = _django_message("refused@example.com", "django-3@example.com", "deferred@example.com")
    with pytest.raises(mailbridge_django.exceptions.SomeRecipientsRefused) as caught:
        message.send()
    assert caught.value.message is message
    assert caught.value.accepted == ("django-3@example.com",)
    assert message.delivery_report.refused == ("refused@example.com",)
    assert message.delivery_report.deferred == ("deferred@example.com",)
    assert _stored(postfix, "django-3@example.com") == _crlf(message.rendered.as_bytes())
    with pytest.raises(mailbridge_django.exceptions.RecipientsRefused):
        send_mail("Hello", "text", SENDER, ["refused@example.com"])
    with pytest.raises(mailbridge_django.exceptions.SenderRefused):
        send_mail("Hello", "text", "banned@example.org", ["a@example.com"])


def test_django_batch(postfix: Postfix) -> None:
    """A batch with two bad messages in it: the others are sent, and both are told."""
    names = ["django-4", "refused", "django-5", "gone", "django-6"]
    messages = [EmailMessage("x", name, SENDER, [f"{name}@example.com"]) for name in names]
    backend = site.EmailBackend(alias="test", host=postfix.host, port=postfix.port)
    with pytest.raises(mailbridge_django.exceptions.BatchError) as caught:
        backend.send_messages(messages)
    assert [error.message for error in caught.value.errors] == [messages[1], messages[3]]
    assert [len(report.accepted) for report in caught.value.reports] == [1, 0, 1, 0, 1]
    for name in ("django-4", "django-5", "django-6"):
        assert _stored(postfix, f"{name}@example.com").endswith(name.encode() + b"\r\n")


@pytest.mark.usefixtures("django_site")
def test_django_internationalised_recipient(postfix: Postfix) -> None:
    message = EmailMessage("Grüße", "text", SENDER, ["δοκιμή-3@example.com"])
    assert message.send() == 1
    assert message.delivery_report.accepted
    (delivery,) = postfix.deliveries("δοκιμή-3@example.com")
    assert delivery.sender == SENDER


# -- Flask


@pytest.fixture
def app(postfix: Postfix) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(MAIL_SERVER=postfix.host, MAIL_PORT=postfix.port, MAIL_TIMEOUT=20)
    with app.app_context():
        yield app


def _flask_message(*recipients: str, **options: Any) -> Message:
    message = Message(
        "Grüße, Ελλάδα", list(recipients), TEXT, "<p>Grüße</p>", sender=SENDER, **options
    )
    message.attach("Grüße.bin", "application/octet-stream", ATTACHMENT)
    message.attach("notes.txt", "text/plain", "Ελλάδα\n.\n")
    return message


def test_flask_stored_is_what_was_rendered(postfix: Postfix, app: Flask) -> None:
    message = _flask_message("flask-1@example.com", bcc=["flask-bcc@example.com"])
    report = Mail(app).send(message)
    stored = _stored(postfix, "flask-1@example.com")
    assert _meaning(stored) == _meaning(_crlf(message.as_bytes()))
    assert stored == _stored(postfix, "flask-bcc@example.com")
    assert b"flask-bcc" not in stored
    assert queue_id(*postfix.stored("flask-1@example.com")) == report.queue_id
    assert report.message_id.encode() in stored


def _meaning(content: bytes) -> Any:
    """The fields, in no order and without boundaries, and what is in the parts."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    parts = [
        (part.get_content_type(), part.get_filename(), part.get_content())
        for part in message.walk()
        if not part.is_multipart()
    ]
    fields = {name: str(value) for name, value in message.items() if name != "Content-Type"}
    return message.get_content_type(), fields, parts


def test_flask_some_are_refused(postfix: Postfix, app: Flask) -> None:
    mail = Mail(app)
    message = _flask_message("refused@example.com", "flask-2@example.com", "deferred@example.com")
    with pytest.raises(mailbridge_flask.exceptions.SomeRecipientsRefused) as caught:
        mail.send(message)
    assert caught.value.message is message
    assert caught.value.accepted == ("flask-2@example.com",)
    assert message.delivery_report.deferred == ("deferred@example.com",)
    assert _stored(postfix, "flask-2@example.com")
    with pytest.raises(mailbridge_flask.exceptions.RecipientsRefused):
        mail.send_message("x", ["refused@example.com"], "text", sender=SENDER)
    with pytest.raises(mailbridge_flask.exceptions.SenderRefused):
        mail.send_message("x", ["a@example.com"], "text", sender="banned@example.org")
    with pytest.raises(mailbridge_flask.exceptions.MessageRefused):
        mail.send_message(
            "x",
            ["a@example.com"],
            "text",
            sender=SENDER,
            extra_headers={"X-Refuse-Content": "yes"},
        )


def test_flask_connection(postfix: Postfix, app: Flask) -> None:
    with Mail(app).connect() as connection:
        for number in (3, 4):
            connection.send(_flask_message(f"flask-{number}@example.com"))
        with pytest.raises(mailbridge_flask.exceptions.RecipientsRefused):
            connection.send(_flask_message("refused@example.com"))
        connection.send(_flask_message("flask-5@example.com"))
    for number in (3, 4, 5):
        assert _stored(postfix, f"flask-{number}@example.com")


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_frameworks_log_in_under_tls(
    postfix: Postfix, postfix_authority: trustme.CA, app: Flask, tmp_path: Any, tls: str
) -> None:
    ca_file = tmp_path / "ca.pem"
    postfix_authority.cert_pem.write_to_path(str(ca_file))
    port = postfix.submissions if tls == "implicit" else postfix.submission
    app.config.update(
        MAIL_PORT=port,
        MAIL_USE_TLS=tls == "starttls",
        MAIL_USE_SSL=tls == "implicit",
        MAIL_USERNAME="user",
        MAIL_PASSWORD="secret",
        MAIL_CA_FILE=str(ca_file),
    )
    Mail(app).send_message("x", [f"flask-{tls}@example.com"], "text", sender=SENDER)
    assert _stored(postfix, f"flask-{tls}@example.com")
    backend = site.EmailBackend(
        alias="test",
        host=postfix.host,
        port=port,
        use_tls=tls == "starttls",
        use_ssl=tls == "implicit",
        username="user",
        password="secret",
        ca_file=str(ca_file),
    )
    message = EmailMessage("x", "text", SENDER, [f"django-{tls}@example.com"])
    assert backend.send_messages([message]) == 1
    assert _stored(postfix, f"django-{tls}@example.com")
    untrusting = site.EmailBackend(
        alias="test",
        host=postfix.host,
        port=port,
        use_tls=tls == "starttls",
        use_ssl=tls == "implicit",
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        untrusting.open()

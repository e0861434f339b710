"""What an application calls, from send_mail to a password reset, over a real socket."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from email.message import MIMEPart
from typing import Any

import django
import pytest
from django.contrib.auth.forms import PasswordResetForm
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.management import call_command
from django.test import RequestFactory
from django.utils.log import AdminEmailHandler

from mailbridge import SomeRecipientsRefused, State
from mailbridge.testing import ScriptedServer

pytestmark = pytest.mark.usefixtures("site")


def test_send_mail(smtpd: ScriptedServer) -> None:
    sent = mail.send_mail("Hello", "Body\n", "me@example.org", ["a@example.com", "b@example.com"])
    assert sent == 1
    (received,) = smtpd.messages
    assert received.mail_from == "me@example.org"
    assert received.recipients == ("a@example.com", "b@example.com")
    assert received.message["Subject"] == "Hello"
    assert received.message.get_content() == "Body\r\n"
    assert smtpd.connections == 1


def test_send_mail_with_html(smtpd: ScriptedServer) -> None:
    mail.send_mail("Hi", "plain", None, ["a@example.com"], html_message="<p>html</p>")
    (received,) = smtpd.messages
    assert received.mail_from == "webmaster@example.com"
    assert [part.get_content_type() for part in received.message.iter_parts()] == [
        "text/plain",
        "text/html",
    ]


def test_send_mass_mail_uses_one_connection(smtpd: ScriptedServer) -> None:
    mails = [(f"Number {n}", "Body", "me@example.org", [f"r{n}@example.com"]) for n in range(5)]
    assert mail.send_mass_mail(mails) == 5
    assert [m.recipients for m in smtpd.messages] == [(f"r{n}@example.com",) for n in range(5)]
    assert smtpd.connections == 1


def test_to_cc_and_bcc(smtpd: ScriptedServer) -> None:
    message = EmailMessage(
        "Subject",
        "Body",
        "Me <me@example.org>",
        ["To <to@example.com>", ""],
        cc=["cc@example.com", "to@example.com"],
        bcc=["bcc@example.com"],
        reply_to=["answers@example.org"],
        headers={"X-Kind": "test"},
    )
    assert message.send() == 1
    (received,) = smtpd.messages
    assert received.mail_from == "me@example.org"
    # Each once, in order, and no empty one.
    assert received.recipients == ("to@example.com", "cc@example.com", "bcc@example.com")
    assert received.message["Reply-To"] == "answers@example.org"
    assert received.message["X-Kind"] == "test"
    assert "bcc@example.com" not in received.content.decode()


def test_the_report_is_on_the_message(smtpd: ScriptedServer) -> None:
    message = EmailMessage("Subject", "Body", "me@example.org", ["a@example.com"])
    message.send()
    report = message.delivery_report
    assert report.accepted == ("a@example.com",)
    assert report["a@example.com"].state is State.ACCEPTED
    assert report.relay == f"127.0.0.1:{smtpd.port}"
    assert report.reply is not None
    assert report.reply.code == 250
    assert report.message_id == smtpd.messages[0].message["Message-ID"]


def test_attachments(smtpd: ScriptedServer) -> None:
    message = EmailMultiAlternatives("Subject", "Grüße", to=["a@example.com"])
    message.attach_alternative("<p>Grüße</p>", "text/html")
    message.attach("data.bin", bytes(range(256)) * 10, "application/octet-stream")
    message.attach("notes.txt", "Zeile äöü\nzwei\n", "text/plain")
    assert message.send() == 1
    parts = list(smtpd.messages[0].message.iter_attachments())
    assert [part.get_filename() for part in parts] == ["data.bin", "notes.txt"]
    assert parts[0].get_content() == bytes(range(256)) * 10
    assert "Zeile äöü" in parts[1].get_content()


@pytest.mark.skipif(django.VERSION < (6, 0), reason="MIMEPart came with Django 6.0")
def test_an_inline_image(smtpd: ScriptedServer) -> None:
    image = MIMEPart()
    image.set_content(b"\x89PNG...", "image", "png", disposition="inline", cid="<logo@example>")
    message = EmailMultiAlternatives("Subject", "plain", to=["a@example.com"])
    message.attach_alternative('<img src="cid:logo@example">', "text/html")
    message.attach(image)
    assert message.send() == 1
    (inline,) = (
        part for part in smtpd.messages[0].message.walk() if part.get_content_type() == "image/png"
    )
    assert inline["Content-ID"] == "<logo@example>"
    assert inline.get_content() == b"\x89PNG..."


def test_a_message_to_nobody_is_not_sent(smtpd: ScriptedServer) -> None:
    assert EmailMessage("Subject", "Body", to=[]).send() == 0
    assert smtpd.connections == 0


@pytest.mark.parametrize("name", ["admin", "manager"])
def test_mail_admins_and_managers(name: str, smtpd: ScriptedServer) -> None:
    {"admin": mail.mail_admins, "manager": mail.mail_managers}[name]("Look", "here")
    (received,) = smtpd.messages
    assert received.envelope == ("root@example.com", (f"{name}@example.com",))
    assert received.message["Subject"] == "[Django] Look"


def test_sendtestemail(smtpd: ScriptedServer) -> None:
    call_command("sendtestemail", "one@example.com", "two@example.com", "--admins")
    first, second = smtpd.messages
    assert first.recipients == ("one@example.com", "two@example.com")
    assert second.recipients == ("admin@example.com",)


@pytest.fixture
def user() -> Iterator[Any]:
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    user = User.objects.create_user("ida", "ida@example.com", "secret")
    yield user
    user.delete()


def test_password_reset(user: Any, smtpd: ScriptedServer) -> None:
    form = PasswordResetForm({"email": "IDA@example.com"})
    assert form.is_valid()
    form.save(
        domain_override="example.org",
        subject_template_name="subject.txt",
        email_template_name="email.txt",
    )
    (received,) = smtpd.messages
    assert received.recipients == ("ida@example.com",)
    assert received.message["Subject"] == "Password reset on example.org"
    assert received.message.get_content().startswith("http://example.org/")


def test_admin_email_handler(smtpd: ScriptedServer) -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        exc_info = sys.exc_info()
    record = logging.LogRecord("django", logging.ERROR, __file__, 1, "Broken", (), exc_info)
    record.request = RequestFactory().get("/")
    # Only the page that shows the error needs a URLconf.
    handler = AdminEmailHandler(reporter_class="tests.django.support.Reporter")
    handler.emit(record)
    (received,) = smtpd.messages
    assert received.recipients == ("admin@example.com",)
    assert "Broken" in received.message["Subject"]


def test_a_partial_refusal_reaches_the_caller(smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.com")
    with pytest.raises(SomeRecipientsRefused) as caught:
        mail.send_mail("Hi", "Body", None, ["a@example.com", "gone@example.com"])
    assert caught.value.accepted == ("a@example.com",)
    assert set(caught.value.recipients) == {"gone@example.com"}
    assert caught.value.message.to == ["a@example.com", "gone@example.com"]


def test_own_options_come_from_the_settings(
    site: Callable[..., None], smtpd: ScriptedServer
) -> None:
    site(local_hostname="app.example.org", on_refused="raise_if_all", timeout=7)
    smtpd.refuse("gone@example.com")
    assert mail.send_mail("Hi", "Body", None, ["a@example.com", "gone@example.com"]) == 1
    assert smtpd.messages[0].helo == "app.example.org"

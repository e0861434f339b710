"""When the fast path is taken, and when it is left to Django."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email import charset
from email.mime.image import MIMEImage
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.test import override_settings
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe

from mailbridge_django.fastpath import MODERN_DJANGO, Common, render

PNG = b"\x89PNG\r\n\x1a\n"


def simple(kind: type[EmailMessage] = EmailMultiAlternatives, **values: Any) -> Any:
    headers = values.pop("headers", None)
    message = kind("Hello", "A text", "me@example.org", ["you@example.org"], headers=headers)
    for name, value in values.items():
        setattr(message, name, value)
    return message


def parsed(message: EmailMessage) -> Any:
    content = render(message)
    assert content is not None
    return email.message_from_bytes(bytes(content), policy=email.policy.default)


class Renamed(EmailMultiAlternatives):
    """A subclass that builds its messages as Django does."""

    tags: tuple[str, ...] = ()

    def recipients(self) -> list[str]:
        return ["other@example.org"]


@pytest.mark.parametrize(
    "message",
    [
        simple(EmailMessage),
        simple(),
        simple(Renamed),
        simple(subject=lazystr("Übersetzt")),
        simple(body=mark_safe("<b>")),
        simple(body=""),
        simple(content_subtype="html"),
        simple(encoding="utf-8"),
        simple(from_email="Zoë <me@example.org>"),
        simple(to=["Jürgen <a@bücher.example>", '"Mü, x" <b@example.org>']),
        simple(headers={"List-Unsubscribe": "<https://example.org/" + "x" * 200 + ">"}),
        simple(headers={"From": "x@example.org", "To": "Everybody <all@example.org>"}),
        simple(
            headers={"Message-ID": "<a@example.org>", "Date": "Tue, 24 Nov 2026 04:02:19 +0100"}
        ),
        simple(headers={"Sender": "s@example.org", "References": "<a@b> <c@d>"}),
    ],
)
def test_the_fast_path_is_taken(message: EmailMessage) -> None:
    assert parsed(message)["MIME-Version"] == "1.0"


@pytest.mark.parametrize("subject", ["Chère maman", "Grüße an alle", "Наши новости"])
def test_a_subject_is_written_as_this_django_writes_it(subject: str) -> None:
    message = simple(subject=subject)
    content = render(message)
    assert content is not None
    (written,) = [line for line in bytes(content).splitlines() if line.startswith(b"Subject:")]
    assert written in message.message().as_bytes().splitlines()


def test_a_domain_is_written_by_idna_2008() -> None:
    # Django's own "fass.example" is somebody else.
    assert str(parsed(simple(to=["a@faß.example"]))["To"]) == "a@xn--fa-hia.example"


def test_alternatives_and_attachments_are_taken() -> None:
    message = simple(body="ä")
    message.attach_alternative("<p>ä</p>", "text/html")
    message.attach("a.txt", "text", "text/plain")
    message.attach("фото.png", PNG, "image/png")
    message.attach(None, b"\0", "application/pdf")
    content = parsed(message)
    assert content.get_content_type() == "multipart/mixed"
    alternative, *attached = content.iter_parts()
    assert [each.get_content_subtype() for each in alternative.iter_parts()] == ["plain", "html"]
    assert [each.get_filename() for each in attached] == ["a.txt", "фото.png", None]
    assert attached[1].get_content() == PNG


class OwnMessage(EmailMessage):
    def message(self, *args: Any, **kwargs: Any) -> Any:
        return super().message(*args, **kwargs)


class OwnParts(EmailMultiAlternatives):
    def _create_attachments(self, msg: Any) -> Any:
        return msg

    def _add_attachments(self, msg: Any) -> None: ...


class OwnList(EmailMessage):
    def _set_list_header_if_not_empty(self, *args: Any) -> None: ...


def replaced() -> EmailMessage:
    message = simple()
    message.message = lambda **_: None
    return message


def with_image() -> EmailMessage:
    message = simple()
    message.attachments.append(MIMEImage(PNG))
    return message


def with_message() -> EmailMessage:
    message = simple()
    message.attach("a.eml", "Subject: x\n\ny", "message/rfc822")
    return message


@pytest.mark.parametrize(
    "make",
    [
        lambda: simple(OwnMessage),
        lambda: simple(OwnParts),
        lambda: simple(OwnList),
        replaced,
        with_image,
        with_message,
        lambda: simple(encoding="iso-8859-1"),
        lambda: simple(encoding=charset.Charset("utf-8")),
        lambda: simple(body=b"octets"),
        lambda: simple(alternatives=[("<p>", "text/html", "more")]),
        lambda: simple(attachments=[("a.txt", "text")]),
        lambda: simple(extra_headers=[("X-A", "b")]),
        lambda: simple(extra_headers={"X-A": 5}),
        lambda: simple(extra_headers={"X-A": "1", "x-a": "2"}),
        lambda: simple(extra_headers={"Subject": "another"}),
        lambda: simple(extra_headers={"Content-Type": "text/html"}),
        lambda: simple(extra_headers={"Bcc": "x@example.org"}),
    ],
)
def test_django_does_it(make: Callable[[], EmailMessage]) -> None:
    assert render(make()) is None


def test_django_does_it_with_another_charset() -> None:
    with override_settings(DEFAULT_CHARSET="iso-8859-1"):
        assert render(simple()) is None


def test_django_does_it_when_its_methods_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmailMessage, "message", lambda self, **_: None)
    assert render(simple(EmailMessage)) is None


@pytest.mark.skipif(MODERN_DJANGO, reason="Django 6 has no such attributes")
def test_subtypes_of_django_5() -> None:
    message = simple(mixed_subtype="related")
    message.attach("a.png", PNG, "image/png")
    assert parsed(message).get_content_type() == "multipart/related"


@pytest.mark.skipif(not MODERN_DJANGO, reason="Django 5 has these")
def test_subtypes_are_an_error_in_django_6() -> None:
    assert render(simple(mixed_subtype="related")) is None


@pytest.mark.parametrize("local", [False, True])
def test_the_date_is_in_the_zone_of_the_settings(local: bool) -> None:
    with override_settings(EMAIL_USE_LOCALTIME=local, USE_TZ=True, TIME_ZONE="America/Chicago"):
        date = str(parsed(simple())["Date"])
    utc = "+0000" if django.VERSION >= (6, 0) else "-0000"
    assert date.endswith(utc) is not local


def test_bodies_are_used_again() -> None:
    common = Common()
    first, second, other = (render(simple(subject=str(n)), common) for n in range(3))
    assert first is not None
    assert second is not None
    assert first.body is second.body
    assert bytes(first) != bytes(second)
    other = render(simple(body="another"), common)
    assert other is not None
    assert other.body is not first.body


def test_bodies_with_attachments_are_used_again() -> None:
    common, content = Common(size=1), PNG * 2
    messages = [simple(), simple(), simple()]
    for message, octets in zip(
        messages, [content, content, bytes(bytearray(content))], strict=True
    ):
        message.attach("a.png", octets, "image/png")
    first, second, third = (render(message, common) for message in messages)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.body is second.body
    # Equal octets in another place are not looked at.
    assert third.body is not first.body

"""From Django's message to envelope and bytes."""

from __future__ import annotations

import email.policy
import warnings
from collections.abc import Callable
from email.headerregistry import Address
from email.mime.text import MIMEText
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage
from django.core.mail.utils import DNS_NAME
from django.utils.functional import lazystr

from mailbridge import NonASCIIAddress
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend
from mailbridge_django.message import addr_spec, to_mail

Make = Callable[..., EmailBackend]
SIX = django.VERSION >= (6, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@example.com", "a@example.com"),
        ("Name <a@example.com>", "a@example.com"),
        ('"Last, First" <a@example.com>', "a@example.com"),
        ("Jürgen <a@example.com>", "a@example.com"),
        ("Dr. Who <a@example.com>", "a@example.com"),
        ("a@example.com (Name)", "a@example.com"),
        ("webmaster", "webmaster"),
        ('"a b"@example.com', '"a b"@example.com'),
        ("a@faß.example", "a@xn--fa-hia.example"),
        ("a@漢字.example", "a@xn--p8s937b.example"),
        ("a@xn--fa-hia.example", "a@xn--fa-hia.example"),
        (Address("Name", "a", "example.com"), "a@example.com"),
        (lazystr("a@example.com"), "a@example.com"),
    ],
)
def test_addr_spec(text: Any, expected: str) -> None:
    assert addr_spec(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a@b@example.com",
        "a@other.example <a@example.com>",
        "a@example.com, b@example.com",
        "@",
        "a@",
        "@example.com",
        '"a@example.com\r\nb"@example.com',
        "a\nb@example.com",
        "a@example.com (\r\n)",
        "a@exa mple.com",
        "a@example..com",
        "",
        "group: a@example.com;",
    ],
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid address"):
        addr_spec(text)


@pytest.mark.parametrize("text", ["åh@example.dk", "oh@åh.example.dk", "åh@åh.example.dk"])
def test_addr_spec_without_force_ascii(text: str) -> None:
    assert addr_spec(text, force_ascii=False) == text
    assert EmailBackend(alias="x", host="h").prep_address(text, force_ascii=False) == text


def test_local_parts_outside_ascii() -> None:
    with pytest.raises(NonASCIIAddress, match=r"Invalid address 'nø@example.dk': local-part"):
        addr_spec("nø@example.dk")


def test_the_envelope_is_not_the_header() -> None:
    message = EmailMessage(
        "Subject",
        "Body",
        "Bounces <bounces@example.org>",
        ["list@example.com", "", "LIST@example.com", "List <list@example.com>"],
        headers={"From": "shown@example.org", "To": "everybody@example.com"},
    )
    mail = to_mail(message)
    assert mail.envelope.sender == "bounces@example.org"
    # Case matters in a local part; the same address twice does not.
    assert mail.envelope.recipients == ("list@example.com", "LIST@example.com")
    assert b"From: shown@example.org\r\n" in bytes(mail.content)
    assert b"To: everybody@example.com\r\n" in bytes(mail.content)


def test_recipients_can_be_overridden() -> None:
    class Redirected(EmailMessage):
        def recipients(self) -> list[str]:
            return ["dev@example.org", ""]

    assert to_mail(Redirected(to=["a@example.com"])).envelope.recipients == ("dev@example.org",)


def test_the_null_reverse_path() -> None:
    message = EmailMessage(
        from_email="<>", to=["a@example.com"], headers={"From": "mailer-daemon@example.org"}
    )
    assert to_mail(message).envelope.sender is None


def test_nobody_to_send_to() -> None:
    with pytest.raises(ValueError, match="no recipients"):
        to_mail(EmailMessage())


def test_content_has_crlf_only() -> None:
    content = bytes(to_mail(EmailMessage("S", "a\nb\r\nc\n.\n", to=["a@example.com"])).content)
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert content.endswith(b"a\r\nb\r\nc\r\n.\r\n")


def test_the_message_id_has_the_name_that_django_has_for_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DNS_NAME, "_fqdn", "web1.example.org", raising=False)
    assert b"@web1.example.org>" in bytes(to_mail(EmailMessage(to=["a@example.com"])).content)


def test_eight_bits_are_declared(backend: Make, smtpd: ScriptedServer) -> None:
    message = EmailMessage("Grüße", "Viele Grüße\n", to=["a@example.com"])
    assert backend().send_messages([message]) == 1
    (received,) = smtpd.messages
    assert "BODY=8BITMIME" in received.mail_parameters
    assert received.message["Content-Transfer-Encoding"] == "8bit"
    assert received.message.get_content() == "Viele Grüße\r\n"
    assert received.message["Subject"] == "Grüße"


def test_seven_bits_where_eight_are_not_taken(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.without("8BITMIME")
    message = EmailMessage("Grüße", "Viele Grüße\n", to=["a@example.com"])
    assert backend().send_messages([message]) == 1
    (received,) = smtpd.messages
    assert received.content.isascii()
    assert received.message.get_content() in ("Viele Grüße\r\n", "Viele Grüße\n")


def test_domains_outside_ascii(backend: Make, smtpd: ScriptedServer) -> None:
    message = EmailMessage(from_email="me@straße.example", to=["a@faß.example"])
    assert backend().send_messages([message]) == 1
    assert smtpd.messages[0].envelope == ("me@xn--strae-oqa.example", ("a@xn--fa-hia.example",))
    # The report is for whoever wrote the address, as he wrote it.
    assert message.delivery_report.accepted == ("a@faß.example",)


def test_domains_in_the_header_are_those_of_the_envelope(smtpd: ScriptedServer) -> None:
    message = EmailMessage(
        from_email="Ida <me@straße.example>",
        to=["Å <a@faß.example>", "b@bücher.example", "c@example.com"],
        reply_to=["me@faß.example"],
        headers={"Sender": "Büro <me@straße.example>", "X-Domain": "x@faß.example"},
    )
    content = bytes(to_mail(message).content)
    assert b"From: Ida <me@xn--strae-oqa.example>\r\n" in content
    assert b"a@xn--fa-hia.example" in content
    assert b"b@xn--bcher-kva.example" in content
    assert b"Reply-To: me@xn--fa-hia.example\r\n" in content
    assert b"fass" not in content.lower()
    assert b"strasse" not in content.lower()
    assert message.from_email == "Ida <me@straße.example>"


@pytest.mark.parametrize("offered", [True, False])
def test_internationalised_addresses(offered: bool, backend: Make, smtpd: ScriptedServer) -> None:
    message = EmailMessage("Subject", "Body", "me@example.org", ["nø@example.dk"])
    if offered:
        assert backend().send_messages([message]) == 1
        (received,) = smtpd.messages
        assert received.recipients == ("nø@example.dk",)
        assert "SMTPUTF8" in received.mail_parameters
        if SIX:
            assert "To: nø@example.dk\r\n".encode() in received.content
    else:
        smtpd.without("SMTPUTF8")
        with pytest.raises(ValueError, match=r"Invalid address 'nø@example.dk'"):
            backend().send_messages([message])
        assert message.delivery_report.not_attempted == ("nø@example.dk",)
        assert smtpd.messages == ()


# Messages that render themselves.


class Old(EmailMessage):
    """Overrides message() as it was up to Django 5.2."""

    def message(self) -> Any:  # type: ignore[override]
        mime = super().message()
        mime["X-Old"] = "yes"
        return mime


class New(EmailMessage):
    def message(self, **kwargs: Any) -> Any:
        assert bool(kwargs) is SIX
        mime = super().message(**kwargs)
        mime["X-New"] = "yes"
        return mime


class Other(EmailMessage):
    """Returns something that is not made by Django."""

    def message(self, *, policy: Any = email.policy.default) -> Any:
        return MIMEText("From here\non", "plain")


def test_message_without_policy() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            content = bytes(to_mail(Old("S", "Body", to=["a@example.com"])).content)
            assert b"X-Old: yes\r\n" in content
            assert b"\n" not in content.replace(b"\r\n", b"")
    assert [w.category for w in caught] == ([RuntimeWarning] if SIX else [])
    assert all("'policy'" in str(w.message) for w in caught)


def test_message_with_anything() -> None:
    assert b"X-New: yes\r\n" in bytes(to_mail(New(to=["a@example.com"])).content)


def test_message_of_another_kind() -> None:
    content = bytes(to_mail(Other(to=["a@example.com"])).content)
    assert content.endswith(b"From here\r\non\r\n")

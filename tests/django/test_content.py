"""What is done to the content of a message on its way, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from email.mime.text import MIMEText
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.test import override_settings

from mailbridge import SMTP, DeliveryReport, InvalidInput
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, signals

Make = Callable[..., EmailBackend]
LONG = "x" * 2000


def message() -> EmailMessage:
    """A message with a ready-made part that no server need take as it is."""
    made = EmailMessage("Subject", "Body", to=["a@example.com"])
    made.attach(MIMEText(LONG))
    return made


def is_fitted(smtpd: ScriptedServer, mail: EmailMessage) -> bool:
    (received,) = smtpd.messages
    (part,) = received.message.iter_attachments()
    (change,) = mail.delivery_report.changes  # type: ignore[attr-defined]
    return (
        max(map(len, received.content.split(b"\r\n"))) <= 998
        and part.get_content().rstrip() == LONG
        and change.startswith("text/plain written as quoted-printable")
    )


def test_long_lines_are_re_encoded_and_told(backend: Make, smtpd: ScriptedServer) -> None:
    told: list[DeliveryReport] = []

    def receive(status: DeliveryReport, **kwargs: Any) -> None:
        told.append(status)

    mail = message()
    signals.post_send.connect(receive)
    try:
        assert backend().send_messages([mail]) == 1
    finally:
        signals.post_send.disconnect(receive)
    assert is_fitted(smtpd, mail)
    assert told == [mail.delivery_report]  # type: ignore[attr-defined]


def test_nothing_else_is_changed(backend: Make, smtpd: ScriptedServer) -> None:
    mails = [EmailMessage("Grüße", body, to=["a@example.com"]) for body in ("Grüße", LONG, "Hi")]
    assert backend(strict=True).send_messages(mails) == 3
    assert [mail.delivery_report.changes for mail in mails] == [(), (), ()]  # type: ignore[attr-defined]


def test_strict_refuses_one_message_and_sends_the_others(
    backend: Make, smtpd: ScriptedServer
) -> None:
    mails = [message(), EmailMessage("Subject", "Body", to=["a@example.com"])]
    with pytest.raises(InvalidInput, match="strict is set"):
        backend(strict=True).send_messages(mails)
    assert [mail.delivery_report.accepted for mail in mails] == [(), ("a@example.com",)]  # type: ignore[attr-defined]
    assert len(smtpd.messages) == 1


def test_strict_is_for_every_relay(smtpd: ScriptedServer) -> None:
    ours = {"relays": [smtpd.url, f"{smtpd.url}?strict=0"], "strict": "yes"}
    with override_settings(MAILBRIDGE=ours):
        assert [relay.strict for relay in EmailBackend().all_relays()] == [True, True, True]
    with override_settings(MAILBRIDGE={"url": f"{smtpd.url}?strict=1"}):
        assert [relay.strict for relay in EmailBackend().all_relays()] == [True]


class Foreign(EmailBackend):
    """As a subclass of Django's backend would be: smtplib's class, and its sendmail."""

    @property
    def connection_class(self) -> type[SMTP]:
        class Connection(SMTP):
            pass

        return Connection


def test_a_foreign_connection_is_given_what_fits(backend: Make, smtpd: ScriptedServer) -> None:
    mail = message()
    assert backend(Foreign).send_messages([mail]) == 1
    assert is_fitted(smtpd, mail)


def test_strict_cannot_be_promised_over_a_foreign_connection(
    backend: Make, smtpd: ScriptedServer
) -> None:
    with pytest.raises(ImproperlyConfigured, match="strict needs a connection"):
        backend(Foreign, strict=True).send_messages([message()])
    assert smtpd.messages == ()

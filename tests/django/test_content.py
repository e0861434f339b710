"""What is done to the content of a message on its way, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from email.message import MIMEPart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any
from unittest import mock

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.test import override_settings

from mailbridge import SMTP, DeliveryReport, InvalidInput
from mailbridge.render import Rendered
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, signals
from tests.dkim_keys import ED25519, pem, rsa_key, signer, verifies

Make = Callable[..., EmailBackend]
LONG = "x" * 2000


def message() -> EmailMessage:
    """A message with a ready-made part that no server need take as it is."""
    made = EmailMessage("Subject", "Body", to=["a@example.com"])
    if django.VERSION < (6, 0):
        made.attach(MIMEText(LONG))
    else:
        part = MIMEPart()
        part["Content-Type"] = "text/plain"
        part.set_payload(LONG)
        made.attach(part)
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


def test_a_foreign_connection_has_a_mail_rendered_once(
    backend: Make, smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = mock.Mock(side_effect=Rendered.__bytes__)
    monkeypatch.setattr(Rendered, "__bytes__", lambda content: rendered(content))
    mails = [EmailMessage("Grüße", body, to=["a@example.com"]) for body in ("Hi", "Grüße")]
    assert backend(Foreign).send_messages(mails) == 2
    assert rendered.call_count == len(smtpd.messages) == 2


def test_strict_cannot_be_promised_over_a_foreign_connection(
    backend: Make, smtpd: ScriptedServer
) -> None:
    with pytest.raises(ImproperlyConfigured, match="strict needs a connection"):
        backend(Foreign, strict=True).send_messages([message()])
    assert smtpd.messages == ()


# -- DKIM

DKIM = {"dkim_domain": "example.org", "dkim_selector": "ed1", "dkim_key": ED25519}


@pytest.mark.parametrize("keywords", [(), ("8BITMIME",), ("CHUNKING", "8BITMIME", "PIPELINING")])
def test_mail_is_signed(keywords: tuple[str, ...]) -> None:
    with ScriptedServer(extensions=keywords) as smtpd:
        with override_settings(EMAIL_HOST=smtpd.host, EMAIL_PORT=smtpd.port, MAILBRIDGE=DKIM):
            mails = [message(), EmailMessage("Grüße", ".Grüße\n.\n", to=["a@example.com"])]
            mails[1].attach("a.bin", b"x" * 200_000, "application/octet-stream")
            assert EmailBackend().send_messages(mails) == 2
        assert [verifies(received.content) for received in smtpd.messages] == [True, True]


def test_every_relay_signs(smtpd: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "dkim.pem"
    path.write_text(pem(rsa_key()))
    ours = {"relays": [smtpd.url], "url": smtpd.url, **DKIM, "dkim_key": path}
    with override_settings(MAILBRIDGE=ours):
        for relay in EmailBackend().all_relays():
            assert relay.dkim is not None
            assert relay.dkim.algorithm == "rsa-sha256"


def test_a_wrong_key_is_found_when_the_backend_is_made() -> None:
    with override_settings(MAILBRIDGE={**DKIM, "dkim_key": "/no/such/file"}):
        with pytest.raises(ImproperlyConfigured, match="dkim_key is neither"):
            EmailBackend()
    with override_settings(MAILBRIDGE={"dkim_domain": "example.org"}):
        with pytest.raises(ImproperlyConfigured, match="dkim_selector is not set"):
            EmailBackend()


@pytest.mark.parametrize("options", [DKIM, {"dkim": signer()}])
def test_a_signature_cannot_be_promised_over_a_foreign_connection(
    options: dict[str, Any], backend: Make, smtpd: ScriptedServer
) -> None:
    with pytest.raises(ImproperlyConfigured, match="dkim needs a connection"):
        backend(Foreign, **options).send_messages([message()])
    assert smtpd.messages == ()

"""What the pytest plugin does to Django: it sends, although there is a test runner's backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage, send_mail
from django.test import override_settings
from django.test.utils import _TestState
from django.utils.module_loading import import_string

from mailbridge import SomeRecipientsRefused
from mailbridge.testing import Mailbox, ScriptedServer, captured
from mailbridge_django import EmailBackend
from mailbridge_django.exceptions import MailError
from mailbridge_django.testing import sending

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
BACKEND = "mailbridge_django.EmailBackend"

MODES = ["legacy", "mailers"] if django.VERSION >= (6, 1) else ["legacy"]


class Own(EmailBackend):
    """A project's own backend."""


@pytest.fixture(params=MODES)
def configured(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Does what a test runner does to a project that is configured like that."""
    overrides = []
    monkeypatch.setattr(mail, "outbox", [], raising=False)

    def configure(backend: str, **options: Any) -> None:
        if request.param == "mailers":
            mailers = {"default": {"BACKEND": backend, "OPTIONS": options}}
            state = SimpleNamespace(mailers=mailers)
            change = override_settings(MAILERS={"default": {"BACKEND": LOCMEM}})
        else:
            state = SimpleNamespace(email_backend=backend)
            change = override_settings(EMAIL_BACKEND=LOCMEM, MAILBRIDGE=options)
        change.enable()
        overrides.append(change)
        monkeypatch.setattr(_TestState, "saved_data", state, raising=False)

    yield configure
    for change in overrides:
        change.disable()


def current() -> EmailBackend:
    if hasattr(settings, "MAILERS"):
        from django.core.mail import mailers

        return mailers["default"]
    backend: EmailBackend = import_string(settings.EMAIL_BACKEND)()
    return backend


def send(*to: str) -> EmailMessage:
    message = EmailMessage("Hello", "It works.\n", "shop@example.org", list(to))
    message.send()
    return message


def test_mail_goes_to_the_server(configured: Callable[..., None], smtpd: ScriptedServer) -> None:
    configured(BACKEND, host="mail.example.org", tls="starttls", username="shop", password="x")
    smtpd.refuse("gone@example.net")
    with sending(smtpd.relay_options()):
        assert send_mail("Hello", "Hi.", "shop@example.org", ["ada@example.org"]) == 1
        with pytest.raises(SomeRecipientsRefused):
            send("eve@example.org", "gone@example.net")
        with pytest.raises(MailError):
            send("gone@example.net")
    assert [m.recipients for m in smtpd.messages] == [("ada@example.org",), ("eve@example.org",)]
    assert smtpd.messages[0].user is None
    # pytest-django's mailoutbox has what the server took.
    assert [m.recipients() for m in mail.outbox] == [
        ["ada@example.org"],
        ["eve@example.org", "gone@example.net"],
    ]


def test_what_is_configured_besides_the_server_stays(
    configured: Callable[..., None], smtpd: ScriptedServer
) -> None:
    configured(BACKEND, host="mail.example.org", ca_file="/none.pem", on_refused="report", tries=3)
    with sending(smtpd.relay_options()):
        backend = current()
        assert (backend.host, backend.port) == (smtpd.host, smtpd.port)
        assert backend.on_refused == "report"
        assert backend.retry.tries == 3
        assert "ca_file" not in backend.options


def test_the_django_settings_of_the_server_do_not_count(smtpd: ScriptedServer) -> None:
    with (
        override_settings(
            EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
            EMAIL_HOST="mail.example.org",
            EMAIL_USE_TLS=True,
            EMAIL_HOST_USER="shop",
            EMAIL_HOST_PASSWORD="secret",
        ),
        sending(smtpd.relay_options()),
    ):
        send("ada@example.org")
    assert smtpd.messages[0].user is None


def test_a_project_s_own_backend_stays(configured: Callable[..., None]) -> None:
    configured(f"{__name__}.Own", host="mail.example.org")
    with sending():
        assert type(current()).__name__ == "Own"
        assert current().host == "mail.example.org"


@pytest.mark.parametrize("backend", [LOCMEM, "mailbridge_django.backends.outbox.EmailBackend"])
def test_a_backend_that_does_not_send_is_replaced(
    configured: Callable[..., None], backend: str
) -> None:
    configured(backend)
    with sending():
        assert type(current()) is EmailBackend


def test_it_ends(configured: Callable[..., None], smtpd: ScriptedServer) -> None:
    configured(BACKEND, host="mail.example.org")
    with sending(smtpd.relay_options()):
        pass
    send("ada@example.org")
    assert smtpd.connections == 0
    assert len(mail.outbox) == 1


def test_a_mailbox_takes_what_is_sent(configured: Callable[..., None]) -> None:
    configured(BACKEND, host="mail.example.org", tls="starttls", on_refused="raise")
    mailbox = Mailbox()
    mailbox.refuse("gone@example.net")
    with captured(mailbox), sending():
        send("ada@example.org")
        with pytest.raises(SomeRecipientsRefused) as caught:
            send("eve@example.org", "gone@example.net")
        backend = current()
        messages = [
            EmailMessage(f"No. {i}", "", "shop@example.org", [to])
            for i, to in enumerate(("bob@example.org", "gone@example.net", "joe@example.org"))
        ]
        with pytest.raises(MailError):
            backend.send_messages(messages)
    assert caught.value.accepted == ("eve@example.org",)
    assert [mail.subject for mail in mailbox] == ["Hello", "Hello", "No. 0", "No. 1", "No. 2"]
    mailbox.assert_sent(to="joe@example.org", subject="No. 2")
    mailbox.assert_refused("gone@example.net")
    assert len(mail.outbox) == 4

"""The outbox backend, and the mailbox page in Django."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import include, path
from django.utils.translation import get_language

from mailbridge.preview import preview, registry
from mailbridge.testing import ScriptedServer
from mailbridge_django.backends.outbox import EmailBackend
from mailbridge_django.preview.checks import check_mailbox

urlpatterns = [path("mail/", include("mailbridge_django.preview.urls"))]
SMTP = "mailbridge_django.EmailBackend"


def nobody(request: HttpRequest) -> bool:
    return False


@pytest.fixture
def box(tmp_path: Path) -> Any:
    options = {"path": str(tmp_path / "box")}
    with override_settings(
        MAILBRIDGE_OUTBOX=options, ROOT_URLCONF=__name__, DEBUG=True, ALLOWED_HOSTS=["*"]
    ):
        yield EmailBackend()


def message(*to: str) -> EmailMessage:
    return EmailMessage("Hi", "Words", "a@example.org", list(to) or ["b@example.org"])


def test_it_captures(box: EmailBackend) -> None:
    mail = message()
    assert box.send_messages([mail]) == 1
    assert [each.subject for each in box.outbox.entries()] == ["Hi"]
    assert mail.delivery_report.not_attempted == ("b@example.org",)  # type: ignore[attr-defined]


def test_it_sends_as_well_and_keeps_the_report(box: EmailBackend) -> None:
    with ScriptedServer() as smtpd:
        smtpd.refuse("gone@example.net", 550, "5.1.1 No such user")
        box.using = (SMTP,)
        with override_settings(EMAIL_HOST=smtpd.host, EMAIL_PORT=smtpd.port):
            with pytest.raises(Exception, match="No such user"):
                box.send_messages([message("b@example.org", "gone@example.net")])
        assert len(smtpd.messages) == 1
    (captured,) = box.outbox.entries()
    assert captured.trouble == 1
    page = Client().get(f"/mail/{captured.id}/").content.decode()
    assert "1 of 2 reached" in page
    assert "5.1.1 No such user" in page


def test_a_path_is_relative_to_the_project(box: EmailBackend, tmp_path: Path) -> None:
    with override_settings(BASE_DIR=tmp_path, MAILBRIDGE_OUTBOX={"path": "of/mine"}):
        EmailBackend().send_messages([message()])
    assert (tmp_path / "of" / "mine").is_dir()


def test_a_wrong_option_is_named() -> None:
    with (
        override_settings(MAILBRIDGE_OUTBOX={"pth": "x"}),
        pytest.raises(ImproperlyConfigured, match="pth"),
    ):
        EmailBackend()


@pytest.mark.parametrize(
    "settings", [{"DEBUG": False}, {"MAILBRIDGE_PREVIEW_ALLOWED": nobody}]
)  # fmt: skip
def test_nothing_is_served_to_others(box: EmailBackend, settings: dict[str, Any]) -> None:
    box.send_messages([message()])
    name = box.outbox.entries()[0].id
    with override_settings(**settings):
        for rest in ("", "api/messages", f"{name}/", f"{name}/raw", "static/mailbox.css"):
            assert Client().get(f"/mail/{rest}").status_code == 404
        assert Client().post("/mail/clear").status_code == 404


def test_a_post_needs_the_token(box: EmailBackend) -> None:
    box.send_messages([message()])
    client = Client(enforce_csrf_checks=True)
    assert client.post("/mail/clear").status_code == 403
    client.get("/mail/")
    token = client.cookies["csrftoken"].value
    assert client.post("/mail/clear", {"csrfmiddlewaretoken": token}).status_code == 302 + 1
    assert box.outbox.entries() == []


def test_the_source_is_streamed(box: EmailBackend) -> None:
    box.send_messages([message()])
    response = Client().get(f"/mail/{box.outbox.entries()[0].id}/raw")
    assert b"Words" in b"".join(response.streaming_content)


def test_the_deploy_check_warns(box: EmailBackend) -> None:
    assert check_mailbox(None) == []
    backend = "mailbridge_django.backends.outbox.EmailBackend"
    with override_settings(EMAIL_BACKEND=backend, MAILBRIDGE_PREVIEW_ALLOWED=nobody):
        found = run_checks(tags=["mail"], include_deployment_checks=True)
    assert [each.id for each in found if each.hint] == ["mailbridge.W010", "mailbridge.W011"]


def test_a_preview_is_shown_in_a_language(
    box: EmailBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_known", {})

    @preview("In a language")
    def in_a_language() -> EmailMessage:
        return EmailMessage(f"lang {get_language()}", "x", "a@example.org", ["b@example.org"])

    with override_settings(USE_I18N=True, LANGUAGES=[("en", "English"), ("de", "Deutsch")]):
        url = "/mail/previews/in-a-language/"
        assert "<h2>lang de</h2>" in Client().get(url, {"lang": "de"}).content.decode()
        assert "<h2>lang xx</h2>" not in Client().get(url, {"lang": "xx"}).content.decode()
    assert box.outbox.entries() == []

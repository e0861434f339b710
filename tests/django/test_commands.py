"""``manage.py mailbridge check``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import django
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from mailbridge.testing import ScriptedServer

Configure = Callable[..., None]


def check(*words: str) -> str:
    out = io.StringIO()
    call_command("mailbridge", "check", *words, stdout=out)
    return out.getvalue()


def test_it_says_what_it_found(site: Configure, smtpd: ScriptedServer) -> None:
    assert check("--rcpt", "a@example.com").endswith("All is well.\n")
    assert not smtpd.messages
    assert "C: MAIL FROM:<webmaster@example.com>" in smtpd.transcript


def test_a_failure_is_an_exit_status(site: Configure, smtpd: ScriptedServer) -> None:
    smtpd.refuse("bad@example.com")
    with pytest.raises(CommandError, match=r"rcpt: bad@example\.com: 550 5\.1\.1") as caught:
        check("--rcpt", "bad@example.com")
    assert caught.value.returncode == 1


def test_every_relay_is_tried(site: Configure, smtpd: ScriptedServer) -> None:
    site(relays=[smtpd.url])
    assert len(json.loads(check("--json"))) == 2


def test_a_backend_of_somebody_elses(site: Configure) -> None:
    with (
        override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend")
        if django.VERSION < (6, 1)
        else override_settings(
            MAILERS={"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
        ),
        pytest.raises(CommandError, match="is none of mailbridge's") as caught,
    ):
        check()
    assert caught.value.returncode == 2


def test_a_mailbox_that_sends_nothing() -> None:
    backend = "mailbridge_django.backends.outbox.EmailBackend"
    with override_settings(**{SETTING: {"default": {"BACKEND": backend}}}):
        with pytest.raises(CommandError, match="sends to no server"):
            check("--using", "default")


SETTING = "MAILERS" if django.VERSION >= (6, 1) else "MAILBRIDGE_MAILERS"


def test_an_alias(smtpd: ScriptedServer) -> None:
    options = {"host": smtpd.host, "port": smtpd.port}
    entry = {"BACKEND": "mailbridge_django.EmailBackend", "OPTIONS": options}
    with override_settings(**{SETTING: {"default": entry, "bulk": entry}}):
        assert check("--using", "bulk").endswith("All is well.\n")
        with pytest.raises(
            CommandError, match=r"'nobody', which is not in MAIL\w+ \('def"
        ) as caught:
            check("--using", "nobody")
        assert caught.value.returncode == 2


def test_a_mailer_that_sends_by_others(smtpd: ScriptedServer) -> None:
    options = {"host": smtpd.host, "port": smtpd.port}
    entry = {"BACKEND": "mailbridge_django.EmailBackend", "OPTIONS": options}
    both = {
        "BACKEND": "mailbridge_django.backends.failover.EmailBackend",
        "OPTIONS": {"using": ["a", "b"]},
    }
    with override_settings(**{SETTING: {"default": both, "a": entry, "b": entry}}):
        assert len(json.loads(check("--json", "--using", "default"))) == 2

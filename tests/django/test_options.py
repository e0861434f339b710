"""Every option of the core counts: in OPTIONS, in MAILBRIDGE, and when the settings change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
import pytest
from django.core import mail
from django.test import override_settings

from mailbridge.options import OPTION_NAMES, TRANSPORT_OPTIONS
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend
from mailbridge_django.exceptions import SomeRecipientsRefused
from tests.django.conftest import BACKEND
from tests.option_samples import SAMPLES

NAMES = sorted(SAMPLES)


def given(name: str) -> dict[str, Any]:
    sample = SAMPLES[name]
    host = {} if name == "url" else {"host": "mail.example.org"}
    return {**host, **sample.beside, name: sample.value}


def arrived(name: str, backend: EmailBackend) -> bool:
    return SAMPLES[name].arrived(backend.all_relays()[0], backend)


def test_there_is_a_sample_of_each() -> None:
    assert SAMPLES.keys() == OPTION_NAMES | TRANSPORT_OPTIONS


@pytest.mark.parametrize("name", NAMES)
def test_in_options(name: str) -> None:
    assert arrived(name, EmailBackend(alias="news", **given(name)))


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
def test_in_mailers() -> None:
    mailers = {name: {"BACKEND": BACKEND, "OPTIONS": given(name)} for name in NAMES}
    with override_settings(MAILERS=mailers):
        lost = [name for name in NAMES if not arrived(name, mail.mailers[name])]
    assert lost == []


@pytest.mark.parametrize("name", NAMES)
def test_in_mailbridge(name: str) -> None:
    with override_settings(MAILBRIDGE=given(name), EMAIL_BACKEND=BACKEND):
        assert arrived(name, EmailBackend())
    assert not arrived(name, EmailBackend(host="mail.example.org"))


def test_settings_that_change_count_at_once(
    site: Callable[..., None], smtpd: ScriptedServer
) -> None:
    smtpd.refuse("bob@example.com")
    send = ("subject", "text", "ida@example.com", ["bob@example.com", "eve@example.com"])
    with pytest.raises(SomeRecipientsRefused):
        mail.send_mail(*send)
    site(on_refused="report", url=f"{smtpd.url}?tls=none&max_messages=1")
    assert mail.send_mail(*send) == 1
    assert mail.send_mail(*send) == 1
    assert smtpd.connections == 3

"""Relays that are kept from one backend to the next, and those that may not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from mailbridge import TLS, OptionError, Relay, Timeouts
from mailbridge_django import EmailBackend
from mailbridge_django.relays import relay_from
from tests.dkim_keys import pem, rsa_key

PLAIN: list[dict[str, Any]] = [
    {"host": "mail.example.org", "port": 25, "tls": TLS.NONE, "timeout": 5, "username": None},
    {"host": "mail.example.org", "timeouts": Timeouts(1, 2, 3), "strict": True},
    {"url": "smtp://me:pw@mail.example.org?tls=starttls&max_connections=3", "port": 2525},
]


@pytest.mark.parametrize("options", PLAIN)
def test_equal_options_are_one_relay(options: dict[str, Any]) -> None:
    assert relay_from(options) == Relay.from_options(options)
    assert relay_from(dict(options)) is relay_from(options)


def test_one_relay_for_each_backend_of_the_same_settings() -> None:
    with override_settings(EMAIL_HOST="mail.example.org", EMAIL_HOST_USER="", EMAIL_PORT=2525):
        (relay,), (again,) = EmailBackend().all_relays(), EmailBackend().all_relays()
        (other,) = EmailBackend(host="mail.example.com").all_relays()
    assert relay is again
    assert (relay.host, other.host) == ("mail.example.org", "mail.example.com")


def test_settings_are_noticed_however_they_are_changed() -> None:
    with override_settings(EMAIL_HOST="a.example", EMAIL_PORT=2525, MAILBRIDGE={}):
        assert EmailBackend().all_relays()[0].address == "a.example:2525"
        settings.EMAIL_HOST = "b.example"
        assert EmailBackend().all_relays()[0].address == "b.example:2525"
        settings.MAILBRIDGE["strict"] = True
        assert EmailBackend().all_relays()[0].strict
        settings.EMAIL_PORT = True
        with pytest.raises(ImproperlyConfigured, match="True"):
            EmailBackend()
        settings.EMAIL_PORT = 2525
        del settings.MAILBRIDGE["strict"]
        with override_settings(MAILBRIDGE=["strict"]), pytest.raises(ImproperlyConfigured):
            EmailBackend()
        (relay,) = EmailBackend().all_relays()
        assert (relay.address, relay.strict) == ("b.example:2525", False)


@pytest.mark.parametrize(
    ("name", "value"), [("host", "b.example"), ("port", 26), ("timeout", 7), ("use_tls", True)]
)
def test_attributes_count_as_they_are_now(name: str, value: object) -> None:
    (before,) = EmailBackend(host="a.example").all_relays()
    backend = EmailBackend(host="a.example")
    setattr(backend, name, value)
    (relay,) = backend.all_relays()
    assert relay != before
    assert EmailBackend(host="a.example").all_relays() == [before]


def test_what_is_equal_and_not_the_same_is_another_relay() -> None:
    assert relay_from({"host": "localhost", "port": 1}).port == 1
    with pytest.raises(OptionError, match="port"):
        relay_from({"host": "localhost", "port": True})


def test_a_file_is_looked_at_each_time(tmp_path: Path) -> None:
    path = tmp_path / "file.pem"
    for options in (
        {"host": "localhost", "tls": "starttls", "ca_file": str(path)},
        {"url": f"smtp://localhost?tls=starttls&ca%5ffile={path}"},
        {
            "url": f"smtp://localhost?dkim_key={path}",
            "dkim_domain": "example.org",
            "dkim_selector": "a",
        },
    ):
        path.write_text(pem(rsa_key()))
        relay_from(options)
        path.unlink()
        with pytest.raises(OptionError):
            relay_from(options)


def test_the_file_of_a_setting_is_looked_at_each_time(tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    path.touch()
    with override_settings(EMAIL_USE_TLS=True, EMAIL_SSL_CERTFILE=str(path)):
        EmailBackend().all_relays()
        path.unlink()
        with pytest.raises(ImproperlyConfigured, match="ssl_certfile"):
            EmailBackend().all_relays()


def test_what_a_backend_does_to_its_options_is_not_done_to_the_next() -> None:
    changed = EmailBackend(host="localhost", strict=True)
    changed.options["strict"] = False
    (relay,) = EmailBackend(host="localhost", strict=True).all_relays()
    assert relay.strict
    assert not changed.all_relays()[0].strict


def test_an_option_that_equals_a_right_one_is_still_wrong() -> None:
    assert EmailBackend(host="localhost", port=2525, max_connections=1).port == 2525
    for wrong in ({"port": 2525, "max_connections": True}, {"port": True, "max_connections": 1}):
        with pytest.raises(ImproperlyConfigured, match="True"):
            EmailBackend(host="localhost", **wrong)

"""TLS and login by Django's settings and options: pins, tokens, mechanisms, refusals."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import send_mail

import mailbridge
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge.testing.certificates import certificate_of

Configure = Callable[..., None]
USERS = {"user": "right"}


def fresh_token() -> str:
    return "right"


def send(site: Configure, smtpd: ScriptedServer, **options: Any) -> int:
    site(host=smtpd.host, port=smtpd.port, **options)
    return send_mail("Subject", "Body", "me@example.org", ["a@example.com"])


@pytest.fixture
def unknown() -> ssl.SSLContext:
    with TestCA() as ca:
        return ca.server_context("other.example")


def test_a_fingerprint(site: Configure, unknown: ssl.SSLContext) -> None:
    pin = hashlib.sha256(certificate_of(unknown) or b"").hexdigest()
    with ScriptedServer(tls_context=unknown) as smtpd:
        assert send(site, smtpd, use_tls=True, fingerprint=pin) == 1
        with pytest.raises(mailbridge.CertificateError, match="none that is pinned"):
            send(site, smtpd, use_tls=True, fingerprint="0" * 64)
        with pytest.raises(ImproperlyConfigured, match="fingerprint"):
            send(site, smtpd, use_tls=True, fingerprint="0")


@pytest.mark.parametrize("by_path", [False, True])
def test_a_token_provider_or_its_path(
    site: Configure, monkeypatch: pytest.MonkeyPatch, by_path: bool
) -> None:
    monkeypatch.setattr("mailbridge.testing.example_token", fresh_token, raising=False)
    provider = "mailbridge.testing.example_token" if by_path else fresh_token
    with ScriptedServer(users=USERS, mechanisms=["OAUTHBEARER"], require_auth=True) as smtpd:
        assert send(site, smtpd, username="user", token_provider=provider) == 1
        assert smtpd.messages[0].user == "user"
        with pytest.raises(ImproperlyConfigured, match="token_provider"):
            send(site, smtpd, username="user", token_provider="no.such.module")


def test_auth_mechanisms(site: Configure) -> None:
    with ScriptedServer(users=USERS) as smtpd:
        login = {"username": "user", "password": "right"}
        assert send(site, smtpd, auth_mechanisms=["LOGIN"], **login) == 1
        assert "C: AUTH LOGIN" in smtpd.transcript


def test_a_refused_login_is_remembered_for_the_whole_process(site: Configure) -> None:
    with ScriptedServer(users=USERS) as smtpd:
        site(host=smtpd.host, port=smtpd.port, username="user", password="wrong")
        for _ in range(3):
            with pytest.raises(mailbridge.AuthenticationFailed):
                send_mail("Subject", "Body", "me@example.org", ["a@example.com"])
        assert smtpd.connections == 1
        assert send(site, smtpd, username="user", password="right") == 1


def test_one_context_serves_every_backend(site: Configure, ca: TestCA) -> None:
    """The CA bundle is loaded once for a configuration, whoever asks."""
    with ScriptedServer(tls_context=ca.server_context("127.0.0.1")) as smtpd:
        from mailbridge import tls

        before = tls._tls_context.cache_info().misses
        for _ in range(3):
            assert send(site, smtpd, use_tls=True, ca_file=ca.ca_file) == 1
            mailbridge.close_pools()
        assert tls._tls_context.cache_info().misses <= before + 1

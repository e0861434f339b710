"""One message by itself: over a connection of the pool's, with the login in the same write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage

import mailbridge
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, signals
from mailbridge_django.backends.smtp import _OURS
from mailbridge_django.single import goes_alone
from tests.sync.servers import RawServer
from tests.sync.test_login_with_mail import answering

Configure = Callable[..., None]
Make = Callable[..., EmailBackend]
USER = {"username": "user", "password": "right"}


@pytest.fixture(autouse=True)
def logins_are_forgotten() -> Iterator[None]:
    yield
    mailbridge.close_pools()
    mailbridge.forget_relays()


def message(**options: Any) -> EmailMessage:
    return EmailMessage("Subject", "Body\n", "a@example.org", ["b@example.com"], **options)


def test_the_login_and_the_envelope_are_one_write(site: Configure) -> None:
    with RawServer(answering("235 Welcome", "250 Ok", "250 Ok")) as server:
        site(host=server.host, port=server.port, **USER)
        mail = message()
        assert mail.send() == 1
        assert mail.delivery_report.accepted == ("b@example.com",)
        mailbridge.close_pools()
        server.wait_until_closed()


@pytest.mark.parametrize("silently", [False, True])
def test_a_login_that_is_refused_behind_the_envelope(backend: Make, silently: bool) -> None:
    with RawServer(answering("535 No", "530 Log in", "503 No sender")) as server:
        mail = message()
        sender = backend(host=server.host, port=server.port, fail_silently=silently, **USER)
        if silently:
            assert sender.send_messages([mail]) == 0
        else:
            with pytest.raises(mailbridge.AuthenticationFailed, match="535") as caught:
                sender.send_messages([mail])
            assert caught.value.message is mail
            assert caught.value.report is mail.delivery_report
        assert mail.delivery_report.not_attempted == ("b@example.com",)


class Opens(EmailBackend):
    def open(self) -> bool | None:
        return super().open()


class Sends(EmailBackend):
    def _send(self, email_message: EmailMessage) -> bool:
        return super()._send(email_message)


def test_where_somebody_has_a_hand_in_it_the_connection_is_opened_first(
    smtpd: ScriptedServer, backend: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = message()
    assert goes_alone(backend(), [mail], _OURS)
    assert not goes_alone(backend(), [mail, message()], _OURS)
    assert not goes_alone(backend(), iter([mail]), _OURS)
    for other in ("jörg@example.com", "soft\xadhyphen@example.com"):
        assert not goes_alone(backend(), [message(bcc=[other])], _OURS)
    assert not goes_alone(backend(tries=2), [mail], _OURS)
    assert not goes_alone(backend(relays=["smtp://b.example"]), [mail], _OURS)
    for kind in (Opens, Sends):
        assert not goes_alone(backend(kind), [mail], _OURS)
        assert backend(kind).send_messages([mail]) == 1
    with backend() as opened:
        assert not goes_alone(opened, [mail], _OURS)
    patched = backend()
    monkeypatch.setattr(patched, "_send", lambda email_message: True)
    assert not goes_alone(patched, [mail], _OURS)

    def receiver(**kwargs: Any) -> None:
        kwargs["message"].to = ["c@example.com"]

    signals.pre_send.connect(receiver)
    try:
        assert not goes_alone(backend(), [mail], _OURS)
        assert backend().send_messages([mail]) == 1
    finally:
        signals.pre_send.disconnect(receiver)
    assert smtpd.messages[-1].recipients == ("c@example.com",)


def test_what_was_changed_on_a_backend_counts_for_it_alone(
    smtpd: ScriptedServer, backend: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = EmailMessage("Subject", "Body", "a@example.org", ["b@example.com", "c@example.com"])
    assert backend(max_recipients=5).send_messages([mail]) == 1
    strict = backend(max_recipients=5)
    strict.max_recipients = 1
    with pytest.raises(mailbridge.InvalidInput, match="max_recipients"):
        strict.send_messages([mail])
    other = backend(max_recipients=5)
    other.port = 1
    with pytest.raises(mailbridge.ConnectError):
        other.send_messages([mail])
    monkeypatch.setattr("django.core.mail.utils.DNS_NAME._fqdn", "me.example.org", raising=False)
    assert backend(max_recipients=5).send_messages([mail]) == 1
    assert smtpd.connections == 2
    assert "C: EHLO me.example.org" in smtpd.transcript

"""Signals: before a message is sent, and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage, send_mail
from django.test import override_settings

from mailbridge import DeliveryReport
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, exceptions, signals
from mailbridge_django.signals import CancelSend

Make = Callable[..., EmailBackend]
Configure = Callable[..., None]
Heard = list[tuple[str, dict[str, Any]]]
AFTER = ("post_send", "message_refused", "send_failed")


def message(*to: str, **kwargs: Any) -> EmailMessage:
    return EmailMessage(
        "Subject", "Body", "me@example.org", list(to or ["a@example.com"]), **kwargs
    )


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Everything that was said after a message, by the name of its signal."""
    said: Heard = []
    receivers = []
    for name in AFTER:

        def receive(name: str = name, **kwargs: Any) -> None:
            said.append((name, kwargs))

        getattr(signals, name).connect(receive)
        receivers.append((name, receive))
    yield said
    for name, receive in receivers:
        getattr(signals, name).disconnect(receive)


@pytest.fixture
def before() -> Iterator[Callable[[Callable[..., None]], None]]:
    connected = []

    def connect(receiver: Callable[..., None]) -> None:
        signals.pre_send.connect(receiver)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        signals.pre_send.disconnect(receiver)


def names(heard: Heard) -> list[str]:
    return [name for name, _ in heard]


def test_a_sent_message(site: Configure, smtpd: ScriptedServer, heard: Heard) -> None:
    send_mail("Subject", "Body", "me@example.org", ["a@example.com"])
    ((name, said),) = heard
    assert name == "post_send"
    assert said["sender"] is EmailBackend
    assert said["esp_name"] == "mailbridge"
    assert said["status"] is said["message"].delivery_report
    assert said["status"].accepted == ("a@example.com",)


def test_a_refused_recipient(backend: Make, smtpd: ScriptedServer, heard: Heard) -> None:
    smtpd.refuse("bad@example.com")
    with pytest.raises(exceptions.SomeRecipientsRefused):
        backend().send_messages([message("bad@example.com", "a@example.com")])
    assert names(heard) == ["post_send", "message_refused"]
    assert heard[1][1]["status"].refused == ("bad@example.com",)


@pytest.mark.parametrize("on_refused", ["raise", "report"])
def test_nobody_got_it(backend: Make, smtpd: ScriptedServer, heard: Heard, on_refused: str) -> None:
    smtpd.refuse("bad@example.com")
    sender = backend(on_refused=on_refused, fail_silently=True)
    assert sender.send_messages([message("bad@example.com")]) == 0
    assert names(heard) == ["post_send", "message_refused", "send_failed"]
    assert isinstance(heard[2][1]["error"], exceptions.mailbridge.RecipientsRefused)


def test_no_way_to_the_server(backend: Make, smtpd: ScriptedServer, heard: Heard) -> None:
    sender = backend()
    smtpd.stop()
    with pytest.raises(exceptions.ConnectError):
        sender.send_messages([message(), message()])
    assert names(heard) == ["post_send", "send_failed"] * 2
    smtpd.start()


def test_an_invalid_message(backend: Make, smtpd: ScriptedServer, heard: Heard) -> None:
    with pytest.raises(ValueError, match=r"newline|linefeed"):
        backend().send_messages([message(headers={"X-Bad": "a\nb"}), message()])
    assert names(heard) == ["post_send", "send_failed", "post_send"]
    assert isinstance(heard[1][1]["error"], ValueError)


def test_each_message_is_told_of_once(backend: Make, smtpd: ScriptedServer, heard: Heard) -> None:
    class ByHand(EmailBackend):
        def _send(self, email_message: EmailMessage) -> bool:
            return super()._send(email_message)

    assert backend(ByHand).send_messages([message(), message()]) == 2
    assert names(heard) == ["post_send", "post_send"]
    assert heard[0][1]["sender"] is ByHand


def test_a_receiver_breaks_nothing(
    backend: Make, smtpd: ScriptedServer, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(**kwargs: Any) -> None:
        raise RuntimeError("a bug of a receiver's")

    signals.post_send.connect(breaks)
    try:
        # Without admins, whom Django's own logging would tell of it.
        with caplog.at_level(logging.ERROR, "django.dispatch"), override_settings(ADMINS=[]):
            assert backend().send_messages([message(), message()]) == 2
    finally:
        signals.post_send.disconnect(breaks)
    assert "a bug of a receiver's" in caplog.text


def test_a_message_is_changed(backend: Make, smtpd: ScriptedServer, before: Any) -> None:
    def change(message: EmailMessage, **kwargs: Any) -> None:
        message.to = ["staging@example.org"]
        message.subject = "[staging] " + str(message.subject)

    before(change)
    assert backend().send_messages([message()]) == 1
    assert smtpd.messages[0].recipients == ("staging@example.org",)
    assert b"Subject: [staging] Subject\r\n" in smtpd.messages[0].content


def test_a_message_is_kept_back(
    backend: Make, smtpd: ScriptedServer, before: Any, heard: Heard
) -> None:
    def cancel(message: EmailMessage, **kwargs: Any) -> None:
        if message.to == ["no@example.com"]:
            raise CancelSend

    before(cancel)
    kept = message("no@example.com")
    assert backend().send_messages([kept, message()]) == 1
    assert kept.delivery_report == DeliveryReport({})
    assert len(smtpd.messages) == 1
    assert names(heard) == ["post_send"]


def test_a_receiver_that_fails_before(
    backend: Make, smtpd: ScriptedServer, before: Any, heard: Heard
) -> None:
    def fail(message: EmailMessage, **kwargs: Any) -> None:
        if message.to == ["no@example.com"]:
            raise RuntimeError("a bug")

    before(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        backend().send_messages([message("no@example.com"), message()])
    assert len(smtpd.messages) == 1
    assert names(heard) == ["post_send", "send_failed", "post_send"]

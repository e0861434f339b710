"""asend_mail and asend_messages, and many requests to an async view under uvicorn."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import django
import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from django.core.mail import EmailMessage
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path

from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, asend_mail, exceptions, signals

Make = Callable[..., EmailBackend]


def message(*to: str, subject: str = "Hello") -> EmailMessage:
    return EmailMessage(subject, "text", "me@example.org", to)


def test_messages_go_out_one_behind_the_other(backend: Make, smtpd: ScriptedServer) -> None:
    messages = [message(f"{n}@example.com") for n in range(5)]
    assert asyncio.run(backend().asend_messages(messages)) == 5
    assert [m.recipients[0] for m in smtpd.messages] == [f"{n}@example.com" for n in range(5)]
    assert smtpd.connections == 1
    assert all(m.delivery_report.accepted for m in messages)  # type: ignore[attr-defined]


def test_nothing_to_send(backend: Make, smtpd: ScriptedServer) -> None:
    assert asyncio.run(backend().asend_messages([])) == 0
    assert asyncio.run(backend().asend_messages([message()])) == 0
    assert smtpd.connections == 0


def test_what_is_refused_is_raised_when_the_rest_is_sent(
    backend: Make, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("gone@example.com")
    messages = [message("gone@example.com"), message("bad address"), message("ok@example.com")]
    with pytest.raises(exceptions.BatchError) as caught:
        asyncio.run(backend().asend_messages(messages))
    kinds = [type(error).__name__ for error in caught.value.errors]
    assert kinds == ["RecipientsRefused", "AddressError"]
    assert caught.value.errors[0].message is messages[0]
    assert [m.recipients for m in smtpd.messages] == [("ok@example.com",)]
    assert asyncio.run(backend(fail_silently=True).asend_messages(messages[:1])) == 0


def test_a_server_that_is_not_there_is_asked_once(backend: Make, closed_port: int) -> None:
    told: list[Any] = []

    def listen(sender: Any, message: Any, error: Any, **kwargs: Any) -> None:
        told.append(error)

    signals.send_failed.connect(listen)
    try:
        with pytest.raises(exceptions.BatchError) as caught:
            asyncio.run(backend(port=closed_port).asend_messages([message("a@example.com")] * 3))
    finally:
        signals.send_failed.disconnect(listen)
    assert len(caught.value.errors) == len(told) == 3


def test_a_local_part_outside_ascii(backend: Make, smtpd: ScriptedServer) -> None:
    """Not known before EHLO whether it can be sent; then it is, or that recipient is refused."""
    assert asyncio.run(backend().asend_messages([message("jörg@example.com")])) == 1
    smtpd.without("SMTPUTF8")
    mixed = message("jörg@example.com", "ok@example.com")
    if django.VERSION >= (6,):
        # It stands in the field To as it is, so this server can take the mail for nobody.
        with pytest.raises(exceptions.NotSupported, match="header"):
            asyncio.run(backend().asend_messages([mixed]))
        assert len(smtpd.messages) == 1
        return
    with pytest.raises(exceptions.SomeRecipientsRefused):
        asyncio.run(backend().asend_messages([mixed]))
    assert mixed.delivery_report.accepted == ("ok@example.com",)  # type: ignore[attr-defined]


def test_asend_mail(site: Any, smtpd: ScriptedServer) -> None:
    site()
    sent = asend_mail("Hi", "text", None, ["you@example.com"], html_message="<p>Hi</p>")
    assert asyncio.run(sent) == 1
    (received,) = smtpd.messages
    assert received.mail_from == "webmaster@example.com"
    assert b"<p>Hi</p>" in received.content


@override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend")
def test_another_backend_such_as_that_of_tests() -> None:
    from django.core import mail

    mail.outbox = []
    assert asyncio.run(asend_mail("Hi", "text", None, ["you@example.com"])) == 1
    assert [m.to for m in mail.outbox] == [["you@example.com"]]


async def order(request: HttpRequest, number: int) -> JsonResponse:
    sent = await asend_mail("Your order", "text", None, [f"{number}@example.com"])
    return JsonResponse({"sent": sent, "thread": threading.current_thread().name})


urlpatterns = [path("order/<int:number>", order)]


@contextmanager
def uvicorn_server(app: Any) -> Iterator[int]:
    """The application under uvicorn, on a port of this machine, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, log_level="error", lifespan="off", ws="none", timeout_keep_alive=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="uvicorn")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def test_many_requests_under_uvicorn_share_the_pool(site: Any, smtpd: ScriptedServer) -> None:
    site(max_connections=5, max_messages=1000)

    def get(number: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", f"/order/{number}", headers={"Connection": "close"})
            return connection.getresponse().read()
        finally:
            connection.close()

    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
        with uvicorn_server(get_asgi_application()) as port, ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(get, range(100)))
    assert set(answers) == {b'{"sent": 1, "thread": "uvicorn"}'}
    received = sorted(int(m.recipients[0].partition("@")[0]) for m in smtpd.messages)
    assert received == list(range(100))
    assert smtpd.connections <= 5

"""Opening and closing, TLS, AUTH, time-outs, threads."""

from __future__ import annotations

import io
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.mail.utils import DNS_NAME

from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_django import EmailBackend, exceptions

Make = Callable[..., EmailBackend]


def message(to: str = "a@example.com") -> EmailMessage:
    return EmailMessage("Subject", "Body", "me@example.org", [to])


# Opening and closing.


def test_open_and_close(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend()
    assert sender.connection is None
    assert smtpd.connections == 0
    assert sender.open() is True
    assert sender.open() is False
    assert sender.connection
    assert sender.send_messages([message()]) == 1
    assert sender.connection
    sender.close()
    sender.close()
    assert sender.connection is None
    assert smtpd.connections == 1
    # It waits for the next mail, in the process's pool.
    assert "C: QUIT" not in smtpd.transcript
    assert sender.open() is True
    assert smtpd.connections == 1


def test_closing_what_was_never_open(backend: Make) -> None:
    backend().close()


def test_with(backend: Make, smtpd: ScriptedServer) -> None:
    with backend() as sender:
        sender.send_messages([message()])
        sender.send_messages([message()])
        assert sender.connection
    assert sender.connection is None
    assert smtpd.connections == 1


def test_a_connection_of_its_own_is_given_back(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend(max_connections=1, pool_timeout=0.5)
    assert sender.send_messages([message()]) == 1
    assert sender.connection is None
    # Another one finds it free.
    assert backend(max_connections=1, pool_timeout=0.5).send_messages([message()]) == 1
    assert smtpd.connections == 1


@pytest.mark.parametrize("nothing", [[], None, ()])
def test_nothing_to_send_opens_nothing(nothing: Any, backend: Make, smtpd: ScriptedServer) -> None:
    assert backend().send_messages(nothing) == 0
    assert smtpd.connections == 0


def test_any_iterable_will_do(backend: Make) -> None:
    assert backend().send_messages(iter([message(), message()])) == 2


def test_closing_when_the_server_is_gone(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend()
    sender.open()
    smtpd.stop()
    sender.close()
    assert sender.connection is None


def test_a_held_connection_that_the_server_dropped_heals(
    backend: Make, smtpd: ScriptedServer
) -> None:
    with backend() as sender:
        assert sender.send_messages([message()]) == 1
        smtpd.stop()
        smtpd.start()
        assert sender.send_messages([message("b@example.com")]) == 1
        assert sender.connection.noop()[0] == 250
    assert len(smtpd.messages) == 2
    assert smtpd.connections == 2


def test_a_failed_open_leaves_nothing_half_open(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend(username="u", password="p")
    for attempts in (1, 2):
        with pytest.raises(smtplib.SMTPException, match="AUTH extension not supported"):
            sender.open()
        assert sender.connection is None
        assert sender._partial_connection is None
        assert smtpd.connections == attempts


def test_ehlo_says_what_django_thinks_is_our_name(
    backend: Make, smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DNS_NAME, "_fqdn", "web1.example.org", raising=False)
    backend().send_messages([message()])
    # No server should be told "localhost"; an address literal is honest.
    monkeypatch.setattr(DNS_NAME, "_fqdn", "localhost")
    backend().send_messages([message()])
    backend(local_hostname="app.example.org").send_messages([message()])
    assert [m.helo for m in smtpd.messages] == [
        "web1.example.org",
        "[127.0.0.1]",
        "app.example.org",
    ]


# The connection, as others see it.


def test_connection_has_smtplibs_names(backend: Make, smtpd: ScriptedServer) -> None:
    with backend(timeout=5) as sender:
        connection = sender.connection
        assert connection.timeout == 5
        assert connection.sock is not None
        assert connection.noop()[0] == 250
        assert connection.docmd("RSET")[0] == 250
        assert connection.has_extn("pipelining")
        assert "size" in connection.esmtp_features
        assert connection.sendmail("me@example.org", ["a@example.com"], b"Subject: x\r\n\r\n") == {}
        smtpd.refuse("gone@*")
        refused = connection.sendmail(
            "me@example.org", ["a@example.com", "gone@example.com"], "Subject: x\n\nBody"
        )
        assert refused == {"gone@example.com": (550, b"5.1.1 No such user")}
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            connection.sendmail("me@example.org", "gone@example.com", b"")
        with pytest.raises(AttributeError):
            connection.no_such_name
    assert len(smtpd.messages) == 2


def test_debuglevel(backend: Make, smtpd: ScriptedServer) -> None:
    with backend() as sender, redirect_stderr(io.StringIO()) as output:
        sender.connection.set_debuglevel(1)
        sender.connection.noop()
    assert "NOOP" in output.getvalue()


def test_noop_on_a_dead_connection(backend: Make, smtpd: ScriptedServer) -> None:
    with backend() as sender:
        smtpd.stop()
        for _ in range(2):
            with pytest.raises(smtplib.SMTPServerDisconnected):
                sender.connection.noop()
        assert sender.connection.sock is None
        smtpd.start()
        assert sender.send_messages([message()]) == 1


# TLS and AUTH.


@pytest.fixture(params=["use_tls", "use_ssl"])
def secure(request: pytest.FixtureRequest, ca: TestCA) -> Iterator[tuple[ScriptedServer, dict]]:
    server = ScriptedServer(
        tls_context=ca.server_context("localhost"),
        implicit_tls=request.param == "use_ssl",
        users={"ida": "s3cret"},
        require_auth=True,
        auth_needs_tls=True,
    )
    with server:
        yield (
            server,
            {
                "host": "localhost",
                "port": server.port,
                "username": "ida",
                "password": "s3cret",
                request.param: True,
            },
        )


Secure = tuple[ScriptedServer, dict[str, Any]]


def test_tls_and_auth(secure: Secure, backend: Make, ca: TestCA) -> None:
    server, options = secure
    assert backend(**options, ca_file=ca.ca_file).send_messages([message()]) == 1
    (received,) = server.messages
    assert received.tls
    assert received.user == "ida"


def test_a_certificate_that_nobody_vouches_for(secure: Secure, backend: Make) -> None:
    server, options = secure
    mail = message()
    with pytest.raises(exceptions.CertificateError) as caught:
        backend(**options).send_messages([mail])
    assert isinstance(caught.value, ssl.SSLCertVerificationError)
    assert mail.delivery_report.not_attempted == ("a@example.com",)
    assert "AUTH" not in server.transcript.replace("250", "")
    assert server.messages == ()


def test_a_certificate_for_another_name(secure: Secure, backend: Make, ca: TestCA) -> None:
    _, options = secure
    with pytest.raises(exceptions.CertificateError):
        backend(**options, ca_file=ca.ca_file, server_hostname="mx.example.org").open()


def test_wrong_password(secure: Secure, backend: Make, ca: TestCA) -> None:
    _, options = secure
    sender = backend(**{**options, "password": "wrong"}, ca_file=ca.ca_file)
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        sender.send_messages([message()])
    assert isinstance(caught.value, exceptions.AuthenticationFailed)
    assert "wrong" not in str(caught.value) + repr(caught.value.transcript)
    sender.fail_silently = True
    assert sender.send_messages([message(), message()]) == 0


def test_a_context_as_an_option(secure: Secure, backend: Make, ca: TestCA) -> None:
    server, options = secure
    context = ca.client_context()
    assert backend(**options, ssl_context=context).ssl_context is context
    assert backend(**options, ssl_context=context).send_messages([message()]) == 1
    assert backend(**options, ssl_context=ca.client_context).send_messages([message()]) == 1
    assert len(server.messages) == 2


def test_a_context_that_was_changed_is_used(secure: Secure, backend: Make, ca: TestCA) -> None:
    _, options = secure
    sender = backend(**options)
    sender.ssl_context.load_verify_locations(ca.ca_file)
    assert sender.send_messages([message()]) == 1
    # And no other backend got it.
    with pytest.raises(exceptions.CertificateError):
        backend(**options).open()


def test_starttls_is_required(backend: Make, smtpd: ScriptedServer) -> None:
    with pytest.raises(smtplib.SMTPException, match="STARTTLS"):
        backend(use_tls=True).send_messages([message()])
    assert smtpd.messages == ()


def test_implicit_tls_where_there_is_none(backend: Make) -> None:
    with pytest.raises(ssl.SSLError):
        backend(use_ssl=True).open()


def test_no_password_in_the_clear_over_a_network(backend: Make) -> None:
    with ScriptedServer(users={"ida": "s3cret"}, mechanisms=("PLAIN",)) as server:
        options = {"port": server.port, "username": "ida", "password": "s3cret"}
        assert backend(**options).send_messages([message()]) == 1
        # An address that is this machine's, and not known to be.
        with pytest.raises(exceptions.NotSupported, match=r"tls='starttls'"):
            backend(**options, host="0.0.0.0").open()
        insecure = backend(**options, host="0.0.0.0", allow_insecure_auth=True)
        assert insecure.send_messages([message()]) == 1
        assert [m.user for m in server.messages] == ["ida", "ida"]


# Time and threads.


def test_a_silent_server(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.silent("RCPT")
    start = time.monotonic()
    with pytest.raises(exceptions.ReplyTimeout) as caught:
        backend(timeout=0.3).send_messages([message()])
    assert time.monotonic() - start < 10
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, smtplib.SMTPServerDisconnected)


def test_silence_after_the_content_is_in_doubt(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.silent("CONTENT")
    mail = message()
    with pytest.raises(exceptions.DeliveryInDoubtTimeout):
        backend(final_reply_timeout=0.3).send_messages([mail])
    assert mail.delivery_report.in_doubt == ("a@example.com",)


def test_threads_may_share_a_backend(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend()
    counts: list[int] = []

    def send(number: int) -> None:
        mails = [message(f"{number}-{n}@example.com") for n in range(5)]
        counts.append(sender.send_messages(mails))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [5] * 8
    assert len({m.recipients for m in smtpd.messages}) == 40
    assert sender.connection is None

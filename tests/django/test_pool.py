"""Connections that outlive a message, batches in groups, retry and failover."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, send_mail
from django.test import override_settings

from mailbridge import RetryPolicy
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, exceptions
from mailbridge_django.connection import OpenConnection

Make = Callable[..., EmailBackend]
Configure = Callable[..., None]


def message(*to: str, **kwargs: Any) -> EmailMessage:
    recipients = list(to) or ["a@example.com"]
    return EmailMessage("Subject", "Body", "me@example.org", recipients, **kwargs)


def said(server: ScriptedServer, connection: int = 1) -> list[str]:
    """The dialogue behind EHLO: verbs of the client, codes of the server."""
    lines = [line.split() for line in server.transcript.splitlines()]
    own = [words[2] for words in lines if words[0] == f"[{connection}]" and words[1] != "--"]
    return own[own.index("MAIL") :]


# Kept connections.


def test_two_calls_of_send_mail_share_a_connection(site: Configure, smtpd: ScriptedServer) -> None:
    for _ in range(2):
        assert send_mail("Subject", "Body", "me@example.org", ["a@example.com"]) == 1
    assert smtpd.connections == 1
    assert len(smtpd.messages) == 2
    assert "QUIT" not in said(smtpd)


def test_other_options_have_other_connections(backend: Make, smtpd: ScriptedServer) -> None:
    for timeout in (5, 5, 6):
        backend(timeout=timeout).send_messages([message()])
    assert [received.connection for received in smtpd.messages] == [1, 1, 2]


def test_one_that_was_dropped_while_idle_heals(site: Configure, smtpd: ScriptedServer) -> None:
    send_mail("Subject", "Body", "me@example.org", ["a@example.com"])
    smtpd.stop()
    smtpd.start()
    assert send_mail("Subject", "Body", "me@example.org", ["a@example.com"]) == 1
    assert (smtpd.connections, len(smtpd.messages)) == (2, 2)


def test_one_that_dies_at_the_next_mail_heals(backend: Make, smtpd: ScriptedServer) -> None:
    backend().send_messages([message()])
    smtpd.drop("MAIL", times=1)
    mail = message("b@example.com")
    assert backend().send_messages([mail]) == 1
    assert mail.delivery_report.attempts == 2
    assert smtpd.connections == 2


def test_quit_really_quits(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend()
    sender.open()
    assert sender.connection.quit()[0] == 221
    sender.close()
    backend().send_messages([message()])
    assert smtpd.connections == 2
    assert smtpd.transcript.count("C: QUIT") == 1


@pytest.mark.parametrize(("method", "kept"), [("noop", True), ("rset", False), ("helo", False)])
def test_a_session_that_was_meddled_with_is_not_for_others(
    method: str, kept: bool, backend: Make, smtpd: ScriptedServer
) -> None:
    with backend() as sender:
        getattr(sender.connection, method)()
    assert ("C: QUIT" in smtpd.transcript) is not kept
    backend().send_messages([message()])
    assert smtpd.connections == (1 if kept else 2)


def test_a_new_connection_after_so_many_messages(backend: Make, smtpd: ScriptedServer) -> None:
    for _ in range(3):
        backend(max_messages=2).send_messages([message()])
    assert [received.connection for received in smtpd.messages] == [1, 1, 2]


def test_nobody_waits_for_ever_for_a_connection(backend: Make) -> None:
    limits = {"max_connections": 1, "pool_timeout": 0.1}
    with backend(**limits), pytest.raises(exceptions.PoolTimeout, match="max_connections"):
        backend(**limits).send_messages([message()])


def test_a_held_connection_carries_the_batch_too(backend: Make, smtpd: ScriptedServer) -> None:
    with backend(max_connections=1, pool_timeout=0.1) as sender:
        assert sender.send_messages([message(), message()]) == 2
        assert sender.connection.noop()[0] == 250
    assert smtpd.connections == 1


def test_settings_that_change_close_what_is_kept(smtpd: ScriptedServer) -> None:
    EmailBackend(smtpd.host, smtpd.port, alias="test").send_messages([message()])
    assert "C: QUIT" not in smtpd.transcript
    with override_settings(EMAIL_SUBJECT_PREFIX="x"):
        EmailBackend(smtpd.host, smtpd.port, alias="test").send_messages([message()])
    EmailBackend(smtpd.host, smtpd.port, alias="test").send_messages([message()])
    assert smtpd.connections == 3
    with override_settings(ROOT_URLCONF="x"):
        EmailBackend(smtpd.host, smtpd.port, alias="test").send_messages([message()])
    assert smtpd.connections == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(backend: Make, smtpd: ScriptedServer) -> None:
    with backend() as held:
        backend().send_messages([message()])
        before = smtpd.connections
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sent = backend().send_messages([message("child@example.com")])
                sent += held.send_messages([message("child@example.com")])
                code = 0 if sent == 2 else 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert held.send_messages([message("parent@example.com")]) == 1
    by = {received.recipients[0]: received.connection for received in smtpd.messages}
    assert by["child@example.com"] > before
    assert by["parent@example.com"] <= before


# Batches.


def test_a_batch_is_pipelined(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.without("CHUNKING")
    writes: list[list[str]] = []
    with backend() as sender:
        sock = sender.connection.sock
        with mock.patch.object(sender.connection.transport.connection, "sock", Spy(sock, writes)):
            mails = [message(f"{name}@example.com") for name in "ab"]
            assert sender.send_messages(mails) == 2
    groups = [[line for line in write if line in ("MAIL", "RCPT", "DATA")] for write in writes]
    # All of the second group is behind the content of the first.
    assert groups == [["MAIL", "RCPT", "DATA"], ["MAIL", "RCPT", "DATA"], []]
    assert [m.recipients for m in smtpd.messages] == [("a@example.com",), ("b@example.com",)]
    assert [mail.delivery_report.accepted for mail in mails] == [
        ("a@example.com",),
        ("b@example.com",),
    ]


class Spy:
    """A socket that remembers the verbs of what was sent at once."""

    def __init__(self, sock: Any, writes: list[list[str]]) -> None:
        self._sock, self._writes = sock, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: Any) -> int:
        self._writes.append([line[:4].decode() for line in bytes(data).split(b"\r\n")])
        return self._sock.send(data)


@pytest.mark.parametrize("how", ["subclass", "instance", "sendmail", "class"])
def test_whoever_has_a_hand_in_sending_sees_each_message(
    how: str, backend: Make, smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    class Watching(EmailBackend):
        def _send(self, email_message: EmailMessage) -> bool:
            seen.append(email_message)
            return super()._send(email_message)

    sender = backend(Watching if how == "subclass" else EmailBackend)
    original = OpenConnection.sendmail
    if how == "instance":
        sender._send = lambda mail: seen.append(mail) or EmailBackend._send(sender, mail)
    if how == "class":
        monkeypatch.setattr(
            OpenConnection, "sendmail", lambda *args: seen.append(args) or original(*args)
        )
    with sender:
        if how == "sendmail":
            connection = sender.connection
            connection.sendmail = lambda *args: seen.append(args) or original(connection, *args)
        assert sender.send_messages([message(), message()]) == 2
    assert len(seen) == 2
    assert len(smtpd.messages) == 2


def test_the_server_goes_away_in_a_pipelined_batch(backend: Make, smtpd: ScriptedServer) -> None:
    def mails() -> Iterator[EmailMessage]:
        for name in "abcd":
            made.append(message(f"{name}@example.com"))
            if name == "c":
                smtpd.wait_for(1)
                smtpd.stop()
            yield made[-1]

    made: list[EmailMessage] = []
    with pytest.raises(exceptions.BatchError) as caught:
        backend().send_messages(mails())
    errors = caught.value.errors
    assert [error.message for error in errors] == made[-len(errors) :]
    assert isinstance(errors[-1], exceptions.ConnectRefused)
    assert len(caught.value.reports) == 4
    assert made[0].delivery_report.accepted == ("a@example.com",)
    assert made[3].delivery_report.not_attempted == ("d@example.com",)


def test_an_error_of_the_iterable_comes_after_what_it_gave(
    backend: Make, smtpd: ScriptedServer
) -> None:
    def mails() -> Iterator[EmailMessage]:
        yield message()
        yield message()
        raise LookupError("no more")

    with pytest.raises(LookupError):
        backend().send_messages(mails())
    assert len(smtpd.messages) == 2


# Retry and failover.


def test_tries(site: Configure, smtpd: ScriptedServer) -> None:
    site(tries=3, retry_delay=0.01)
    smtpd.defer("b@*", times=2)
    assert send_mail("Subject", "Body", "me@example.org", ["a@example.com", "b@example.com"]) == 1
    assert [m.recipients for m in smtpd.messages] == [("a@example.com",), ("b@example.com",)]


def test_tries_at_connecting(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.reply("GREETING", "421 4.3.2 Busy", times=2)
    mail = message()
    assert backend(tries=3, retry_delay=0.01).send_messages([mail]) == 1
    smtpd.reply("GREETING", "421 4.3.2 Busy", times=1)
    with pytest.raises(exceptions.GreetingRefused):
        backend(timeout=9).send_messages([mail])


def test_retry_options_are_checked(backend: Make) -> None:
    sender = backend(tries="2", retry_delay=3, retry_max_delay=4)
    assert sender.retry == RetryPolicy(tries=2, delay=3.0, max_delay=4.0)
    assert backend().retry == RetryPolicy()
    for name in ("tries", "retry_delay", "retry_max_delay", "deadline", "max_recipients"):
        with pytest.raises(ImproperlyConfigured, match=rf"(^|: ){name} "):
            backend(**{name: "many"})
    with pytest.raises(ImproperlyConfigured, match=r"relays: url: scheme 'ftp'"):
        backend(relays=["ftp://mail.example.org"])


def test_relays(site: Configure, smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second:
        site(relays=[f"{second.url}?tls=none"])
        assert send_mail("Subject", "Body", "me@example.org", ["a@example.com"]) == 1
        assert (len(smtpd.messages), len(second.messages)) == (1, 0)
        smtpd.stop()
        assert send_mail("Subject", "Body", "me@example.org", ["b@example.com"]) == 1
        assert [m.recipients for m in second.messages] == [("b@example.com",)]
        assert second.messages[0].helo == smtpd.messages[0].helo


def test_round_robin(backend: Make, smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second:
        for _ in range(4):
            sender = backend(relays=second.url, round_robin=True)
            assert sender.send_messages([message()]) == 1
        assert (len(smtpd.messages), len(second.messages)) == (2, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_child_finds_the_lock_of_a_shared_backend_free(
    backend: Make, smtpd: ScriptedServer
) -> None:
    shared = backend()
    held, go_on = threading.Event(), threading.Event()

    class Slow(EmailMessage):
        def recipients(self) -> list[str]:
            held.set()
            go_on.wait(10)
            return super().recipients()

    slow = Slow("Subject", "Body", "me@example.org", ["a@example.com"])
    sender = threading.Thread(target=shared.send_messages, args=([slow],))
    sender.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # a deadlock ends the child
        os._exit(0 if shared.send_messages([message("child@example.com")]) == 1 else 2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    go_on.set()
    sender.join()
    assert status == 0
    assert sorted(each.recipients for each in smtpd.messages) == [
        ("a@example.com",),
        ("child@example.com",),
    ]

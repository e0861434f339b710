"""Logins of the whole process: a refusal is remembered, a token is shared, never a storm."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import mailbridge
from mailbridge import tokens
from mailbridge.testing import ScriptedServer, TestCA
from tests.sync.servers import LOCK_STEP
from tests.sync.support import CONTENT, ENVELOPE, TO, heard, transport, verbs

USERS = {"user": "right"}
WRONG = {"username": "user", "password": "wrong"}
RIGHT = {"username": "user", "password": "right"}
ME = "127.0.0.1"


def server(*mechanisms: str, **options: Any) -> ScriptedServer:
    options = {"users": USERS, "extensions": LOCK_STEP, "require_auth": True, **options}
    return ScriptedServer(mechanisms=mechanisms or ("PLAIN",), **options)


def failures(work: Callable[[], object], threads: int) -> list[BaseException | None]:
    """The exception of each of so many threads that do it at once."""
    ready = threading.Barrier(threads)

    def one() -> BaseException | None:
        ready.wait(20)
        try:
            work()
        except mailbridge.MailError as error:
            return error
        return None

    with ThreadPoolExecutor(threads) as pool:
        return [future.result(30) for future in [pool.submit(one) for _ in range(threads)]]


# -- 535


def test_a_wrong_password_in_many_threads_is_one_failed_login() -> None:
    with server() as smtpd:
        # So long that all of them are there before the first one is answered.
        smtpd.delay("AUTH", 0.3)
        sender = transport(smtpd, max_connections=20, **WRONG)
        errors = failures(lambda: sender.send(ENVELOPE, CONTENT), 200)
        assert verbs(smtpd).count("AUTH") == 1
    assert {type(error) for error in errors} == {mailbridge.AuthenticationFailed}
    asked = [e for e in errors if isinstance(e, mailbridge.AuthenticationFailed)]
    assert sum(error.remembered_at is None for error in asked) == 1


def test_a_remembered_refusal_says_when_it_was_and_how_to_try_again() -> None:
    with server() as smtpd:
        sender = transport(smtpd, **WRONG)
        with pytest.raises(mailbridge.AuthenticationFailed, match="Check user name and password"):
            sender.send(ENVELOPE, CONTENT)
        with pytest.raises(mailbridge.AuthenticationFailed, match="forget_relays") as caught:
            sender.send(ENVELOPE, CONTENT)
        assert smtpd.connections == 1
        remembered = caught.value
        assert remembered.remembered_at is not None
        assert f"{remembered.remembered_at:%H:%M:%S} UTC" in str(remembered)
        assert (remembered.smtp_code, remembered.retryable) == (535, False)
        assert remembered.report.not_attempted == (TO,)
        assert "wrong" not in str(remembered)
        mailbridge.forget_relays()
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            sender.send(ENVELOPE, CONTENT)
        assert caught.value.remembered_at is None


def test_changed_credentials_are_tried_at_once() -> None:
    with server() as smtpd:
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(smtpd, **WRONG).send(ENVELOPE, CONTENT)
        assert transport(smtpd, **RIGHT).send(ENVELOPE, CONTENT).accepted == (TO,)


def test_a_refusal_is_remembered_for_the_pause_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("mailbridge.logins.monotonic", lambda: now[0])
    with server() as smtpd:
        smtpd.reply("AUTH", "535 5.7.8 not yet", times=1)
        sender = transport(smtpd, auth_pause=60, **RIGHT)
        with pytest.raises(mailbridge.AuthenticationFailed):
            sender.send(ENVELOPE, CONTENT)
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            sender.send(ENVELOPE, CONTENT)
        assert caught.value.remembered_at is not None
        now[0] += 61
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
        assert verbs(smtpd).count("AUTH") == 2


@pytest.mark.parametrize("reply", ["454 4.7.0 later", "421 4.3.0 bye", "534 5.7.9 too weak"])
def test_what_does_not_speak_of_the_credentials_is_not_remembered(reply: str) -> None:
    with server() as smtpd:
        smtpd.reply("AUTH", reply, times=1)
        sender = transport(smtpd, **RIGHT)
        with pytest.raises(mailbridge.MailError):
            sender.send(ENVELOPE, CONTENT)
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)


def test_a_login_that_is_interrupted_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with server() as smtpd:
        sender = transport(smtpd, **RIGHT)
        with monkeypatch.context() as patch:
            patch.setattr("mailbridge.protocol.auth.login", interrupted)
            with pytest.raises(KeyboardInterrupt):
                sender.send(ENVELOPE, CONTENT)
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)


def test_logins_go_on_beside_each_other_once_one_was_accepted() -> None:
    with server() as smtpd:
        sender = transport(smtpd, **RIGHT)
        sender.send(ENVELOPE, CONTENT)
        assert failures(lambda: sender.send(ENVELOPE, CONTENT), 8) == [None] * 8


# -- tokens


class Provider:
    """Gives its tokens one after the other, the last again and again."""

    def __init__(self, *given: object) -> None:
        self.given = list(given)
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        item = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        if isinstance(item, Exception):
            raise item
        return item


def token_server(**options: Any) -> ScriptedServer:
    return server("XOAUTH2", "OAUTHBEARER", users={"user": "fresh"}, **options)


def by_token(smtpd: ScriptedServer, provider: Callable[[], object], **options: Any) -> Any:
    return transport(smtpd, username="user", token_provider=provider, **options)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_token_logs_in(mechanism: str) -> None:
    provider = Provider("fresh")
    with token_server() as smtpd:
        by_token(smtpd, provider, auth_mechanisms=mechanism).send(ENVELOPE, CONTENT)
        assert f"AUTH {mechanism} ***" in heard(smtpd)
        assert smtpd.messages[0].user == "user"


def test_a_coroutine_function_is_awaited() -> None:
    async def provider() -> str:
        await asyncio.sleep(0)
        return "fresh"

    async def inside_a_loop() -> None:
        by_token(smtpd, provider, max_age=900).send(ENVELOPE, CONTENT)

    with token_server() as smtpd:
        by_token(smtpd, provider).send(ENVELOPE, CONTENT)
        asyncio.run(inside_a_loop())
        assert len(smtpd.messages) == 2


def test_a_driver_with_an_event_loop_awaits_it_there() -> None:
    async def provider() -> str:
        return "fresh"

    for given in (provider, Provider("fresh")):
        call = tokens.Call(given)
        asyncio.run(call.arun())
        assert call.answer is not None
        assert call.answer[0].reveal() == "fresh"


def test_a_rejected_token_is_asked_for_again_exactly_once() -> None:
    provider = Provider("stale", "fresh")
    with token_server() as smtpd:
        by_token(smtpd, provider).send(ENVELOPE, CONTENT)
        assert (provider.calls, smtpd.connections) == (2, 1)
        assert verbs(smtpd).count("AUTH") == 2


def test_two_rejected_tokens_are_the_end_and_remembered() -> None:
    provider = Provider("bad1", "bad2", "bad3", "bad4")
    with token_server() as smtpd:
        sender = by_token(smtpd, provider)
        with pytest.raises(mailbridge.AuthenticationFailed, match="status invalid_token") as caught:
            sender.send(ENVELOPE, CONTENT)
        assert "bad" not in str(caught.value)
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            sender.send(ENVELOPE, CONTENT)
        assert caught.value.remembered_at is not None
        assert (provider.calls, verbs(smtpd).count("AUTH")) == (2, 2)


def test_the_same_token_again_is_not_shown_twice() -> None:
    provider = Provider("bad")
    with token_server() as smtpd, pytest.raises(mailbridge.AuthenticationFailed):
        by_token(smtpd, provider).send(ENVELOPE, CONTENT)
    assert (provider.calls, verbs(smtpd).count("AUTH")) == (2, 1)


def test_one_refresh_serves_all_threads() -> None:
    calls = []
    others_wait = threading.Event()

    def provider() -> tuple[str, float]:
        calls.append(1)
        others_wait.wait(0.2)
        return "fresh", time.time() + 3600

    with token_server() as smtpd:
        sender = by_token(smtpd, provider, max_connections=8)
        assert failures(lambda: sender.send(ENVELOPE, CONTENT), 16) == [None] * 16
    assert len(calls) == 1


def test_one_call_of_the_provider_is_in_flight() -> None:
    """Also where each has a connection of its own, and its token was rejected."""
    all_are_here = threading.Event()
    calls = []

    def provider() -> str:
        calls.append(1)
        all_are_here.wait(0.3)
        return f"token {len(calls)}".replace(" ", "-")

    given = []

    def ask() -> None:
        dialogue = tokens.token(provider, rejected=mailbridge.Secret("stale"))
        try:
            while True:
                next(dialogue).run()  # type: ignore[union-attr]
        except StopIteration as end:
            given.append(end.value.reveal())

    assert failures(ask, 16) == [None] * 16
    assert given == ["token-1"] * 16
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("expires", "calls"),
    [
        (None, 2),
        (time.time() + 3600, 1),
        (time.time() + 5, 2),
        (datetime.now(UTC) + timedelta(hours=1), 1),
        ((datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None), 1),
    ],
    ids=["not told", "in an hour", "now", "a date", "a date without a zone"],
)
def test_a_token_is_kept_until_shortly_before_it_expires(expires: Any, calls: int) -> None:
    provider = Provider("fresh" if expires is None else ("fresh", expires))
    with token_server() as smtpd:
        sender = by_token(smtpd, provider)
        for _ in range(2):
            sender.send(ENVELOPE, CONTENT)
            mailbridge.close_pools()
    assert provider.calls == calls


@pytest.mark.parametrize("given", [RuntimeError("s3cret"), None, "", "a b", "ä", 7, ("x", "y", 1)])
def test_a_provider_that_fails_is_told_and_nothing_is_sent(given: object) -> None:
    with token_server() as smtpd:
        with pytest.raises(mailbridge.MailError, match="token_provider failed") as caught:
            by_token(smtpd, Provider(given)).send(ENVELOPE, CONTENT)
        assert "AUTH" not in verbs(smtpd)
    assert "s3cret" not in str(caught.value)
    assert caught.value.retryable
    assert caught.value.report.not_attempted == (TO,)


def test_a_bearer_token_is_not_sent_without_verified_tls(elsewhere: str) -> None:
    with token_server() as smtpd:
        with pytest.raises(mailbridge.NotSupported, match="tls='starttls'"):
            by_token(smtpd, Provider("fresh"), host=elsewhere).send(ENVELOPE, CONTENT)
        assert "AUTH" not in verbs(smtpd)
        insecure = by_token(smtpd, Provider("fresh"), host=elsewhere, allow_insecure_auth=True)
        assert insecure.send(ENVELOPE, CONTENT).accepted == (TO,)


# -- mechanisms on the wire


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_scram_plus_binds_to_this_tls(ca: TestCA, mechanism: str, tls: str) -> None:
    """tls-unique in TLS 1.2, tls-server-end-point in TLS 1.3."""
    context = ca.server_context(ME)
    if tls == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    offer = (mechanism, f"{mechanism}-PLUS", "PLAIN")
    with server(*offer, tls_context=context) as smtpd:
        options = {"tls": "starttls", "ca_file": ca.ca_file, **RIGHT}
        transport(smtpd, **options).send(ENVELOPE, CONTENT)
        assert f"AUTH {mechanism}-PLUS ***" in heard(smtpd)
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(smtpd, **{**options, "password": "wrong"}).send(ENVELOPE, CONTENT)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_scram_keeps_the_password_off_the_wire(elsewhere: str, mechanism: str) -> None:
    with server("PLAIN", "CRAM-MD5", mechanism) as smtpd:
        transport(smtpd, host=elsewhere, **RIGHT).send(ENVELOPE, CONTENT)
        assert f"AUTH {mechanism} ***" in heard(smtpd)


def test_external_logs_in_by_the_client_certificate(ca: TestCA) -> None:
    context = ca.server_context(ME)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.ca_file)
    with server("EXTERNAL", "PLAIN", users={"me.example": "-"}, tls_context=context) as smtpd:
        options = {
            "tls": "starttls",
            "ca_file": ca.ca_file,
            "certfile": ca.certificate_file("me.example"),
            "auth_mechanisms": "EXTERNAL",
        }
        transport(smtpd, **options).send(ENVELOPE, CONTENT)
        transport(smtpd, username="me.example", **options).send(ENVELOPE, CONTENT)
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(smtpd, username="root", **options).send(ENVELOPE, CONTENT)
        assert [message.user for message in smtpd.messages] == ["me.example"] * 2


def test_auth_mechanisms_are_an_order_and_a_limit() -> None:
    with server("PLAIN", "LOGIN", "CRAM-MD5") as smtpd:
        transport(smtpd, auth_mechanisms="login, plain", **RIGHT).send(ENVELOPE, CONTENT)
        assert "AUTH LOGIN" in heard(smtpd)
        with pytest.raises(mailbridge.MailError, match="auth_mechanisms allows SCRAM-SHA-256"):
            transport(smtpd, auth_mechanisms=["SCRAM-SHA-256"], **RIGHT).send(ENVELOPE, CONTENT)

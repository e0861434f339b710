"""The recipes of docs/howto/oauth2.md, as they stand there, with the libraries that they are for.

They speak to a token endpoint and a mail server on loopback: addresses, and the path of the service
account's file, are replaced, and nothing else. Whom to trust is told by `SSL_CERT_FILE` and
`REQUESTS_CA_BUNDLE`, as on a machine with a CA of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import django
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import mailbridge
from mailbridge import AsyncTransport, DeliveryReport, Envelope, MailError, Relay, Transport
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_flask import Mail, Message
from tests.django_settings import configure
from tests.pages import DOCS, FILE, blocks, is_for
from tests.sync.support import verbs
from tests.token_endpoint import Form, TokenEndpoint, nth

configure()

from django.core.mail import EmailMessage  # noqa: E402 - settings come first
from django.test import override_settings  # noqa: E402

PAGE = DOCS / "howto/oauth2.md"
USER, TO = "robot@example.org", "ada@example.org"
ENVELOPE, CONTENT = Envelope(USER, [TO]), "Subject: Hi\n\nHi.\n"
ACCOUNT = "mailer@my-site.iam.gserviceaccount.com"
SECRET = "s3cret-of-the-client"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
RECIPES = ["google", "microsoft"]

# Before Django 6.1 it is these settings that the page has.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:The EMAIL_\w+ setting is deprecated:PendingDeprecationWarning"
)


@pytest.fixture(scope="module")
def ca() -> Iterator[TestCA]:
    with TestCA() as ca:
        yield ca


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, ca: TestCA) -> None:
    """A machine that trusts this CA, speaks to nobody but itself, and knows Microsoft's secret."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in LOOPBACK, f"nobody here may speak to {host}"
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("SSL_CERT_FILE", ca.ca_file)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca.ca_file)
    monkeypatch.setenv("ENTRA_SECRET", SECRET)


# -- the two servers


@pytest.fixture
def endpoint(ca: TestCA, key: rsa.RSAPrivateKey) -> Iterator[TokenEndpoint]:
    def accept(form: Form) -> bool:
        return of_microsoft(form) if "client_id" in form else of_google(form, key)

    with TokenEndpoint(ca.server_context("127.0.0.1"), accept) as endpoint:
        yield endpoint


def of_google(form: Form, key: rsa.RSAPrivateKey) -> bool:
    """Whether it asks, as RFC 7523 says, for a token to send mail for a user of the domain."""
    claims = jwt.decode(
        form["assertion"],
        key.public_key(),
        algorithms=["RS256"],
        audience="https://oauth2.googleapis.com/token",
    )
    return (claims["iss"], claims["sub"], claims["scope"], form["grant_type"]) == (
        ACCOUNT,
        USER,
        "https://mail.google.com/",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    )


def of_microsoft(form: Form) -> bool:
    """Whether it asks, as RFC 6749 section 4.4 says, for a token to send mail by Exchange."""
    return (form["client_id"], form["client_secret"], form["scope"], form["grant_type"]) == (
        "the client's id",
        SECRET,
        "https://outlook.office365.com/.default",
        "client_credentials",
    )


@pytest.fixture
def users() -> dict[str, str]:
    """The mail server's: whose token is which."""
    return {USER: nth(1)}


@pytest.fixture
def mechanisms() -> list[str]:
    return ["OAUTHBEARER", "XOAUTH2"]


@pytest.fixture
def smtpd(ca: TestCA, users: dict[str, str], mechanisms: list[str]) -> Iterator[ScriptedServer]:
    context = ca.server_context("127.0.0.1")
    with ScriptedServer(
        users=users, mechanisms=mechanisms, tls_context=context, require_auth=True
    ) as smtpd:
        yield smtpd


# -- the page


@pytest.fixture
def page(
    endpoint: TokenEndpoint,
    smtpd: ScriptedServer,
    account: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """The page's files; its modules can be imported."""
    files = {}
    for block in blocks(PAGE):
        if (file := FILE.match(block.text)) and is_for(file[2], django.VERSION):
            files[file[1]] = here(block.text, account, endpoint, smtpd)
    for path in ("mysite/google.py", "mysite/microsoft.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(files[path])
    monkeypatch.syspath_prepend(tmp_path)
    yield files
    for name in [name for name in sys.modules if name.partition(".")[0] == "mysite"]:
        del sys.modules[name]


def here(code: str, account: Path, endpoint: TokenEndpoint, smtpd: ScriptedServer) -> str:
    """The code with the addresses, and the path, of this test."""
    tenant = '"https://login.microsoftonline.com/the-tenant\'s-id"'
    replaced = {
        "/etc/my-site/service-account.json": str(account),
        # An authority of one's own; without this msal asks Microsoft whether it knows of it.
        tenant: f'"{endpoint.url}/the-tenant\'s-id", instance_discovery=False',
        "smtp.gmail.com": smtpd.host,
        "smtp.office365.com": smtpd.host,
        "587": str(smtpd.port),
    }
    # In one go: a port or a path that is put in may itself hold one of these.
    return re.sub("|".join(map(re.escape, replaced)), lambda found: replaced[found[0]], code)


@pytest.fixture
def account(key: rsa.RSAPrivateKey, endpoint: TokenEndpoint, tmp_path: Path) -> Path:
    """A service account's file, as Google gives it."""
    path = tmp_path / "account.json"
    fields = {"type": "service_account", "client_email": ACCOUNT, "private_key": pem(key)}
    path.write_text(json.dumps({**fields, "token_uri": f"{endpoint.url}/token"}))
    return path


def pem(key: rsa.RSAPrivateKey) -> str:
    pkcs8 = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode()


# -- the ways to send


Send = Callable[[], DeliveryReport]


class Scene(NamedTuple):
    """What a way to send needs: the page's files, where to send, and by which recipe."""

    files: dict[str, str]
    smtpd: ScriptedServer
    recipe: str

    def run(self, file: str) -> dict[str, Any]:
        """What the file defines. The page has it for one of the recipes."""
        code = self.files[file]
        for other in RECIPES:
            code = code.replace(f"mysite.{other}.token", f"mysite.{self.recipe}.token")
        names: dict[str, Any] = {"__name__": "page"}
        exec(code, names)
        return names

    def relay(self) -> Relay:
        """What the page says in words."""
        return Relay.from_options(
            host=self.smtpd.host,
            port=self.smtpd.port,
            tls="starttls",
            username=USER,
            token_provider=f"mysite.{self.recipe}.token",
        )


@contextmanager
def by_transport(scene: Scene) -> Iterator[Send]:
    transport = Transport(scene.relay())
    yield lambda: transport.send(ENVELOPE, CONTENT)


@contextmanager
def by_asyncio(scene: Scene) -> Iterator[Send]:
    async def send() -> DeliveryReport:
        transport = AsyncTransport(scene.relay())
        try:
            return await transport.send(ENVELOPE, CONTENT)
        finally:
            await transport.close()

    yield lambda: asyncio.run(send())


@contextmanager
def by_django(scene: Scene) -> Iterator[Send]:
    def send() -> DeliveryReport:
        message = EmailMessage("Hi", "Hi.", USER, [TO])
        message.send()
        report: DeliveryReport = message.delivery_report  # type: ignore[attr-defined]
        return report

    names = scene.run("settings.py").items()
    with override_settings(**{name: value for name, value in names if name.isupper()}):
        yield send


@contextmanager
def by_flask(scene: Scene) -> Iterator[Send]:
    names = scene.run("app.py")
    mail: Mail = names["mail"]
    with names["app"].app_context():
        yield lambda: mail.send(Message("Hi", [TO], "Hi.", sender=USER))


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[by_transport, by_asyncio, by_django, by_flask])
def send(
    request: pytest.FixtureRequest, page: dict[str, str], smtpd: ScriptedServer, recipe: str
) -> Iterator[Send]:
    """Sends one mail, over a new connection."""
    with request.param(Scene(page, smtpd, recipe)) as send:

        def send_anew() -> DeliveryReport:
            mailbridge.close_pools()
            return send()

        yield send_anew


# -- the tests


@pytest.mark.parametrize("mechanisms", [["OAUTHBEARER"], ["XOAUTH2"]], ids="".join)
def test_the_token_logs_in_and_is_kept(
    send: Send, endpoint: TokenEndpoint, smtpd: ScriptedServer, mechanisms: list[str]
) -> None:
    for _ in range(2):
        assert send().accepted == (TO,)
    assert [message.user for message in smtpd.messages] == [USER, USER]
    assert f"C: AUTH {mechanisms[0]} ***" in smtpd.transcript
    assert (smtpd.connections, endpoint.asked) == (2, 1)


def test_a_rejected_token_is_asked_for_again_exactly_once(
    send: Send, endpoint: TokenEndpoint, smtpd: ScriptedServer, users: dict[str, str]
) -> None:
    users[USER] = nth(2)
    assert send().accepted == (TO,)
    assert (smtpd.connections, verbs(smtpd).count("AUTH"), endpoint.asked) == (1, 2, 2)


def test_two_rejected_tokens_are_the_end(
    send: Send, endpoint: TokenEndpoint, smtpd: ScriptedServer, users: dict[str, str]
) -> None:
    users[USER] = nth(3)
    for _ in range(2):
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            send()
        assert caught.value.report.not_attempted == (TO,)
        assert not any(nth(number) in str(caught.value) for number in (1, 2, 3))
    assert (verbs(smtpd).count("AUTH"), endpoint.asked, smtpd.messages) == (2, 2, ())


def test_a_token_that_has_expired_is_asked_for_again(
    send: Send, endpoint: TokenEndpoint, users: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the recipes say of the time is what mailbridge takes it for."""
    send()
    users[USER] = nth(2)
    now = mailbridge.tokens.time.time()
    monkeypatch.setattr(mailbridge.tokens.time, "time", lambda: now + 3600)
    assert send().accepted == (TO,)
    assert endpoint.asked == 2


@pytest.mark.parametrize("reachable", [True, False], ids=["refuses", "is not reached"])
def test_an_endpoint_that_fails_is_told_and_nothing_is_sent(
    send: Send,
    endpoint: TokenEndpoint,
    smtpd: ScriptedServer,
    users: dict[str, str],
    key: rsa.RSAPrivateKey,
    caplog: pytest.LogCaptureFixture,
    reachable: bool,
) -> None:
    caplog.set_level(logging.DEBUG, "mailbridge")
    if reachable:
        endpoint.failure = 400, f"not with {SECRET}"
    else:
        endpoint.stop()
    with pytest.raises(MailError, match=r"token_provider failed: \w*Error") as caught:
        send()
    error = caught.value
    assert error.__cause__ is not None
    assert (error.retryable, error.phase) == (True, "auth")
    assert error.report.not_attempted == (TO,)
    assert (verbs(smtpd).count("AUTH"), smtpd.messages) == (0, ())
    hidden = [SECRET, *pem(key).splitlines()[1:-1]]
    shown = (
        f"{error} {error!r} {error.report!r} {vars(error)} {pickle.dumps(error)!r} {caplog.text}"
    )
    assert not [secret for secret in hidden if secret in shown]
    if reachable:
        endpoint.failure, users[USER] = None, nth(endpoint.asked + 1)
        assert send().accepted == (TO,)

"""The pytest plugin: a server, a mailbox, and frameworks that send to them.

It is there as soon as mailbridge is installed beside pytest. Fixtures: `smtpd`, `smtpd_ca`,
`mail_server_settings`, `mailbox`. The marker ``smtpd(...)`` says what kind of server it is::

    @pytest.mark.smtpd(tls="starttls", users={"shop": "secret"})
    def test_login(smtpd): ...

    @pytest.mark.smtpd(replay="sessions/greylisted.txt")
    def test_greylisting(smtpd): ...
"""

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterator
from typing import Any

import pytest

import mailbridge

from .certificates import TestCA
from .mailbox import Mailbox
from .peer import ScriptedPeer
from .replay import ReplayServer
from .server import ScriptedServer
from .site import sending

_TLS = ("none", "starttls", "implicit")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "smtpd(tls='none', replay=None, **options): what kind of server the fixture smtpd is; tls"
        " is 'none', 'starttls' or 'implicit', replay the file of a recorded session, the options"
        " are those of mailbridge.testing.ScriptedServer",
    )


@pytest.fixture(scope="session")
def smtpd_ca() -> Iterator[TestCA]:
    """The certificate authority of the servers that speak TLS; needs trustme."""
    with TestCA() as ca:
        yield ca


@pytest.fixture
def smtpd(request: pytest.FixtureRequest) -> Iterator[ScriptedServer | ReplayServer]:
    """A `mailbridge.testing.ScriptedServer` that runs while the test does.

    With the marker's ``replay="session.txt"`` a `ReplayServer` for a recorded session, whose path
    is relative to the test's; the test fails if the client leaves it.
    """
    options = _marked(request)
    make = _replaying if "replay" in options else _scripted
    with make(request, **options) as server:
        yield server
        _forget()


def _scripted(request: pytest.FixtureRequest, tls: str = "none", **options: Any) -> ScriptedServer:
    if tls not in _TLS:
        raise pytest.UsageError(f"smtpd(tls={tls!r}): expected one of {', '.join(_TLS)}")
    if tls != "none":
        options.setdefault("tls_context", _server_context(request))
        options.setdefault("implicit_tls", tls == "implicit")
    return ScriptedServer(**options)


def _replaying(request: pytest.FixtureRequest, replay: str, **options: Any) -> ReplayServer:
    peer = ScriptedPeer((request.path.parent / replay).read_text("utf-8"))
    if peer.has_tls:
        options.setdefault("tls_context", _server_context(request))
    return ReplayServer(peer, **options)


def _server_context(request: pytest.FixtureRequest) -> ssl.SSLContext:
    ca: TestCA = request.getfixturevalue("smtpd_ca")
    return ca.server_context("localhost", "127.0.0.1", "::1")


@pytest.fixture
def mail_server_settings(
    request: pytest.FixtureRequest, smtpd: ScriptedServer | ReplayServer
) -> Iterator[dict[str, Any]]:
    """Have Django and Flask send to `smtpd`, whatever is configured, and really send.

    It is also a dictionary of what `mailbridge.Relay.from_options` needs to do the same: host,
    port, TLS, a login if the server has users.
    """
    options = smtpd.relay_options()
    if options["tls"] != "none":
        options["ca_file"] = request.getfixturevalue("smtpd_ca").ca_file
    with sending(options):
        yield options


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A `mailbridge.testing.Mailbox` for all that is sent while the test runs; nobody connects."""
    from .capture import captured  # and with it asyncio, which not every test run needs

    with captured(Mailbox()) as box, sending():
        yield box


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of the markers, the nearest one counting most."""
    found: dict[str, Any] = {}
    for mark in request.node.iter_markers("smtpd"):
        if mark.args:
            raise pytest.UsageError("the marker smtpd takes keyword arguments only")
        found = {**mark.kwargs, **found}
    return found


def _forget() -> None:
    """No test finds a connection of another's, or what was learned of a port used before."""
    mailbridge.close_pools()
    mailbridge.forget_relays()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was said to the server where a test fails."""
    report = yield
    server = getattr(item, "funcargs", {}).get("smtpd")
    if report.when == "call" and report.failed and isinstance(server, ScriptedServer):
        report.sections.append(("smtpd: what was said", server.transcript or "(nothing)"))
    return report

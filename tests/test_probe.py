"""What a relay offers, and what the command line says of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from mailbridge import AddressError, OptionError, Relay, cli
from mailbridge.findings import Findings, Outcome, Step, render, render_all
from mailbridge.probe import probe
from mailbridge.testing import ScriptedServer, TestCA

PASSWORD = "t0p-secret"


@pytest.fixture(scope="module")
def ca() -> Iterator[TestCA]:
    with TestCA() as authority:
        yield authority


@pytest.fixture
def smtpd(ca: TestCA) -> Iterator[ScriptedServer]:
    context = ca.server_context("localhost", "127.0.0.1")
    with ScriptedServer(tls_context=context, users={"u": PASSWORD}) as server:
        yield server


def relay(server: ScriptedServer, ca: TestCA, **options: Any) -> Relay:
    options = {"tls": "starttls", "ca_file": ca.ca_file, **options}
    return Relay.from_options(host="127.0.0.1", port=server.port, **options)


def outcomes(findings: Findings) -> dict[str, str]:
    return {step.name: str(step.outcome) for step in findings.steps}


def step(findings: Findings, name: str) -> Step:
    return next(each for each in findings.steps if each.name == name)


def test_every_step_is_told(smtpd: ScriptedServer, ca: TestCA) -> None:
    mailer = relay(smtpd, ca, username="u", password=PASSWORD)
    findings = probe(mailer, sender="me@example.org", rcpt=["a@example.com", "b@example.com"])
    names = [each.name for each in findings.steps]
    assert names == [
        *("name", "connect", "greeting", "ehlo", "tls", "ehlo in tls", "auth", "mail"),
        *("rcpt", "rcpt"),
    ]
    assert findings.ok
    assert "starttls" in step(findings, "ehlo").data["keywords"]
    assert "starttls" not in step(findings, "ehlo in tls").data["keywords"]
    assert step(findings, "tls").data["names"] == ["localhost", "127.0.0.1"]
    assert step(findings, "tls").data["days_left"] > 1000
    assert step(findings, "auth").data["mechanism"] == "PLAIN"
    assert step(findings, "auth").text.endswith("by PLAIN, inside verified TLS")


def test_nothing_is_sent(smtpd: ScriptedServer, ca: TestCA) -> None:
    probe(relay(smtpd, ca), rcpt=["a@example.com"])
    assert not smtpd.messages
    assert "C: DATA" not in smtpd.transcript
    assert smtpd.transcript.index("C: RSET") < smtpd.transcript.index("C: QUIT")


def test_no_secret_is_told(smtpd: ScriptedServer, ca: TestCA) -> None:
    findings = probe(relay(smtpd, ca, username="u", password=PASSWORD))
    wrong = probe(relay(smtpd, ca, username="u", password=PASSWORD + "!"))
    assert findings.ok
    assert not wrong.ok
    for each in (findings, wrong):
        for text in (render(each), render_all([each], as_json=True), repr(each)):
            assert PASSWORD not in text


def test_a_wrong_password(smtpd: ScriptedServer, ca: TestCA) -> None:
    findings = probe(relay(smtpd, ca, username="u", password="no"), rcpt=["a@example.com"])
    assert findings.failed is findings.steps[-1]
    assert (findings.failed.name, findings.failed.data["code"]) == ("auth", 535)
    assert "-> Check user name and password" in render(findings)


@pytest.mark.parametrize(("tls", "advice"), [("none", "ask for TLS"), ("starttls", "submission")])
def test_a_server_without_a_login(ca: TestCA, tls: str, advice: str) -> None:
    with ScriptedServer(tls_context=ca.server_context("127.0.0.1")) as server:
        trust = {"ca_file": ca.ca_file} if tls == "starttls" else {"ca_file": None}
        findings = probe(relay(server, ca, username="u", password=PASSWORD, tls=tls, **trust))
    assert outcomes(findings)["auth"] == "failed"
    assert advice in str(step(findings, "auth").advice)


def test_a_certificate_that_nobody_vouches_for(smtpd: ScriptedServer, ca: TestCA) -> None:
    findings = probe(relay(smtpd, ca, ca_file=None))
    assert outcomes(findings)["tls"] == "failed"
    assert "ca_file" in str(step(findings, "tls").advice)


def test_a_certificate_that_is_not_verified(smtpd: ScriptedServer, ca: TestCA) -> None:
    findings = probe(relay(smtpd, ca, ca_file=None, tls_verify=False))
    assert findings.ok
    assert outcomes(findings)["tls"] == "warning"


def test_a_certificate_that_ends_soon(smtpd: ScriptedServer, ca: TestCA) -> None:
    with mock.patch("mailbridge.probe.DAYS_TO_WARN", 10**9):
        findings = probe(relay(smtpd, ca))
    assert outcomes(findings)["tls"] == "warning"
    assert "Renew" in str(step(findings, "tls").advice)


def test_tls_from_the_first_byte(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context("127.0.0.1"), implicit_tls=True) as server:
        findings = probe(relay(server, ca, tls="implicit"))
    assert [each.name for each in findings.steps][2:4] == ["tls", "greeting"]
    assert findings.ok


def test_a_mechanism_is_named_without_a_user(smtpd: ScriptedServer, ca: TestCA) -> None:
    found = step(probe(relay(smtpd, ca)), "auth")
    assert found.outcome is Outcome.SKIPPED
    assert found.data["mechanism"] == "PLAIN"


def test_recipients(smtpd: ScriptedServer, ca: TestCA) -> None:
    smtpd.refuse("bad@example.com")
    findings = probe(relay(smtpd, ca), rcpt=["bad@example.com", "a@example.com"])
    assert [str(s.outcome) for s in findings.steps if s.name == "rcpt"] == ["failed", "ok"]
    assert not findings.ok


def test_an_address_is_checked_before_anything_is_done(smtpd: ScriptedServer, ca: TestCA) -> None:
    with pytest.raises(AddressError):
        probe(relay(smtpd, ca), rcpt=["a@example.com\r\nDATA"])
    assert smtpd.connections == 0


def test_each_address_of_a_name(smtpd: ScriptedServer, ca: TestCA) -> None:
    def info(address: str) -> tuple[object, ...]:
        return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, smtpd.port)

    real = socket.getaddrinfo
    two = [info("127.0.0.2"), info("127.0.0.1")]
    smtpd_only = lambda host, *args: two if host == "localhost" else real(host, *args)  # noqa: E731
    with mock.patch("socket.getaddrinfo", smtpd_only):
        findings = probe(relay(smtpd, ca).using(host="localhost"))
    addresses = [each for each in findings.steps if each.name == "address"]
    assert [(a.data["address"], str(a.outcome)) for a in addresses] == [
        ("127.0.0.2", "warning"),
        ("127.0.0.1", "ok"),
    ]
    assert findings.ok


def test_nobody_listens(closed_port: int) -> None:
    findings = probe(Relay.from_options(host="127.0.0.1", port=closed_port))
    assert findings.failed is not None
    assert findings.failed.name == "connect"
    assert "whether the mail server runs" in str(findings.failed.advice)


def test_a_name_that_does_not_resolve() -> None:
    with mock.patch("socket.getaddrinfo", side_effect=socket.gaierror(-2, "unknown")):
        findings = probe(Relay.from_options(host="mail.example.org"))
    assert outcomes(findings) == {"name": "failed"}


def test_a_server_cannot_write_to_the_terminal() -> None:
    findings = Findings("smtp://x", (Step("greeting", Outcome.OK, "220 \x1b[2J\u202ehello"),))
    assert "220 \\x1b[2J\\u202ehello" in render(findings)


# The command line.


def url(server: ScriptedServer, ca: TestCA, user: str = "") -> str:
    return f"smtp://{user}127.0.0.1:{server.port}?tls=starttls&ca_file={ca.ca_file}"


def test_check_and_its_exit_status(
    smtpd: ScriptedServer, ca: TestCA, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", url(smtpd, ca)]) == cli.OK
    assert capsys.readouterr().out.endswith("\nAll is well.\n")
    smtpd.refuse("bad@example.com")
    assert cli.main(["check", url(smtpd, ca), "--rcpt", "bad@example.com"]) == cli.FAILED
    assert capsys.readouterr().out.endswith("\nFailed at: rcpt.\n")
    assert cli.main(["check", "http://example.org"]) == cli.WRONG_USAGE
    assert "scheme" in capsys.readouterr().err


def test_check_in_json(
    smtpd: ScriptedServer, ca: TestCA, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["check", url(smtpd, ca), "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert [each["name"] for each in found["steps"]][:2] == ["name", "connect"]


def test_the_password_comes_from_the_environment(smtpd: ScriptedServer, ca: TestCA) -> None:
    asked = url(smtpd, ca, "u@")
    found = cli.relay_from(asked, {cli.PASSWORD: PASSWORD})
    assert probe(found).ok
    with pytest.raises(OptionError, match="password is not"):
        cli.relay_from(asked, {})


def test_the_password_is_asked_for(smtpd: ScriptedServer, ca: TestCA) -> None:
    with mock.patch("sys.stdin.isatty", return_value=True, create=True):
        with mock.patch("getpass.getpass", return_value=PASSWORD):
            assert probe(cli.relay_from(url(smtpd, ca, "u@"), {})).ok


def test_send(smtpd: ScriptedServer, ca: TestCA, capsys: pytest.CaptureFixture[str]) -> None:
    smtpd.refuse("bad@example.com")
    words = ["send", url(smtpd, ca), "--from", "me@example.org", "--body", "Hello"]
    assert cli.main([*words, "--to", "a@example.com"]) == cli.OK
    assert cli.main([*words, "--to", "a@example.com", "--to", "bad@example.com"]) == cli.FAILED
    assert "5.1.1 No such user" in capsys.readouterr().out
    assert b"\r\n\r\nHello\r\n" in smtpd.messages[0].content
    assert len(smtpd.messages) == 2


def test_it_is_a_program(smtpd: ScriptedServer, ca: TestCA) -> None:
    words = [sys.executable, "-m", "mailbridge", "check", url(smtpd, ca)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.endswith("All is well.\n")

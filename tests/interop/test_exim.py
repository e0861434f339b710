"""Exim: every way of sending, with each extension on and off; what is stored is what was sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import mailbridge
from mailbridge import Envelope, Relay, Transport
from mailbridge.tls import tls_context
from tests.interop import debian
from tests.interop.exim import PACKAGES, Exim, start_exim

SENDER = "me@example.org"
CONTENT = (
    b"From: me@example.org\r\nTo: a@example.com\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\n"
    b".one dot\r\n..two dots\r\n.\r\nFrom the start of a line\r\ntrailing blanks  \r\n\r\n"
)
EIGHT_BIT = CONTENT + "8 bits: é\r\n".encode()


@pytest.fixture(scope="module")
def exim_installed() -> None:
    debian.require(debian.unpacked(*PACKAGES))


@pytest.fixture(scope="module")
def exim(exim_installed: None, postfix_certificate: tuple[Path, Path]) -> Iterator[Exim]:
    with start_exim(*postfix_certificate) as running:
        yield running


@pytest.fixture
def ca_file(postfix_authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    postfix_authority.cert_pem.write_to_path(str(path))
    return str(path)


def transport(exim: Exim, **options: Any) -> Transport:
    options = {"host": exim.host, "port": exim.port, "tls": "none", "timeout": 10, **options}
    return Transport(Relay.from_options(options))


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_stored_is_what_was_sent(exim: Exim, ca_file: str, tls: str) -> None:
    port = exim.tls_port if tls == "implicit" else exim.port
    sender = transport(exim, tls=tls, port=port, ca_file=None if tls == "none" else ca_file)
    report = sender.send(Envelope(SENDER, [f"tls-{tls}@example.com"]), EIGHT_BIT)
    assert report.accepted
    assert report.queue_id
    assert exim.stored(f"tls-{tls}") == EIGHT_BIT


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_login(exim: Exim, ca_file: str, mechanism: str) -> None:
    with mailbridge.SMTP(exim.host, exim.port, timeout=10) as smtp:
        context = tls_context(ca_file=ca_file)
        smtp.starttls(context=context)
        smtp.ehlo()
        smtp.esmtp_features["auth"] = mechanism
        with pytest.raises(mailbridge.AuthenticationFailed):
            smtp.login("user", "wrong")
        smtp.login("user", "secret")
        smtp.sendmail(SENDER, f"{mechanism.lower()}@example.com", CONTENT)
    assert exim.stored(mechanism.lower()) == CONTENT


def test_refusals(exim: Exim) -> None:
    everybody = ["refused@example.com", "deferred@example.com", "some@example.com"]
    sender = transport(exim)
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        sender.send(Envelope(SENDER, everybody), CONTENT)
    report = caught.value.report
    assert (report.refused, report.deferred, report.accepted) == tuple((e,) for e in everybody)
    with pytest.raises(mailbridge.MessageRefused) as refused:
        sender.send(Envelope(SENDER, ["x@example.com"]), b"X-Refuse-Content: yes\r\n" + CONTENT)
    assert refused.value.smtp_code == 550
    with pytest.raises(mailbridge.MessageRefused):
        sender.send(Envelope(SENDER, ["x@example.com"]), CONTENT + b"x\r\n" * 2_000_000)
    assert sender.send(Envelope(SENDER, ["after@example.com"]), CONTENT).accepted
    assert exim.stored("after") == CONTENT


def test_batch(exim: Exim) -> None:
    mails = [
        (Envelope(SENDER, [f"batch-{n}@example.com"]), CONTENT + b"%d\r\n" % n) for n in range(20)
    ]
    assert all(report.accepted for report in transport(exim).send_many(mails))
    for n in range(20):
        assert exim.stored(f"batch-{n}") == CONTENT + b"%d\r\n" % n


def test_a_window(exim: Exim) -> None:
    """Exim swallows the content of a mail that it refused, so the others are not touched."""
    trap = CONTENT + b"RSET\r\nMAIL FROM:<x@example.org>\r\nRCPT TO:<trapped@example.com>\r\n"
    names = [f"window{number}@example.com" for number in range(12)]
    names[5] = "refused@example.com"
    with transport(exim, bdat_window=6) as sender:
        reports = list(sender.send_many((Envelope(SENDER, name), trap) for name in names))
    for name, report in zip(names, reports, strict=True):
        if name == names[5]:
            assert report.refused == (name,)
        else:
            assert report.accepted == (name,)
            assert exim.stored(name.partition("@")[0]) == trap


def test_dsn_parameters(exim: Exim) -> None:
    report = transport(exim).send(
        Envelope(SENDER, ["dsn@example.com"]),
        CONTENT,
        mail_options=["RET=HDRS", "ENVID=1"],
        rcpt_options=["NOTIFY=SUCCESS,FAILURE"],
    )
    assert report.accepted
    assert exim.stored("dsn") == CONTENT


VARIANTS = {
    "no pipelining": {"pipelining": False},
    "no chunking": {"chunking": False},
    "neither": {"pipelining": False, "chunking": False},
    "7 bit": {"eight_bit": False, "utf8": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_extensions_off(
    exim_installed: None, postfix_certificate: tuple[Path, Path], variant: str
) -> None:
    with start_exim(*postfix_certificate, **VARIANTS[variant]) as plain:
        sender = transport(plain)
        mails = [(Envelope(SENDER, [f"m{n}@example.com"]), CONTENT) for n in range(3)]
        assert all(report.accepted for report in sender.send_many(mails))
        for n in range(3):
            assert plain.stored(f"m{n}") == CONTENT
        if variant == "7 bit":
            eight = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            eight += b"Content-Transfer-Encoding: 8bit\r\n" + EIGHT_BIT
            assert sender.send(Envelope(SENDER, ["eight@example.com"]), eight).accepted
            assert plain.stored("eight").isascii()
            with pytest.raises(mailbridge.MailError, match="SMTPUTF8"):
                sender.send(Envelope(SENDER, ["jörg@example.com"]), CONTENT)

"""OpenSMTPD: one command at a time, TLS in both forms, logins; what arrives is what was sent."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import mailbridge
from mailbridge import Envelope, Relay, Transport
from tests.interop import debian
from tests.interop.opensmtpd import PACKAGES, OpenSMTPD, start_opensmtpd

SENDER = "me@example.org"
CONTENT = (
    b"From: me@example.org\r\nTo: a@example.com\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\n"
    b".one dot\r\n..two dots\r\n.\r\nFrom the start of a line\r\ntrailing blanks  \r\n\r\n"
)
EIGHT_BIT = CONTENT + "8 bits: é\r\n".encode()


@pytest.fixture(scope="module")
def opensmtpd(
    postfix_authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenSMTPD]:
    if not debian.ROOT:
        pytest.skip("OpenSMTPD takes on the numbers of a user of its own: run the tests as root")
    debian.require(debian.unpacked(*PACKAGES))
    # Its process for keys does not know elliptic curves.
    issued = postfix_authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    certificate, key = (tmp_path_factory.mktemp("opensmtpd") / name for name in ("chain", "key"))
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    with start_opensmtpd(certificate, key) as running:
        yield running


@pytest.fixture
def ca_file(opensmtpd: OpenSMTPD, postfix_authority: trustme.CA, tmp_path: Path) -> str:
    """Skips where this OpenSMTPD can do no TLS with anybody: Debian 12's 6.8 cannot, since it
    does not get on with OpenSSL 3 (OpenSMTPD issues 1171 and 1239).
    """
    path = tmp_path / "ca.pem"
    postfix_authority.cert_pem.write_to_path(str(path))
    with smtplib.SMTP(opensmtpd.host, opensmtpd.port, timeout=10) as smtp:
        try:
            smtp.starttls(context=ssl.create_default_context(cafile=str(path)))
        except ssl.SSLError as error:
            smtp.close()
            pytest.skip(f"this OpenSMTPD can do no TLS, with smtplib neither: {error}")
    return str(path)


def transport(opensmtpd: OpenSMTPD, **options: Any) -> Transport:
    options = {"port": opensmtpd.port, "tls": "none", "timeout": 10, **options}
    return Transport(Relay.from_options(host=opensmtpd.host, **options))


def test_arrived_is_what_was_sent(opensmtpd: OpenSMTPD) -> None:
    assert transport(opensmtpd).send(Envelope(SENDER, ["whole@example.com"]), EIGHT_BIT).accepted
    assert opensmtpd.stored("whole@example.com") == EIGHT_BIT


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_arrived_is_what_was_sent_over_tls(opensmtpd: OpenSMTPD, ca_file: str, tls: str) -> None:
    port = opensmtpd.tls_port if tls == "implicit" else opensmtpd.port
    sender = transport(opensmtpd, tls=tls, port=port, ca_file=ca_file)
    report = sender.send(Envelope(SENDER, [f"tls-{tls}@example.com"]), EIGHT_BIT)
    assert report.accepted
    assert opensmtpd.stored(f"tls-{tls}@example.com") == EIGHT_BIT


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_login(opensmtpd: OpenSMTPD, ca_file: str, mechanism: str) -> None:
    options = {"port": opensmtpd.submission, "tls": "starttls", "ca_file": ca_file}
    options |= {"username": "user", "auth_mechanisms": [mechanism]}
    to = f"{mechanism.lower()}@example.com"
    with pytest.raises(mailbridge.AuthenticationFailed):
        transport(opensmtpd, password="wrong", **options).send(Envelope(SENDER, [to]), CONTENT)
    sender = transport(opensmtpd, password="secret", **options)
    assert sender.send(Envelope(SENDER, [to]), CONTENT).accepted
    assert opensmtpd.stored(to) == CONTENT


def test_no_login_where_one_is_wanted(opensmtpd: OpenSMTPD, ca_file: str) -> None:
    sender = transport(opensmtpd, port=opensmtpd.submission, tls="starttls", ca_file=ca_file)
    with pytest.raises(mailbridge.SenderRefused, match="username") as caught:
        sender.send(Envelope(SENDER, ["x@example.com"]), CONTENT)
    assert caught.value.smtp_code == 530


def test_refusals(opensmtpd: OpenSMTPD) -> None:
    everybody = ["refused@example.com", "deferred@example.com", "some@example.com"]
    sender = transport(opensmtpd)
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        sender.send(Envelope(SENDER, everybody), CONTENT)
    report = caught.value.report
    assert (report.refused, report.deferred, report.accepted) == tuple((e,) for e in everybody)
    assert sender.send(Envelope(SENDER, ["after@example.com"]), CONTENT).accepted
    assert opensmtpd.stored("some@example.com") == opensmtpd.stored("after@example.com") == CONTENT


@pytest.mark.parametrize("ignored", [[], ["SIZE"]], ids=["known before", "after the content"])
def test_too_large(opensmtpd: OpenSMTPD, ignored: list[str]) -> None:
    sender = transport(opensmtpd, ignore_extensions=ignored)
    with pytest.raises(mailbridge.MessageRefused) as caught:
        sender.send(Envelope(SENDER, ["x@example.com"]), CONTENT + (b"x" * 70 + b"\r\n") * 80_000)
    assert caught.value.report.refused or caught.value.report.deferred
    assert transport(opensmtpd).send(Envelope(SENDER, ["x@example.com"]), CONTENT).accepted


def test_batch(opensmtpd: OpenSMTPD) -> None:
    mails = [
        (Envelope(SENDER, [f"batch-{n}@example.com"]), CONTENT + b"%d\r\n" % n) for n in range(20)
    ]
    assert all(report.accepted for report in transport(opensmtpd).send_many(mails))
    for n in range(20):
        assert opensmtpd.stored(f"batch-{n}@example.com") == CONTENT + b"%d\r\n" % n


def test_notifications_are_asked_for(opensmtpd: OpenSMTPD) -> None:
    report = transport(opensmtpd).send(
        Envelope(SENDER, ["dsn@example.com"]),
        CONTENT,
        mail_options=["RET=HDRS", "ENVID=1"],
        rcpt_options=["NOTIFY=NEVER"],
    )
    assert report.accepted
    assert opensmtpd.stored("dsn@example.com") == CONTENT


def test_an_address_that_needs_smtputf8(opensmtpd: OpenSMTPD) -> None:
    """OpenSMTPD has no SMTPUTF8: those recipients fail, and the others have the mail."""
    with pytest.raises(mailbridge.SomeRecipientsRefused, match="SMTPUTF8") as caught:
        transport(opensmtpd).send(Envelope(SENDER, ["jörg@example.com", "u@faß.de"]), CONTENT)
    assert caught.value.accepted == ("u@faß.de",)
    assert opensmtpd.stored("u@xn--fa-hia.de") == CONTENT

"""The Postfix of the tests does what its module says; seen with the standard library's smtplib."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator

import pytest
import trustme

from tests.interop import debian
from tests.interop.postfix import Postfix, PostfixError, start_postfix, without_trace

CONTENT = (
    b"From: me@example.org\r\n"
    b"To: a@example.com,\r\n\tb@example.com\r\n"
    b"Bcc: secret@example.com\r\n"
    b"Return-Path: <else@example.org>\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"\r\n"
    b".one dot\r\n..two dots\r\n.\r\nFrom the start of a line\r\n"
    b"trailing blanks  \r\n\r\n8 bits: \xc3\xa9 \xff\r\n" + b"x" * 998 + b"\r\n\r\n"
)


@pytest.fixture
def client(postfix: Postfix) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as smtp:
        yield smtp


def test_stored_is_what_was_sent(postfix: Postfix, client: smtplib.SMTP) -> None:
    client.sendmail("me@example.org", ["whole@example.com"], CONTENT, ["BODY=8BITMIME"])
    (stored,) = postfix.stored("whole@example.com")
    assert stored.startswith(b"Received: from ")
    assert without_trace(stored) == CONTENT
    # It is stored before that is logged.
    debian.wait_until(lambda: "<whole@example.com>" in postfix.log(), postfix.log, "not logged")


def test_some_are_refused(postfix: Postfix, client: smtplib.SMTP) -> None:
    everybody = ["refused@example.com", "deferred@example.com", "some@example.com"]
    refused = client.sendmail("me@example.org", everybody, CONTENT)
    assert {address: code for address, (code, _) in refused.items()} == {
        "refused@example.com": 550,
        "deferred@example.com": 450,
    }
    assert refused["refused@example.com"][1].startswith(b"5.1.1 ")
    assert len(postfix.stored("some@example.com")) == 1


def test_senders_and_contents_are_refused(client: smtplib.SMTP) -> None:
    client.ehlo()
    assert client.mail("banned@example.org")[0] == 550
    with pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.1"):
        client.sendmail("me@example.org", "a@example.com", b"X-Refuse-Content: yes\r\n\r\n")


def test_envelope_is_kept(postfix: Postfix, client: smtplib.SMTP) -> None:
    client.sendmail("", ["null@example.com", "null2@example.net"], CONTENT)
    (delivery,) = postfix.deliveries("null@example.com")
    assert delivery.sender == ""
    assert postfix.stored("null2@example.net") == [delivery.content]


def test_internationalised_address(postfix: Postfix, client: smtplib.SMTP) -> None:
    client.ehlo()
    client.command_encoding = "utf-8"
    client.mail("jörg@example.org", ["SMTPUTF8", "BODY=8BITMIME"])
    assert client.rcpt("δοκιμή@παράδειγμα.example")[0] == 250
    assert client.data(CONTENT)[0] == 250
    (delivery,) = postfix.deliveries("δοκιμή@παράδειγμα.example")
    assert delivery.sender == "jörg@example.org"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_submission_wants_tls_and_a_login(
    postfix: Postfix, postfix_authority: trustme.CA, mechanism: str
) -> None:
    context = ssl.create_default_context()
    postfix_authority.configure_trust(context)
    with smtplib.SMTP(postfix.host, postfix.submission, timeout=10) as smtp:
        smtp.ehlo()
        assert smtp.mail("me@example.org")[0] == 530
        smtp.starttls(context=context)
        smtp.ehlo()
        smtp.esmtp_features["auth"] = mechanism
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("user", "wrong")
        smtp.login("user", "secret")
        smtp.sendmail("me@example.org", f"{mechanism}@example.com", CONTENT)
    assert postfix.stored(f"{mechanism}@example.com")


def test_submissions_speaks_tls_at_once(postfix: Postfix, postfix_authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    postfix_authority.configure_trust(context)
    assert postfix.submissions
    with smtplib.SMTP_SSL(postfix.host, postfix.submissions, timeout=10, context=context) as smtp:
        smtp.login("user", "secret")


def test_variants(postfix_installed: None) -> None:
    with start_postfix(
        pipelining=False,
        chunking=False,
        utf8=False,
        eight_bit=False,
        settings={"message_size_limit": "5000"},
    ) as plain:
        with smtplib.SMTP(plain.host, plain.port, timeout=10) as smtp:
            smtp.ehlo()
            assert not {"pipelining", "chunking", "smtputf8", "8bitmime", "starttls", "auth"} & set(
                smtp.esmtp_features
            )
            assert smtp.esmtp_features["size"] == "5000"
        with pytest.raises(PostfixError, match="0 of 1 messages for nobody@example"):
            plain.stored("nobody@example.com", timeout=0.1)
    assert not plain.top.exists()

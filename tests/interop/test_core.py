"""The core against a real Postfix: what is stored is what was sent, and who was refused is told."""

from __future__ import annotations

import email.message
import email.policy
import ssl
from collections.abc import Iterator

import pytest
import trustme

import mailbridge
from mailbridge import SMTP, SMTP_SSL, Envelope, Relay, Transport
from tests.dkim_keys import signer, verifies
from tests.interop.postfix import Postfix, queue_id, start_postfix, without_trace

SENDER = "me@example.org"
HEADER = b"From: me@example.org\r\nSubject: test\r\n\r\n"
CONTENTS = {
    "dots": HEADER + b".\r\n..\r\n.leading\r\n\r\n.\r\nin . the middle\r\n.last\r\n",
    "long": HEADER + b"x" * 998 + b"\r\n" + b"." * 998 + b"\r\n",
    "header-only": HEADER,
    "blank-lines": HEADER + b"\r\n\r\ntext\r\n\r\n",
    "eight-bit": HEADER + "Grüße, Ελλάδα\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "controls": HEADER + b"tab\tform\fescape\x1b[0m\r\n",
    "large": HEADER + b".dot and 60 more octets on a line that is repeated often\r\n" * 20_000,
}
UNFINISHED = {
    "no-final-crlf": (HEADER + b"no line end", HEADER + b"no line end\r\n"),
    "bare-lf": (HEADER + b"a\n.\nb\n", HEADER + b"a\r\n.\r\nb\r\n"),
    "bare-cr": (HEADER + b"a\r.\rb", HEADER + b"a\r\n.\r\nb\r\n"),
}


@pytest.fixture
def smtp(postfix: Postfix) -> Iterator[SMTP]:
    with SMTP(postfix.host, postfix.port, timeout=20) as smtp:
        yield smtp


@pytest.fixture
def context(postfix_authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    postfix_authority.configure_trust(context)
    return context


def transport(postfix: Postfix, **options: object) -> Transport:
    options = {"host": postfix.host, "port": postfix.port, "timeout": 20, "tls": "none", **options}
    return Transport(Relay.from_options(options))


def _stored(postfix: Postfix, recipient: str) -> bytes:
    (content,) = postfix.stored(recipient)
    return without_trace(content)


@pytest.mark.parametrize("name", CONTENTS)
def test_stored_is_what_was_sent(postfix: Postfix, smtp: SMTP, name: str) -> None:
    content = CONTENTS[name]
    smtp.sendmail(SENDER, f"smtp-{name}@example.com", content)
    report = transport(postfix).send(Envelope(SENDER, f"transport-{name}@example.com"), content)
    for sent_by in ("smtp", "transport"):
        assert _stored(postfix, f"{sent_by}-{name}@example.com") == content
    assert queue_id(*postfix.stored(f"transport-{name}@example.com")) == report.queue_id


@pytest.mark.parametrize("name", UNFINISHED)
def test_line_ends_are_made_good(postfix: Postfix, smtp: SMTP, name: str) -> None:
    content, stored = UNFINISHED[name]
    smtp.sendmail(SENDER, f"smtp-{name}@example.com", content)
    transport(postfix).send(Envelope(SENDER, f"transport-{name}@example.com"), content)
    for sent_by in ("smtp", "transport"):
        assert _stored(postfix, f"{sent_by}-{name}@example.com") == stored


@pytest.mark.parametrize("without", ["", "CHUNKING", "CHUNKING, 8BITMIME"])
@pytest.mark.parametrize("name", ["dots", "blank-lines", "eight-bit", "overlong"])
def test_what_is_stored_verifies(postfix: Postfix, name: str, without: str) -> None:
    """A signature over the octets that left holds over those that came."""
    content = CONTENTS.get(name, HEADER + b"x" * 5000 + b"\r\n")
    recipient = f"dkim-{name}-{len(without)}@example.com"
    relay = transport(postfix, dkim=signer(), ignore_extensions=without)
    report = relay.send(Envelope(SENDER, recipient), content)
    changed = name == "overlong" or (name == "eight-bit" and "8BITMIME" in without)
    assert bool(report.changes) == changed
    stored = _stored(postfix, recipient)
    assert verifies(stored)
    assert stored.endswith(content) != changed


def test_empty_content(postfix: Postfix, smtp: SMTP) -> None:
    smtp.sendmail(SENDER, "smtp-empty@example.com", b"")
    transport(postfix).send(Envelope(SENDER, "transport-empty@example.com"), b"")
    for sent_by in ("smtp", "transport"):
        assert _stored(postfix, f"{sent_by}-empty@example.com").strip() == b""


def test_some_are_refused(postfix: Postfix, smtp: SMTP) -> None:
    everybody = ["refused@example.com", "deferred@example.com", "smtp-some@example.com"]
    refused = smtp.sendmail(SENDER, everybody, HEADER)
    assert {address: code for address, (code, _) in refused.items()} == {
        "refused@example.com": 550,
        "deferred@example.com": 450,
    }
    everybody[2] = "transport-some@example.com"
    with transport(postfix) as relay:
        with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
            relay.send(Envelope(SENDER, everybody), HEADER)
        report = caught.value.report
        assert (report.refused, report.deferred) == ((everybody[0],), (everybody[1],))
        assert report.accepted == caught.value.accepted == (everybody[2],)
        assert str(report.recipients[everybody[0]].reply.status) == "5.1.1"
        # The connection is in step, and all of these leave it so.
        with pytest.raises(mailbridge.RecipientsRefused):
            relay.send(Envelope(SENDER, everybody[:2]), HEADER)
        with pytest.raises(mailbridge.SenderRefused):
            relay.send(Envelope("banned@example.org", "a@example.com"), HEADER)
        with pytest.raises(mailbridge.MessageRefused):
            relay.send(Envelope(SENDER, "a@example.com"), b"X-Refuse-Content: yes\r\n" + HEADER)
        with pytest.raises(mailbridge.RecipientsRefused):
            relay.send(
                Envelope(SENDER, ["aborted@example.com", everybody[0]]), HEADER, on_refused="abort"
            )
        relay.send(Envelope(SENDER, "last@example.com"), HEADER)
    for recipient in ("smtp-some@example.com", "transport-some@example.com", "last@example.com"):
        assert _stored(postfix, recipient) == HEADER
    assert "to=<aborted@example.com>" not in postfix.log()


def test_send_many(postfix: Postfix) -> None:
    """One connection for a batch with good and bad mails in it."""
    names = [f"batch-{number}" for number in range(20)]
    mails = [(Envelope(SENDER, f"{name}@example.com"), HEADER + name.encode()) for name in names]
    mails.insert(5, (Envelope("banned@example.org", "a@example.com"), HEADER))
    mails.insert(9, (Envelope(SENDER, "refused@example.com"), HEADER))
    reports = list(transport(postfix).send_many(mails))
    assert [len(report.accepted) for report in reports].count(1) == 20
    for name in names:
        assert _stored(postfix, f"{name}@example.com") == HEADER + name.encode() + b"\r\n"


# Read as commands, this content would send another mail.
TRAP = (
    HEADER
    + b".\r\nRSET\r\nMAIL FROM:<x@example.org>\r\nRCPT TO:<trapped@example.com>\r\nDATA\r\n.\r\n"
)


def test_a_window(postfix: Postfix) -> None:
    """Postfix swallows the content of a mail that it refused, so the others are not touched."""
    names = [f"window{number}@example.com" for number in range(20)]
    names[7] = names[8] = "refused@example.com"
    mails: list[tuple[Envelope, bytes]] = [(Envelope(SENDER, name), TRAP) for name in names]
    mails[12] = (Envelope(SENDER, ["deferred@example.com", names[12]]), TRAP)
    with transport(postfix, bdat_window=8) as relay:
        reports = list(relay.send_many(mails))
        assert relay.send(Envelope(SENDER, "behind@example.com"), HEADER).accepted
    for name, report in zip(names, reports, strict=True):
        if name.startswith("refused"):
            assert report.refused == (name,)
        else:
            assert report.accepted == (name,)
            assert _stored(postfix, name) == TRAP
    assert reports[12].deferred == ("deferred@example.com",)
    assert not any("trapped" in line for line in postfix.log().splitlines())


def test_many_recipients(postfix: Postfix) -> None:
    recipients = [f"many-{number}@example.com" for number in range(150)]
    report = transport(postfix).send(Envelope(SENDER, recipients), HEADER)
    assert report.accepted == tuple(recipients)
    assert _stored(postfix, recipients[-1]) == HEADER


def test_null_sender_and_quoted_local_part(postfix: Postfix, smtp: SMTP) -> None:
    smtp.sendmail("", '"null sender"@example.com', HEADER)
    transport(postfix).send(Envelope(None, '"a \\"b\\" c"@example.com'), HEADER)
    (delivery,) = postfix.deliveries("null sender@example.com")
    assert delivery.sender == ""
    assert postfix.deliveries('a "b" c@example.com')[0].sender == ""


def test_internationalised_address(postfix: Postfix, smtp: SMTP) -> None:
    smtp.sendmail("jörg@example.org", "δοκιμή-1@παράδειγμα.example", HEADER, ["SMTPUTF8"])
    transport(postfix).send(Envelope("jörg@example.org", "δοκιμή-2@example.com"), HEADER)
    (delivery,) = postfix.deliveries("δοκιμή-2@example.com")
    assert (delivery.sender, without_trace(delivery.content)) == ("jörg@example.org", HEADER)


def test_send_message(postfix: Postfix, smtp: SMTP) -> None:
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Bcc"] = SENDER, "to-1@example.com", "bcc-1@example.com"
    message["Subject"] = "Grüße"
    message.set_content("Grüße\n" + ".\n" + "x" * 2000 + "\n")
    smtp.send_message(message)
    stored = _stored(postfix, "to-1@example.com")
    assert b"bcc-1" not in stored
    parsed = email.message_from_bytes(stored, policy=email.policy.default)
    assert parsed["Subject"] == "Grüße"
    assert parsed.get_content().splitlines() == message.get_content().splitlines()
    assert _stored(postfix, "bcc-1@example.com") == stored


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_starttls_and_auth(postfix: Postfix, context: ssl.SSLContext, mechanism: str) -> None:
    with SMTP(postfix.host, postfix.submission, timeout=20) as smtp:
        smtp.starttls(context=context)
        smtp.ehlo()
        smtp.esmtp_features["auth"] = mechanism
        with pytest.raises(mailbridge.SMTPAuthenticationError) as caught:
            smtp.login("user", "wrong")
        assert caught.value.smtp_code == 535
        assert smtp.login("user", "secret")[0] == 235
        smtp.sendmail(SENDER, f"auth-{mechanism}@example.com", HEADER)
    assert _stored(postfix, f"auth-{mechanism}@example.com") == HEADER


@pytest.mark.parametrize("tls", ["starttls", "opportunistic", "implicit"])
def test_transport_with_tls_and_auth(postfix: Postfix, context: ssl.SSLContext, tls: str) -> None:
    port = postfix.submissions if tls == "implicit" else postfix.submission
    options = {"port": port, "tls": tls, "ssl_context": context}
    with transport(postfix, **options, username="user", password="secret") as relay:
        relay.send(Envelope(SENDER, f"tls-{tls}@example.com"), CONTENTS["large"])
    assert _stored(postfix, f"tls-{tls}@example.com") == CONTENTS["large"]
    with pytest.raises(mailbridge.AuthenticationFailed, match="user name and password"):
        transport(postfix, **options, username="user", password="wrong").open()
    with pytest.raises(mailbridge.MailError) as caught:
        transport(postfix, **options).send(Envelope(SENDER, "a@example.com"), HEADER)
    assert caught.value.report.refused == ("a@example.com",)
    del options["ssl_context"]
    with pytest.raises(mailbridge.CertificateError):
        transport(postfix, **options).open()


def test_implicit_tls(postfix: Postfix, context: ssl.SSLContext) -> None:
    assert postfix.submissions
    with SMTP_SSL(postfix.host, postfix.submissions, context=context, timeout=20) as smtp:
        smtp.login("user", "secret")
        smtp.sendmail(SENDER, "smtps@example.com", HEADER)
    assert _stored(postfix, "smtps@example.com") == HEADER


def test_submission_without_tls_is_refused(postfix: Postfix) -> None:
    with pytest.raises(mailbridge.MailError):
        transport(postfix, port=postfix.submission).send(Envelope(SENDER, "a@example.com"), HEADER)


def test_without_extensions(postfix_installed: None) -> None:
    """A Postfix without 8BITMIME, SMTPUTF8, PIPELINING and CHUNKING, and with a small limit."""
    mime = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" + HEADER
    with start_postfix(
        pipelining=False,
        chunking=False,
        utf8=False,
        eight_bit=False,
        settings={"message_size_limit": "5000"},
    ) as plain:
        with transport(plain) as relay:
            relay.send(Envelope(SENDER, "downgraded@example.com"), mime + "Grüße\r\n".encode())
            with pytest.raises(mailbridge.MessageRefused, match="552"):
                relay.send(Envelope(SENDER, "a@example.com"), HEADER + b"x\r\n" * 3000)
            with pytest.raises(mailbridge.SomeRecipientsRefused, match="SMTPUTF8"):
                relay.send(Envelope(SENDER, ["jörg@example.com", "ascii@example.com"]), HEADER)
        stored = _stored(plain, "downgraded@example.com")
        assert stored.isascii()
        parsed = email.message_from_bytes(stored, policy=email.policy.default)
        assert parsed.get_content().strip() == "Grüße"
        assert _stored(plain, "ascii@example.com") == HEADER

"""TLS: the modes, the certificate, and what an attacker on the path may try."""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import socket
import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import mailbridge
from mailbridge import SMTP, SMTP_SSL, AsyncTransport, Timeouts
from mailbridge.protocol.session import Session
from mailbridge.sync.driver import Connection
from mailbridge.sync.pool import pool_for
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge.testing.certificates import certificate_of
from mailbridge.tls import context_for, sessions_of, tls_context
from tests.sync.servers import LOCK_STEP, Peer, RawServer, close_by_reset, leave, reset
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, heard, transport, verbs

ME = "127.0.0.1"
USERS = {"user": "s3cret pass"}


@pytest.fixture
def starttls_server(ca: TestCA):
    with ScriptedServer(tls_context=ca.server_context(ME)) as smtpd:
        yield smtpd


@pytest.fixture
def tls_server(ca: TestCA):
    with ScriptedServer(tls_context=ca.server_context(ME), implicit_tls=True) as smtpd:
        yield smtpd


# -- the modes


@pytest.mark.parametrize(
    ("mode", "in_tls"), [("none", False), ("opportunistic", True), ("starttls", True)]
)
def test_modes(starttls_server: ScriptedServer, ca: TestCA, mode: str, in_tls: bool) -> None:
    """None never, opportunistic where offered, STARTTLS always."""
    options = {"tls": mode} if mode == "none" else {"tls": mode, "ca_file": ca.ca_file}
    transport(starttls_server, **options).send(ENVELOPE, CONTENT)
    assert starttls_server.messages[0].tls is in_tls


def test_opportunistic_without_offer(smtpd: ScriptedServer) -> None:
    transport(smtpd, tls="opportunistic").send(ENVELOPE, CONTENT)
    assert smtpd.messages[0].tls is False


def test_implicit(tls_server: ScriptedServer, ca: TestCA) -> None:
    """TLS from the first byte; a server that leaves without close_notify is no error."""
    transport(tls_server, tls="implicit", ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
    tls_server.drop("QUIT")
    transport(tls_server, tls="implicit", ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
    with SMTP_SSL(ME, tls_server.port, context=ca.client_context(), timeout=5) as smtp:
        smtp.sendmail(SENDER, TO, CONTENT)
    assert [message.tls for message in tls_server.messages] == [True] * 3


@pytest.mark.parametrize("reply", [None, "454 4.7.0 not now", "501 no", "250 fine"])
def test_starttls_stripped_or_refused(ca: TestCA, reply: str | None) -> None:
    """STARTTLS stripped from EHLO, or answered otherwise than 220: closed, nothing in clear."""
    with ScriptedServer(tls_context=ca.server_context(ME), users=USERS) as smtpd:
        if reply is None:
            smtpd.without("STARTTLS")
        else:
            smtpd.reply("STARTTLS", reply)
        options = {"username": "user", "password": USERS["user"], "ca_file": ca.ca_file}
        with pytest.raises(mailbridge.TLSError) as caught:
            transport(smtpd, tls="starttls", **options).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        smtp = client(smtpd)
        with pytest.raises(mailbridge.SMTPException):
            smtp.starttls(context=ca.client_context())
        smtp.close()
        assert {"MAIL", "AUTH"}.isdisjoint(verbs(smtpd))


@pytest.mark.parametrize("injected", [b"250 Ok\r\n", b"250-AUTH", b"\x00", b"550 no\r\n250 ok\r\n"])
def test_injected_data_after_220(ca: TestCA, injected: bytes) -> None:
    """Injected data after 220: a hard failure, closed, and never used again."""
    with ScriptedServer(tls_context=ca.server_context(ME)) as smtpd:
        smtpd.inject("STARTTLS", injected)
        with pytest.raises(mailbridge.MailError) as caught:
            transport(smtpd, tls="starttls", ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        smtp = client(smtpd)
        with pytest.raises(mailbridge.ProtocolViolation):
            smtp.starttls(context=ca.client_context())
        assert smtp.sock is None
        with pytest.raises(mailbridge.SMTPServerDisconnected):
            smtp.noop()
        assert verbs(smtpd) == ["EHLO", "STARTTLS"] * 2


def test_everything_is_forgotten_and_ehlo_said_again(ca: TestCA) -> None:
    """STARTTLS re-EHLO: nothing that was learned before TLS is kept."""
    with ScriptedServer(tls_context=ca.server_context(ME), users=USERS) as smtpd:
        smtpd.reply("EHLO", "250-x\n250-STARTTLS\n250-AUTH GSSAPI\n250 X-OLD", times=1)
        smtp = SMTP(ME, smtpd.port, "me", timeout=5)
        smtp.ehlo()
        assert smtp.has_extn("x-old")
        smtp.starttls(context=ca.client_context())
        assert smtp.esmtp_features == {}
        assert (smtp.ehlo_resp, smtp.does_esmtp) == (None, False)
        smtp.login("user", USERS["user"])
        assert not smtp.has_extn("x-old")
        assert not smtp.has_extn("starttls")
        smtp.quit()
        assert verbs(smtpd) == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


def test_smtp_connect_starttls(starttls_server: ScriptedServer, ca: TestCA) -> None:
    """SMTP()+connect()+starttls(): the host name is known, and checked."""
    smtp = SMTP(timeout=5)
    smtp.connect(ME, starttls_server.port)
    assert smtp.starttls(context=ca.client_context())[0] == 220
    with pytest.raises(mailbridge.SMTPNotSupportedError):
        smtp.starttls(context=ca.client_context())
    smtp.quit()


def test_smtp_ssl_without_host(tls_server: ScriptedServer, ca: TestCA) -> None:
    """SMTP_SSL() without host: connect() later."""
    smtp = SMTP_SSL(context=ca.client_context(), timeout=5)
    assert smtp.connect(ME, tls_server.port)[0] == 220
    smtp.quit()


def test_smtp_ssl_by_ipv6_literal(ca: TestCA, ipv6_loopback: str) -> None:
    context = ca.server_context(ipv6_loopback)
    with ScriptedServer(host=ipv6_loopback, tls_context=context, implicit_tls=True) as smtpd:
        with SMTP_SSL(f"[::1]:{smtpd.port}", context=ca.client_context(), timeout=5) as smtp:
            assert smtp.noop()[0] == 250
        transport(smtpd, tls="implicit", ca_file=ca.ca_file).send(ENVELOPE, CONTENT)


# -- the certificate


BAD = ["other name", "expired", "not yet valid", "self-signed", "unknown CA"]


def _bad_context(kind: str, ca: TestCA) -> ssl.SSLContext:
    if kind == "other name":
        return ca.server_context("other.example")
    if kind == "expired":
        return ca.expired_server_context(ME)
    if kind == "not yet valid":
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        later = ca._ca.issue_cert(ME, not_before=tomorrow, not_after=tomorrow + timedelta(days=9))
        later.configure_cert(context)
        return context
    if kind == "self-signed":
        return _self_signed()
    with TestCA() as unknown:
        return unknown.server_context(ME)


def _self_signed() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ME)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(ME))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.public_bytes(pem))
        file.write(key.private_bytes(pem, traditional, serialization.NoEncryption()))
        file.flush()
        context.load_cert_chain(file.name)
    return context


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("mode", ["opportunistic", "starttls", "implicit"])
def test_bad_certificate_is_refused(ca: TestCA, kind: str, mode: str) -> None:
    """Certificate check: on in every mode, and never a way around it."""
    context = _bad_context(kind, ca)
    with ScriptedServer(tls_context=context, implicit_tls=mode == "implicit") as smtpd:
        with pytest.raises(mailbridge.CertificateError, match="ca_file") as caught:
            transport(smtpd, tls=mode, ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
        assert isinstance(caught.value, ssl.SSLCertVerificationError)
        assert (caught.value.retryable, caught.value.session_usable) == (False, False)
        assert caught.value.report.not_attempted == (TO,)
        assert "MAIL" not in verbs(smtpd)
        unverified = transport(smtpd, tls=mode, tls_verify=False)
        assert unverified.send(ENVELOPE, CONTENT).accepted == (TO,)


def test_certificate_is_verified_by_default(
    starttls_server: ScriptedServer, tls_server: ScriptedServer
) -> None:
    """Certificate check: on by default in SMTP_SSL and in starttls()."""
    with pytest.raises(mailbridge.CertificateError):
        SMTP_SSL(ME, tls_server.port, timeout=5)
    smtp = client(starttls_server)
    with pytest.raises(ssl.SSLCertVerificationError):
        smtp.starttls()
    assert smtp.sock is None
    with pytest.raises(mailbridge.CertificateError):
        transport(starttls_server, tls="opportunistic").send(ENVELOPE, CONTENT)


def test_server_hostname(ca: TestCA) -> None:
    """The name in the certificate may be given, where one connects by another."""
    with ScriptedServer(tls_context=ca.server_context("mx.example.org")) as smtpd:
        options = {"tls": "starttls", "ca_file": ca.ca_file}
        with pytest.raises(mailbridge.CertificateError, match="server_hostname"):
            transport(smtpd, **options).send(ENVELOPE, CONTENT)
        options["server_hostname"] = "mx.example.org"
        assert transport(smtpd, **options).send(ENVELOPE, CONTENT).accepted


def test_ssl_context(starttls_server: ScriptedServer, ca: TestCA) -> None:
    """A context, or a function that makes one."""
    for context in (ca.client_context(), ca.client_context):
        transport(starttls_server, tls="starttls", ssl_context=context).send(ENVELOPE, CONTENT)
    assert [message.tls for message in starttls_server.messages] == [True, True]


def test_client_certificate(ca: TestCA) -> None:
    """A client certificate is shown to a server that wants one."""
    context = ca.server_context(ME)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.ca_file)
    options: dict[str, Any] = {"tls": "starttls", "ca_file": ca.ca_file}
    with ScriptedServer(tls_context=context) as smtpd:
        with pytest.raises(mailbridge.MailError) as caught:
            transport(smtpd, **options).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        options["certfile"] = ca.certificate_file("client.example")
        assert transport(smtpd, **options).send(ENVELOPE, CONTENT).accepted


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(ca: TestCA) -> None:
    """TLS 1.0 and 1.1 only: refused (RFC 8996), whatever OpenSSL's own policy is."""
    context = ca.server_context(ME)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    ours = tls_context(ca_file=ca.ca_file, shared=False)
    ours.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL would refuse it, too
    options: list[dict[str, Any]] = [{"ca_file": ca.ca_file}, {"ssl_context": ours}]
    with ScriptedServer(tls_context=context) as smtpd:
        for each in options:
            with pytest.raises(mailbridge.TLSError):
                transport(smtpd, tls="starttls", **each).send(ENVELOPE, CONTENT)
        ours.minimum_version = ssl.TLSVersion.TLSv1
        lax = transport(smtpd, tls="starttls", ssl_context=ours)
        assert lax.send(ENVELOPE, CONTENT).accepted == (TO,), "the server could have"


# -- the other end speaks otherwise


def test_plain_server_where_tls_was_expected(smtpd: ScriptedServer, ca: TestCA) -> None:
    """A plain server on the TLS port: TLSError that names the option, nothing said."""
    with pytest.raises(mailbridge.TLSError, match="tls='starttls'") as caught:
        transport(smtpd, tls="implicit", ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    with pytest.raises(ssl.SSLError):
        SMTP_SSL(ME, smtpd.port, timeout=5)
    assert "MAIL" not in verbs(smtpd)


def test_what_comes_before_implicit_tls_is_never_the_greeting(ca: TestCA) -> None:
    """Somebody on the path speaks first, in the clear: whenever it comes, that is the end."""

    def dialogue(peer: Peer) -> None:
        peer.say("220 injected")
        peer.wait_for_close()

    with RawServer(dialogue) as raw:
        for _ in range(4):  # It may or may not be here when the handshake is begun.
            with pytest.raises(mailbridge.TLSError, match="tls='starttls'") as caught:
                transport(raw, tls="implicit", ca_file=ca.ca_file, timeout=2).send(
                    ENVELOPE, CONTENT
                )
            assert caught.value.report.not_attempted == (TO,)


def test_tls_server_where_plain_was_expected(tls_server: ScriptedServer) -> None:
    """A server that speaks TLS where plain was expected: the greeting's time-out has the hint."""
    with pytest.raises(mailbridge.ReplyTimeout, match="tls='implicit'") as caught:
        transport(tls_server, timeout=0.4).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    with pytest.raises(TimeoutError, match="465"):
        client(tls_server, timeout=0.4)
    assert heard(tls_server) == []


def test_tls_alert_instead_of_a_greeting() -> None:
    """A TLS record instead of the greeting: not garbage, but a hint."""
    with RawServer(lambda peer: peer.send(b"\x15\x03\x01\x00\x02\x02\x0a\r\n")) as raw:
        with pytest.raises(mailbridge.MailError, match="tls='implicit'"):
            transport(raw).send(ENVELOPE, CONTENT)


@pytest.mark.parametrize("end", [leave, reset])
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_a_server_that_goes_in_the_handshake(
    smtpd: ScriptedServer, ca: TestCA, mode: str, end: Callable[[Peer], None]
) -> None:
    """To hang up is no other thing than to reset: the next relay is asked, or this one later."""

    def dialogue(peer: Peer) -> None:
        if mode == "starttls":
            peer.until("STARTTLS", ehlo=("250-raw.example", "250 STARTTLS"))
            peer.say("220 go on")
        peer.receive()
        end(peer)

    with RawServer(dialogue) as raw:
        down = transport(raw, tls=mode, ca_file=ca.ca_file)
        with pytest.raises(mailbridge.TLSError, match="Try again later") as caught:
            down.send(ENVELOPE, CONTENT)
        assert caught.value.retryable

        async def send() -> None:
            async with AsyncTransport(down.relay) as other:
                await other.send(ENVELOPE, CONTENT)

        with pytest.raises(mailbridge.TLSError, match="Try again later"):
            asyncio.run(send())
        relays = [down.relay, transport(smtpd).relay]
        report = mailbridge.Transport(relays).send(ENVELOPE, CONTENT)
    assert (report.accepted, report.attempts) == ((TO,), 2)


def test_a_connection_that_was_reset_before_the_handshake_is_closed(ca: TestCA) -> None:
    with socket.create_server((ME, 0)) as listening:
        sock = socket.create_connection(listening.getsockname())
        close_by_reset(listening.accept()[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    assert poll.poll(5000)
    connection = Connection(
        Session(), Timeouts.all(5.0), "raw.example:465", context=ca.client_context()
    )
    connection.sock, number = sock, sock.fileno()
    with pytest.raises(mailbridge.TLSError) as caught:
        connection.handshake()
    assert not connection.open
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert caught.value.retryable


@pytest.mark.parametrize("answer", [b"garbage, not a TLS record", b""], ids=["garbage", "close"])
def test_handshake_breaks(ca: TestCA, answer: bytes) -> None:
    """The handshake closes or is garbage: a clean error, and nothing survives it."""

    def dialogue(peer: Peer) -> None:
        peer.until("STARTTLS", ehlo=("250-raw.example", "250 STARTTLS"))
        peer.say("220 go on")
        peer.receive()
        peer.send(answer)

    with RawServer(dialogue) as raw:
        for mode in ("starttls", "opportunistic"):
            with pytest.raises(mailbridge.TLSError) as caught:
                transport(raw, tls=mode, ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
            assert caught.value.report.not_attempted == (TO,)
            # It is in STARTTLS already: the advice for the wrong port would be no help.
            assert "tls=" not in str(caught.value)
            assert not answer or "agreed to STARTTLS" in caught.value.advice
        smtp = client(raw)
        with pytest.raises(ssl.SSLError):
            smtp.starttls(context=ca.client_context())
        assert smtp.sock is None


def test_starttls_offered_inside_tls_is_ignored(ca: TestCA) -> None:
    """RFC 3207 section 4.2: not used, not shown, and refused to a caller who asks for it."""
    said: list[str] = []

    def dialogue(peer: Peer) -> None:
        peer.start_tls(ca.server_context(ME))
        said.append(peer.until("STARTTLS", ehlo=("250-raw.example", "250 STARTTLS")))

    for mode in ("SMTP_SSL", "transport"):
        with RawServer(dialogue) as raw:
            if mode == "transport":
                sender = transport(raw, tls="implicit", ca_file=ca.ca_file)
                assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
                mailbridge.close_pools()
                continue
            with SMTP_SSL(ME, raw.port, "me", timeout=5, context=ca.client_context()) as smtp:
                smtp.ehlo()
                assert not smtp.has_extn("starttls")
                with pytest.raises(mailbridge.SMTPNotSupportedError):
                    smtp.starttls(context=ca.client_context())
                assert smtp.noop()[0] == 250
    assert said == []


def test_no_renegotiation() -> None:
    """What a server that renegotiates reads as one session may have been begun by another."""
    for options in ({}, {"verify": False}, {"shared": False}):
        assert tls_context(**options).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("kind", ["certificate", "injected"])
def test_nothing_goes_out_after_a_failed_starttls(ca: TestCA, kind: str) -> None:
    """An object that survives a failed STARTTLS says nothing in clear, however it is used."""
    with ScriptedServer(tls_context=ca.server_context("other.example"), users=USERS) as smtpd:
        if kind == "injected":
            smtpd.inject("STARTTLS", b"250 Ok\r\n")
        smtp = SMTP(ME, smtpd.port, "me", timeout=5)
        with pytest.raises(mailbridge.SMTPException):
            smtp.starttls(context=ca.client_context())
        uses: list[Callable[[], object]] = [
            lambda: smtp.login("user", USERS["user"]),
            lambda: smtp.sendmail(SENDER, TO, CONTENT),
            lambda: smtp.docmd("AUTH PLAIN", "AHgAeA=="),
            lambda: smtp.send(b"MAIL FROM:<a@example.org>\r\n"),
            lambda: smtp.starttls(context=ca.client_context()),
        ]
        for use in uses:
            with pytest.raises(mailbridge.SMTPServerDisconnected):
                use()
        assert smtp.sock is None
        assert verbs(smtpd) == ["EHLO", "STARTTLS"]


# -- pins


def _pin(context: ssl.SSLContext) -> str:
    return hashlib.sha256(certificate_of(context) or b"").hexdigest()


def _with_colons(pin: str) -> str:
    return ":".join(pin[i : i + 2] for i in range(0, 64, 2)).upper()


@pytest.mark.parametrize("mode", ["opportunistic", "starttls", "implicit"])
@pytest.mark.parametrize("kind", BAD)
def test_a_pin_accepts_its_certificate_whoever_issued_it(
    ca: TestCA, elsewhere: str, kind: str, mode: str
) -> None:
    """And with it a password may go: the server is the one that was meant."""
    context = _bad_context(kind, ca)
    options = {"username": "user", "password": USERS["user"], "auth_mechanisms": "PLAIN"}
    options["host"] = elsewhere
    with ScriptedServer(tls_context=context, implicit_tls=mode == "implicit", users=USERS) as smtpd:
        pinned = transport(smtpd, tls=mode, fingerprint=_with_colons(_pin(context)), **options)
        assert pinned.send(ENVELOPE, CONTENT).accepted == (TO,)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_another_certificate_than_the_pinned_is_refused_before_anything_is_said(
    ca: TestCA, mode: str
) -> None:
    """Even one of a trusted CA's, and for the right name."""
    pin = _pin(ca.server_context("other.example"))
    context = ca.server_context(ME)
    with ScriptedServer(tls_context=context, implicit_tls=mode == "implicit") as smtpd:
        for options in ({"fingerprint": pin}, {"fingerprint": pin, "ca_file": ca.ca_file}):
            with pytest.raises(mailbridge.CertificateError, match=_pin(context)) as caught:
                transport(smtpd, tls=mode, **options).send(ENVELOPE, CONTENT)
            assert caught.value.report.not_attempted == (TO,)
            assert not caught.value.retryable
        assert verbs(smtpd) == (["EHLO", "STARTTLS"] * 2 if mode == "starttls" else [])
        both = transport(smtpd, tls=mode, fingerprint=[pin, _pin(context)])
        assert both.send(ENVELOPE, CONTENT).accepted == (TO,)


def test_a_pin_beside_a_ca_asks_for_both(ca: TestCA) -> None:
    context = ca.server_context("other.example")
    with ScriptedServer(tls_context=context) as smtpd:
        options = {"tls": "starttls", "fingerprint": _pin(context), "ca_file": ca.ca_file}
        with pytest.raises(mailbridge.CertificateError, match="ca_file"):
            transport(smtpd, **options).send(ENVELOPE, CONTENT)


# -- sessions, and what is remembered


def _resumed(server: ScriptedServer, **options: Any) -> bool:
    """Whether the connection of one mail resumes a TLS session; it is closed then."""
    with transport(server, **options) as sender:
        sender.send(ENVELOPE, CONTENT)
        assert sender.connection is not None
        assert sender.connection.tls is not None
        resumed = bool(sender.connection.tls.session_reused)
    mailbridge.close_pools()
    return resumed


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_the_next_connection_resumes_the_tls_session(ca: TestCA, mode: str, version: str) -> None:
    context = ca.server_context(ME)
    context.maximum_version = ssl.TLSVersion[version]
    with ScriptedServer(tls_context=context, implicit_tls=mode == "implicit") as smtpd:
        options = {"tls": mode, "ca_file": ca.ca_file}
        assert [_resumed(smtpd, **options) for _ in range(3)] == [False, True, True]


def _reused(lease: Any) -> bool:
    assert lease.connection.tls is not None
    return bool(lease.connection.tls.session_reused)


def test_a_connection_beside_one_that_has_served_resumes_its_session(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context(ME)) as smtpd:
        pool = pool_for(transport(smtpd, tls="starttls", ca_file=ca.ca_file).relay)
        pool.acquire().give_back()
        first = pool.acquire()
        second = pool.acquire()
        assert (_reused(first), _reused(second)) == (False, True)
        for lease in (first, second):
            lease.give_back()
        mailbridge.close_pools()


def test_a_session_that_was_begun_before_is_forgotten(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context(ME)) as smtpd:
        options = {"tls": "starttls", "ca_file": ca.ca_file}
        pool_for(transport(smtpd, **options).relay).acquire().give_back()
        mailbridge.forget_relays()
        mailbridge.close_pools()
        assert [_resumed(smtpd, **options) for _ in range(2)] == [False, True]


def test_no_session_is_kept_of_a_server_that_was_not_who_it_should_be(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context(ME)) as smtpd:
        wrong = {"tls": "starttls", "fingerprint": "ab" * 32}
        for _ in range(2):
            with pytest.raises(mailbridge.CertificateError, match="pinned"):
                transport(smtpd, **wrong).open()
        context = context_for(transport(smtpd, **wrong).relay)
        assert context is not None
        assert sessions_of(context).get((f"127.0.0.1:{smtpd.port}", ME, ("ab" * 32,))) is None


def test_no_session_is_resumed_under_other_terms(ca: TestCA) -> None:
    """Not that of an unverified connection by one that verifies, nor under another name or pin."""
    context = ca.server_context(ME, "mx.example")
    with ScriptedServer(tls_context=context) as smtpd:
        others: list[dict[str, Any]] = [
            {"tls_verify": False},
            {"ca_file": ca.ca_file},
            {"ca_file": ca.ca_file, "server_hostname": "mx.example"},
            {"ca_file": ca.ca_file, "fingerprint": _pin(context)},
            {"fingerprint": _pin(context)},
            {"ca_file": ca.ca_file, "certfile": ca.certificate_file("client.example")},
        ]
        assert [_resumed(smtpd, tls="starttls", **other) for other in others] == [False] * 6
        assert [_resumed(smtpd, tls="starttls", **other) for other in others] == [True] * 6


def test_stripped_starttls_is_noticed_in_opportunistic_mode(
    starttls_server: ScriptedServer, ca: TestCA
) -> None:
    """A relay that has once offered STARTTLS to this process is not accepted without it."""
    sender = transport(starttls_server, tls="opportunistic", ca_file=ca.ca_file)
    assert sender.send(ENVELOPE, CONTENT).accepted
    mailbridge.close_pools()
    starttls_server.without("STARTTLS")
    with pytest.raises(mailbridge.TLSError, match="offered STARTTLS before") as caught:
        sender.send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    assert len(starttls_server.messages) == 1
    mailbridge.forget_relays()
    assert sender.send(ENVELOPE, CONTENT).accepted


def test_unverified_tls_is_loud_once_for_each_relay(
    starttls_server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        transport(starttls_server, tls="starttls", tls_verify=False).send(ENVELOPE, CONTENT)
        mailbridge.close_pools()
    warnings = [r.getMessage() for r in caplog.records if "not verified" in r.getMessage()]
    assert len(warnings) == 1
    assert f":{starttls_server.port}: " in warnings[0]


def test_a_function_for_a_context_is_asked_once(
    starttls_server: ScriptedServer, ca: TestCA
) -> None:
    made = []

    def make() -> ssl.SSLContext:
        made.append(ca.client_context())
        return made[-1]

    for _ in range(3):
        transport(starttls_server, tls="starttls", ssl_context=make).send(ENVELOPE, CONTENT)
        mailbridge.close_pools()
    assert len(made) == 1


# -- REQUIRETLS


def test_requiretls_only_over_verified_tls_and_only_if_offered_there(ca: TestCA) -> None:
    """RFC 8689 section 4.2.1: otherwise nothing is sent."""
    extensions = (*LOCK_STEP, "REQUIRETLS")
    with ScriptedServer(tls_context=ca.server_context(ME), extensions=extensions) as smtpd:
        wanted = {"mail_options": ["REQUIRETLS"]}
        for options in ({"tls": "none"}, {"tls": "starttls", "tls_verify": False}):
            with pytest.raises(mailbridge.NotSupported, match="verified") as caught:
                transport(smtpd, **options).send(ENVELOPE, CONTENT, **wanted)
            assert caught.value.report.not_attempted == (TO,)
        verified = transport(smtpd, tls="starttls", ca_file=ca.ca_file)
        assert verified.send(ENVELOPE, CONTENT, **wanted).accepted == (TO,)
        assert "REQUIRETLS" in smtpd.messages[0].mail_parameters
        mailbridge.close_pools()
        smtpd.without("REQUIRETLS")
        with pytest.raises(mailbridge.NotSupported, match="REQUIRETLS"):
            verified.send(ENVELOPE, CONTENT, **wanted)
        assert len(smtpd.messages) == 1

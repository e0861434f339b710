"""AUTH and TLS of the scripted server, and the certificates for it."""

from __future__ import annotations

import os
import smtplib
import ssl
import sys
from base64 import b64encode
from collections.abc import Iterator

import pytest

from mailbridge.testing import ScriptedServer, TestCA
from tests.testing.client import Client

USERS = {"user": "pa ss", "tim": "tanstaaftanstaaf", "ü": "ß"}


@pytest.fixture(scope="module")
def ca() -> Iterator[TestCA]:
    with TestCA() as ca:
        yield ca


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


PLAIN = encoded("\0user\0pa ss")

# -- AUTH


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib_logs_in(mechanism: str) -> None:
    with ScriptedServer(users=USERS, mechanisms=[mechanism], require_auth=True) as smtpd:
        with smtplib.SMTP(smtpd.host, smtpd.port) as client:
            with pytest.raises(smtplib.SMTPSenderRefused) as caught:
                client.sendmail("a@example.org", "b@example.org", "")
            assert caught.value.smtp_error == b"5.7.0 Authentication required"
            assert client.login("user", "pa ss")[0] == 235
            client.sendmail("a@example.org", "b@example.org", "")
        assert smtpd.messages[0].user == "user"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_wrong_password_is_refused(mechanism: str) -> None:
    with ScriptedServer(users=USERS, mechanisms=[mechanism]) as smtpd:
        with smtplib.SMTP(smtpd.host, smtpd.port) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                client.login("user", "wrong")
    assert caught.value.smtp_code == 535


@pytest.fixture
def smtpd() -> Iterator[ScriptedServer]:
    mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "NTLM"]
    with ScriptedServer(users=USERS, mechanisms=mechanisms) as smtpd:
        yield smtpd


@pytest.fixture
def client(smtpd: ScriptedServer) -> Iterator[Client]:
    with Client(smtpd) as client:
        client.ehlo()
        yield client


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([f"AUTH PLAIN {PLAIN}"], ["235 2.7.0"]),
        ([f"auth plain {PLAIN}"], ["235 2.7.0"]),
        (["AUTH PLAIN", PLAIN], ["334", "235 2.7.0"]),
        ([f"AUTH PLAIN {encoded('azid' + chr(0) + 'ü' + chr(0) + 'ß')}"], ["235 2.7.0"]),
        (["AUTH PLAIN", "*"], ["334", "501 5.7.0"]),
        (["AUTH PLAIN", "%%%"], ["334", "501 5.5.2"]),
        (["AUTH PLAIN", PLAIN + "\t"], ["334", "501 5.5.2"]),
        (["AUTH PLAIN ="], ["501 5.5.2"]),
        (["AUTH PLAIN AAA"], ["501 5.5.2"]),
        ([f"AUTH PLAIN {encoded('no NUL')}"], ["501 5.5.2"]),
        (["AUTH PLAIN " + "A" * 600], ["500 5.5.6"]),
        (["AUTH PLAIN", "A" * 12288], ["334", "500 5.5.6"]),
        (["AUTH PLAIN", "A" * 12284], ["334", "501 5.5.2"]),
        (["AUTH LOGIN", encoded("user"), encoded("pa ss")], ["334", "334", "235 2.7.0"]),
        ([f"AUTH LOGIN {encoded('user')}", encoded("no")], ["334", "535 5.7.8"]),
        (["AUTH CRAM-MD5 ="], ["501 5.5.2"]),
        (["AUTH CRAM-MD5", encoded("user 00")], ["334", "535 5.7.8"]),
        (["AUTH"], ["501 5.5.4"]),
        (["AUTH KERBEROS_V4"], ["504 5.5.4"]),
        (["AUTH NTLM"], ["504 5.5.4"]),
        (
            [f"AUTH XOAUTH2 {encoded('user=user' + chr(1) + 'auth=Bearer pa ss' + chr(1) * 2)}"],
            ["235 2.7.0"],
        ),
        (
            [f"AUTH XOAUTH2 {encoded('user=user' + chr(1) + 'auth=Bearer no' + chr(1) * 2)}", ""],
            ["334", "535 5.7.8"],
        ),
        (
            [f"AUTH OAUTHBEARER {encoded('n,,' + chr(1) + 'auth=Bearer pa ss' + chr(1) * 2)}"],
            ["235 2.7.0"],
        ),
        (
            [f"AUTH OAUTHBEARER {encoded('n,a=tim,' + chr(1) + 'auth=Bearer no')}", "AQ=="],
            ["334", "535 5.7.8"],
        ),
    ],
)
def test_exchange(
    client: Client, smtpd: ScriptedServer, lines: list[str], codes: list[str]
) -> None:
    for line, code in zip(lines, codes, strict=True):
        assert client.say(line).startswith(f"{code} ")
    assert client.say("NOOP") == "250 2.0.0 Ok"
    said = [line for line in smtpd.transcript.splitlines() if " C: " in line]
    secrets = {line.split()[-1] for line in lines if len(line.split()) in (1, 3)} - {"AUTH", "*"}
    assert not [line for line in said for secret in secrets if secret in line]


def test_auth_is_refused_where_it_may_not_come(client: Client) -> None:
    client.say("MAIL FROM:<>")
    assert client.say(f"AUTH PLAIN {PLAIN}").startswith("503 5.5.1")
    client.say("RSET")
    assert client.say(f"AUTH PLAIN {PLAIN}").startswith("235")
    assert client.say(f"AUTH PLAIN {PLAIN}").startswith("503 5.5.1")


def test_auth_may_share_a_write_with_mail(client: Client, smtpd: ScriptedServer) -> None:
    assert client.say(f"AUTH PLAIN {PLAIN}", "MAIL FROM:<>").startswith("250")
    assert "MAIL FROM:<>" in smtpd.transcript


def test_scripted_replies_replace_each_step(client: Client, smtpd: ScriptedServer) -> None:
    smtpd.reply("AUTH", "334 !!!PDE=@@", times=1)
    assert client.say("AUTH CRAM-MD5") == "334 !!!PDE=@@"
    assert client.say("*").startswith("501 5.7.0")
    smtpd.reply("AUTH", "454 4.7.0 Later", times=1)
    assert client.say("AUTH LOGIN") == "454 4.7.0 Later"
    smtpd.reply("AUTH", "235 Welcome", times=1)
    assert client.say("AUTH LOGIN") == "235 Welcome"


@pytest.mark.parametrize("auth", [f"AUTH\tPLAIN\t{PLAIN}", f"AUTH  PLAIN {PLAIN}", "AUTH NTLM"])
def test_a_secret_is_masked_even_out_of_place(
    client: Client, smtpd: ScriptedServer, auth: str
) -> None:
    assert client.say(auth)[0] == "5"
    assert client.say(PLAIN)[0] == "5"
    assert PLAIN not in smtpd.transcript
    client.say("NOOP")
    client.say("HUH")
    assert "HUH" in smtpd.transcript


# The examples of RFC 7677 are for a fixed nonce of the server; here the client computes.
@pytest.mark.parametrize(("password", "code"), [("tanstaaftanstaaf", "334"), ("wrong", "535")])
def test_scram(client: Client, password: str, code: str) -> None:
    import hashlib
    import hmac
    from base64 import b64decode

    bare = "n=tim,r=nonce"
    first = b64decode(client.say(f"AUTH SCRAM-SHA-256 {encoded('n,,' + bare)}")[4:]).decode()
    fields = dict(field.split("=", 1) for field in first.split(","))
    count, salt = int(fields["i"]), b64decode(fields["s"])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, count)
    key = hmac.digest(salted, b"Client Key", "sha256")
    message = f"{bare},{first},c=biws,r={fields['r']}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    proof = b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    reply = client.say(encoded(f"c=biws,r={fields['r']},p={proof}"))
    assert reply.startswith(code)
    if code == "334":
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        verifier = b64encode(hmac.digest(server_key, message, "sha256"))
        assert b64decode(reply[4:]) == b"v=" + verifier
        assert client.say("").startswith("235")


# -- TLS


def test_starttls_forgets_what_was_said_before(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context("localhost"), users=USERS) as smtpd:
        with Client(smtpd) as client:
            assert client.say("STARTTLS").startswith("503")
            client.begin()
            client.say(f"AUTH PLAIN {PLAIN}")
            # Plaintext in the same write is not taken as a command of the TLS session.
            client.send(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<injected@example.org>\r\n")
            assert client.reply() == "220 2.0.0 Ready to start TLS"
            client.tls(ca.client_context())
            assert client.say("MAIL FROM:<>").startswith("503 5.5.1 Send EHLO")
            assert "STARTTLS" not in client.ehlo()
            assert client.say("STARTTLS").startswith("503")
            client.begin()
            client.data(b"")
    assert (smtpd.messages[0].tls, smtpd.messages[0].user) == (True, None)
    assert "injected" not in smtpd.transcript


def test_required_tls_and_auth(ca: TestCA) -> None:
    context = ca.server_context("localhost")
    with ScriptedServer(
        tls_context=context, require_tls=True, users=USERS, auth_needs_tls=True, require_auth=True
    ) as smtpd:
        with Client(smtpd) as client:
            assert "AUTH" not in client.ehlo()
            for line in ("MAIL FROM:<>", f"AUTH PLAIN {PLAIN}", "RSET"):
                assert client.say(line).startswith("530 5.7.0 Must issue")
            assert client.say("STARTTLS").startswith("220")
            client.tls(ca.client_context())
            assert "250 AUTH PLAIN LOGIN CRAM-MD5" in client.ehlo()
            assert client.say("MAIL FROM:<>") == "530 5.7.0 Authentication required"
            assert client.say("RSET").startswith("250")
            assert client.say(f"AUTH PLAIN {PLAIN}").startswith("235")
            assert client.say("MAIL FROM:<>").startswith("250")


def test_auth_that_needs_tls_is_refused_without() -> None:
    with ScriptedServer(users=USERS, auth_needs_tls=True) as smtpd, Client(smtpd) as client:
        client.ehlo()
        assert client.say(f"AUTH PLAIN {PLAIN}").startswith("538 5.7.11")


def test_implicit_tls_ends_with_close_notify(ca: TestCA) -> None:
    context = ca.server_context("localhost", "127.0.0.1")
    with ScriptedServer(tls_context=context, implicit_tls=True) as smtpd:
        assert smtpd.url == f"smtps://127.0.0.1:{smtpd.port}"
        with smtplib.SMTP_SSL(smtpd.host, smtpd.port, context=ca.client_context()) as client:
            assert not client.ehlo()[1].count(b"STARTTLS")
        with Client(smtpd, ca.client_context()) as bare:
            vars(bare.socket)["suppress_ragged_eofs"] = False
            assert bare.say("QUIT").startswith("221")
            assert bare.reply() == ""
        smtpd.drop("NOOP")
        with Client(smtpd, ca.client_context()) as bare:
            vars(bare.socket)["suppress_ragged_eofs"] = False
            with pytest.raises(ssl.SSLEOFError):
                bare.say("NOOP")


def test_a_hidden_starttls(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context("localhost")) as smtpd:
        smtpd.without("STARTTLS")
        with Client(smtpd) as client:
            assert "STARTTLS" not in client.ehlo()
            assert client.say("STARTTLS").startswith("502")


def test_bytes_injected_before_the_handshake(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context("localhost")) as smtpd:
        smtpd.inject(after="STARTTLS", data=b"250 injected\r\n")
        with Client(smtpd) as client:
            client.ehlo()
            client.send(b"STARTTLS\r\n")
            received = client.socket.recv(100)
            assert received == b"220 2.0.0 Ready to start TLS\r\n250 injected\r\n"


def test_a_failed_handshake_is_in_the_transcript_and_no_error(ca: TestCA) -> None:
    with ScriptedServer(tls_context=ca.server_context("localhost")) as smtpd:
        with Client(smtpd) as client:
            client.ehlo()
            client.say("STARTTLS")
            client.send(b"no handshake at all\r\n")
            while client.socket.recv(100):
                pass
    assert "TLS handshake failed" in smtpd.transcript


def test_stop_ends_a_handshake_that_does_not_come(ca: TestCA) -> None:
    context = ca.server_context("localhost")
    with ScriptedServer(tls_context=context, implicit_tls=True) as smtpd:
        with ScriptedServer(tls_context=context) as plain, Client(plain) as client:
            client.ehlo()
            client.say("STARTTLS")
            plain.stop()
            assert client.reply() == ""
        smtpd.stop()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("expired", "certificate has expired"), ("wrong", "mismatch"), ("unknown", "local issuer")],
)
def test_bad_certificates_are_bad_in_their_own_way(ca: TestCA, kind: str, reason: str) -> None:
    if kind == "expired":
        context = ca.expired_server_context("localhost")
    else:
        context = ca.server_context("other.example" if kind == "wrong" else "localhost")
    client_context = TestCA().client_context() if kind == "unknown" else ca.client_context()
    with ScriptedServer(tls_context=context, implicit_tls=True) as smtpd:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            with smtplib.SMTP_SSL("localhost", smtpd.port, context=client_context):
                pass


# -- certificates


def test_the_files_of_an_authority_go_when_it_is_closed() -> None:
    with TestCA() as ca:
        context = ssl.create_default_context(cafile=ca.ca_file)
        certificate = ca.certificate_file("client.example")
        context.load_cert_chain(certificate)
    assert not os.path.exists(ca.ca_file)
    assert not os.path.exists(certificate)


def test_without_trustme_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match=r'pip install "mailbridge\[testing\]"'):
        TestCA()

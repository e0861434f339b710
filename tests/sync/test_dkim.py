"""DKIM: what is signed verifies where it arrives, and wrong options are found at construction."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import io
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mailbridge import Envelope, InvalidInput, OptionError, Relay, Secret, Signer, Transport
from mailbridge.testing import ScriptedServer
from tests.dkim_keys import ED25519, PKCS1, PKCS8, ed25519_key, pem, rsa_key, verifies

ENVELOPE = Envelope("me@example.org", "ada@example.com")
HEAD = (
    b"MIME-Version: 1.0\r\nFrom: Me <me@example.org>\r\nTo: ada@example.com\r\nSubject: Hi\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
)
PLAIN = HEAD + b"Hi.\r\n"
CONTENTS = {
    "plain": PLAIN,
    "no body": HEAD,
    "dots": HEAD + b".\r\n..\r\n.x \r\n\r\n.\r\n\r\n",
    "line ends": HEAD + b"a\nb\rc\r\n \t\r\nno end",
    "eight bits": HEAD + "Grüße \r\n".encode(),
    "long line": HEAD + b"x" * 3000 + b"\r\n",
    "large": HEAD + (b"." * 60 + b"\r\n") * 18_000,  # more than a chunk
    "folded field": b"X-Long: " + b"y" * 600 + b"\r\n z\r\nSubject:\t a\r\n\tb\r\n" + PLAIN,
}
RSA = pem(rsa_key())
KEYS = {"rsa": ("mail1", RSA), "ed25519": ("ed1", ED25519)}


def signer(kind: str = "ed25519", **options: Any) -> Signer:
    selector, key = KEYS[kind]
    return Signer("example.org", selector, key, **options)


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("keywords", [("8BITMIME",), ("8BITMIME", "CHUNKING"), (), ("CHUNKING",)])
def test_what_arrives_verifies(name: str, keywords: tuple[str, ...]) -> None:
    """Over DATA and BDAT, with dots, re-encoded where it must be."""
    for made in (signer("rsa"), signer("ed25519", canonicalization="simple/simple")):
        with ScriptedServer(extensions=("SIZE", "PIPELINING", *keywords)) as smtpd:
            relay = Relay.from_url(smtpd.url, dkim=made)
            report = Transport(relay).send(ENVELOPE, CONTENTS[name])
            (message,) = smtpd.messages
        assert report.accepted == ("ada@example.com",)
        assert message.content.count(b"DKIM-Signature: v=1; a=" + made.algorithm.encode()) == 1
        assert verifies(message.content)
        assert not verifies(message.content.replace(b"Me", b"You"))
        assert message.mail_parameters[0] == f"SIZE={len(message.content)}"
        assert max(map(len, message.content.split(b"\r\n"))) <= 998
        assert bool(report.changes) == (
            name == "long line" or (name == "eight bits" and "8BITMIME" not in keywords)
        )


@pytest.mark.parametrize("kind", [io.BytesIO, lambda content: iter([content[:70], content[70:]])])
def test_content_from_elsewhere_is_signed(kind: Callable[[bytes], Any]) -> None:
    with ScriptedServer() as smtpd:
        Transport(Relay.from_url(smtpd.url, dkim=signer())).send(
            ENVELOPE, kind(CONTENTS["eight bits"])
        )
        assert verifies(smtpd.messages[0].content)


def test_every_mail_of_a_batch_is_signed_once() -> None:
    with ScriptedServer() as smtpd:
        smtpd.refuse("gone@example.com")
        transport = Transport(Relay.from_url(smtpd.url, dkim=signer()), on_refused="report")
        gone = Envelope("me@example.org", "gone@example.com")
        mails = [(ENVELOPE, PLAIN), (gone, PLAIN), (ENVELOPE, CONTENTS["dots"]), (ENVELOPE, PLAIN)]
        assert [len(report.accepted) for report in transport.send_many(mails)] == [1, 0, 1, 1]
        for message in smtpd.messages:
            assert message.content.count(b"DKIM-Signature:") == 1
            assert verifies(message.content)


def test_the_next_relay_gets_its_own_signature() -> None:
    with ScriptedServer(extensions=()) as first, ScriptedServer() as second:
        first.reply("MAIL", "421 4.3.2 Closing")
        relays = [Relay.from_url(server.url, dkim=signer()) for server in (first, second)]
        content = CONTENTS["eight bits"]
        assert Transport(relays).send(ENVELOPE, content).accepted
        (message,) = second.messages
        assert message.content.endswith(content)
        assert message.content.count(b"DKIM-Signature:") == 1
        assert verifies(message.content)


def test_a_signature_of_somebody_else_stays() -> None:
    signed = signer("rsa").sign(PLAIN) + PLAIN
    with ScriptedServer() as smtpd:
        Transport(Relay.from_url(smtpd.url, dkim=signer())).send(ENVELOPE, signed)
        (message,) = smtpd.messages
    assert message.content.endswith(signed)
    assert verifies(message.content)
    assert verifies(signed)


def test_the_size_limit_counts_the_signature() -> None:
    with ScriptedServer(extensions=(f"SIZE {len(PLAIN) + 20}",)) as smtpd:
        report = Transport(Relay.from_url(smtpd.url, dkim=signer()), on_refused="report").send(
            ENVELOPE, PLAIN
        )
    assert report.refused == ("ada@example.com",)


@pytest.mark.parametrize(
    "content", [b"", b"Subject: x\r\n\r\nx\r\n", b" \r\n\r\n", b"x\r\n", b"From: a\r\nx\r\n\r\ny"]
)
def test_what_cannot_be_signed_is_refused(content: bytes) -> None:
    with ScriptedServer() as smtpd:
        transport = Transport(Relay.from_url(smtpd.url, dkim=signer()))
        with pytest.raises(InvalidInput, match="cannot be signed for example"):
            transport.send(ENVELOPE, content)
        assert transport.send(ENVELOPE, PLAIN).accepted
    assert len(smtpd.messages) == 1
    assert smtpd.connections == 1


def test_a_field_that_is_not_there_is_no_from() -> None:
    """It may be signed as missing; but there must be a From."""
    with pytest.raises(InvalidInput, match="no From field"):
        signer(headers="from subject").sign(b"Subject: x\r\n\r\nx\r\n")


# -- options


def test_the_fields_to_sign() -> None:
    field = signer(headers="From, Subject  X-None").sign(PLAIN)
    assert b"h=from : subject : x-none;" in b" ".join(field.split())
    assert verifies(field + PLAIN)
    assert verifies(field + b"Cc: x@example.com\r\n" + PLAIN)
    assert not verifies(field + b"X-None: x\r\n" + PLAIN)
    default = signer().sign(PLAIN)
    assert not verifies(default + b"From: x@example.com\r\n" + PLAIN)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA, "rsa-sha256"),
        (pem(rsa_key(), PKCS1), "rsa-sha256"),
        (RSA.replace("\n", "\r\n"), "rsa-sha256"),
        (RSA.replace("\n", "\\n"), "rsa-sha256"),
        (RSA.encode(), "rsa-sha256"),
        (Secret(RSA), "rsa-sha256"),
        (ED25519, "ed25519-sha256"),
        (f"{ED25519}\n", "ed25519-sha256"),
        (pem(ed25519_key()), "ed25519-sha256"),
    ],
)
def test_keys(key: Any, algorithm: str, tmp_path: Path) -> None:
    selector = "mail1" if algorithm == "rsa-sha256" else "ed1"
    path = tmp_path / "key.pem"
    text = key.reveal() if isinstance(key, Secret) else key
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for given in (key, path, str(path)):
        made = Signer("example.org", selector, given)
        assert made.algorithm == algorithm
        assert verifies(made.sign(PLAIN) + PLAIN)
    assert made == Signer("example.org", selector, path)
    assert hash(made) == hash(copy.copy(made))
    assert dataclasses.replace(made, domain="EXAMPLE.ORG") == made


OTHER = Path(__file__).parent.with_name("dkim_keys.py")
BAD_KEYS = {
    "nor the path of a file": ["/no/such/file", "", "no\0path", "A" * 5000, 3, RSA[40:400]],
    "no private key in PEM": ["-----BEGIN PRIVATE KEY-----", str(OTHER), OTHER],
    "encrypted": [pem(rsa_key(), PKCS8, b"x"), pem(rsa_key(), PKCS1, b"x")],
    "no RSA or Ed25519 key": [
        pem(ec.generate_private_key(ec.SECP256R1())),
        RSA.replace("MI", "MJ", 1),
        "-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----",
    ],
}


@pytest.mark.parametrize(
    ("why", "key"), [(why, key) for why, keys in BAD_KEYS.items() for key in keys]
)
def test_bad_keys_are_found_at_construction_and_not_shown(why: str, key: Any) -> None:
    with pytest.raises(OptionError, match=f"dkim_key.*{why}") as caught:
        Signer("example.org", "mail1", key)
    if len(str(key)) > 100:
        assert_hidden(caught.value, str(key))


def test_short_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Libraries do not make them any more.
    monkeypatch.setattr("mailbridge.dkim._LEAST_BITS", 1025)
    with pytest.raises(OptionError, match="dkim_key has 1024 bits, too few"):
        Signer("example.org", "mail1", pem(rsa_key(1024)))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"domain": ""}, "dkim_domain ''"),
        ({"domain": "a\r\nb"}, "dkim_domain"),
        ({"domain": None}, "dkim_domain None"),
        ({"domain": "exa mple.org"}, "dkim_domain"),
        ({"selector": "a b"}, "dkim_selector 'a b'"),
        ({"selector": "a;b=c"}, "dkim_selector"),
        ({"selector": ""}, "dkim_selector"),
        ({"headers": "Subject"}, "must name From"),
        ({"headers": ["From", "a b"]}, "dkim_headers: 'a b'"),
        ({"headers": "From, Received"}, "dkim_headers: received"),
        ({"headers": 3}, "dkim_headers 3"),
        ({"canonicalization": "strict"}, "dkim_canonicalization 'strict'"),
    ],
)
def test_wrong_options(options: dict[str, Any], why: str) -> None:
    good = {"domain": "example.org", "selector": "mail1", "key": ED25519}
    with pytest.raises(OptionError, match=why):
        Signer(**{**good, **options})


def test_a_domain_outside_ascii() -> None:
    field = Signer("bücher.example", "ed1", ED25519).sign(PLAIN)
    assert b"d=xn--bcher-kva.example;" in field
    assert verifies(field + PLAIN)


@pytest.mark.parametrize("missing", ["dkim", "nacl.signing"])
def test_the_extra_is_named_when_it_is_missing(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(OptionError, match=r'pip install "mailbridge\[dkim\]"'):
        Relay(host="h", dkim=Signer("example.org", "ed1", ED25519))


def test_options_of_a_relay(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(ED25519)
    expected = Signer("example.org", "ed1", ED25519, ("from",), "simple/relaxed")
    url = (
        f"smtp://h?dkim_domain=example.org&dkim_selector=ed1&dkim_key={path}"
        "&dkim_headers=from&dkim_canonicalization=simple/relaxed"
    )
    assert Relay.from_url(url).dkim == expected
    assert Relay.from_options(host="h", dkim=expected).dkim == expected
    assert Relay(host="h").dkim is None
    for name in ("dkim_domain", "dkim_selector", "dkim_key"):
        given = {"dkim_domain": "example.org", "dkim_selector": "ed1", "dkim_key": ED25519}
        del given[name]
        with pytest.raises(OptionError, match=f"{name} is not set"):
            Relay.from_options(given, host="h")
    with pytest.raises(OptionError, match="both set"):
        Relay.from_options(host="h", dkim=expected, dkim_key=ED25519)
    with pytest.raises(OptionError, match=r"mailbridge\.Signer"):
        Relay.from_options(host="h", dkim="example.org")


# -- secrets


def assert_hidden(error: BaseException, key: str) -> None:
    """No part of the key in an error, nor in the locals of the frames that it went through."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert error.__cause__ is None
    assert error.__context__ is None
    ours = [frame for frame in shown.stack if "/mailbridge/" in frame.filename]
    text = f"{error} {error!r} {[frame.locals for frame in ours]}"
    assert not any(key[at : at + 40] in text for at in range(0, len(key) - 40, 20))


@pytest.mark.parametrize("kind", KEYS)
def test_the_key_shows_nowhere(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    made, key = signer(kind), KEYS[kind][1][28:70]
    caplog.set_level(logging.DEBUG)
    with ScriptedServer() as smtpd:
        transport = Transport(Relay.from_url(smtpd.url, dkim=made))
        report = transport.send(ENVELOPE, PLAIN)
        with pytest.raises(InvalidInput) as caught:
            transport.send(ENVELOPE, b"From: a\r\nx\r\n\r\ny")
    assert_hidden(caught.value, KEYS[kind][1])
    shown = [made, [made], transport, transport.relay, report, report.to_dict(), caplog.text]
    assert not any(key in f"{each!r} {each}" for each in shown)
    assert key not in smtpd.transcript
    assert pickle.loads(pickle.dumps(made)) == made

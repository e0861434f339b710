"""Addresses and envelopes, case by case; `tests/properties` has any text."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from mailbridge import Address, AddressError, Envelope, NonASCIIAddress


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a@example.org", "a@example.org"),
        ("<a@example.org>", "a@example.org"),
        (" a@example.org ", "a@example.org"),
        ("Name <a@example.org>", "a@example.org"),
        ('"Last, First <x>" <a@example.org>', "a@example.org"),
        ('"quo\\"ted" <a@example.org>', "a@example.org"),
        ('"a b"@example.org', '"a b"@example.org'),
        ('"a\\"b"@example.org', '"a\\"b"@example.org'),
        ('"a>b"@example.org', '"a>b"@example.org'),
        ('""@example.org', '""@example.org'),
        ("a..b@example.org", '"a..b"@example.org'),
        (".a@example.org", '".a"@example.org'),
        ("a+tag/x=y@example.org", "a+tag/x=y@example.org"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
        ("a@[x400:c=us]", "a@[x400:c=us]"),
        ("postmaster", "postmaster"),
        ("a@localhost", "a@localhost"),
        ("a@under_score.example", "a@under_score.example"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@faß.de", "a@xn--fa-hia.de"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
    ],
)
def test_a_mailbox_and_its_path(text: str, path: str) -> None:
    address = Address.parse(text)
    assert address.path() == path.encode()
    assert not address.needs_smtputf8


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "@", "a@", "@example.org", "<>", "<", ">", "<a@b.org", "a@b.org>", "a b@c.org"],
        *["a@b.org SIZE=1", "<a@b.org> SIZE=1", "a@b.org> SIZE=1", "a@b.org,c@d.org", "a@b.org;"],
        *["G: a@x.org;", "G:;", "<<a@b.org>>", "<a@b.org><c@d.org>", "a@b@c.org", '"a@b.org'],
        *["a@b.org\r\nRSET", "a\n@b.org", "a@b.org\0", "a@b\t.org", "a@b.org\u2028", '"a\\'],
        *["a@b..org", "a@.org", "a@b.org.", "a@-b.org", "a@b-.org", "a@b,c.org", "a@b c.org"],
        *["a@[192.0.2]", "a@[192.0.2.1", "a@[]", "a@[IPv6:1]", "a@[IPv6:::1%eth0]", "a@[x:]"],
        *["a@[IPv6:fe80::1%x> BODY=8BITMIME]", '"a"b@c.org', "a@b.org (comment)", "a@\u0378.org"],
        *[
            "a" * 65 + "@b.org",
            "a@" + "b" * 64 + ".org",
            "a@" + "b." * 200 + "org",
            "é" * 33 + "@b.org",
        ],
        *["a@" + "b" * 3000, "a@b.org" * 400, "a@xn--\u0378.org", "a@ü..org"],
    ],
)
def test_what_is_not_one_mailbox(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("thing", [None, 5, b"a@b.org", ["a@b.org"]])
def test_what_is_no_text(thing: Any) -> None:
    with pytest.raises(AddressError, match="must be str"):
        Address.parse(thing)


def test_the_limit_is_that_of_the_path() -> None:
    # RFC 5321 section 4.5.3.1.3: 256 octets with the brackets.
    longest = "a@" + ".".join(["b" * 63] * 3 + ["c" * 60])
    assert len(longest) == 254
    assert len(Address.parse(longest).path()) == 254
    for text in (longest + "c", f"<{longest}c>", f"Name <{longest}c>"):
        with pytest.raises(AddressError):
            Address.parse(text)


def test_a_local_part_outside_ascii_needs_smtputf8() -> None:
    address = Address.parse("jörg@bücher.example")
    assert address.needs_smtputf8
    assert address.path(smtputf8=True) == "jörg@xn--bcher-kva.example".encode()
    with pytest.raises(NonASCIIAddress, match="SMTPUTF8") as caught:
        address.path()
    assert isinstance(caught.value, UnicodeEncodeError)
    assert caught.value.object == "jörg"
    assert (caught.value.start, caught.value.end) == (1, 2)


def test_an_address_is_a_value() -> None:
    address = Address.parse("A@b.org")
    assert Address.parse(address) is address
    assert address == Address("A", "b.org") != Address.parse("a@b.org")
    assert pickle.loads(pickle.dumps(address)) == copy.deepcopy(address) == address
    assert str(Address.parse("webmaster")) == "webmaster"


@pytest.mark.parametrize("parts", [("a> X=1", "b.org"), ("a", "b.org> X=1"), ("a\r\nRSET", None)])
def test_no_address_made_by_hand_leaves_its_brackets(parts: tuple[str, str | None]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Address(*parts).path()


def test_an_envelope() -> None:
    envelope = Envelope("Me <a@x.org>", ["b@x.org", "<b@x.org>", "c@x.org"])
    assert (envelope.sender, envelope.recipients) == ("a@x.org", ("b@x.org", "c@x.org"))
    assert not envelope.needs_smtputf8
    assert pickle.loads(pickle.dumps(envelope)) == copy.deepcopy(envelope) == envelope
    assert Envelope("a@x.org", "b@x.org") == Envelope("a@x.org", iter([Address("b", "x.org")]))


@pytest.mark.parametrize("sender", [None, "<>"])
def test_the_null_reverse_path(sender: str | None) -> None:
    envelope = Envelope(sender, "b@x.org")
    assert (envelope.reverse_path, envelope.sender) == (None, None)


def test_whether_smtputf8_is_needed() -> None:
    assert Envelope("ä@x.org", "b@x.org").needs_smtputf8
    assert Envelope(None, ["b@x.org", "ä@x.org"]).needs_smtputf8
    assert not Envelope("a@bücher.de", "b@bücher.de").needs_smtputf8


@pytest.mark.parametrize(
    ("sender", "recipients", "match"),
    [
        ("a@x.org", [], "no recipients"),
        ("a@x.org", None, "no recipients"),
        ("", "b@x.org", "no sender"),
        ("a@x.org", "", "empty"),
        ("a@x.org", "b@x.org,c@x.org", "more than one"),
        ("a b@x.org", "b@x.org", "invalid address"),
    ],
)
def test_bad_envelopes(sender: str, recipients: Any, match: str) -> None:
    with pytest.raises(AddressError, match=match):
        Envelope(sender, recipients)

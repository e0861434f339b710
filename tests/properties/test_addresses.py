"""Addresses: any text is AddressError, or a path that cannot leave its angle brackets."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge import Address, AddressError, Envelope
from mailbridge.envelope import to_ascii_domain
from mailbridge.host import check_helo_name
from mailbridge.protocol.mail import Mail, Rcpt

parts = st.sampled_from(
    (
        *("a", "b.org", "@", "<", ">", '"', "\\", " ", ",", ";", ":", "[", "]", "(c)", "SIZE=1"),
        *("127.0.0.1", "IPv6:::1", "%x", "\r\n", "\0", "\t", "é", "bücher.de", ".", "\x85"),
    )
)
texts = st.one_of(st.text(max_size=20), st.lists(parts, max_size=12).map("".join))

# RFC 5321 section 4.1.2, RFC 6531 section 3.3: nothing that ends a path but inside quotes.
ATOMS = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e\u0080-\U0010ffff])*"'
DOMAIN = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[\x21-\x3b\x3d\x3f-\x5a\x5e-\x7e]+\]"
PATH = re.compile(rf"(?:{ATOMS}(?:\.{ATOMS})*|{QUOTED})(?:@(?:{DOMAIN}))?")


@given(texts)
@example("a@[IPv6:fe80::1%x> BODY=8BITMIME]")
@example("a@[IPv6:fe80::1%<]")
@example("Name <a@b.org> SIZE=1")
@example('"a>b"@c.org')
@example("<a@b.org\r\nRSET>")
@example("a@b。org")
@example("a@b＞org")
@example("a@[x:>y]")
@example("a@[x:<y]")
@example("a@b＠c.org")
@example("a\u2028b@c.org")
def test_a_path_cannot_leave_its_brackets(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError:
        return
    path = address.path(smtputf8=True)
    assert PATH.fullmatch(path.decode()), path
    assert len(path) <= 254
    assert len(address.local_part.encode()) <= 64
    assert address.needs_smtputf8 == (not path.partition(b"@")[0].isascii() and not path.isascii())


@given(texts, st.none() | texts)
@example("a\x85b", "c.org")
@example('"a\u2028b"', "c.org")
@example("a\ud800b", "c.org")
@example("a", "[x:>y]")
@example("a", "b." * 200 + "org")
def test_parts_are_checked_like_texts(local_part: str, domain: str | None) -> None:
    """An Address may be made of its parts as well."""
    try:
        address = Address(local_part, domain)
    except AddressError:
        return
    path = address.path(smtputf8=True).decode()
    assert PATH.fullmatch(path), path
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", path)
    assert len(path.encode()) <= 254


def test_no_character_becomes_a_special_of_a_path() -> None:
    """UTS 46 maps much to ASCII: a wide @ to @, a wide > to >. IDNA 2008 then refuses it."""
    for number in range(0x80, 0x110000):
        # A sample of the ideographs will do.
        if (0x3400 <= number < 0xF900 and number % 97) or (number >= 0x20000 and number % 997):
            continue
        try:
            domain = to_ascii_domain(f"b{chr(number)}c.org")
        except AddressError:
            continue
        assert re.fullmatch(r"[a-z0-9.-]+", domain), hex(number)


@pytest.mark.parametrize("text", ["a＠b.org", "a﹫b.org", "Name <a＠b.org>"])
def test_a_wide_at_is_named(text: str) -> None:
    with pytest.raises(AddressError, match="wide"):
        Address.parse(text)


@given(texts)
def test_an_address_survives_its_own_text(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address
    assert Address.parse(f"<{address}>") == address
    assert Address.parse(f'"Name, of <x>" <{address}>') == address
    assert Address.parse(Address.parse(address.path(smtputf8=True).decode()).path(True).decode())


@given(texts)
def test_a_command_is_one_line_with_one_path(text: str) -> None:
    for command in (Mail, Rcpt):
        try:
            wire = command(text, (), True).wire
        except ValueError:
            continue
        assert wire.count(b"\r\n") == 1
        assert wire.endswith(b">\r\n")
        assert not re.search(rb"[\x00-\x1f\x7f]", wire[:-2])


@given(st.lists(st.sampled_from(["a@x.org", "b@x.org", "A@x.org", "<a@x.org>", "é@x.org"])))
def test_an_envelope_keeps_each_recipient_once(texts: list[str]) -> None:
    if not texts:
        with pytest.raises(AddressError):
            Envelope(None, texts)
        return
    recipients = Envelope(None, texts).recipients
    assert len(set(recipients)) == len(recipients)
    assert set(recipients) == {text.strip("<>") for text in texts}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6 + "@",
        "a@" + "a." * 10**6,
        '"' * 10**6,
        '"' + "\\" * 10**6,
        "<" * 10**6 + ">",
        "a" * 50 + "@" + "a-" * 100 + "!",
        "(" * 10**6,
        " " * 10**6 + "a@b.org" + " " * 10**6,
        "a@" + "xn--" * 10**5,
        "é" * 10**6 + "@b.org",
        "a@" + "é." * 10**6,
        "a@[" + ":" * 10**6 + "]",
        "a@[" + "a-" * 10**6 + ":]",
        "a＠" * 10**6,
        "a@" + "\u00ad" * 10**6,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_hostile_text_ends_soon(text: str) -> None:
    # No measurement: quadratic work on a million characters would not end before the time-out.
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert len(str(caught.value)) < 1000
    local_part, _, domain = text.partition("@")
    with pytest.raises(AddressError):
        Address(local_part, domain or None)
    with pytest.raises(ValueError, match=r"is over|no host name|no valid host name"):
        check_helo_name(f"é{text}")

"""What a mail asks of the server: checked when it is said, written as the RFCs have it."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import DSN, DeliverBy, Envelope, Esmtp, InvalidInput, NotSupported
from mailbridge.esmtp import xtext
from mailbridge.protocol.extension import Extensions
from mailbridge.protocol.parameters import check_offered

A, B = "a@example.org", "b@example.org"


def decoded(text: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda hexes: chr(int(hexes[1], 16)), text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_xtext_round_trip(text: str) -> None:
    encoded = xtext(text)
    assert decoded(encoded) == text
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+", encoded)


@given(st.text())
def test_xtext_takes_printable_ascii_only(text: str) -> None:
    if text and text.isascii() and text.isprintable():
        assert " " not in xtext(text)
    else:
        with pytest.raises(InvalidInput):
            xtext(text)


@pytest.mark.parametrize(
    ("esmtp", "parameters"),
    [
        (Esmtp(), ()),
        (Esmtp(dsn=DSN(ret="hdrs")), ("RET=HDRS",)),
        (Esmtp(dsn=DSN(ret="FULL", envid="a b=+")), ("RET=FULL", "ENVID=a+20b+3D+2B")),
        (Esmtp(dsn={"envid": "x" * 100}), ("ENVID=" + "x" * 100,)),
        (Esmtp(deliver_by=60), ("BY=60;R",)),
        (Esmtp(deliver_by=DeliverBy(timedelta(hours=1), "notify", True)), ("BY=3600;NT",)),
        (Esmtp(mt_priority=-9), ("MT-PRIORITY=-9",)),
        (Esmtp(mt_priority="0"), ("MT-PRIORITY=0",)),
        (Esmtp(hold_for=timedelta(days=1)), ("HOLDFOR=86400",)),
        (
            Esmtp(hold_until=datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
            ("HOLDUNTIL=2029-12-31T23:00:00Z",),
        ),
    ],
)
def test_parameters_of_mail(esmtp: Esmtp, parameters: tuple[str, ...]) -> None:
    assert esmtp.mail_parameters() == parameters


@pytest.mark.parametrize(
    ("dsn", "parameters"),
    [
        (DSN(), ()),
        (DSN(notify="never"), ("NOTIFY=NEVER",)),
        (DSN(notify={"delay", "failure"}), ("NOTIFY=FAILURE,DELAY",)),
        (DSN(notify="Success, delay"), ("NOTIFY=SUCCESS,DELAY",)),
        (DSN(notify="delay", notify_each={f"Ann <{A}>": ["never"]}), ("NOTIFY=NEVER",)),
        (DSN(notify="delay", notify_each={"a@EXAMPLE.org": "never"}), ("NOTIFY=NEVER",)),
        (DSN(notify="delay", notify_each={B: "never"}), ("NOTIFY=DELAY",)),
        (DSN(orcpt=True), (f"ORCPT=rfc822;{A}",)),
        (DSN(orcpt=False), ()),
        (DSN(orcpt={A: "old+tag@example.net"}), ("ORCPT=rfc822;old+2Btag@example.net",)),
        (DSN(orcpt={A: "x400;/c=de/"}), ("ORCPT=x400;/c+3Dde/",)),
        (DSN(orcpt={B: "old@example.net"}), ()),
    ],
)
def test_parameters_of_rcpt(dsn: DSN, parameters: tuple[str, ...]) -> None:
    assert Esmtp(dsn=dsn).rcpt_parameters(A) == parameters


def test_orcpt_outside_ascii() -> None:
    """RFC 6533 section 3: the 7-bit form; a domain alone is no reason for it."""
    asked = Esmtp(dsn=DSN(orcpt=True))
    assert asked.rcpt_parameters("jürg+x@example.org") == (
        "ORCPT=utf-8;j\\x{FC}rg\\x{2B}x@example.org",
    )
    assert asked.rcpt_parameters("a@faß.de") == ("ORCPT=rfc822;a@xn--fa-hia.de",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dsn": {"notify": "sometimes"}},
        {"dsn": {"notify": "never,failure"}},
        {"dsn": {"notify": []}},
        {"dsn": {"notify_each": {A: "no"}}},
        {"dsn": {"notify_each": {"no address": "never"}}},
        {"dsn": {"notify_each": "never"}},
        {"dsn": {"ret": "none"}},
        {"dsn": {"ret": 1}},
        {"dsn": {"envid": ""}},
        {"dsn": {"envid": 17}},
        {"dsn": {"envid": "Grüße"}},
        {"dsn": {"envid": "a\r\nDATA"}},
        {"dsn": {"envid": "x" * 101}},
        {"dsn": {"envid": "+" * 34}},
        {"dsn": {"orcpt": {A: ""}}},
        {"dsn": {"orcpt": {A: "x400;" + "+" * 200}}},
        {"dsn": {"orcpt": {A: "x400;a\rb"}}},
        {"dsn": {"notfy": "never"}},
        {"dsn": "never"},
        {"deliver_by": 0},
        {"deliver_by": 10**9},
        {"deliver_by": 1.5},
        {"mt_priority": 10},
        {"mt_priority": "high"},
        {"mt_priority": True},
        {"hold_for": -1},
        {"hold_until": datetime(2030, 1, 1)},  # noqa: DTZ001 - that is what is wrong with it
        {"hold_until": "2030-01-01T00:00:00Z"},
        {"hold_for": 1, "hold_until": datetime(2030, 1, 1, tzinfo=UTC)},
        {"priority": 1},
    ],
    ids=repr,
)
def test_what_cannot_be_is_told_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Envelope(A, [A], esmtp=wrong)


def test_deliver_by_knows_two_ways() -> None:
    with pytest.raises(InvalidInput, match="'return' or 'notify'"):
        DeliverBy(60, "drop")


def test_recipients_that_are_none() -> None:
    """A slip in an address would leave somebody without what was asked for."""
    with pytest.raises(InvalidInput, match=r"'b@example\.org', which is no recipient"):
        Envelope(A, [A], Esmtp(dsn=DSN(notify_each={B: "never"})))
    with pytest.raises(InvalidInput, match=B):
        Envelope(A, [A], Esmtp(dsn=DSN(orcpt={B: A})))


def test_defaults_fill_what_is_open() -> None:
    default = Esmtp(dsn=DSN(notify="failure", ret="hdrs"), mt_priority=2, hold_for=60)
    own = Esmtp(dsn=DSN(notify="never", envid="1"), hold_until=datetime(2030, 1, 1, tzinfo=UTC))
    asked = Envelope(A, [A], own).asking(default).esmtp
    assert asked.mail_parameters() == (
        *("RET=HDRS", "ENVID=1", "MT-PRIORITY=2"),
        "HOLDUNTIL=2030-01-01T00:00:00Z",
    )
    assert asked.rcpt_parameters(A) == ("NOTIFY=NEVER",)
    assert Envelope(A, [A]).asking(default).esmtp is default


def test_some_of_the_recipients() -> None:
    envelope = Envelope(A, [A, B], Esmtp(dsn=DSN(notify_each={A: "never", B: "delay"})))
    assert envelope.only([B]).recipients == (B,)
    assert envelope.only([B]).esmtp is envelope.esmtp
    assert envelope.recipients == (A, B)


def test_values_are_plain() -> None:
    envelope = Envelope(A, [A], {"dsn": {"notify_each": {A: "never"}}, "hold_for": 1})
    for copied in (copy.deepcopy(envelope), pickle.loads(pickle.dumps(envelope))):
        assert copied == envelope
        assert hash(copied) == hash(envelope)


OFFERS = {
    "dsn": "",
    "deliverby": "120",
    "mt-priority": "MIXER",
    "futurerelease": "3600 2030-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("esmtp", "keyword"),
    [
        (Esmtp(dsn=DSN(ret="full")), "DSN"),
        (Esmtp(deliver_by=120), "DELIVERBY"),
        (Esmtp(mt_priority=1), "MT-PRIORITY"),
        (Esmtp(hold_for=3600), "FUTURERELEASE"),
        (Esmtp(hold_until=datetime(2030, 1, 1, tzinfo=UTC)), "FUTURERELEASE"),
    ],
)
def test_offered_or_not(esmtp: Esmtp, keyword: str) -> None:
    offers = Extensions(OFFERS)
    check_offered(esmtp, offers)
    del offers[keyword.lower()]
    with pytest.raises(NotSupported, match=keyword) as caught:
        check_offered(esmtp, offers)
    assert caught.value.advice


@pytest.mark.parametrize(
    ("esmtp", "limit"),
    [
        (Esmtp(deliver_by=119), "no less than 120 s"),
        (Esmtp(hold_for=3601), "3600 s at most"),
        (Esmtp(hold_until=datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC)), "until 2030-01-01T00:00:00Z"),
    ],
)
def test_limits_of_the_server(esmtp: Esmtp, limit: str) -> None:
    with pytest.raises(NotSupported, match=limit):
        check_offered(esmtp, Extensions(OFFERS))


@pytest.mark.parametrize("odd", ["", "soon", "3600", "x 2030-01-01T00:00:00Z", "-1 never"])
def test_limits_that_cannot_be_read(odd: str) -> None:
    """What a server says of its limits may be nonsense; then it decides itself."""
    offers = Extensions(deliverby=odd, futurerelease=odd)
    check_offered(Esmtp(deliver_by=DeliverBy(60, "notify"), hold_for=60), offers)
    check_offered(Esmtp(hold_until=datetime(2029, 1, 1, tzinfo=UTC)), offers)

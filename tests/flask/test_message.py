"""Message and Attachment: what is written, parsed back."""

from __future__ import annotations

import email
import pickle
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from typing import Any

import pytest
from flask import Flask

from mailbridge import AddressError, InvalidInput
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Attachment, Mail, Message, MissingAddress
from tests.flask.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("app")


def parsed(message: Message) -> EmailMessage:
    return email.message_from_bytes(message.as_bytes(), policy=policy.default)


def new(**changes: Any) -> Message:
    return Message(**{"subject": "Hi", "recipients": ["a@example.com"], "body": "Hello", **changes})


def structure(part: Any) -> Any:
    """Types of the parts, nested as they are."""
    if not part.is_multipart():
        return part.get_content_type()
    return {part.get_content_type(): [structure(inner) for inner in part.iter_parts()]}


def test_arguments_attributes_and_their_defaults() -> None:
    message = Message("Hi")
    assert message.sender == "site@example.org"
    assert (message.recipients, message.cc, message.bcc, message.attachments) == ([], [], [], [])
    assert (message.body, message.html, message.alts) == (None, None, {})
    assert (message.reply_to, message.date, message.charset) == (None, None, None)
    assert (message.extra_headers, message.mail_options, message.rcpt_options) == (None, [], [])
    assert message.delivery_report is None
    positional = Message("s", ["a@b"], "b", "h", {"amp": "x"}, ("N", "n@b"), ["c@b"], ["d@b"])
    assert positional.sender == "N <n@b>"
    assert positional.alts == {"amp": "x", "html": "h"}
    assert "3 recipients" in repr(positional)


def test_lists_are_copies() -> None:
    recipients = ["a@example.com"]
    message = new(recipients=recipients)
    message.add_recipient("b@example.com")
    assert recipients == ["a@example.com"]
    assert message.recipients == ["a@example.com", "b@example.com"]


@pytest.mark.parametrize("field", ["recipients", "cc", "bcc"])
def test_a_text_is_no_list_of_recipients(field: str) -> None:
    with pytest.raises(AddressError, match=f"{field} is a list"):
        new(**{field: "a@example.com"})


def test_send_to_is_ordered_and_equals_a_set() -> None:
    message = new(recipients=["b@x", ("A", "a@x")], cc=["c@x", "B <b@x>"], bcc=["d@x", "a@x"])
    assert list(message.send_to) == ["b@x", ("A", "a@x"), "c@x", "d@x"]
    assert message.send_to == {"b@x", ("A", "a@x"), "c@x", "d@x"}
    assert new(recipients=[["A", "a@x"]]).send_to == {("A", "a@x")}
    assert len(new(recipients=["not valid", "A@x", "a@x", "a@X"]).send_to) == 3


def test_html_is_one_of_the_alternatives() -> None:
    message = new(html="<p>")
    assert message.alts == {"html": "<p>"}
    message.html = None
    assert message.alts == {}
    message.html = None
    message.alts["html"] = "<b>"
    assert message.html == "<b>"


def test_header_fields() -> None:
    comma = ("Müller, Jürgen", "j@example.com")
    message = new(
        recipients=["Änne <a@example.com>", comma, "b@bücher.example"],
        cc=['"Doe, John" <d@example.com>', "d@example.com"],
        reply_to=("Me", "me@example.com"),
        date=0,
        extra_headers={"X-Number": 5, "List-Unsubscribe": "<mailto:u@example.org>"},
    )
    result = parsed(message)
    addresses = [(a.display_name, a.addr_spec) for a in result["To"].addresses]
    assert addresses == [
        ("Änne", "a@example.com"),
        ("Müller, Jürgen", "j@example.com"),
        ("", "b@xn--bcher-kva.example"),
    ]
    assert result["Cc"].addresses[0].display_name == "Doe, John"
    assert result["Reply-To"] == "Me <me@example.com>"
    assert result["Date"].datetime.timestamp() == 0
    assert result["Message-ID"] == message.msgId
    assert result["X-Number"] == "5"
    assert result["MIME-Version"] == "1.0"
    assert list(result.keys())[:3] == ["Subject", "From", "To"]


def test_a_datetime_is_a_date() -> None:
    date = datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert parsed(new(date=date))["Date"] == "Thu, 29 Feb 2024 12:00:00 +0000"


def test_no_empty_fields() -> None:
    result = parsed(Message(bcc=["a@example.com"]))
    for name in ("Subject", "To", "Cc", "Bcc", "Reply-To"):
        assert name not in result


def test_bcc_is_never_written() -> None:
    assert b"secret" not in bytes(new(bcc=["secret@example.com", ("S", "secret@example.net")]))


def test_extra_headers_replace_ours() -> None:
    message = new(extra_headers={"message-id": "<x@y>", "To": "undisclosed-recipients:;"})
    result = parsed(message)
    assert result.get_all("Message-ID") == ["<x@y>"]
    assert result.get_all("To") == ["undisclosed-recipients:;"]


def test_extra_headers_with_names_outside_ascii() -> None:
    result = parsed(new(extra_headers={"Sender": "Jörg <j@bücher.example>", "X-Name": "Jörg"}))
    assert result["Sender"].address.display_name == "Jörg"
    assert result["Sender"].address.domain == "xn--bcher-kva.example"
    assert result["X-Name"] == "Jörg"


def test_an_encoded_name_in_a_text_is_not_encoded_again() -> None:
    sender = "=?utf-8?b?SsO2cmc=?= <j@example.com>"
    assert parsed(new(sender=sender))["From"].addresses[0].display_name == "Jörg"
    written = parsed(new(extra_headers={"X-Name": "=?utf-8?b?SsO2cmc=?="}))
    assert written["X-Name"] == "Jörg"
    assert parsed(new(subject="=?utf-8?b?SsO2cmc=?="))["Subject"] == "=?utf-8?b?SsO2cmc=?="


def test_a_folded_subject_is_kept() -> None:
    text = new(subject="one\r\n two").as_string()
    assert "Subject: one\r\n two\r\n" in text
    assert parsed(new(subject="öne\r\n two"))["Subject"] == "öne two"


class Lazy:
    def __str__(self) -> str:
        return "später"


def test_lazy_texts() -> None:
    message = new(subject=Lazy(), body=Lazy(), html=Lazy())
    assert parsed(message)["Subject"] == "später"
    body = parsed(message).get_body(("plain",))
    assert body is not None
    assert body.get_content() == "später"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "text/plain"),
        ({"body": None}, "text/plain"),
        ({"html": "<p>"}, {"multipart/alternative": ["text/plain", "text/html"]}),
        (
            {"html": "<p>", "alts": {"calendar": "x"}},
            {"multipart/alternative": ["text/plain", "text/calendar", "text/html"]},
        ),
        (
            {"alts": [("application/ld+json", "{}")]},
            {"multipart/alternative": ["text/plain", "application/ld+json"]},
        ),
        (
            {"attachments": [Attachment("a.png", data=b"x")]},
            {"multipart/mixed": ["text/plain", "image/png"]},
        ),
        (
            {"html": "<p>", "attachments": [Attachment(data="x")]},
            {
                "multipart/mixed": [
                    {"multipart/alternative": ["text/plain", "text/html"]},
                    "text/plain",
                ]
            },
        ),
        (
            {
                "html": "<img src=cid:logo>",
                "attachments": [
                    Attachment("l.png", None, b"x", "inline", {"Content-ID": "<logo>"}),
                    Attachment("b.pdf", data=b"x"),
                ],
            },
            {
                "multipart/mixed": [
                    {
                        "multipart/alternative": [
                            "text/plain",
                            {"multipart/related": ["text/html", "image/png"]},
                        ]
                    },
                    "application/pdf",
                ]
            },
        ),
    ],
)
def test_structure(changes: dict[str, Any], expected: Any) -> None:
    assert structure(parsed(new(**changes))) == expected


BODIES = ["Hello", "Hello\n", "", "Grüße", "日本語" * 50, "a" * 2000, "a\r\nb\rc\nd", "\0"]


@pytest.mark.parametrize("body", [*BODIES, ".\n..\nFrom x\n", "a \nb\t\n", "=3D ü"])
def test_bodies_arrive_as_they_are(body: str) -> None:
    message = new(body=body, html=body)
    assert message.as_bytes().isascii()
    assert max(map(len, message.as_bytes().split(b"\r\n"))) <= 998
    for part in parsed(message).iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        text = content.decode().replace("\r\n", "\n")
        assert text == body.replace("\r\n", "\n").replace("\r", "\n")


def test_charset() -> None:
    sender = ("送信者", "a@b.example")
    message = new(subject="表題", sender=sender, body="内容", charset="shift_jis")
    assert "Subject: =?iso-2022-jp?" in message.as_string()
    japanese = parsed(message)
    assert japanese["Subject"] == "表題"
    assert japanese["From"].addresses[0].display_name == "送信者"
    assert japanese.get_content_charset() == "iso-2022-jp"
    assert japanese.get_content() == "内容"
    latin = parsed(new(subject="Grüße", body="Grüße €", charset="iso-8859-1"))
    assert latin["Subject"] == "Grüße"
    assert latin.get_content_charset() == "utf-8"
    assert latin.get_content() == "Grüße €"


def test_attachments() -> None:
    message = new()
    message.attach("a.txt", "text/plain", "Grüße")
    message.attach("invite.ics", "text/calendar; method=REQUEST; charset=utf-8", "BEGIN:VCALENDAR")
    message.attach("übersicht.pdf", None, b"%PDF", headers={"X-Id": "7"})
    message.attach(data=b"\0\1")
    text, invite, pdf, octets = parsed(message).iter_attachments()
    assert text.get_content() == "Grüße"
    assert invite["Content-Type"].params["method"] == "REQUEST"
    assert (pdf.get_filename(), pdf.get_content(), pdf["X-Id"]) == ("übersicht.pdf", b"%PDF", "7")
    assert (octets.get_content_type(), octets.get_filename()) == ("application/octet-stream", None)
    assert octets.get_content() == b"\0\1"
    with pytest.raises(ValueError, match="data"):
        message.attach("a.txt")


def test_an_attached_message() -> None:
    inner = new(body="Grüße", bcc=["secret@example.com"], attachments=[Attachment(data=b"x")])
    eight_bit = "Subject: x\nContent-Type: text/plain; charset=utf-8\n\nGrüße"
    broken = "Subject: Grüße\n\nx".encode()
    message = new()
    for data in (inner.as_bytes(), eight_bit, broken, b"X: " + b"x" * 1000):
        message.attach("m.eml", "message/rfc822", data)
    assert message.as_bytes().isascii()
    first, second, *others = parsed(message).iter_attachments()
    assert first.get_content()["Message-ID"] == inner.msgId
    assert second.get_content().get_content() == "Grüße"
    # What cannot be written by the rules is attached as a file.
    for other, data in zip(others, (broken, b"X: " + b"x" * 1000), strict=True):
        assert other.get_content_type() == "application/octet-stream"
        assert other.get_content() == data


def test_headers_of_an_attachment_replace_ours_and_may_be_pairs() -> None:
    pairs: Any = [("Content-ID", "<x>"), ("content-disposition", "inline")]
    message = new(attachments=[Attachment("a.png", data=b"x", headers=pairs)])
    (part,) = parsed(message).iter_attachments()
    assert part.get_all("Content-Disposition") == ["inline"]
    assert part["Content-ID"] == "<x>"


def test_ascii_attachments(make_app: MakeApp) -> None:
    with make_app(MAIL_ASCII_ATTACHMENTS=True).app_context():
        text = new(attachments=[Attachment("Übersicht  für ß→.pdf", data=b"x")]).as_string()
    assert 'Content-Disposition: attachment; filename="Ubersicht fur .pdf"' in text


def test_as_string_and_friends() -> None:
    message = new(subject="Grüße", date=1)  # without one, each rendering has the time of its own
    assert str(message) == message.as_string()
    assert bytes(message) == message.as_bytes()
    assert message.as_string().encode() == message.as_bytes()
    with pytest.warns(DeprecationWarning, match="has_bad_headers"):
        assert message.is_bad_headers() is False


def test_a_message_survives_pickle(mail: Mail) -> None:
    message = new(cc=[("C", "c@example.com")], extra_headers={"X": "y"}, date=1)
    again = pickle.loads(pickle.dumps(message))
    assert vars(again) == vars(message)
    assert again.as_bytes() == message.as_bytes()
    message.attach("a.bin", data=b"\0")
    mail.send(message)
    again = pickle.loads(pickle.dumps(message))
    assert again.delivery_report == message.delivery_report
    assert again.attachments[0].data == b"\0"


def test_a_report_of_a_suppressed_message_survives_pickle(app: Flask, mail: Mail) -> None:
    app.config["TESTING"] = True
    report = mail.send(new())
    again = pickle.loads(pickle.dumps(report))
    assert again == report
    again.raise_for_refused()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sender": None}, "no sender.*MAIL_DEFAULT_SENDER"),
        ({"recipients": []}, "no recipients"),
    ],
)
def test_what_is_missing_is_named(make_app: MakeApp, changes: dict[str, Any], text: str) -> None:
    with make_app(MAIL_DEFAULT_SENDER=None).app_context():
        message = new(**{"sender": "a@example.org", **changes})
        with pytest.raises(MissingAddress, match=text) as caught:
            Mail().send(message)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, AddressError)


@pytest.mark.parametrize("bad", ["a@example.com\r\n", "a\r\n@example.com", "A <a@example.com>>"])
def test_a_text_to_look_at_is_there_though_nothing_would_be_sent(bad: str) -> None:
    message = new(sender=bad, recipients=[bad, ("B", "b@example.com")], cc=[bad], reply_to=bad)
    written = email.message_from_string(str(message), policy=policy.default)
    for name in ("From", "To", "Cc", "Reply-To"):
        assert written[name].addresses[0].addr_spec == "a@example.com"
    assert written["To"].addresses[1].display_name == "B"
    assert message.recipients[0] == bad
    for send in (message.as_bytes, lambda: Mail().send(message)):
        with pytest.raises(InvalidInput):
            send()


def test_a_text_to_look_at_hides_no_other_mistake() -> None:
    with pytest.raises(ValueError, match="subject"):
        str(new(subject="a\nb"))
    with pytest.raises(AddressError, match="nobody"):
        str(new(recipients=["nobody <>"]))


@pytest.mark.parametrize("nobody", [None, 5, True])
def test_what_is_no_text_is_no_address(nobody: Any, smtpd: ScriptedServer) -> None:
    """None is no user of that name: it is an address that was not there."""
    for changes in ({"recipients": ["a@example.com", nobody]}, {"bcc": [nobody]}):
        with pytest.raises(AddressError, match=f"{nobody!r} is no address"):
            Mail().send(new(**changes))
    assert not smtpd.connections


def test_a_field_without_a_value() -> None:
    for changes in (
        {"extra_headers": {"X-Number": None}},
        {"attachments": [Attachment("a", data=b"x", headers={"X-Number": None})]},
    ):
        with pytest.raises(InvalidInput, match="X-Number is None"):
            Mail().send(new(**changes))

"""What became of a message: reports, errors, signals."""

from __future__ import annotations

import asyncio
import copy
import pickle
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

import mailbridge
import mailbridge_flask.exceptions as exceptions
from mailbridge import OptionError, State
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_flask import Mail, Message, email_dispatched
from mailbridge_flask.config import Config
from tests.flask.conftest import MakeApp


@pytest.fixture
def dispatched() -> Iterator[list[Message]]:
    messages: list[Message] = []

    def receive(app: Flask, message: Message) -> None:
        assert isinstance(app, Flask)
        messages.append(message)

    with email_dispatched.connected_to(receive):
        yield messages


def test_the_report_comes_back_and_is_on_the_message(
    mail: Mail, message: Message, smtpd: ScriptedServer, dispatched: list[Message]
) -> None:
    assert message.delivery_report is None
    report = mail.send(message)
    assert report is message.delivery_report
    assert report.accepted == ("a@example.com", "b@example.com")
    assert report.message_id == message.msgId
    assert dispatched == [message]
    assert smtpd.messages[0].mail_from == "site@example.org"
    assert smtpd.messages[0].message["Message-ID"] == message.msgId


def test_some_refused(
    mail: Mail, message: Message, smtpd: ScriptedServer, dispatched: list[Message]
) -> None:
    smtpd.defer("b@example.com")
    with pytest.raises(exceptions.SomeRecipientsRefused) as caught:
        mail.send(message)
    error = caught.value
    assert error.message is message
    assert error.report is message.delivery_report
    assert error.report is not None
    assert error.report.deferred == ("b@example.com",)
    for cls in (
        smtplib.SMTPRecipientsRefused,
        mailbridge.RecipientsRefused,
        mailbridge.SomeRecipientsRefused,
        exceptions.MailError,
        OSError,
    ):
        assert isinstance(error, cls)
    # Some have it: it was dispatched.
    assert dispatched == [message]


def test_all_refused(
    mail: Mail, message: Message, smtpd: ScriptedServer, dispatched: list[Message]
) -> None:
    smtpd.refuse("*")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        mail.send(message)
    assert type(caught.value) is exceptions.RecipientsRefused
    assert caught.value.recipients["a@example.com"] == (550, b"5.1.1 No such user")
    assert dispatched == []


@pytest.mark.parametrize(
    ("policy", "raises", "delivered"),
    [
        ("raise", exceptions.SomeRecipientsRefused, 1),
        ("raise_if_all", None, 1),
        ("abort", exceptions.RecipientsRefused, 0),
        ("report", None, 1),
    ],
)
def test_policies(
    make_app: MakeApp,
    smtpd: ScriptedServer,
    policy: str,
    raises: type[Exception] | None,
    delivered: int,
) -> None:
    smtpd.refuse("b@example.com")
    app = make_app(MAIL_ON_REFUSED=policy)
    with app.app_context():
        message = Message("Hi", ["a@example.com", "b@example.com"])
        if raises is None:
            Mail().send(message)
        else:
            with pytest.raises(raises):
                Mail().send(message)
    assert len(smtpd.messages) == delivered
    assert message.delivery_report is not None
    assert message.delivery_report["b@example.com"].state is State.REFUSED


def test_no_signal_for_a_mail_that_nobody_got(
    make_app: MakeApp, smtpd: ScriptedServer, dispatched: list[Message]
) -> None:
    smtpd.refuse("*")
    with make_app(MAIL_ON_REFUSED="report").app_context():
        report = Mail().send_message("Hi", ["a@example.com"])
    assert report.refused == ("a@example.com",)
    assert dispatched == []


@pytest.mark.parametrize(
    ("point", "reply", "error", "base"),
    [
        ("GREETING", "554 No", exceptions.GreetingRefused, smtplib.SMTPConnectError),
        ("MAIL", "553 5.1.8 No", exceptions.SenderRefused, smtplib.SMTPSenderRefused),
        ("DATA", "554 5.6.0 No", exceptions.MessageRefused, smtplib.SMTPDataError),
        ("CONTENT", "554 5.6.0 No", exceptions.MessageRefused, smtplib.SMTPDataError),
        ("CONTENT", b"nonsense\r\n", exceptions.DeliveryInDoubt, smtplib.SMTPServerDisconnected),
    ],
)
def test_other_refusals(
    mail: Mail,
    message: Message,
    smtpd: ScriptedServer,
    dispatched: list[Message],
    point: str,
    reply: str | bytes,
    error: type[exceptions.MailError],
    base: type[Exception],
) -> None:
    smtpd.without("CHUNKING")
    smtpd.reply(point, reply)
    with pytest.raises(base) as caught:
        mail.send(message)
    assert isinstance(caught.value, error)
    assert caught.value.message is message
    assert caught.value.report is message.delivery_report
    assert caught.value.report is not None
    assert caught.value.report.error is caught.value
    assert dispatched == []


@pytest.mark.parametrize("how", ["drop", "silent"])
def test_in_doubt(make_app: MakeApp, smtpd: ScriptedServer, how: str) -> None:
    getattr(smtpd, how)("CONTENT")
    with make_app(MAIL_FINAL_REPLY_TIMEOUT=0.3).app_context():
        message = Message("Hi", ["a@example.com"])
        with pytest.raises(exceptions.DeliveryInDoubt) as caught:
            Mail().send(message)
    assert caught.value.message is message
    assert not caught.value.retryable
    assert isinstance(caught.value, TimeoutError) is (how == "silent")
    assert message.delivery_report is not None
    assert message.delivery_report.in_doubt == ("a@example.com",)


def test_nobody_listens(make_app: MakeApp, closed_port: int) -> None:
    with make_app(MAIL_PORT=closed_port).app_context():
        message = Message("Hi", ["a@example.com"])
        with pytest.raises(ConnectionRefusedError) as caught:
            Mail().send(message)
        assert type(caught.value) is exceptions.ConnectRefused
        assert caught.value.message is message
        assert caught.value.retryable
        with pytest.raises(exceptions.MailError), Mail().connect():
            pass


def test_errors_survive_pickle_and_deepcopy(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("b@example.com")
    with pytest.raises(exceptions.SomeRecipientsRefused) as caught:
        mail.send(message)
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert type(again) is exceptions.SomeRecipientsRefused
        assert again.message.subject == "Hello"
        assert again.accepted == ("a@example.com",)
        assert str(again) == str(caught.value)
        assert again.message.delivery_report.refused == ("b@example.com",)


def test_every_error_of_the_core_has_a_namesake() -> None:
    for name in mailbridge.__all__:
        core = getattr(mailbridge, name)
        if isinstance(core, type) and issubclass(core, mailbridge.MailError):
            ours = getattr(exceptions, core.__name__)
            assert issubclass(ours, core)
            assert issubclass(ours, exceptions.MailError)


def test_an_error_without_a_namesake_gets_the_message(message: Message) -> None:
    class Unheard(mailbridge.MailError):
        pass

    error = exceptions.about(Unheard("x"), message)
    assert type(error) is Unheard
    assert error.message is message  # type: ignore[attr-defined]


def test_starttls_is_required(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    with make_app(MAIL_USE_TLS=True).app_context(), pytest.raises(ssl.SSLError) as caught:
        Mail().send_message("Hi", ["a@example.com"])
    assert type(caught.value) is exceptions.TLSError
    assert smtpd.messages == ()


def test_auth(make_app: MakeApp, ca: TestCA) -> None:
    context = ca.server_context("127.0.0.1")
    with ScriptedServer(tls_context=context, users={"me": "s3cret"}, require_auth=True) as server:
        settings = {
            "MAIL_PORT": server.port,
            "MAIL_USE_TLS": True,
            "MAIL_CA_FILE": ca.ca_file,
            "MAIL_USERNAME": "me",
        }
        with make_app(MAIL_PASSWORD="s3cret", **settings).app_context():
            Mail().send_message("Hi", ["a@example.com"])
        with make_app(MAIL_PASSWORD="wrong", **settings).app_context():
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                Mail().send_message("Hi", ["a@example.com"])
        (received,) = server.messages
    assert received.user == "me"
    assert received.tls
    assert type(caught.value) is exceptions.AuthenticationFailed
    assert "wrong" not in repr(caught.value.__dict__)


def test_envelope_from(mail: Mail, message: Message, smtpd: ScriptedServer) -> None:
    mail.send(message, envelope_from=("Bounces", "bounces@example.org"))
    mail.send(message, envelope_from="<>")
    assert [received.mail_from for received in smtpd.messages] == ["bounces@example.org", ""]
    assert smtpd.messages[0].message["From"] == "site@example.org"


def test_esmtp_options(mail: Mail, smtpd: ScriptedServer) -> None:
    mail.send_message(
        "Hi", ["a@example.com"], mail_options=["RET=HDRS"], rcpt_options=["NOTIFY=NEVER"]
    )
    (received,) = smtpd.messages
    assert "RET=HDRS" in received.mail_parameters
    assert received.rcpt_parameters["a@example.com"] == ("NOTIFY=NEVER",)


@pytest.mark.parametrize("field", ["mail_options", "rcpt_options"])
def test_options_inject_no_command(mail: Mail, smtpd: ScriptedServer, field: str) -> None:
    evil = ["RET=HDRS\r\nRCPT TO:<evil@example.net>", "NOTIFY=NEVER\r\nRSET"]
    with pytest.raises(ValueError, match=r"newline|control|parameter|option"):
        mail.send_message("Hi", ["a@example.com"], **{field: evil})
    assert "evil" not in smtpd.transcript
    assert smtpd.messages == ()


def test_internationalised_addresses(mail: Mail, smtpd: ScriptedServer) -> None:
    mail.send_message("Hi", ["info@bücher.example"])
    mail.send_message("Hi", ["münchen@example.org"])
    first, second = smtpd.messages
    assert first.recipients == ("info@xn--bcher-kva.example",)
    assert b"To: info@xn--bcher-kva.example\r\n" in first.content
    assert second.recipients == ("münchen@example.org",)
    assert "To: münchen@example.org\r\n".encode() in second.content
    assert "SMTPUTF8" in second.mail_parameters
    mailbridge.close_pools()
    smtpd.without("SMTPUTF8")
    message = Message("Hi", ["münchen@example.org", "a@example.com"])
    with pytest.raises(mailbridge.NotSupported, match="needs SMTPUTF8"):
        mail.send(message)
    assert message.delivery_report is not None
    assert message.delivery_report.not_attempted == ("münchen@example.org", "a@example.com")
    assert len(smtpd.messages) == 2


def test_a_bad_policy_is_named(make_app: MakeApp) -> None:
    with pytest.raises(OptionError, match=r"MAIL_ON_REFUSED 'maybe' is not one of 'raise'"):
        make_app(MAIL_ON_REFUSED="maybe")


def test_max_recipients(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    """A message to too many goes to nobody, Cc and Bcc among them; the others are sent."""
    app = make_app(MAIL_MAX_RECIPIENTS="2")
    greedy = Message("Hi", ["b@example.com"], cc=["c@example.com"], bcc=["d@example.com"])
    text = "has 3 recipients, and max_recipients allows 2"
    with app.app_context():
        mail = Mail()
        with pytest.raises(ValueError, match=text):
            mail.send(greedy)
        with pytest.raises(ValueError, match=text):
            asyncio.run(mail.asend(greedy))
        with mail.connect() as connection:
            one, refused, last = connection.send_many(
                [Message("1", ["a@example.com"]), greedy, Message("2", ["e@example.com"])]
            )
    assert (one.accepted, last.accepted) == (("a@example.com",), ("e@example.com",))
    assert greedy.delivery_report is refused
    assert set(refused.not_attempted) == {"b@example.com", "c@example.com", "d@example.com"}
    assert len(smtpd.messages) == 2
    with pytest.raises(OptionError, match="MAIL_MAX_RECIPIENTS 'many' is no whole number"):
        Config.from_mapping({"MAIL_MAX_RECIPIENTS": "many"})


@pytest.mark.parametrize("setting", ["TESTING", "MAIL_SUPPRESS_SEND", "MAIL_OUTBOX"])
def test_max_recipients_where_nothing_is_sent(
    make_app: MakeApp, tmp_path: Path, setting: str
) -> None:
    """Tests and the development mailbox refuse what would be refused to send."""
    value = str(tmp_path / "box") if setting == "MAIL_OUTBOX" else True
    app = make_app(MAIL_MAX_RECIPIENTS="2", **{setting: value})
    greedy = Message("Hi", ["b@example.com"], cc=["c@example.com"], bcc=["d@example.com"])
    options = Message("Hi", ["b@example.com"], mail_options=["SIZE=1\r\nRSET"])
    with app.app_context():
        mail = Mail()
        with mail.record_messages() as outbox:
            for wrong, text in (greedy, "max_recipients allows 2"), (options, "prohibited newline"):
                with pytest.raises(ValueError, match=text):
                    mail.send(wrong)
                assert wrong.delivery_report is not None
                with pytest.raises(ValueError, match=text):
                    wrong.delivery_report.raise_for_refused()
            fits, refused = mail.send_many([Message("1", ["a@example.com"]), greedy])
        assert [message.subject for message in outbox] == ["1"]
        assert fits.failure() is None
        assert greedy.delivery_report is refused
        assert set(refused.not_attempted) == {"b@example.com", "c@example.com", "d@example.com"}


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"MAIL_PORT": 1}, "Check MAIL_SERVER and MAIL_PORT"),
        ({"MAIL_USE_TLS": True}, "or MAIL_USE_SSL if this one starts with it"),
        ({"MAIL_USE_SSL": True}, r"use MAIL_USE_TLS \(port 587\) rather than MAIL_USE_SSL"),
    ],
)
def test_advice_names_the_settings(
    make_app: MakeApp, settings: dict[str, object], advice: str
) -> None:
    with make_app(**settings).app_context(), pytest.raises(exceptions.MailError, match=advice):
        Mail().send_message("Hi", ["a@example.com"])

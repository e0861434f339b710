"""Connections that outlive a message, retry and failover."""

from __future__ import annotations

import os
import traceback

import pytest

from mailbridge import Handover, OptionError, PoolOptions, RetryPolicy
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Config, Mail, Message
from mailbridge_flask.exceptions import DeliveryInDoubt, SendStopped
from tests.flask.conftest import MakeApp


def test_two_messages_share_a_connection(
    make_app: MakeApp, message: Message, smtpd: ScriptedServer
) -> None:
    for _ in range(2):
        with make_app().app_context():
            Mail().send(message)
    assert (smtpd.connections, len(smtpd.messages)) == (1, 2)


def test_one_that_was_dropped_while_idle_heals(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    mail.send(message)
    smtpd.stop()
    smtpd.start()
    assert mail.send(message).accepted
    assert (smtpd.connections, len(smtpd.messages)) == (2, 2)


def test_another_configuration_counts_from_the_next_message_on(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    mail.send(message)
    with ScriptedServer() as other:
        config = mail.state.config
        relay = config.relay.using(host=other.host, port=other.port)
        mail.state.config = config._replace(relay=relay)
        mail.send(message)
        mail.state.config = config
        mail.send(message)
        assert (len(smtpd.messages), len(other.messages)) == (2, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    with mail.connect() as connection:
        connection.send(message)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if connection.send(message).accepted else 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        connection.send(message)
    assert [received.connection for received in smtpd.messages] == [1, 2, 1]


def test_options_of_the_pool() -> None:
    config = Config.from_mapping(
        {
            "MAIL_SERVER": "mail.example.org",
            "MAIL_MAX_CONNECTIONS": "3",
            "MAIL_POOL_TIMEOUT": "4",
            "MAIL_MAX_AGE": 5,
            "MAIL_IDLE_TIMEOUT": 6,
            "MAIL_MAX_MESSAGES": 7,
            "MAIL_MAX_PER_SECOND": 8,
        }
    )
    assert config.relay.pool == PoolOptions(
        max_connections=3,
        wait_timeout=4,
        max_age=5,
        idle_timeout=6,
        max_messages=7,
        max_per_second=8,
    )


@pytest.mark.parametrize(
    ("emails", "messages", "limit"), [(2, None, 2), (2, 5, 2), (5, 2, 2), (None, 5, 5)]
)
def test_max_emails_limits_a_connection(
    emails: int | None, messages: int | None, limit: int
) -> None:
    config = Config.from_mapping({"MAIL_MAX_EMAILS": emails, "MAIL_MAX_MESSAGES": messages})
    assert config.relay.pool.max_messages == limit
    assert config.max_emails == emails


# Retry and failover.


def test_tries(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    smtpd.defer("b@*", times=1)
    with make_app(MAIL_TRIES=2, MAIL_RETRY_DELAY="0.01").app_context():
        report = Mail().send_message("Hi", ["a@example.com", "b@example.com"])
    assert report.attempts == 2
    assert [m.recipients for m in smtpd.messages] == [("a@example.com",), ("b@example.com",)]


def test_tries_at_connecting(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    smtpd.reply("GREETING", "421 4.3.2 Busy", times=2)
    app = make_app(MAIL_TRIES=3, MAIL_RETRY_DELAY="0.01")
    with app.app_context(), Mail().connect() as connection:
        assert connection.send_message("Hi", ["a@example.com"]).accepted


def test_settings_for_retry() -> None:
    settings = {
        "MAIL_TRIES": "2",
        "MAIL_RETRY_DELAY": 3,
        "MAIL_RETRY_MAX_DELAY": 4,
    }
    assert Config.from_mapping(settings).retry == RetryPolicy(tries=2, delay=3, max_delay=4)
    for name in settings:
        with pytest.raises(OptionError, match=f"^{name}: "):
            Config.from_mapping({name: "many"})
    with pytest.raises(OptionError, match=r"^MAIL_RELAYS: url: scheme 'ftp'"):
        Config.from_mapping({"MAIL_RELAYS": ["ftp://mail.example.org"]})


def test_relays(make_app: MakeApp, message: Message, smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second, make_app(MAIL_RELAYS=[second.url]).app_context():
        Mail().send(message)
        smtpd.stop()
        Mail().send(message)
        with Mail().connect() as connection:
            connection.send(message)
        assert (len(smtpd.messages), len(second.messages)) == (1, 2)


def test_round_robin(make_app: MakeApp, message: Message, smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second:
        app = make_app(MAIL_RELAYS=second.url, MAIL_ROUND_ROBIN="true", MAIL_MAX_EMAILS=3)
        with app.app_context():
            for _ in range(4):
                Mail().send(message)
        assert (len(smtpd.messages), len(second.messages)) == (2, 2)


def test_deadline(make_app: MakeApp, message: Message, smtpd: ScriptedServer) -> None:
    smtpd.silent("CONTENT")
    app = make_app(MAIL_DEADLINE="1", MAIL_TIMEOUT=30)
    with app.app_context(), pytest.raises(DeliveryInDoubt, match="deadline of 1 s"):
        Mail().send(message)
    with pytest.raises(OptionError, match=r"^MAIL_DEADLINE 'soon'"):
        Config.from_mapping({"MAIL_DEADLINE": "soon"})


def object_to(handover: Handover) -> None:
    raise LookupError(f"{handover.recipients} have it")


def test_hooks(make_app: MakeApp, message: Message, smtpd: ScriptedServer) -> None:
    told: list[Handover] = []
    with make_app(MAIL_AFTER_REPLY=told.append).app_context():
        Mail().send(message)
    assert [handover.recipients for handover in told] == [("a@example.com", "b@example.com")]
    app = make_app(MAIL_BEFORE_FINAL_DOT=f"{__name__}:object_to")
    with app.app_context(), pytest.raises(SendStopped, match="have it") as caught:
        Mail().send(message)
    assert caught.value.message is message
    assert len(smtpd.messages) == 1
    with pytest.raises(OptionError, match=r"MAIL_AFTER_REPLY 'no\.where' cannot be imported"):
        Config.from_mapping({"MAIL_AFTER_REPLY": "no.where"})

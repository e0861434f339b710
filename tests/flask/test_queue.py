"""A message that is built in a view and sent in a worker: as JSON, as a pickle, by Celery."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, Task
from celery.contrib.testing.worker import start_worker
from flask import Flask
from flask_babel import Babel, lazy_gettext

from mailbridge import DSN, DeliverBy, Esmtp, InvalidInput, RecipientsRefused
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Attachment, Mail, Message, SomeRecipientsRefused
from mailbridge_flask.exceptions import MailError
from tests.flask.conftest import MakeApp

TO = ["a@example.com"]


def through_json(message: Message) -> Message:
    return Message.from_dict(json.loads(json.dumps(message.to_dict())))


def through_pickle(message: Message) -> Message:
    return pickle.loads(pickle.dumps(message))


def full() -> Message:
    message = Message(
        "Grüße",
        [("Ann", "a@example.com"), "b@example.com"],
        "Text",
        "<p>Hi</p>",
        {"calendar": "BEGIN:VCALENDAR"},
        cc=["Cee <c@example.com>"],
        bcc=["d@example.com"],
        reply_to=("Desk", "desk@example.org"),
        date=datetime(2026, 11, 25, 12, 30, tzinfo=UTC),
        charset="utf-8",
        extra_headers={"X-Tag": "a"},
        mail_options=["BODY=8BITMIME"],
        rcpt_options=["NOTIFY=NEVER"],
    )
    message.attach("a.bin", "application/octet-stream", b"\x00\xff")
    message.attach("a.txt", "text/plain", "Grüße", "inline", {"Content-ID": "<a@b>"})
    return message


@pytest.mark.parametrize("through", [through_json, through_pickle, copy.deepcopy])
def test_all_of_it_arrives(app: Flask, through: Callable[[Message], Message]) -> None:
    message = full()
    other = through(message)
    ours, theirs = ({**vars(each)} for each in (message, other))
    attached = [[vars(a) for a in each.pop("attachments")] for each in (ours, theirs)]
    assert ours == theirs
    assert attached[0] == attached[1]
    assert other.html == "<p>Hi</p>"
    assert type(other.recipients[0]) is tuple


def test_what_is_least(app: Flask) -> None:
    message = Message(date=1.5)
    assert vars(through_json(message)) == vars(message)


def test_what_is_asked_of_the_server(app: Flask) -> None:
    dsn = DSN(
        notify=["failure", "delay"],
        ret="hdrs",
        envid="order 4711",
        orcpt=True,
        notify_each={"a@example.com": "never"},
    )
    by = DeliverBy(3600, late="notify", trace=True)
    for esmtp in (
        Esmtp(dsn=dsn, deliver_by=by, mt_priority=-2, hold_for=60),
        Esmtp(dsn=DSN(ret="full"), hold_until=datetime(2030, 1, 1, tzinfo=UTC)),
    ):
        other = through_json(Message("Hi", TO, esmtp=esmtp)).esmtp
        assert isinstance(other, Esmtp)
        assert other.mail_parameters() == esmtp.mail_parameters()
        assert other.rcpt_parameters(TO[0]) == esmtp.rcpt_parameters(TO[0])


def test_a_lazy_text_is_translated_when_it_is_queued(app: Flask) -> None:
    Babel(app)
    with app.test_request_context():
        message = Message(lazy_gettext("Welcome"), TO, lazy_gettext("Hello"))
        data = json.loads(json.dumps(message.to_dict()))
    assert (data["subject"], data["body"]) == ("Welcome", "Hello")


def test_a_subclass_comes_back_as_one(app: Flask) -> None:
    class Own(Message):
        pass

    assert type(Own.from_dict(Own("Hi", TO).to_dict())) is Own


@pytest.mark.parametrize(
    "data", [{}, {"subject": "x"}, [], None, {**Message("x").to_dict(), "attachments": [{}]}]
)
def test_data_of_another_kind(data: Any) -> None:
    with pytest.raises(InvalidInput, match="to_dict"):
        Message.from_dict(data)


def test_data_that_is_none(app: Flask) -> None:
    message = Message("Hi", TO, sender="a@b.c")
    message.date = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="no plain data"):
        message.to_dict()
    gateway = Esmtp(dsn=DSN(orcpt={"a@example.com": "old@example.com"}))
    with pytest.raises(TypeError, match="gateways"):
        Message("Hi", TO, esmtp=gateway).to_dict()


def test_a_message_that_was_sent_can_be_pickled(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("b@example.com")
    with pytest.raises(SomeRecipientsRefused) as caught:
        mail.send(message)
    other = pickle.loads(pickle.dumps(message))
    assert other.delivery_report.refused == ("b@example.com",)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.accepted == ("a@example.com",)
    assert error.message.subject == "Hello"


def test_one_message_id_however_often_it_is_tried(mail: Mail, smtpd: ScriptedServer) -> None:
    data = Message("Hi", TO, "Words").to_dict()
    for _ in range(2):
        mail.send(Message.from_dict(data))
    first, second = (each.content for each in smtpd.messages)
    identifiers = [
        content.split(b"Message-ID: ")[1].split(b"\r\n")[0] for content in (first, second)
    ]
    assert identifiers[0] == identifiers[1] != b""


# -- Celery


def celery_of(app: Flask, **config: Any) -> Celery:
    """Celery whose tasks run within the application's context, as Flask documents it."""

    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery("site", task_cls=FlaskTask, set_as_current=False)
    celery.conf.update(
        broker_url="memory://",
        result_backend="cache+memory://",
        broker_transport_options={"polling_interval": 0.05},
        broker_connection_retry_on_startup=False,
        **config,
    )
    return celery


def tasks_of(celery: Celery, mail: Mail) -> Any:
    @celery.task(name="send", bind=True, shared=False, max_retries=2)
    def send(self: Any, data: dict[str, Any], mailer: str = "default") -> dict[str, Any]:
        try:
            return mail.using(mailer).send(Message.from_dict(data)).to_dict()
        except MailError as error:
            if error.retryable and not (error.report and error.report.accepted):
                raise self.retry(exc=error, countdown=0) from error
            raise

    @celery.task(name="send_pickle", serializer="pickle", shared=False)
    def send_pickle(message: Message) -> None:
        mail.send(message)

    return send, send_pickle


@pytest.fixture
def site(make_app: MakeApp) -> Flask:
    return make_app(MAIL_MAILERS={"bulk": {"MAIL_ON_REFUSED": "report"}})


@pytest.fixture
def celery(site: Flask) -> Iterator[Celery]:
    celery = celery_of(site, accept_content=["json", "pickle"])
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield celery
    celery.close()
    # A worker takes the root logger over, and keeps it.
    root.setLevel(level)
    root.handlers[:] = handlers


def test_a_worker_sends_what_a_view_has_built(
    site: Flask, celery: Celery, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("gone@example.net")
    send, send_pickle = tasks_of(celery, Mail())
    results = []

    @site.route("/order")
    def order() -> str:
        message = Message("Order", ["a@example.com"], "Thanks", attachments=[Attachment(data=b"x")])
        results.append(send.delay(message.to_dict()))
        news = Message("News", ["a@example.com", "gone@example.net"], "None")
        results.append(send.delay(news.to_dict(), mailer="bulk"))
        results.append(send_pickle.delay(Message("Pickled", ["b@example.com"], "x")))
        return "ok"

    with start_worker(celery, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        assert site.test_client().get("/order").text == "ok"
        first, second, third = (result.get(timeout=20) for result in results)
    assert first["recipients"]["a@example.com"]["state"] == "accepted"
    assert second["recipients"]["gone@example.net"]["state"] == "refused"
    assert third is None
    assert [each.recipients for each in smtpd.messages] == [
        ("a@example.com",),
        ("a@example.com",),
        ("b@example.com",),
    ]


def test_a_task_tries_again_only_where_that_helps(
    site: Flask, celery: Celery, smtpd: ScriptedServer
) -> None:
    celery.conf.task_always_eager = True
    send, _ = tasks_of(celery, Mail())
    with site.app_context():
        data = Message("Order", ["a@example.com"], "Thanks").to_dict()
    smtpd.defer("a@example.com", times=2)
    assert send.delay(data).get()["recipients"]["a@example.com"]["state"] == "accepted"
    assert smtpd.transcript.count("RCPT TO") == 3
    smtpd.refuse("a@example.com")
    failed = send.delay(data)
    with pytest.raises(RecipientsRefused):
        failed.get()
    assert smtpd.transcript.count("RCPT TO") == 4
    assert len(smtpd.messages) == 1

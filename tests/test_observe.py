"""The log's one line a mail, and whoever else is told: on_report, and OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mailbridge import (
    AsyncTransport,
    ConnectRefused,
    DeliveryReport,
    Envelope,
    InvalidInput,
    OptionError,
    Transport,
    observe,
)
from mailbridge.otel import Telemetry
from mailbridge.testing import ScriptedServer

PASSWORD = "s3cret"
CONTENT = b"Message-ID: <1@example.org>\r\nSubject: private\r\n\r\nwords\r\n"


@pytest.fixture
def smtpd() -> Iterator[ScriptedServer]:
    with ScriptedServer(users={"ida": PASSWORD}) as server:
        yield server


def to(*recipients: str) -> Envelope:
    return Envelope("app@example.org", recipients or ("ida@example.com",))


def url(smtpd: ScriptedServer) -> str:
    return f"smtp://ida:{PASSWORD}@{smtpd.host}:{smtpd.port}?tls=none"


def test_one_record_a_mail(smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mailbridge")
    smtpd.refuse("gone@example.com")
    smtpd.defer("later@example.com")
    transport = Transport(url(smtpd), name="news", on_refused="report")
    transport.send(to(), CONTENT)
    transport.send(to("ida@example.com", "gone@example.com", "later@example.com"), CONTENT)
    first, second = caplog.records
    assert (first.reused, second.reused) == (False, True)  # type: ignore[attr-defined]
    report = vars(second)
    assert report["mailer"] == "news"
    assert report["message_id"] == "<1@example.org>"
    assert report["relay"] == f"127.0.0.1:{smtpd.port}"
    assert (report["accepted"], report["refused"], report["deferred"]) == (1, 1, 1)
    assert (report["not_attempted"], report["in_doubt"]) == (0, 0)
    assert report["queue_id"] is not None
    assert report["milliseconds"] > 0
    assert (report["attempts"], report["code"]) == (1, 250)
    assert report["error"] == "SomeRecipientsRefused"
    text = second.getMessage()
    assert text.startswith(f"news to 127.0.0.1:{smtpd.port} <1@example.org>: 1 accepted, 1 refused")
    assert "connection reused" in text
    # Nobody is named, and nothing is told that was in the mail or in the login.
    everything = "".join(f"{record.getMessage()}{vars(record)}" for record in caplog.records)
    for secret in ("example.com", "private", PASSWORD, "app@"):
        assert secret not in everything


def test_addresses_are_for_debug(smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailbridge")
    Transport(url(smtpd)).send(to(), CONTENT)
    named = [record for record in caplog.records if "ida@example.com" in record.getMessage()]
    (record,) = named
    assert record.levelno == logging.DEBUG
    assert record.recipients["ida@example.com"]["state"] == "accepted"  # type: ignore[attr-defined]
    assert record.sender == "app@example.org"  # type: ignore[attr-defined]


def test_nothing_is_made_for_a_log_that_is_off(
    smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "mailbridge")
    made: list[DeliveryReport] = []
    counts = observe.counts
    monkeypatch.setattr(observe, "counts", lambda report: made.append(report) or counts(report))
    transport = Transport(url(smtpd))
    transport.send(to(), CONTENT)
    assert made == []
    caplog.set_level(logging.INFO, "mailbridge")
    transport.send(to(), CONTENT)
    assert made != []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_each_mail_of_a_batch(smtpd: ScriptedServer, concurrency: int) -> None:
    smtpd.refuse("gone@example.com")
    told: list[DeliveryReport] = []
    transport = Transport(url(smtpd), on_report=told.append, name="bulk")
    mails = [(to(), CONTENT), (to("gone@example.com"), CONTENT), (to(), "naïve"), (to(), CONTENT)]
    reports = list(transport.send_many(mails, concurrency=concurrency))
    assert sorted(map(id, told)) == sorted(map(id, reports))
    assert [len(report.accepted) for report in reports] == [1, 0, 0, 1]
    assert {report.mailer for report in told} == {"bulk"}
    assert all(report.seconds is not None for report in told)
    assert isinstance(reports[2].error, InvalidInput)


def test_a_mail_that_nobody_took() -> None:
    told: list[DeliveryReport] = []
    transport = Transport("smtp://127.0.0.1:9?tls=none", on_report=told.append)
    with pytest.raises(ConnectRefused):
        transport.send(to(), CONTENT)
    (report,) = told
    assert report.not_attempted == ("ida@example.com",)
    assert observe.error_of(report) == "ConnectRefused"
    assert report.reused is None


def test_tries_are_one_mail(smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mailbridge")
    Transport(["smtp://127.0.0.1:9?tls=none", url(smtpd)]).send(to(), CONTENT)
    (record,) = [record for record in caplog.records if hasattr(record, "attempts")]
    assert record.attempts == 2
    assert "2 attempts" in record.getMessage()


def test_an_observer_cannot_break_anything(
    smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[DeliveryReport] = []

    def broken(report: DeliveryReport) -> None:
        raise ValueError("a bug of the observer's")

    report = Transport(url(smtpd), on_report=[broken, told.append]).send(to(), CONTENT)
    assert told == [report]
    assert "a bug of the observer's" in caplog.text


@pytest.mark.parametrize(
    ("value", "text"),
    [("nowhere.at.all", "on_report 'nowhere.at.all' cannot be imported"), (7, "on_report 7 is ne"),
     ([7], "on_report must be a callable or its path, not int")],
)  # fmt: skip
def test_wrong_observers(value: Any, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        Transport("smtp://h", on_report=value)


def test_asyncio(smtpd: ScriptedServer) -> None:
    told: list[DeliveryReport] = []

    async def send() -> list[DeliveryReport]:
        async with AsyncTransport(url(smtpd), on_report=told.append, name="news") as transport:
            one = await transport.send(to(), CONTENT)
            return [one, *[r async for r in transport.send_many([(to(), CONTENT)] * 2)]]

    reports = asyncio.run(send())
    assert list(map(id, told)) == list(map(id, reports))
    assert {report.mailer for report in told} == {"news"}
    assert [report.reused for report in told] == [False, True, True]
    assert all(report.seconds for report in told)


# OpenTelemetry.


class Exported:
    """Telemetry that is kept in memory."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.on_report = Telemetry(self.tracers, self.meters)

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for m in metrics if m.name == name for point in m.data.data_points]


@pytest.fixture
def exported() -> Iterator[Exported]:
    made = Exported()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def test_a_span_a_mail(smtpd: ScriptedServer, exported: Exported) -> None:
    transport = Transport(url(smtpd), name="news", on_report=exported.on_report)
    tracer = exported.tracers.get_tracer("the application")
    with tracer.start_as_current_span("request"):
        transport.send(to("ida@example.com", "bob@example.com"), CONTENT)
    span, request = exported.spans()
    assert span.name == f"send 127.0.0.1:{smtpd.port}"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id
    assert request.start_time <= span.start_time < span.end_time <= request.end_time  # type: ignore[operator]
    assert span.status.is_ok or span.status.is_unset
    assert span.attributes is not None
    known = dict(span.attributes)
    assert known.pop("mailbridge.queue_id")
    assert known == {
        "messaging.system": "smtp",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.id": "<1@example.org>",
        "network.protocol.name": "smtp",
        "server.address": "127.0.0.1",
        "server.port": smtpd.port,
        "mailbridge.mailer": "news",
        "mailbridge.reply.code": 250,
        "mailbridge.connection.reused": False,
        "mailbridge.attempts": 1,
        "mailbridge.recipients.accepted": 2,
        "mailbridge.recipients.refused": 0,
        "mailbridge.recipients.deferred": 0,
        "mailbridge.recipients.not_attempted": 0,
        "mailbridge.recipients.in_doubt": 0,
    }


def test_a_span_of_a_thread_has_its_parent(smtpd: ScriptedServer, exported: Exported) -> None:
    transport = Transport(url(smtpd), on_report=exported.on_report)
    tracer = exported.tracers.get_tracer("the application")
    with tracer.start_as_current_span("command"):
        list(transport.send_many([(to(), CONTENT)] * 3, concurrency=2))
    *mails, command = exported.spans()
    assert len(mails) == 3
    assert {mail.parent.span_id for mail in mails if mail.parent} == {command.context.span_id}


def test_a_failure_is_an_error(smtpd: ScriptedServer, exported: Exported) -> None:
    smtpd.refuse("gone@example.com")
    transport = Transport(url(smtpd), on_report=exported.on_report, on_refused="report")
    transport.send(to("ida@example.com", "gone@example.com"), CONTENT)
    (span,) = exported.spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "SomeRecipientsRefused"
    assert "gone@example.com" not in span.to_json()


def test_metrics(smtpd: ScriptedServer, exported: Exported) -> None:
    smtpd.refuse("gone@example.com")
    transport = Transport(url(smtpd), on_report=exported.on_report, on_refused="report")
    transport.send(to(), CONTENT)
    transport.send(to("ida@example.com", "gone@example.com"), CONTENT)
    (good,) = [p for p in exported.points("messaging.client.sent.messages")
               if "error.type" not in p.attributes]  # fmt: skip
    assert good.value == 1
    assert good.attributes["messaging.operation.name"] == "send"
    assert "messaging.message.id" not in good.attributes
    durations = exported.points("messaging.client.operation.duration")
    assert sum(point.count for point in durations) == 2
    assert all(point.sum > 0 for point in durations)
    states = {
        point.attributes["mailbridge.recipient.state"]: 0
        for point in exported.points("mailbridge.recipients")
    }
    for point in exported.points("mailbridge.recipients"):
        states[point.attributes["mailbridge.recipient.state"]] += point.value
    assert states == {"accepted": 2, "refused": 1}


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mailbridge.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(OptionError, match=r'pip install "mailbridge\[otel\]"'):
        Transport("smtp://h", on_report="mailbridge.otel.on_report")

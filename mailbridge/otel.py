"""Spans and metrics for OpenTelemetry: ``on_report="mailbridge.otel.on_report"``.

Names and attributes follow its semantic conventions for messaging; what those have no name for
begins with ``mailbridge.``. Nothing holds an address or a piece of the content.
"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from .observe import counts, error_of
from .report import DeliveryReport

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError(
        'mailbridge.otel needs opentelemetry-api: pip install "mailbridge[otel]"'
    ) from error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

SYSTEM = "smtp"
# The boundaries that the semantic conventions advise, and some for mail servers that take minutes.
_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 60, 600)


class Telemetry:
    """Makes of each report a span and the points of three metrics. Call it with a report.

    The providers are those of the process unless they are given. The span is a child of the one
    that was current where the mail was sent.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("mailbridge", _version(), tracer_provider)
        meter = metrics.get_meter("mailbridge", _version() or "", meter_provider)
        self._duration = meter.create_histogram(
            "messaging.client.operation.duration",
            unit="s",
            description="How long sending a mail took, with waiting and all tries.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._messages = meter.create_counter(
            "messaging.client.sent.messages",
            unit="{message}",
            description="Mails that were given to a relay, or meant to be.",
        )
        self._recipients = meter.create_counter(
            "mailbridge.recipients",
            unit="{recipient}",
            description="Recipients by the state in which they ended.",
        )

    def __call__(self, report: DeliveryReport) -> None:
        """Record what became of a mail."""
        ended = time.time_ns()
        seconds = report.seconds or 0.0
        common = _common(report)
        span = self._tracer.start_span(
            f"send {report.relay}" if report.relay else "send",
            kind=trace.SpanKind.CLIENT,
            start_time=ended - int(seconds * 1e9),
            attributes={**common, **_of_span(report)},
        )
        if "error.type" in common:
            span.set_status(trace.StatusCode.ERROR, str(common["error.type"]))
        span.end(ended)
        self._duration.record(seconds, common)
        self._messages.add(1, common)
        for state, number in counts(report).items():
            if number:
                self._recipients.add(number, {**common, "mailbridge.recipient.state": state})


def _version() -> str | None:
    try:
        return version("mailbridge")
    except PackageNotFoundError:  # run from a checkout
        return None


def _common(report: DeliveryReport) -> dict[str, AttributeValue]:
    """Attributes of few different values, for metrics as well."""
    found: dict[str, AttributeValue] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    if report.mailer is not None:
        found["mailbridge.mailer"] = report.mailer
    if report.relay is not None:
        host, _, port = report.relay.rpartition(":")
        found["server.address"] = host.strip("[]")
        found["server.port"] = int(port)
    error = error_of(report)
    if error is not None:
        found["error.type"] = error
    return found


def _of_span(report: DeliveryReport) -> dict[str, AttributeValue]:
    """What differs from mail to mail."""
    known: dict[str, AttributeValue | None] = {
        "network.protocol.name": SYSTEM,
        "messaging.message.id": report.message_id,
        "mailbridge.queue_id": report.queue_id,
        "mailbridge.reply.code": None if report.reply is None else report.reply.code,
        "mailbridge.connection.reused": report.reused,
        "mailbridge.attempts": report.attempts,
        **{f"mailbridge.recipients.{state}": n for state, n in counts(report).items()},
    }
    return {name: value for name, value in known.items() if value is not None}


#: Records a report with the providers of the process.
on_report = Telemetry()

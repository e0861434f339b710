"""The extra "otel": a report goes to the API of OpenTelemetry, which does nothing with it yet."""

from mailbridge import Envelope, Transport
from mailbridge.testing import ScriptedServer

with ScriptedServer() as smtpd:
    transport = Transport(smtpd.url, on_report="mailbridge.otel.on_report")
    report = transport.send(Envelope("me@example.org", "ada@example.org"), "Subject: Hi\n\nHi.\n")
    assert report.accepted == ("ada@example.org",), report

"""No extra: the core sends, and what an extra would bring says how to get it."""

import importlib

from mailbridge import Envelope, MailError, OptionError, Relay, Signer, Transport
from mailbridge.testing import ScriptedServer, TestCA

with ScriptedServer(users={"shop": "secret"}, mechanisms=["SCRAM-SHA-256"]) as smtpd:
    smtpd.refuse("gone@example.net")
    transport = Transport(smtpd.url, on_refused="report")
    report = transport.send(
        Envelope("me@example.org", ["ada@example.org", "gone@example.net"]), "Subject: Hi\n\nHi.\n"
    )
    assert report.accepted == ("ada@example.org",), report
    assert report.refused == ("gone@example.net",), report
    assert smtpd.messages[0].recipients == ("ada@example.org",)


def said(extra, use):
    """The text of the error that comes of using what is not installed."""
    try:
        use()
    except (ImportError, MailError, OptionError) as error:
        wanted = f'pip install "mailbridge[{extra}]"'
        assert wanted in str(error), f"{extra}: {error!r} does not say: {wanted}"
    else:
        raise AssertionError(f"{extra}: is there, although it was not installed")


def log_in_by_scram():
    with ScriptedServer(users={"shop": "secret"}, mechanisms=["SCRAM-SHA-256"]) as smtpd:
        Transport(Relay.from_options(smtpd.relay_options())).open()


def sign():
    options = {"dkim_domain": "example.org", "dkim_selector": "mail1", "dkim_key": "x"}
    Relay.from_options(host="localhost", **options)


said("django", lambda: importlib.import_module("mailbridge_django"))
said("flask", lambda: importlib.import_module("mailbridge_flask"))
said("dkim", sign)
said("scram", log_in_by_scram)
said("dkim", lambda: Signer("example.org", "mail1", "key.pem"))
said("otel", lambda: Transport("smtp://localhost", on_report="mailbridge.otel.on_report"))
said("testing", TestCA)

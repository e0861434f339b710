"""The extra "scram": a login by SCRAM-SHA-256."""

from mailbridge import Envelope, Relay, Transport
from mailbridge.testing import ScriptedServer

with ScriptedServer(users={"shop": "secret"}, mechanisms=["SCRAM-SHA-256"]) as smtpd:
    transport = Transport(Relay.from_options(smtpd.relay_options()))
    transport.send(Envelope("me@example.org", "ada@example.org"), "Subject: Hi\n\nHi.\n")
    assert smtpd.messages[0].user == "shop"

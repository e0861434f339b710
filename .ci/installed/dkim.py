"""The extra "dkim": mail is signed, with an Ed25519 key, which needs PyNaCl besides."""

from mailbridge import Envelope, Relay, Transport
from mailbridge.testing import ScriptedServer

KEY = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="

with ScriptedServer() as smtpd:
    options = {"dkim_domain": "example.org", "dkim_selector": "mail1", "dkim_key": KEY}
    transport = Transport(Relay.from_options(smtpd.relay_options(), **options))
    transport.send(
        Envelope("me@example.org", "ada@example.org"), "From: me@example.org\nSubject: Hi\n\nHi.\n"
    )
    assert "d=example.org" in smtpd.messages[0].message["DKIM-Signature"]

"""The extra "dkim": a mail that is signed, by the key that RFC 8463 has as its example."""

import dkim

from mailbridge import Envelope, Relay, Signer, Transport
from mailbridge.testing import ScriptedServer

PUBLIC = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

signer = Signer("example.org", "mail1", "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
with ScriptedServer() as smtpd:
    transport = Transport(Relay.from_url(smtpd.url, dkim=signer))
    transport.send(Envelope("me@example.org", "ada@example.org"), "From: me@example.org\n\nHi.\n")
    assert dkim.verify(smtpd.messages[0].content, dnsfunc=lambda name, timeout: PUBLIC)

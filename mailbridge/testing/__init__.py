"""A scripted SMTP server and a certificate authority, for the tests of those who send mail."""

from mailbridge.testing.capture import captured
from mailbridge.testing.certificates import TestCA
from mailbridge.testing.mailbox import Mailbox, SentMail
from mailbridge.testing.peer import ScriptedPeer
from mailbridge.testing.record import ReceivedEnvelope, ReceivedMessage
from mailbridge.testing.recording import Recording
from mailbridge.testing.replay import ReplayServer
from mailbridge.testing.server import ScriptedServer

__all__ = [
    "Mailbox",
    "ReceivedEnvelope",
    "ReceivedMessage",
    "Recording",
    "ReplayServer",
    "ScriptedPeer",
    "ScriptedServer",
    "SentMail",
    "TestCA",
    "captured",
]

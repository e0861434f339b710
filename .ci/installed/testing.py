"""The extra "testing": pytest finds the plugin, and the server speaks TLS."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

TEST = """
import mailbridge
import pytest

def send(relay):
    mailbridge.Transport(relay).send(
        mailbridge.Envelope("me@example.org", "ada@example.org"), "Subject: Hi\\n\\nHi.\\n"
    )

def test_a_mailbox(mailbox):
    send("smtp://mail.invalid")
    mailbox.assert_sent(to="ada@example.org", subject="Hi")

@pytest.mark.smtpd(tls="starttls", users={"shop": "secret"})
def test_a_server(smtpd, mail_server_settings):
    send(mailbridge.Relay.from_options(mail_server_settings))
    assert smtpd.messages[0].tls
    assert smtpd.messages[0].user == "shop"
"""

with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    Path("test_it.py").write_text(TEST)
    failed = pytest.main(["-q", "-p", "no:cacheprovider", "-W", "error"])
    os.chdir("/")
sys.exit(failed)

"""LMTP to Dovecot: a reply for each recipient, refusals at RCPT and after the content.

And logins that Dovecot judges for a Postfix: the mechanisms that no other server here has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mailbridge
from mailbridge import Envelope, Relay, Transport
from tests.interop import debian
from tests.interop.postfix import Postfix, start_postfix
from tests.ports import free_ports

PACKAGES = (
    *("dovecot-core", "dovecot-lmtpd", "libexttextcat-2.0-0", "libexttextcat-data"),
    *("liblua5.4-0", "libwrap0"),
)
SENDER = "me@example.org"
CONTENT = (
    b"Subject: x\r\n\r\n.one dot\r\n..two dots\r\n.\r\nFrom the start\r\nblanks  \r\n\xc3\xa9\r\n"
)

CONFIGURATION = """\
base_dir = {top}/run
state_dir = {top}/state
log_path = {top}/log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_save_crlf = yes
mail_plugins = quota
postmaster_address = postmaster@example.org
lmtp_rcpt_check_quota = no
lmtp_hdr_delivery_address = none
quota_full_tempfail = yes
passdb {{
  driver = passwd-file
  args = username_format=%n {top}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {top}/users
}}
plugin {{
  quota = maildir:User quota
}}
disable_plaintext_auth = no
auth_failure_delay = 0
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {auth_port}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


@dataclass(frozen=True)
class Dovecot:
    top: Path
    port: int
    auth_port: int

    def stored(self, user: str) -> list[bytes]:
        """What is stored for a user, whole, in no order."""
        return [path.read_bytes() for path in (self.top / user / "Maildir/new").glob("*")]

    def log(self) -> str:
        logs = [self.top / "log", self.top / "output"]
        return "".join(p.read_text("utf-8", "replace") for p in logs if p.exists())


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    root = debian.unpacked(*PACKAGES)
    debian.require(root)
    assert isinstance(root, Path)
    top = debian.directory("dovecot-")
    port, auth_port = free_ports(2)
    users = f"user:{{PLAIN}}secret:{debian.USER}:{debian.GROUP}::{top}/user::\n"
    for name, rule in (("a", ""), ("b", ""), ("full", "userdb_quota_rule=*:bytes=10")):
        (top / name).mkdir()
        os.chown(top / name, debian.USER, debian.GROUP)
        users += f"{name}::{debian.USER}:{debian.GROUP}::{top}/{name}::{rule}\n"
    (top / "users").write_text(users)
    (top / "dovecot.conf").write_text(CONFIGURATION.format(top=top, port=port, auth_port=auth_port))
    server = debian.start(
        ["/usr/sbin/dovecot", "-F", "-c", top / "dovecot.conf"],
        ["dovecot", "dovenull"],
        top,
        usr=root / "usr",
    )
    running = Dovecot(top, port, auth_port)
    try:
        debian.wait_until(lambda: debian.listens(port), running.log, "Dovecot does not listen")
        yield running
    finally:
        debian.stop(server)
        shutil.rmtree(top)


def transport(dovecot: Dovecot, **options: object) -> Transport:
    relay = Relay.from_options(
        host="127.0.0.1", port=dovecot.port, lmtp=True, tls="none", timeout=10, **options
    )
    return Transport(relay, on_refused="report")


@pytest.mark.parametrize(
    "ignored", [(), ("CHUNKING",), ("PIPELINING",), ("CHUNKING", "PIPELINING")]
)
def test_each_recipient_has_a_reply_of_its_own(dovecot: Dovecot, ignored: tuple[str, ...]) -> None:
    mark = f"Ignored: {'-'.join(ignored)}\r\n".encode()
    recipients = ["a@x.org", "nobody@x.org", "full@x.org", "b@x.org"]
    sender = transport(dovecot, ignore_extensions=ignored)
    report = sender.send(Envelope(SENDER, recipients), mark + CONTENT)
    log = dovecot.log()
    assert report.accepted == ("a@x.org", "b@x.org"), log
    assert report.refused == ("nobody@x.org",)
    assert report.deferred == ("full@x.org",)
    assert (report["nobody@x.org"].phase, report["full@x.org"].phase) == ("rcpt", "content")
    for user in ("a", "b"):
        assert [c.endswith(mark + CONTENT) for c in dovecot.stored(user) if mark in c] == [True]
    assert dovecot.stored("full") == []
    # In step: the next mail gets its own replies.
    assert sender.send(Envelope(SENDER, ["b@x.org"]), CONTENT).accepted == ("b@x.org",)


def test_batch(dovecot: Dovecot) -> None:
    mails = [
        (Envelope(SENDER, ["a@x.org", "full@x.org"]), b"Batch: %d\r\n" % n + CONTENT)
        for n in range(10)
    ]
    reports = list(transport(dovecot).send_many(mails))
    assert [(r.accepted, r.deferred) for r in reports] == [(("a@x.org",), ("full@x.org",))] * 10
    for n in range(10):
        assert sum(b"Batch: %d\r\n" % n in content for content in dovecot.stored("a")) == 1


def test_level_one(dovecot: Dovecot) -> None:
    with mailbridge.LMTP("127.0.0.1", dovecot.port, timeout=10) as lmtp:
        refused = lmtp.sendmail(
            SENDER, ["a@x.org", "nobody@x.org"], CONTENT.replace(b"\xc3\xa9", b"e")
        )
        assert list(refused) == ["nobody@x.org"]


@pytest.fixture(scope="module")
def postfix_of_dovecot(dovecot: Dovecot, postfix_installed: None) -> Iterator[Postfix]:
    settings = {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": f"inet:127.0.0.1:{dovecot.auth_port}",
        "smtpd_sasl_security_options": "noanonymous",
    }
    with start_postfix(settings=settings) as running:
        yield running


@pytest.mark.parametrize(
    "mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]
)
def test_login_that_dovecot_judges(
    dovecot: Dovecot, postfix_of_dovecot: Postfix, mechanism: str
) -> None:
    def sender(password: str) -> Transport:
        server = postfix_of_dovecot
        relay = Relay.from_options(host=server.host, port=server.submission, tls="none", timeout=20)
        return Transport(relay.using(username="user", password=password, auth_mechanisms=mechanism))

    to = f"{mechanism.lower()}@example.com"
    with pytest.raises(mailbridge.AuthenticationFailed) as caught:
        sender("wrong").send(Envelope(SENDER, [to]), CONTENT)
    assert caught.value.smtp_code == 535, dovecot.log()
    assert sender("secret").send(Envelope(SENDER, [to]), CONTENT).accepted, dovecot.log()
    assert postfix_of_dovecot.stored(to)


def test_the_best_mechanism_is_chosen(postfix_of_dovecot: Postfix) -> None:
    server = postfix_of_dovecot
    relay = Relay(host=server.host, port=server.submission, tls="none")
    sender = Transport(relay.using(username="user", password="secret"))
    with sender:
        assert sender.connection is not None
        assert "C: AUTH SCRAM-SHA-256 ***" in sender.connection.session.transcript.lines()

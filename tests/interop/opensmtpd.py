"""A private OpenSMTPD, on loopback: it takes mail for every domain and hands it to the test.

``refused@example.com`` is answered 550, ``deferred@example.com`` 451. Everybody else's mail is
relayed to a `ScriptedServer`, where it can be read: OpenSMTPD stores mail for users of the system
only.

It insists on being root and on a user of its own, whose numbers it takes on.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailbridge.testing import ScriptedServer
from tests.interop import debian
from tests.ports import free_ports

PACKAGES = ("opensmtpd", "libevent-2.1-7", "libdb5.3")

CONFIGURATION = """\
smtp max-message-size 5M
pki mx.example.test cert "{top}/certificate.pem"
pki mx.example.test key "{top}/key.pem"
table users file:{top}/users
table refused {{ "refused@example.com" }}
table deferred {{ "deferred@example.com" }}
filter later phase rcpt-to match rcpt-to <deferred> reject "451 4.2.0 Try again later"
listen on 127.0.0.1 port {port} tls pki mx.example.test hostname mx.example.test filter later
listen on 127.0.0.1 port {tls_port} smtps pki mx.example.test hostname mx.example.test
listen on 127.0.0.1 port {submission} tls-require pki mx.example.test auth <users>
action "deliver" relay host smtp://127.0.0.1:{behind} helo mx.example.test
match from any for rcpt-to <refused> reject
match from any for any action "deliver"
"""


@dataclass(frozen=True)
class OpenSMTPD:
    """A running OpenSMTPD: the port for STARTTLS, for implicit TLS, and the one that wants AUTH."""

    top: Path
    port: int
    tls_port: int
    submission: int
    behind: ScriptedServer
    host: str = "127.0.0.1"

    def stored(self, recipient: str) -> bytes:
        """The one mail that came for this recipient, without what OpenSMTPD put on top."""

        def found() -> list[bytes]:
            return [m.content for m in self.behind.messages if m.recipients == (recipient,)]

        debian.wait_until(lambda: bool(found()), self.log, f"no mail for {recipient}")
        (content,) = found()
        first, *lines = content.splitlines(keepends=True)
        assert first.startswith(b"Received: from ")
        while lines[0].startswith((b" ", b"\t")):
            del lines[0]
        return b"".join(lines)

    def log(self) -> str:
        """What OpenSMTPD has logged until now."""
        return (self.top / "output").read_text("utf-8", "replace")


@contextmanager
def start_opensmtpd(certificate: Path, key: Path) -> Iterator[OpenSMTPD]:
    """Run an OpenSMTPD for the length of a ``with`` block."""
    root = debian.unpacked(*PACKAGES)
    assert isinstance(root, Path), root
    top = debian.directory("opensmtpd-")
    for name in ("spool/smtpd", "lib/opensmtpd/empty", "run"):
        (top / name).mkdir(parents=True)
        (top / name).chmod(0o711)
    for source, name in ((certificate, "certificate.pem"), (key, "key.pem")):
        shutil.copy(source, top / name)
        (top / name).chmod(0o600)
    encrypt = root / "usr/libexec/opensmtpd/encrypt"
    hashed = subprocess.run([encrypt, "secret"], check=True, capture_output=True, text=True).stdout
    (top / "users").write_text(f"user\t{hashed}")
    port, tls_port, submission = free_ports(3)
    with ScriptedServer() as behind:
        (top / "smtpd.conf").write_text(
            CONFIGURATION.format(
                top=top,
                port=port,
                tls_port=tls_port,
                submission=submission,
                behind=behind.port,
            )
        )
        (top / "smtpd.conf").chmod(0o600)
        server = debian.start(
            ["/usr/sbin/smtpd", "-d", "-f", top / "smtpd.conf"],
            ["opensmtpd", "opensmtpq"],
            top,
            usr=root / "usr",
            instead={"/var/spool": top / "spool", "/var/lib": top / "lib", "/run": top / "run"},
        )
        running = OpenSMTPD(top, port, tls_port, submission, behind)
        try:
            debian.wait_until(lambda: debian.listens(port), running.log, "OpenSMTPD is silent")
            yield running
        finally:
            debian.stop(server)
            shutil.rmtree(top)

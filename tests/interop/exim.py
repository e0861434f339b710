"""A private Exim: configuration, spool and stored mail in a temporary directory, on loopback.

``refused@`` any domain is answered 550, ``deferred@`` 451; a header
``X-Refuse-Content: yes`` gets 550 after the dot. Everybody else's mail is stored.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop import debian
from tests.ports import free_ports

PACKAGES = ("exim4-daemon-heavy", "libidn12", "libmariadb3", "libspf2-2")

CONFIGURATION = """\
keep_environment = LD_LIBRARY_PATH
exim_path = {program}
spool_directory = {top}/spool
log_file_path = {top}/log/%slog
pid_file_path = {top}/spool/exim.pid
primary_hostname = mx.example.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
tls_require_ciphers = NORMAL
pipelining_advertise_hosts = {pipelining}
chunking_advertise_hosts = {chunking}
smtputf8_advertise_hosts = {utf8}
accept_8bitmime = {eight_bit}
dsn_advertise_hosts = *
message_size_limit = 5M
host_lookup =
rfc1413_hosts =
deliver_drop_privilege = true
never_users =
acl_smtp_mail = accept
acl_smtp_rcpt = rcpt
acl_smtp_data = data
smtp_accept_max_nonmail = 1000
smtp_accept_queue_per_connection = 0

begin acl
rcpt:
  deny local_parts = refused
       message = 5.1.1 No such user here
  defer local_parts = deferred
       message = 4.2.0 Try again later
  accept
data:
  deny condition = ${{if eq{{$h_X-Refuse-Content:}}{{yes}}}}
       message = 5.7.1 This content is not wanted
  accept

begin routers
store:
  driver = accept
  transport = store

begin transports
store:
  driver = appendfile
  file = {top}/stored/$message_exim_id
  {owner}
  use_crlf
  message_prefix =
  message_suffix =
  check_string =
  escape_string =

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{user}}}}{{eq{{$auth3}}{{secret}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{user}}}}{{eq{{$auth2}}{{secret}}}}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{user}}{{secret}}fail}}
  server_set_id = $auth1
"""


@dataclass(frozen=True)
class Exim:
    """A running Exim: its directory, the port for STARTTLS and the one for implicit TLS."""

    top: Path
    port: int
    tls_port: int
    host: str = "127.0.0.1"

    def stored(self, local_part: str) -> bytes:
        """The one mail stored for this local part, without what Exim put on top."""
        # A file name may not be made of what a client sent; the log says whose mail is whose.
        delivered = re.compile(rf"^\S+ \S+ (\S+) => {re.escape(local_part)} ", re.MULTILINE)

        def found() -> set[str]:
            log = self.log()
            return {name for name in delivered.findall(log) if f"{name} Completed" in log}

        debian.wait_until(lambda: bool(found()), self.log, f"no mail for {local_part}")
        (name,) = found()
        path = self.top / "stored" / name
        first, *lines = path.read_bytes().splitlines(keepends=True)
        assert first.startswith(b"Received: from ")
        while lines[0].startswith((b" ", b"\t")):
            del lines[0]
        return b"".join(lines)

    def log(self) -> str:
        """What Exim has logged until now."""
        logs = [self.top / "log/mainlog", self.top / "log/paniclog", self.top / "output"]
        return "".join(p.read_text("utf-8", "replace") for p in logs if p.exists())


@contextmanager
def start_exim(
    certificate: Path,
    key: Path,
    *,
    pipelining: bool = True,
    chunking: bool = True,
    utf8: bool = True,
    eight_bit: bool = True,
) -> Iterator[Exim]:
    """Run an Exim for the length of a ``with`` block."""
    root = debian.unpacked(*PACKAGES)
    assert isinstance(root, Path), root
    program = root / "usr/sbin/exim4"
    program.chmod(0o755)  # not setuid: it delivers as nobody
    top = debian.directory("exim-")
    for name in ("spool", "log", "stored"):
        (top / name).mkdir()
    for source, name in ((certificate, "certificate.pem"), (key, "key.pem")):
        shutil.copy(source, top / name)
    for path in top.iterdir():
        os.chown(path, debian.USER, debian.GROUP)
    port, tls_port = free_ports(2)
    everybody = {True: "*", False: ""}
    (top / "exim.conf").write_text(
        CONFIGURATION.format(
            top=top,
            program=program,
            port=port,
            tls_port=tls_port,
            certificate=top / "certificate.pem",
            key=top / "key.pem",
            pipelining=everybody[pipelining],
            chunking=everybody[chunking],
            utf8=everybody[utf8],
            eight_bit=str(eight_bit).lower(),
            owner=f"user = {debian.USER}\n  group = {debian.GROUP}",
        )
    )
    libraries = [root / "usr/lib", root / "usr/lib/x86_64-linux-gnu"]
    server = debian.start(
        [program, "-C", top / "exim.conf", "-bdf"], ["Debian-exim"], top, libraries=libraries
    )
    running = Exim(top, port, tls_port)
    try:
        debian.wait_until(lambda: debian.listens(port), running.log, "Exim does not listen")
        yield running
    finally:
        debian.stop(server)
        shutil.rmtree(top)

"""A private Postfix: the real server from its Debian package, in a directory of its own.

Nothing of the system's Postfix is used but its programs: configuration, queue, data and log are in
a temporary directory, the ports are on 127.0.0.1 and were free, DNS is not asked, and
every domain is delivered to files (`mailstore`), so that no mail can leave the machine.

Who is who:

* ``refused@`` or ``gone@`` any domain: 550 5.1.1 in reply to RCPT
* ``deferred@`` any domain: 450 4.2.0 in reply to RCPT
* ``banned@`` any domain as sender: 550 5.7.1 in reply to MAIL
* a header ``X-Refuse-Content: yes``: 550 5.7.1 in reply to the final dot
* ``undeliverable@`` any domain is accepted, and returned to its sender when it cannot be stored
* everybody else is accepted, and what arrived can be read with `Postfix.stored`

What Postfix changes: it puts one header on top, ``Received:`` (folded over three lines), which
`without_trace` takes off again. The rest is stored as sent, CRLF included. To that end the
configuration turns off what Postfix would otherwise do for a client on the same machine: complete
addresses in headers, add Date, From and Message-ID, drop Bcc and Return-Path. Return-Path,
Delivered-To and X-Original-To are added by other delivery agents than the one used here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.interop import debian
from tests.interop.dovecot_auth import dovecot_auth
from tests.ports import free_ports

HOST = "127.0.0.1"
# Debian keeps the programs of the administrator out of an ordinary user's PATH.
PROGRAMS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {top}/queue
data_directory = {top}/data
maillog_file = {top}/log/postfix.log
maillog_file_prefixes = {top}/log
mail_owner = postfix
multi_instance_enable = no
alternate_config_directories =

myhostname = mx.example.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
notify_classes =

# Every domain ends in files here; nothing is relayed.
virtual_mailbox_domains = static:all
virtual_transport = mailstore
local_transport = mailstore
default_transport = error:5.4.4 This server does not relay
relay_transport = error:5.4.4 This server does not relay
local_recipient_maps =
alias_maps =
mailstore_destination_recipient_limit = 1

# Stored is what was sent.
local_header_rewrite_clients =
always_add_missing_headers = no
message_drop_headers =

smtpd_delay_reject = no
smtpd_sender_restrictions = check_sender_access texthash:{top}/conf/senders
smtpd_recipient_restrictions = check_recipient_access texthash:{top}/conf/recipients
smtpd_relay_restrictions = permit_mynetworks, reject
header_checks = regexp:{top}/conf/header_checks
smtpd_discard_ehlo_keywords = {discard}

# Tests make mistakes on purpose, and quickly.
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 2000
"""

MASTER_CF = """\
pickup     unix  n  -  n  60    1  pickup
cleanup    unix  n  -  n  -     0  cleanup
qmgr       unix  n  -  n  300   1  qmgr
tlsmgr     unix  -  -  n  1000? 1  tlsmgr
rewrite    unix  -  -  n  -     -  trivial-rewrite
bounce     unix  -  -  n  -     0  bounce
defer      unix  -  -  n  -     0  bounce
trace      unix  -  -  n  -     0  bounce
verify     unix  -  -  n  -     1  verify
proxymap   unix  -  -  n  -     -  proxymap
proxywrite unix  -  -  n  -     1  proxymap
showq      unix  n  -  n  -     -  showq
error      unix  -  -  n  -     -  error
retry      unix  -  -  n  -     -  error
anvil      unix  -  -  n  -     1  anvil
postlog    unix-dgram n - n -   1  postlogd
mailstore  unix  -  n  n  -     -  pipe
  flags= user=nobody null_sender= eol=\\r\\n
  argv=/bin/sh {top}/conf/store {top}/stored ${{sender}} ${{recipient}}
"""

# The envelope appears last and whole, which is how a reader knows that the content is complete.
STORE = """\
set -eu
umask 022
case "$3" in undeliverable@*) echo 5.2.1 Mailbox closed; exit 69;; esac
content=$(mktemp "$1/XXXXXXXXXX")
cat > "$content"
chmod 644 "$content"
printf '%s\\n%s\\n' "$2" "$3" > "$content.part"
mv "$content.part" "$content.envelope"
"""

ACCESS = {
    "senders": "banned@ 550 5.7.1 You may not send here\n",
    "recipients": "refused@ 550 5.1.1 No such user here\n"
    "gone@ 550 5.1.1 No such user here\n"
    "deferred@ 450 4.2.0 Mailbox busy, try again later\n",
    "header_checks": "/^X-Refuse-Content: yes/ REJECT 5.7.1 This content is not wanted\n",
}


class PostfixError(RuntimeError):
    """Postfix did not start, or did not deliver; the message ends with its log."""


class Delivery(NamedTuple):
    """One message as one recipient got it: the envelope, and the content byte for byte."""

    sender: str
    recipient: str
    content: bytes


@dataclass(frozen=True)
class Postfix:
    """A running Postfix. `submission` wants AUTH (after STARTTLS); `submissions` is TLS at once."""

    top: Path
    port: int
    submission: int
    submissions: int | None
    host: str = HOST

    def stored(self, recipient: str, count: int = 1, timeout: float = 20) -> list[bytes]:
        """Return what is stored for ``recipient``, oldest first; wait until there are ``count``.

        Addresses are as Postfix prints them: without quotes, so ``"a b"@example.org`` is
        ``a b@example.org``. Raises PostfixError when the deadline passes first.
        """
        return [delivery.content for delivery in self.deliveries(recipient, count, timeout)]

    def deliveries(self, recipient: str, count: int = 1, timeout: float = 20) -> list[Delivery]:
        """Do what `stored` does, and return the envelopes too."""
        deadline = time.monotonic() + timeout
        while True:
            found = [each for each in self._all() if each.recipient == recipient]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                everybody = sorted({each.recipient for each in self._all()})
                raise PostfixError(
                    f"{len(found)} of {count} messages for {recipient} arrived within {timeout} s;"
                    f" there is mail for {everybody}\n{self.log()}"
                )
            time.sleep(0.02)

    def log(self) -> str:
        """Return what has been logged until now, by a daemon, some time after the event."""
        try:
            return (self.top / "log/postfix.log").read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _all(self) -> Iterator[Delivery]:
        envelopes = (self.top / "stored").glob("*.envelope")
        for envelope in sorted(envelopes, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            sender, recipient = envelope.read_text("utf-8").splitlines()
            yield Delivery(sender, recipient, envelope.with_suffix("").read_bytes())


def queue_id(stored: bytes) -> str:
    """Return the queue id that Postfix wrote into the ``Received`` header that it put on top."""
    trace = stored.removesuffix(without_trace(stored)).decode()
    found = re.search(r"\sid (\w+)\b", trace)
    assert found, trace
    return found[1]


def without_trace(stored: bytes) -> bytes:
    """Return the stored content without the ``Received`` header that Postfix put on top."""
    first, *lines = stored.splitlines(keepends=True)
    assert first.startswith(b"Received: from "), first
    while lines and lines[0].startswith((b" ", b"\t")):
        del lines[0]
    return b"".join(lines)


@cache
def unavailable() -> str | None:
    """Return why Postfix cannot be run here, as a sentence for a person, or None when it can."""
    if shutil.which("postfix", path=PROGRAMS) is None:
        return "Postfix is not installed: apt-get install postfix"
    if os.geteuid() == 0:
        return None
    if shutil.which("newuidmap") is None:
        return (
            "Postfix runs as root only, or in a user namespace with several user IDs: "
            "apt-get install uidmap, or run the tests as root"
        )
    trial = _run("true", check=False)
    if trial.returncode != 0:
        return (
            "Postfix runs as root only, or in a user namespace with several user IDs, and `unshare "
            f"--user --map-root-user --map-auto` says: {trial.stdout.strip()} "
            "(it takes util-linux 2.38 and a range for this user in /etc/subuid and /etc/subgid)"
        )
    return None


@contextmanager
def start_postfix(
    *,
    tls: tuple[str | Path, str | Path] | None = None,
    users: Mapping[str, str] | None = None,
    pipelining: bool = True,
    chunking: bool = True,
    utf8: bool = True,
    eight_bit: bool = True,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Postfix]:
    """Run a Postfix for the length of a ``with`` block.

    ``tls`` is (certificate chain file, key file) and turns STARTTLS on; ``users`` ({name:
    password}) turns AUTH on, with PLAIN, LOGIN and CRAM-MD5; the flags take extensions out of the
    reply to EHLO, and Postfix then refuses their use; ``settings`` go into main.cf, the last word.
    """
    offered = {
        "PIPELINING": pipelining,
        "CHUNKING": chunking,
        "SMTPUTF8": utf8,
        "8BITMIME": eight_bit,
    }
    discard = ", ".join(keyword for keyword, on in offered.items() if not on)
    with ExitStack() as stack:
        top = stack.enter_context(_directory())
        main_cf = MAIN_CF.format(top=top, discard=f"silent-discard, {discard}" if discard else "")
        if tls is not None:
            main_cf += _tls_settings(top, *tls)
        if users is not None:
            main_cf += _auth_settings(stack.enter_context(dovecot_auth(users)))
        main_cf += "".join(f"{name} = {value}\n" for name, value in (settings or {}).items())
        (top / "conf/main.cf").write_text(main_cf)
        for name, text in {**ACCESS, "store": STORE}.items():
            (top / "conf" / name).write_text(text)
        postfix = _start(top, with_tls=tls is not None)
        try:
            yield postfix
        finally:
            _postfix(top, "stop")


def _start(top: Path, *, with_tls: bool) -> Postfix:
    for _ in range(3):
        ports = free_ports(3)
        postfix = Postfix(top, ports[0], ports[1], ports[2] if with_tls else None)
        (top / "conf/master.cf").write_text(
            _listeners(postfix, with_tls) + MASTER_CF.format(top=top)
        )
        started = _postfix(top, "start")
        if started.returncode == 0:
            return postfix
        # Somebody else took a port between our asking and Postfix's binding it.
        if "Address already in use" not in postfix.log():
            break
    raise PostfixError(f"Postfix did not start:\n{started.stdout}\n{postfix.log()}")


def _listeners(postfix: Postfix, with_tls: bool) -> str:
    authenticated = "  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"
    lines = f"{HOST}:{postfix.port} inet n - n - - smtpd\n"
    lines += f"{HOST}:{postfix.submission} inet n - n - - smtpd\n" + authenticated
    if with_tls:
        lines += "  -o smtpd_tls_security_level=encrypt\n"
        lines += f"{HOST}:{postfix.submissions} inet n - n - - smtpd\n" + authenticated
        lines += "  -o smtpd_tls_wrappermode=yes\n"
    return lines


def _tls_settings(top: Path, certificates: str | Path, key: str | Path) -> str:
    # Key first, as smtpd_tls_chain_files wants it; read before Postfix gives up its privileges.
    chain = top / "conf/chain.pem"
    chain.touch(mode=0o600)
    chain.write_bytes(Path(key).read_bytes() + Path(certificates).read_bytes())
    return f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {chain}\n"


def _auth_settings(port: int) -> str:
    return (
        "smtpd_sasl_auth_enable = yes\n"
        "smtpd_sasl_type = dovecot\n"
        f"smtpd_sasl_path = inet:{HOST}:{port}\n"
        "smtpd_sasl_security_options = noanonymous\n"
    )


@contextmanager
def _directory() -> Iterator[Path]:
    """Make the directory that holds everything, where Postfix's own user can reach it.

    Not pytest's tmp_path: that is closed to other users.
    """
    top = debian.directory("mailbridge-postfix-")
    try:
        for name in ("conf", "queue", "data", "log", "stored"):
            (top / name).mkdir(mode=0o755)
        _run("chown", "postfix", str(top / "data"))
        _run("chown", "nobody", str(top / "stored"))
        yield top
    finally:
        _run("rm", "-rf", str(top))


def _postfix(top: Path, command: str) -> subprocess.CompletedProcess[str]:
    return _run("postfix", "-c", str(top / "conf"), command, check=False)


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as root, or else as the root of a user namespace."""
    if os.geteuid() != 0:
        command = ("unshare", "--user", "--map-root-user", "--map-auto", *command)
    # Not a pipe: what goes on running in the background could hold it open.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command,
            check=check,
            env={"PATH": PROGRAMS, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        output.seek(0)
        done.stdout = output.read()
    return done

"""The server's side of one session: its state, and how it answers under a script."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mailbridge.testing.record import Record
from mailbridge.testing.script import Plan, Script
from mailbridge.testing.wire import Channel, Disconnected

_ENHANCED: Final = re.compile(r"^(\d{3}[ -])[245]\.\d{1,3}\.\d{1,3} ", re.MULTILINE)


class HangUp(Exception):
    """The server closes the connection; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for every connection of one server."""

    hostname: str
    tls_context: ssl.SSLContext | None
    implicit_tls: bool
    require_tls: bool
    users: Mapping[str, str] | None
    mechanisms: tuple[str, ...]
    require_auth: bool
    auth_needs_tls: bool
    lmtp: bool
    strict_content: bool
    idle_timeout: float
    certificate: bytes | None = None  # of the server, in DER


@dataclass(slots=True)
class Transaction:
    """What has been said since MAIL."""

    mail_from: str
    parameters: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)
    rcpt_parameters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    chunks: bytearray | None = None  # None until the first BDAT
    chunk_refused: bool = False

    def has(self, parameter: str) -> bool:
        """Whether MAIL came with ``parameter``, a whole one such as ``BODY=8BITMIME``."""
        return parameter in map(str.upper, self.parameters)


class Conversation:
    """One session. The commands (see ``commands``) read and change its public attributes."""

    def __init__(
        self,
        channel: Channel,
        number: int,
        script: Script,
        terms: Terms,
        record: Record,
        stopping: threading.Event,
        leave: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.number = number
        self.script = script
        self.terms = terms
        self.record = record
        self.stopping = stopping
        self.leave = leave  # no longer counts as a connection
        self.refusing = False  # the greeting was a refusal
        self.accepted = 0
        self.secret_may_follow = False
        self.forget()

    def forget(self) -> None:
        """Return to the state before the first EHLO (RFC 3207 section 4.2)."""
        self.helo = ""
        self.esmtp = False
        self.user: str | None = None
        self.transaction: Transaction | None = None

    def offered(self) -> dict[str, str]:
        """The lines of the EHLO reply by keyword, as of now."""
        terms, tls = self.terms, self.channel.tls
        starttls = "STARTTLS" if terms.tls_context and not tls else None
        auth = None
        if terms.users is not None and (tls or not terms.auth_needs_tls):
            auth = f"AUTH {' '.join(terms.mechanisms)}"
        return self.script.offered(STARTTLS=starttls, AUTH=auth)

    def may_use(self) -> dict[str, str]:
        """The extensions that this client may use: none after HELO."""
        return self.offered() if self.esmtp else {}

    # -- answering

    def answer(self, verb: str, reply: str, recipients: Iterable[str] = ()) -> int:
        """Give ``reply``, or what the script says instead; return the first digit that was sent.

        Raises HangUp when the script ends the connection here.
        """
        plan = self.decide((verb,), reply, recipients)
        self.perform(plan)
        return plan.digit

    def decide(self, points: tuple[str, ...], reply: str, recipients: Iterable[str] = ()) -> Plan:
        """What to do at any of ``points``, where ``reply`` would come without a script."""
        return self.script.plan(points, self.natural(reply), recipients)

    def natural(self, reply: str) -> str:
        """``reply`` without enhanced status codes if those are not offered (RFC 2034)."""
        if "ENHANCEDSTATUSCODES" in self.offered():
            return reply
        return _ENHANCED.sub(r"\1", reply)

    def perform(self, plan: Plan) -> None:
        """Wait, reply, stay silent or hang up, as ``plan`` has it."""
        if plan.delay:
            self.channel.flush()
            self.pause(plan.delay)
        if plan.drop == "before":
            raise HangUp("dropped instead of a reply")
        if plan.silent:
            self.record.note(self.number, "--", "silent")
            self.channel.wait_for_close()
            raise HangUp("gone")
        self._send(plan.reply + plan.behind, plan.drip)
        if plan.drop == "after":
            raise HangUp("dropped after the reply")
        if plan.reply.startswith(b"421"):  # RFC 5321 section 3.8
            raise HangUp("closed with 421")

    def say(self, reply: str) -> None:
        """Give ``reply``, whatever the script says."""
        self.perform(Plan(f"{self.natural(reply)}\r\n".encode()))

    def pause(self, seconds: float) -> None:
        """Wait; raise HangUp at once when the server is stopped."""
        if self.stopping.wait(seconds):
            raise HangUp("stopped")

    def _send(self, data: bytes, drip: float | None) -> None:
        if not data:
            return
        self.record.note(self.number, "S:", data)
        if drip is None:
            self.channel.write(data)
            return
        for octet in data:
            self.channel.write(bytes((octet,)))
            self.channel.flush()
            self.pause(drip)

    # -- TLS

    def start_tls(self) -> None:
        """Do the handshake, and forget what was said before it."""
        if self.terms.tls_context is None:  # a scripted 220: nothing stands behind it
            return
        self.channel.start_tls(self.terms.tls_context)
        self.record.note(self.number, "--", "TLS established")
        self.forget()

    # -- from beginning to end

    def run(self, steps: Iterable[object]) -> None:
        """Take ``steps`` until one of them ends the session; close the connection."""
        notify = False
        try:
            for _ in steps:
                pass
        except HangUp as reason:
            notify = reason.args == ("QUIT",)
            self._end(f"server closes: {reason}")
        except Disconnected as reason:
            self._end("stopped" if self.stopping.is_set() else f"client gone: {reason}")
        except TimeoutError:
            with contextlib.suppress(HangUp):
                self.say("421 4.4.2 Idle for too long")
            self._end("server closes: idle")
        finally:
            self.leave()
            self.channel.close(notify=notify)

    def _end(self, reason: str) -> None:
        self.record.note(self.number, "--", reason)

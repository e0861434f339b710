"""What a relay offers, and where the way to it ends: each step is tried and told.

    found = probe(Relay.from_url("smtp://user:pw@mail.example.org"), rcpt=["a@example.com"])
    found.ok, found.failed
    print(findings.render(found))

Nothing is sent: with `rcpt` a transaction is begun and dropped again (MAIL, RCPT, RSET).
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from . import logins, opening
from .envelope import Envelope
from .errors import ConnectError, InvalidInput, MailError, NotSupported
from .findings import Findings, Outcome, Step
from .host import host_and_port
from .options import TLS, Relay
from .protocol import dialogue, sasl
from .protocol.mail import Mail, Rcpt
from .protocol.reply import Reply
from .reach import literal_of
from .resolve import look_up
from .secret import Secret
from .sync.connect import open_socket
from .sync.driver import Connection

# A name with more addresses than this is not tried through to the end.
MAX_ADDRESSES = 16
# Let's Encrypt renews 30 days before the end; who is later than this has a renewal that fails.
DAYS_TO_WARN = 14


def probe(relay: Relay, *, sender: str | None = None, rcpt: Sequence[str] = ()) -> Findings:
    """Try the way to `relay` step by step, up to the one that fails. Sends no mail.

    With `rcpt` each recipient is offered to the server, from `sender` (by default the null
    reverse-path), and the transaction dropped. Every wait is bounded by the relay's time-outs.
    Raises AddressError for an address, OptionError for a certificate file that cannot be used.
    """
    envelope = Envelope(sender, list(rcpt)) if rcpt else None
    run = _Run(relay, envelope)
    try:
        steps = tuple(run.steps())
    finally:
        run.close()
    return Findings(repr(relay).removeprefix("Relay(").removesuffix(")"), steps)


class _Run:
    """The steps of one probe, each a method that yields what it found."""

    def __init__(self, relay: Relay, envelope: Envelope | None) -> None:
        self._relay = relay
        self._envelope = envelope
        self._connection = Connection(**opening.terms(relay))
        self._session = self._connection.session
        self._hello_name = ""
        self._step = ""
        self._started = 0.0

    def steps(self) -> Iterator[Step]:
        """Every step as it is done; the last one is the one that failed, if one did."""
        parts = (self._names, self._connect, self._greet, self._hello, self._tls, self._auth)
        for part in (*parts, self._rcpt):
            try:
                yield from part()
            except (MailError, InvalidInput) as error:
                yield self._failure(error)
                return

    def close(self) -> None:
        """Say QUIT, and close."""
        if self._connection.open and self._session.usable:
            with contextlib.suppress(MailError):  # All that was asked for is known by now.
                self._connection.run(dialogue.quit_(self._session))
        self._connection.close()

    def _begin(self, name: str) -> None:
        self._step, self._started = name, time.monotonic()

    def _done(
        self,
        text: str,
        outcome: Outcome = Outcome.OK,
        *,
        advice: str | None = None,
        timed: bool = True,
        **data: Any,
    ) -> Step:
        took = (time.monotonic() - self._started) * 1000 if timed else None
        return Step(self._step, outcome, text, advice, took and round(took, 1), data)

    def _failure(self, error: MailError | InvalidInput) -> Step:
        if not isinstance(error, MailError):
            return self._done(str(error), Outcome.FAILED)
        data: dict[str, Any] = {"error": type(error).__name__, "retryable": error.retryable}
        if error.reply is not None:
            data["code"] = error.reply.code
        text = " ".join(str(part) for part in error.args if part not in (None, ""))
        text = str(error.reply) if error.reply is not None else text
        return self._done(text, Outcome.FAILED, advice=error.advice, **data)

    # The steps.

    def _names(self) -> Iterator[Step]:
        host, port = self._relay.host, self._relay.port
        if host.startswith("/"):
            return
        self._begin("name")
        seconds = self._relay.timeouts.connect
        deadline = None if seconds is None else time.monotonic() + seconds
        found = look_up(host, port, deadline, self._relay.address)
        addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
        yield self._done(f"{host} is {', '.join(addresses)}", addresses=addresses)
        yield from self._each(addresses[:MAX_ADDRESSES])

    def _each(self, addresses: list[str]) -> Iterator[Step]:
        """Where a name has several addresses, each alone: a dead one costs only some senders."""
        if len(addresses) < 2:
            return
        for address in addresses:
            self._begin("address")
            timeout, source = self._relay.timeouts.connect, self._relay.source_address
            try:
                open_socket(address, self._relay.port, timeout, source).close()
            except ConnectError as error:
                text = " ".join(map(str, error.args))
                yield self._done(f"{address}: {text}", Outcome.WARNING, address=address)
            else:
                yield self._done(f"{address} accepts connections", address=address)

    def _connect(self) -> Iterator[Step]:
        self._begin("connect")
        relay = self._relay
        sock = self._connection.connect(relay.host, relay.port, relay.source_address)
        self._hello_name = relay.local_hostname or literal_of(sock)
        peer = sock.getpeername()
        where = host_and_port(str(peer[0]), peer[1]) if isinstance(peer, tuple) else relay.host
        yield self._done(f"connected to {where}", peer=where)

    def _greet(self) -> Iterator[Step]:
        implicit = self._relay.tls is TLS.IMPLICIT
        self._begin("tls" if implicit else "greeting")
        reply = self._connection.run(dialogue.greet(self._session, implicit_tls=implicit))
        if implicit:
            yield self._certificate()
            self._begin("greeting")
        yield self._done(str(reply), timed=not implicit, code=reply.code)

    def _hello(self) -> Iterator[Step]:
        self._begin("ehlo")
        self._connection.run(dialogue.hello(self._session, self._hello_name))
        yield self._keywords()

    def _keywords(self) -> Step:
        offered = dict(self._session.extensions)
        named = ", ".join(f"{name} {value}".strip().upper() for name, value in offered.items())
        return self._done(named or "no extensions", keywords=offered, hello=self._hello_name)

    def _tls(self) -> Iterator[Step]:
        if self._relay.tls is TLS.IMPLICIT:
            return
        self._begin("tls")
        if self._relay.tls is TLS.NONE or (
            self._relay.tls is TLS.OPPORTUNISTIC and not self._session.extensions.offers("STARTTLS")
        ):
            yield self._no_tls()
            return
        self._connection.run(opening.start_tls(self._session, self._relay, self._hello_name))
        yield self._certificate()
        self._begin("ehlo in tls")
        step = self._keywords()
        yield Step(step.name, step.outcome, step.text, data=step.data)

    def _no_tls(self) -> Step:
        offered = self._session.extensions.offers("STARTTLS")
        if self._relay.is_loopback:
            return self._done("not used", Outcome.SKIPPED, timed=False)
        advice = "Set tls='starttls': the server offers it" if offered else None
        return self._done(
            "not used: whoever listens reads every mail",
            Outcome.WARNING,
            advice=advice,
            timed=False,
        )

    def _certificate(self) -> Step:
        sock = self._connection.sock
        if not isinstance(sock, ssl.SSLSocket):
            raise MailError("there is no TLS on this connection")
        cipher, verified = sock.cipher(), self._session.channel.verified
        how = f"{sock.version()}, {cipher[0] if cipher else 'no cipher'}"
        data: dict[str, Any] = {"version": sock.version(), "verified": verified}
        certificate = sock.getpeercert() or {}
        if not certificate:
            advice = "Anybody in between could read the mail and the password: verify certificates"
            text = f"{how}; the certificate is not verified"
            return self._done(text, Outcome.WARNING, advice=advice, **data)
        names = [str(item[1]) for item in certificate.get("subjectAltName", ())]
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        days = (ends - datetime.now(UTC)).days
        data |= {"names": names, "issuer": _issuer(certificate), "days_left": days}
        data["expires"] = ends.isoformat()
        text = (
            f"{how}; certificate for {', '.join(names)}, issued by {data['issuer']},"
            f" ends in {days} days ({ends:%Y-%m-%d})"
        )
        if days < DAYS_TO_WARN:
            advice = "Renew the server's certificate: mail stops when it ends"
            return self._done(text, Outcome.WARNING, advice=advice, **data)
        return self._done(text, **data)

    def _auth(self) -> Iterator[Step]:
        self._begin("auth")
        extensions = self._session.extensions
        offered = extensions.mechanisms
        if not self._relay.logs_in:
            yield self._no_auth(offered)
            return
        before = len(self._session.transcript.lines())
        # Who asks for a probe wants to know now, whatever was refused before.
        logins.forget_logins(self._relay)
        self._connection.run(logins.log_in(self._session, self._relay))
        lines = self._session.transcript.lines()[before:]
        tried = [name for name in map(_mechanism, lines) if name]
        used = tried[-1] if tried else "?"
        text = f"logged in as {self._relay.username} by {used}, {self._why(used)}"
        yield self._done(text, mechanism=used, offered=list(offered), tried=tried)

    def _no_auth(self, offered: tuple[str, ...]) -> Step:
        """Without a user: the mechanism that a password would go by."""
        if not offered:
            return self._done("not offered, and no user given", Outcome.SKIPPED, timed=False)
        confidential = self._relay.is_loopback or (self._session.channel.verified)
        anybody = sasl.Credentials("user", Secret("password"))
        ranked = sasl.ranked(offered, anybody, self._session.channel, confidential=confidential)
        if not (confidential or self._relay.allow_insecure_auth):
            ranked = [mechanism for mechanism in ranked if not mechanism.reveals_secret]
        then, chosen = "none of them would carry a password over this connection", None
        if ranked:
            chosen = ranked[0].name
            then = f"a password would go by {chosen}, {self._why(chosen)}"
        text = f"no user given; offered: {', '.join(offered)}; {then}"
        data = {"offered": list(offered), "mechanism": chosen}
        return Step(self._step, Outcome.SKIPPED, text, data=data)

    def _why(self, used: str) -> str:
        known = sasl.MECHANISMS.get(used)
        if known is None or not known.reveals_secret:
            return "which keeps the secret off the wire"
        if self._session.channel.verified:
            return "inside verified TLS"
        return "on this machine" if self._relay.is_loopback else "WITHOUT verified TLS"

    def _rcpt(self) -> Iterator[Step]:
        if self._envelope is None:
            return
        self._begin("mail")
        unicode = self._envelope.needs_smtputf8
        if unicode and not self._session.extensions.offers("SMTPUTF8"):
            raise NotSupported("an address outside ASCII needs SMTPUTF8, which is not offered")
        options = ["SMTPUTF8"] if unicode else []
        reply = self._command(Mail(self._envelope.reverse_path, options, unicode))
        sender = self._envelope.sender or "<>"
        yield self._answered(f"from {sender}", reply)
        if reply.positive:
            for address in self._envelope.forward_paths:
                self._begin("rcpt")
                yield self._answered(str(address), self._command(Rcpt(address, (), unicode)))
        self._connection.run(dialogue.reset(self._session))

    def _command(self, command: Mail | Rcpt) -> Reply:
        return self._connection.run(self._session.command(command))

    def _answered(self, who: str, reply: Reply) -> Step:
        outcome = Outcome.OK if reply.positive else Outcome.FAILED
        advice = None
        if not reply.positive:
            advice = (
                "Try again later: the server may know more then (greylisting)"
                if reply.transient
                else "Check the address, and whether this login may send from it and to it"
            )
        return self._done(f"{who}: {reply}", outcome, advice=advice, code=reply.code)


def _mechanism(line: str) -> str | None:
    _, _, command = line.partition("AUTH ")
    return command.split()[0] if command and line.startswith("C") else None


def _issuer(certificate: dict[str, Any]) -> str:
    fields = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    return str(fields.get("organizationName") or fields.get("commonName") or "an unnamed issuer")

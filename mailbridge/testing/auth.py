"""The AUTH command (RFC 4954)."""

from __future__ import annotations

from base64 import b64encode

from mailbridge.testing.conversation import Conversation
from mailbridge.testing.mechanisms import (
    MECHANISMS,
    SERVER_FIRST,
    Malformed,
    Mechanism,
    Peer,
    decode,
)
from mailbridge.testing.wire import MAX_LINE

_CANCELLED = "501 5.7.0 Authentication cancelled"
_MALFORMED = "501 5.5.2 Bad response"
_SUCCESS = "235 2.7.0 Authentication successful"
_WRONG = "535 5.7.8 Authentication credentials invalid"


def auth(conversation: Conversation, argument: str) -> None:
    """Run an exchange. The script applies to each reply in it, the challenges included."""
    name, _, initial = argument.partition(" ")
    refusal = _refusal(conversation, name)
    exchange = _Exchange(None if refusal else _mechanism(conversation, name), refusal)
    if not refusal:
        _begin(exchange, name, initial)
    while (digit := conversation.answer("AUTH", exchange.reply)) == 3:
        exchange.respond(_read_response(conversation))
    if digit == 2:
        conversation.secret_may_follow = False
        conversation.user = exchange.user or ""


def _refusal(conversation: Conversation, name: str) -> str | None:
    terms = conversation.terms
    if terms.users is None:
        return "502 5.5.1 Command not implemented"
    if terms.auth_needs_tls and not conversation.channel.tls:
        return "538 5.7.11 Encryption is required for authentication"
    if "AUTH" not in conversation.offered():
        return "502 5.5.1 Command not implemented"
    if not conversation.esmtp:
        return "503 5.5.1 Send EHLO first"
    if conversation.user is not None:
        return "503 5.5.1 Already authenticated"
    if conversation.transaction is not None:
        return "503 5.5.1 Not during a mail transaction"
    if not name:
        return "501 5.5.4 Syntax: AUTH mechanism"
    if name.upper() not in map(str.upper, terms.mechanisms) or name.upper() not in MECHANISMS:
        return "504 5.5.4 Mechanism not supported"
    return None


def _begin(exchange: _Exchange, name: str, initial: str) -> None:
    if not initial:
        exchange.begin(None)
    elif name.upper() in SERVER_FIRST:
        exchange.end(_MALFORMED)  # RFC 4954 section 4
    else:
        exchange.begin(initial.encode(errors="surrogateescape"))


def _mechanism(conversation: Conversation, name: str) -> Mechanism:
    mechanisms = map(str.upper, conversation.terms.mechanisms)
    peer = Peer(
        conversation.channel.bindings(conversation.terms.certificate),
        conversation.channel.client_name,
        any(name.endswith("-PLUS") for name in mechanisms),
    )
    return MECHANISMS[name.upper()](conversation.terms.users or {}, peer)


def _read_response(conversation: Conversation) -> bytes:
    line = conversation.channel.read_line()
    shown = "*" if line == b"*\r\n" else "***"
    conversation.record.note(conversation.number, "C:", shown)
    return line


class _Exchange:
    """A mechanism at work. ``reply`` is what to answer next, ``user`` the outcome of success."""

    def __init__(self, mechanism: Mechanism | None, refusal: str | None) -> None:
        self.user: str | None = None
        self.reply = refusal or ""
        self._mechanism = mechanism

    def begin(self, initial: bytes | None) -> None:
        """Take the first step, with the initial response if there is one."""
        assert self._mechanism is not None
        challenge = next(self._mechanism)
        if initial is None:
            self._challenge(challenge)
        else:
            self._step(initial)

    def respond(self, line: bytes) -> None:
        """Take a step with a line that the client sent."""
        if len(line) > MAX_LINE:
            self.end("500 5.5.6 Authentication exchange line is too long")
        elif line == b"*\r\n":
            self.end(_CANCELLED)
        elif not line.endswith(b"\r\n"):
            self.end(_MALFORMED)
        elif self._mechanism is not None:
            self._step(line[:-2])

    def _step(self, response: bytes) -> None:
        assert self._mechanism is not None
        try:
            self._challenge(self._mechanism.send(decode(response)))
        except Malformed:
            self.end(_MALFORMED)
        except StopIteration as outcome:
            self.user = outcome.value
            self.end(_SUCCESS if self.user is not None else _WRONG)

    def _challenge(self, challenge: bytes) -> None:
        self.reply = f"334 {b64encode(challenge).decode()}"

    def end(self, reply: str) -> None:
        """Let ``reply`` be the last one, whatever the client sends."""
        self.reply = reply
        self._mechanism = None

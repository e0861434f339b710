"""Exact conversations: each script at three speeds, against the session and the blocking clients.

The scripts are in ``tests/conversations``; ``format.py`` there says how they are written. A client
is told the steps of a file and must do, line by line, what the script says.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Protocol

import pytest

import mailbridge
from mailbridge import LMTP, SMTP, DeliveryReport, Envelope, MailError, OnRefused, Relay, Transport
from mailbridge.options import Secret
from mailbridge.protocol import auth, delivery, dialogue
from mailbridge.protocol.command import Raw, Rset
from mailbridge.protocol.content import canonical
from mailbridge.protocol.reply import Reply
from mailbridge.protocol.sasl import Credentials
from mailbridge.protocol.session import Session
from mailbridge.report import State
from mailbridge.sendmail import plan
from mailbridge.testing.peer import SPEEDS, ScriptedPeer, Speed
from mailbridge.testing.replay import ReplayServer
from tests.conversations.format import Conversation, Step, all_of_them

CONVERSATIONS = all_of_them()
NAME = "client.example"
USER, PASSWORD = "tim", "tanstaaftanstaaf"  # RFC 2195 section 2
CONTENT = b"Subject: hi\n\nHi.\n"


class Client(Protocol):
    """What is told to do the steps. Returns a code or the states of a mail; may raise."""

    def do(self, step: Step, content: bytes) -> int | str | None: ...


def states(report: DeliveryReport) -> str:
    """``b@y.org accepted, c@y.org refused 550``."""
    shown = []
    for result in report:
        refusal = None if result.state is State.ACCEPTED else result.reply
        code = "" if refusal is None else f" {refusal.code}"
        shown.append(f"{result.address} {result.state}{code}")
    return ", ".join(shown)


def mail_of(step: Step) -> tuple[str | None, list[str], list[str]]:
    """Sender, recipients and options of ``send a@x.org to b@y.org with RET=HDRS``."""
    sender, _, *rest = step.arguments
    at = rest.index("with") if "with" in rest else len(rest)
    return None if sender == "<>" else sender, rest[:at], rest[at + 1 :]


class BySession:
    """The session with its dialogues; no socket."""

    def __init__(self, conversation: Conversation, peer: ScriptedPeer) -> None:
        self.session = Session(lmtp="lmtp" in conversation.flags)
        self.peer = peer

    def do(self, step: Step, content: bytes) -> int | str | None:
        result: Any = self.peer.run(self.session, self.dialogue(step, content))
        if isinstance(result, DeliveryReport):
            failure = result.failure(OnRefused.RAISE_IF_ALL)
            if failure is not None:
                failure.report = result
                raise failure
            return states(result)
        return result.code if isinstance(result, Reply) else None

    def dialogue(self, step: Step, content: bytes) -> Any:
        session = self.session
        match step.verb:
            case "connect":
                return dialogue.greet(session)
            case "hello":
                return dialogue.hello(session, NAME)
            case "ehlo":
                return dialogue.ehlo(session, NAME)
            case "starttls":
                return dialogue.starttls(session)
            case "login":
                return auth.login(
                    session,
                    Credentials(USER, Secret(PASSWORD)),
                    confidential=session.tls,
                    initial=not step.arguments,
                )
            case "send":
                sender, recipients, options = mail_of(step)
                mail = plan(session, Envelope(sender, recipients), canonical(content), options)
                return delivery.deliver(session, mail)
            case "rset":
                return session.command(Rset())
            case "quit":
                return dialogue.quit_(session)
        return session.command(Raw(step.verb.upper()))


class BySMTP:
    """`SMTP` or `LMTP`, command by command."""

    def __init__(self, conversation: Conversation, port: int) -> None:
        self.port = port
        self.smtp = (LMTP if "lmtp" in conversation.flags else SMTP)(local_hostname=NAME, timeout=3)

    def do(self, step: Step, content: bytes) -> int | str | None:
        smtp = self.smtp
        match step.verb:
            case "connect":
                return smtp.connect("127.0.0.1", self.port)[0]
            case "hello":
                return smtp.ehlo_or_helo_if_needed()
            case "login":
                return smtp.login(USER, PASSWORD, initial_response_ok=not step.arguments)[0]
            case "send":
                sender, recipients, options = mail_of(step)
                refused = smtp.sendmail(sender, recipients, content, options)
                state = {4: State.DEFERRED, 5: State.REFUSED}
                return ", ".join(
                    f"{a} {state[refused[a][0] // 100]} {refused[a][0]}"
                    if a in refused
                    else f"{a} {State.ACCEPTED}"
                    for a in recipients
                )
        code: int = getattr(smtp, step.verb)()[0]
        return code

    def close(self) -> None:
        self.smtp.close()


class ByTransport:
    """`Transport`, which connects, greets and logs in by itself."""

    def __init__(self, conversation: Conversation, port: int) -> None:
        opening = [s for s in conversation.steps if s.verb in ("connect", "hello", "login")]
        login = any(s.verb == "login" for s in opening)
        self.transport = Transport(
            Relay(
                host="127.0.0.1",
                port=port,
                tls="none",
                local_hostname=NAME,
                lmtp="lmtp" in conversation.flags,
                username=USER if login else None,
                password=PASSWORD if login else None,
                allow_insecure_auth=True,
            ),
            on_refused=OnRefused.RAISE_IF_ALL,
        )
        refused = [step for step in opening if step.error]
        # A mail of its own has its own connection; a kept one would be replaced when it is lost.
        single = sum(step.verb == "send" for step in conversation.steps) == 1
        self.last_to_open = refused[0] if refused else None if single else opening[-1]

    def do(self, step: Step, content: bytes) -> int | str | None:
        if step is self.last_to_open:
            self.transport.open()
        elif step.verb == "send":
            sender, recipients, _ = mail_of(step)
            return states(self.transport.send(Envelope(sender, recipients), content))
        elif step.verb == "quit":
            self.transport.close()
        return None

    def close(self) -> None:
        self.transport.close()
        mailbridge.close_pools()


def check(client: Client, step: Step, content: bytes) -> None:
    """Do one step and compare what comes of it."""
    result: int | str | None = None
    error: MailError | None = None
    try:
        result = client.do(step, content)
    except MailError as exc:
        error = exc
        result = exc.report and states(exc.report)
    wanted, _, code = (step.error or "None").partition(" ")
    kind = "None" if error is None else type(error).__name__
    assert kind in wanted.split("|"), f"{step}: {error!r} {result}"
    if code:
        assert getattr(error, "smtp_code", None) == int(code), str(error)
    if step.result is not None and result is not None:
        assert str(result) == step.result


def walk(client: Client, conversation: Conversation) -> None:
    content = CONTENT
    for step in conversation.steps:
        if step.verb == "body":
            text = " ".join(step.arguments)
            content = text.encode().decode("unicode_escape").encode("latin-1")
        else:
            check(client, step, content)


def chosen(*flags: str, without: str = "") -> list[Any]:
    chosen = []
    for conversation in CONVERSATIONS:
        if conversation.flags.issuperset(flags) and without not in conversation.flags:
            for speed in SPEEDS:
                # What comes in one piece with an answer is told from what comes later.
                if speed == "whole" or "whole" not in conversation.flags:
                    chosen.append(
                        pytest.param(conversation, speed, id=f"{conversation.name}-{speed}")
                    )
    return chosen


@pytest.mark.parametrize(("conversation", "speed"), chosen())
def test_session(conversation: Conversation, speed: Speed) -> None:
    peer = ScriptedPeer(conversation.script, speed)
    walk(BySession(conversation, peer), conversation)
    peer.finish()


@pytest.mark.parametrize(("conversation", "speed"), chosen(without="session"))
def test_smtp(conversation: Conversation, speed: Speed) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(ReplayServer(ScriptedPeer(conversation.script, speed)))
        client = BySMTP(conversation, port.port)
        stack.callback(client.close)
        walk(client, conversation)


@pytest.mark.parametrize(("conversation", "speed"), chosen("transport"))
def test_transport(conversation: Conversation, speed: Speed) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(ReplayServer(ScriptedPeer(conversation.script, speed)))
        client = ByTransport(conversation, port.port)
        stack.callback(client.close)
        walk(client, conversation)

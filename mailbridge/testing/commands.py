"""The commands of a session: which there are, when they may come, what each one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mailbridge.testing.auth import auth
from mailbridge.testing.content import bdat, data
from mailbridge.testing.conversation import Conversation, HangUp, Transaction
from mailbridge.testing.syntax import Path, Unacceptable, check_mail, check_rcpt, parse
from mailbridge.testing.wire import MAX_LINE

# RFC 5321 section 4.5.3.1.4; extensions lengthen MAIL and RCPT (RFC 3461, 4954, 6531).
_COMMAND_LIMIT: Final = 512
_LIMITS: Final = {"MAIL": 2048, "RCPT": 2048}

_WITHOUT_TLS: Final = {"EHLO", "LHLO", "NOOP", "STARTTLS", "QUIT"}  # RFC 3207 section 4
# RFC 4954 section 6. BDAT has to read its octets before it can be refused.
_WITHOUT_AUTH: Final = _WITHOUT_TLS | {"HELO", "AUTH", "RSET", "HELP", "BDAT"}


def session(conversation: Conversation, *, busy: bool) -> Iterator[None]:
    """The steps of a session: greet, then one command each. They end by an exception."""
    greet(conversation, busy=busy)
    while True:
        yield
        command(conversation)


def greet(conversation: Conversation, *, busy: bool) -> None:
    """Greet the client, under implicit TLS after the handshake; refuse it when ``busy``."""
    terms = conversation.terms
    service = "LMTP" if terms.lmtp else "ESMTP"
    greeting = "421 4.7.0 Too many connections" if busy else f"220 {terms.hostname} {service}"
    plan = conversation.decide(("GREETING",), greeting)
    if terms.implicit_tls and plan.drop != "before":
        conversation.start_tls()
    conversation.perform(plan)
    conversation.refusing = plan.digit in (4, 5)


def command(conversation: Conversation) -> None:
    """Read one command and answer it."""
    line = conversation.channel.read_line()
    verb, _, argument = line.rstrip(b"\r\n").decode(errors="surrogateescape").partition(" ")
    verb = verb.upper()
    _note(conversation, verb, line)
    limit = conversation.script.max_messages
    if limit is not None and conversation.accepted >= limit:
        raise HangUp(f"dropped after {limit} messages")
    run = _verbs(conversation).get(verb)
    if (error := _malformed(verb, line)) is not None:
        conversation.say(error)
    elif run is None:
        conversation.say("500 5.5.2 Command unrecognized")
    elif (refusal := _barred(conversation, verb)) is not None:
        conversation.answer(verb, refusal)
    else:
        run(conversation, argument)


def _note(conversation: Conversation, verb: str, line: bytes) -> None:
    """Write the command to the transcript, without secrets."""
    if verb.startswith("AUTH"):
        words = line.split(None, 2)
        line = b" ".join([*words[:2], b"***"] if len(words) > 2 else words)
        conversation.secret_may_follow = True
    elif verb in _COMMANDS:
        conversation.secret_may_follow = False
    elif conversation.secret_may_follow:
        line = b"***"  # a response that comes after the server has given up AUTH
    conversation.record.note(conversation.number, "C:", line)


def _malformed(verb: str, line: bytes) -> str | None:
    if len(line) > min(_LIMITS.get(verb, _COMMAND_LIMIT), MAX_LINE):
        return "500 5.5.6 Line too long" if verb == "AUTH" else "500 5.5.2 Line too long"
    if not line.endswith(b"\r\n") or any(octet in line[:-2] for octet in b"\r\0"):
        return "500 5.5.2 Lines end in CRLF and have no CR or NUL"  # RFC 5321 section 2.3.8
    return None


def _barred(conversation: Conversation, verb: str) -> str | None:
    """The reply to a command that may not come now, whatever its argument."""
    terms = conversation.terms
    if conversation.refusing and verb != "QUIT":  # RFC 5321 section 3.1
        return "503 5.5.1 No service here"
    if terms.require_tls and not conversation.channel.tls and verb not in _WITHOUT_TLS:
        return "530 5.7.0 Must issue a STARTTLS command first"
    if terms.require_auth and conversation.user is None and verb not in _WITHOUT_AUTH:
        return "530 5.7.0 Authentication required"
    return None


# -- session


def ehlo(conversation: Conversation, argument: str, verb: str = "EHLO") -> None:
    """EHLO, and LHLO of LMTP (RFC 2033)."""
    keywords = conversation.offered().values()
    lines = [f"{conversation.terms.hostname} greets you", *keywords]
    reply = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}"
    _hello(conversation, verb, argument, reply)


def lhlo(conversation: Conversation, argument: str) -> None:
    ehlo(conversation, argument, "LHLO")


def helo(conversation: Conversation, argument: str) -> None:
    _hello(conversation, "HELO", argument, f"250 {conversation.terms.hostname}")


def _hello(conversation: Conversation, verb: str, argument: str, reply: str) -> None:
    # RFC 6531 section 3.7.1: the name is ASCII, under SMTPUTF8 too.
    if not argument or not argument.isascii() or " " in argument:
        reply = f"501 5.5.4 Syntax: {verb} hostname"
    if conversation.answer(verb, reply) == 2:
        conversation.helo = argument
        conversation.esmtp = verb != "HELO"
        conversation.transaction = None  # RFC 5321 section 4.1.4


def starttls(conversation: Conversation, argument: str) -> None:
    """RFC 3207."""
    if conversation.channel.tls:
        reply = "503 5.5.1 TLS is in use already"
    elif "STARTTLS" not in conversation.offered():
        reply = "502 5.5.1 Command not implemented"
    elif argument:
        reply = "501 5.5.4 STARTTLS has no argument"
    elif not conversation.esmtp:
        reply = "503 5.5.1 Send EHLO first"
    else:
        reply = "220 2.0.0 Ready to start TLS"
    if conversation.answer("STARTTLS", reply) == 2 and not conversation.channel.tls:
        conversation.start_tls()


def quit_(conversation: Conversation, argument: str) -> None:
    if argument:
        conversation.answer("QUIT", "501 5.5.4 QUIT has no argument")
        return
    conversation.leave()  # before the reply: the client may connect again as soon as it has it
    conversation.answer("QUIT", "221 2.0.0 Bye")
    raise HangUp("QUIT")


def rset(conversation: Conversation, argument: str) -> None:
    reply = "501 5.5.4 RSET has no argument" if argument else "250 2.0.0 Ok"
    if conversation.answer("RSET", reply) == 2:
        conversation.transaction = None


def noop(conversation: Conversation, argument: str) -> None:
    conversation.answer("NOOP", "250 2.0.0 Ok")


def help_(conversation: Conversation, argument: str) -> None:
    conversation.answer("HELP", f"214 2.0.0 {' '.join(_verbs(conversation))}")


def vrfy(conversation: Conversation, argument: str) -> None:
    reply = "252 2.5.2 Send some mail, it may be delivered"
    conversation.answer("VRFY", reply if argument else "501 5.5.4 Syntax: VRFY address")


def expn(conversation: Conversation, argument: str) -> None:
    conversation.answer("EXPN", "502 5.5.1 Command not implemented")


# -- transaction


def mail(conversation: Conversation, argument: str) -> None:
    """RFC 5321 section 4.1.1.2."""
    path, reply = Path(argument), "250 2.1.0 Ok"
    try:
        path = parse("FROM:", argument)
        _check_mail(conversation, path)
    except Unacceptable as refusal:
        reply = str(refusal)
    if conversation.answer("MAIL", _mail_out_of_sequence(conversation) or reply) == 2:
        conversation.transaction = Transaction(path.address, path.parameters)


def _mail_out_of_sequence(conversation: Conversation) -> str | None:
    if not conversation.helo:
        return "503 5.5.1 Send EHLO first"
    if conversation.transaction is not None:
        return "503 5.5.1 Nested MAIL command"
    return None


def _check_mail(conversation: Conversation, path: Path) -> None:
    check_mail(path, conversation.may_use())
    limit, size = conversation.script.max_size, path.value("SIZE")
    if size and limit is not None and int(size) > limit:
        raise Unacceptable("552 5.3.4 Message exceeds the size limit")


def rcpt(conversation: Conversation, argument: str) -> None:
    """RFC 5321 section 4.1.1.3."""
    transaction, path = conversation.transaction, Path(argument)
    try:
        path = parse("TO:", argument)
        reply = _rcpt_out_of_sequence(transaction) or _judge_rcpt(conversation, path)
    except Unacceptable as refusal:
        reply = _rcpt_out_of_sequence(transaction) or str(refusal)
    plan = conversation.decide(("RCPT",), reply, [path.address])
    if transaction is not None and plan.digit == 2:
        transaction.recipients.append(path.address)
        transaction.rcpt_parameters[path.address] = path.parameters
    elif transaction is not None:
        transaction.refused[path.address] = plan.first_line
    conversation.perform(plan)


def _rcpt_out_of_sequence(transaction: Transaction | None) -> str | None:
    if transaction is None:
        return "503 5.5.1 Send MAIL first"
    return "503 5.5.1 RCPT after BDAT" if transaction.chunks is not None else None


def _judge_rcpt(conversation: Conversation, path: Path) -> str:
    transaction, script = conversation.transaction, conversation.script
    assert transaction is not None
    check_rcpt(path, conversation.may_use(), utf8=transaction.has("SMTPUTF8"))
    if script.max_recipients is not None and len(transaction.recipients) >= script.max_recipients:
        return "452 4.5.3 Too many recipients"
    if script.greylisted(transaction.mail_from, path.address):
        return "450 4.2.0 Greylisted, try again later"
    return "250 2.1.5 Ok"


Command = Callable[[Conversation, str], None]
_COMMANDS: Final[dict[str, Command]] = {
    "EHLO": ehlo,
    "HELO": helo,
    "LHLO": lhlo,
    "STARTTLS": starttls,
    "AUTH": auth,
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "BDAT": bdat,
    "RSET": rset,
    "NOOP": noop,
    "VRFY": vrfy,
    "EXPN": expn,
    "HELP": help_,
    "QUIT": quit_,
}


def _verbs(conversation: Conversation) -> dict[str, Command]:
    """The commands of this protocol: LMTP has LHLO in the place of EHLO and HELO."""
    other = {"EHLO", "HELO"} if conversation.terms.lmtp else {"LHLO"}
    return {verb: run for verb, run in _COMMANDS.items() if verb not in other}

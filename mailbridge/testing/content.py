"""The DATA and BDAT commands, and the delivery of what they bring."""

from __future__ import annotations

import re
from typing import Final

from mailbridge.testing.conversation import Conversation, HangUp, Transaction
from mailbridge.testing.record import ReceivedMessage
from mailbridge.testing.script import Plan

_END: Final = b"\r\n.\r\n"
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_NO_MAIL: Final = "503 5.5.1 Send MAIL first"
_NO_RECIPIENTS: Final = "554 5.5.1 No valid recipients"
_TOO_BIG: Final = "552 5.3.4 Message exceeds the size limit"


def data(conversation: Conversation, argument: str) -> None:
    """RFC 5321 section 4.1.1.4."""
    transaction = conversation.transaction
    if argument:
        refusal: str | None = "501 5.5.4 DATA has no argument"
    elif transaction is not None and transaction.chunks is not None:
        refusal = "503 5.5.1 DATA and BDAT do not mix"  # RFC 3030 section 2
    elif transaction is not None and transaction.has("BODY=BINARYMIME"):
        refusal = "503 5.5.1 BINARYMIME needs BDAT"  # RFC 3030 section 3
    else:
        refusal = _out_of_sequence(conversation)
    if conversation.answer("DATA", refusal or "354 End data with <CR><LF>.<CR><LF>") != 3:
        return
    answered = _in_content(conversation)
    content = _read_dotted(conversation)
    _note_octets(conversation, len(content))
    _finish(conversation, content, answered=answered)


def bdat(conversation: Conversation, argument: str) -> None:
    """RFC 3030 section 2. The octets of a refused chunk are read and forgotten."""
    match = re.fullmatch(r"(\d{1,18})( LAST)?", argument, re.IGNORECASE)
    if match is None or "CHUNKING" not in conversation.offered():
        refusal = "501 5.5.4 Syntax: BDAT size [LAST]"
        if match is not None:
            refusal = "502 5.5.1 Command not implemented"
        conversation.answer("BDAT", refusal)
        return
    size, last = int(match[1]), match[2] is not None
    answered = _in_content(conversation) if size else False
    chunk = _read_exactly(conversation, size)
    _note_octets(conversation, size)
    transaction = conversation.transaction
    refused = _out_of_sequence(conversation)
    if refused is None and transaction is not None:
        refused = _add_chunk(conversation, transaction, chunk)
    if last and refused is None and transaction is not None:
        content = bytes(transaction.chunks or b"")
        _finish(conversation, content, points=("BDAT", "CONTENT"), answered=answered)
    elif not answered:
        points = ("BDAT", "CONTENT") if last else ("BDAT",)
        plan = conversation.decide(points, refused or f"250 2.0.0 {size} octets received")
        if transaction is not None:
            transaction.chunk_refused |= plan.digit != 2
        conversation.perform(plan)


def _out_of_sequence(conversation: Conversation) -> str | None:
    transaction = conversation.transaction
    if transaction is None:
        return _NO_MAIL
    if not transaction.recipients:
        # RFC 2033 section 4.2 wants 503 from LMTP.
        return "503 5.5.1 No valid recipients" if conversation.terms.lmtp else _NO_RECIPIENTS
    return None


def _add_chunk(conversation: Conversation, transaction: Transaction, chunk: bytes) -> str | None:
    if transaction.chunk_refused:
        return "503 5.5.1 A chunk was refused before"
    if transaction.chunks is None:
        transaction.chunks = bytearray()
    transaction.chunks += chunk
    limit = conversation.script.max_size
    return _TOO_BIG if limit is not None and len(transaction.chunks) > limit else None


# -- reading


def _in_content(conversation: Conversation) -> bool:
    """Do what the script has for the middle of the content; say whether that was a reply."""
    plan = conversation.decide(("IN_CONTENT",), "")
    if plan == Plan(b""):
        return False
    conversation.channel.unread(conversation.channel.read_some(1))
    if plan.silent:
        conversation.pause(conversation.terms.idle_timeout)
        raise HangUp("silent in the content")
    conversation.perform(plan)
    return bool(plan.reply)


def _read_dotted(conversation: Conversation) -> bytes:
    channel = conversation.channel
    # The content begins at the start of a line, so that a lone dot ends an empty one.
    received, searched = bytearray(b"\r\n"), 0
    while (end := received.find(_END, searched)) < 0:
        searched = max(0, len(received) - len(_END) + 1)
        received += channel.read_some()
    channel.unread(bytes(received[end + len(_END) :]))
    # RFC 5321 section 4.5.2: the first dot of a line that has more is not part of it.
    return bytes(received[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]


def _read_exactly(conversation: Conversation, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += conversation.channel.read_some(size - len(received))
    return bytes(received)


def _note_octets(conversation: Conversation, size: int) -> None:
    conversation.record.note(conversation.number, "C:", f"<{size} octets of content>")


# -- delivering


def _finish(
    conversation: Conversation,
    content: bytes,
    *,
    points: tuple[str, ...] = ("CONTENT",),
    answered: bool = False,
) -> None:
    """Record the message if it is accepted, then reply: who has the reply finds the record."""
    transaction, conversation.transaction = conversation.transaction, None
    reply = _judge(conversation, transaction, content)
    recipients = transaction.recipients if transaction else []
    if conversation.terms.lmtp and transaction:  # RFC 2033 section 4.2: a reply for each
        plans = [conversation.decide(points, reply, [rcpt]) for rcpt in recipients]
    else:
        plans = [conversation.decide(points, reply, recipients)]
    if answered:  # the reply came in the middle already, and it was not an acceptance
        return
    if transaction and recipients:
        _record(conversation, transaction, content, plans)
    for plan in plans:
        conversation.perform(plan)


def _judge(conversation: Conversation, transaction: Transaction | None, content: bytes) -> str:
    if transaction is None or not transaction.recipients:
        return _NO_RECIPIENTS
    limit = conversation.script.max_size
    if limit is not None and len(content) > limit:
        return _TOO_BIG
    binary = transaction.has("BODY=BINARYMIME")
    if conversation.terms.strict_content and not binary and _BARE.search(content):
        return "554 5.6.0 Bare CR or LF in content"  # RFC 5321 section 2.3.8
    queue_id = f"{conversation.number:04X}{conversation.accepted + 1:04X}"
    return f"250 2.0.0 Ok: queued as {queue_id}"


def _record(
    conversation: Conversation, transaction: Transaction, content: bytes, plans: list[Plan]
) -> None:
    if not conversation.terms.lmtp:
        plans = plans * len(transaction.recipients)
    pairs = list(zip(transaction.recipients, plans, strict=True))
    accepted = tuple(recipient for recipient, plan in pairs if plan.digit == 2)
    if not accepted:
        return
    refused = {rcpt: plan.first_line for rcpt, plan in pairs if plan.digit != 2}
    conversation.accepted += 1
    conversation.record.accept(
        ReceivedMessage(
            mail_from=transaction.mail_from,
            mail_parameters=transaction.parameters,
            recipients=accepted,
            rcpt_parameters=transaction.rcpt_parameters,
            refused=transaction.refused | refused,
            content=content,
            tls=conversation.channel.tls,
            user=conversation.user,
            helo=conversation.helo,
            connection=conversation.number,
        )
    )

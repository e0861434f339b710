"""Groups of commands (RFC 2920) and chunks (RFC 3030): what becomes of each recipient."""

from __future__ import annotations

import contextlib

import pytest

from mailbridge import (
    DeliveryInDoubt,
    DeliveryReport,
    Disconnected,
    Envelope,
    MessageRefused,
    ProtocolViolation,
    RecipientsRefused,
    ReplyTimeout,
    SenderRefused,
)
from mailbridge.protocol import delivery, dialogue
from mailbridge.protocol.command import Need
from mailbridge.protocol.content import Buffer
from mailbridge.protocol.session import Session
from mailbridge.protocol.transaction import MailTransaction
from mailbridge.testing import ScriptedPeer

GROUP = "C: MAIL FROM:<a@x.org>\nC: RCPT TO:<b@x.org>\nC: RCPT TO:<c@x.org>\nC: DATA\n"
NO_DATA = GROUP.removesuffix("C: DATA\n")
CONTENT = "C: (content) x\\r\\n\n"
RESET = "C: RSET\nS: 250 Ok\n"


def greeted(script: str, speed: str = "whole") -> tuple[Session, ScriptedPeer]:
    session = Session()
    hello = "S: 220 mx\nC: EHLO me\nS: 250-mx\nS: 250 PIPELINING\n"
    peer = ScriptedPeer(hello + script, speed)
    peer.run(session, dialogue.greet(session))
    peer.run(session, dialogue.hello(session, "me"))
    return session, peer


def mail(*recipients: str, content: bytes = b"x\r\n", **options: object) -> MailTransaction:
    transaction = MailTransaction(
        Envelope("a@x.org", recipients or ("b@x.org", "c@x.org")), Buffer(content)
    )
    for name, value in options.items():
        setattr(transaction, name, value)
    return transaction


def outcome(report: DeliveryReport) -> list[str]:
    return [str(result.state) for result in report]


ACCEPTED = ["accepted", "accepted"]
LEFT = ["not_attempted", "not_attempted"]
ROWS = {
    "all accepted": (
        "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n",
        ACCEPTED,
        None,
    ),
    "some refused": (
        "S: 250 Ok\nS: 550 No\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 259 Ok\n",
        ["refused", "accepted"],
        None,
    ),
    "sender refused": (
        "S: 550 No\nS: 503 Bad\nS: 503 Bad\nS: 503 Bad\n" + RESET,
        ["refused", "refused"],
        SenderRefused,
    ),
    "sender refused, yet 354": (
        "S: 451 Later\nS: 503 Bad\nS: 503 Bad\nS: 354 Go\nC: .\nS: 554 No\n" + RESET,
        ["deferred", "deferred"],
        SenderRefused,
    ),
    # A lone dot would deliver an empty mail to the one that was accepted.
    "sender refused, yet a recipient accepted and 354": (
        "S: 550 No\nS: 250 Ok\nS: 503 Bad\nS: 354 Go\n",
        ["refused", "refused"],
        SenderRefused,
    ),
    "nobody accepted": (
        "S: 250 Ok\nS: 550 No\nS: 451 Later\nS: 503 Bad\n" + RESET,
        ["refused", "deferred"],
        None,
    ),
    # RFC 2920 section 3.1: a lone dot, whatever the answer to it.
    "nobody accepted, yet 354": (
        "S: 250 Ok\nS: 550 No\nS: 550 No\nS: 354 Go\nC: .\nS: 250 Ok\n" + RESET,
        ["refused", "refused"],
        None,
    ),
    "DATA refused": (
        "S: 250 Ok\nS: 250 Ok\nS: 550 No\nS: 451 Later\n" + RESET,
        ["deferred", "refused"],
        MessageRefused,
    ),
    "421 to MAIL": ("S: 421 Bye\nS: (close)\n", LEFT, SenderRefused),
    "421 to a recipient": (
        "S: 250 Ok\nS: 550 No\nS: 421 Bye\nS: (close)\n",
        ["refused", "not_attempted"],
        Disconnected,
    ),
    "421 to DATA": ("S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 421 Bye\n", LEFT, MessageRefused),
    "lost in the group": ("S: 250 Ok\nS: (close)\n", LEFT, Disconnected),
    "garbage": ("S: 250 Ok\nS: what\n", LEFT, ProtocolViolation),
    "codes that differ": ("S: 250 Ok\nS: 250-Ok\nS: 550 No\n", LEFT, ProtocolViolation),
    "more replies than commands": (
        "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nS: 250 Ok\n",
        LEFT,
        ProtocolViolation,
    ),
    "content refused": (
        "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 554 No\n",
        ["refused", "refused"],
        MessageRefused,
    ),
    "lost after the content": (
        "S: 250 Ok\nS: 550 No\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: (close)\n",
        ["refused", "in_doubt"],
        DeliveryInDoubt,
    ),
    "garbage after the content": (
        "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: what\n",
        ["in_doubt", "in_doubt"],
        DeliveryInDoubt,
    ),
}


@pytest.mark.parametrize("speed", ["whole", "lines", "bytes"])
@pytest.mark.parametrize("row", ROWS)
def test_group(row: str, speed: str) -> None:
    script, states, error = ROWS[row]
    session, peer = greeted(GROUP + script, speed)
    report = peer.run(session, delivery.deliver(session, mail()))
    assert outcome(report) == states
    assert type(report.error) is (error or type(None))
    ended = error in (Disconnected, ProtocolViolation, DeliveryInDoubt) or "421" in row
    ended = ended or "recipient accepted and 354" in row
    assert session.usable is not ended
    assert session.usable is not session.in_transaction or ended
    if "accepted" not in states:
        assert isinstance(report.failure(), error or RecipientsRefused)


def test_data_refused_behind_a_content_is_reset() -> None:
    """The transaction that was begun behind a content is open, though that one's has ended."""
    one = "C: MAIL FROM:<a@x.org>\nC: RCPT TO:<b@x.org>\nC: DATA\n"
    yes = "S: 250 Ok\nS: 250 Ok\n"
    session, peer = greeted(
        one + yes + "S: 354 Go\n" + CONTENT + one + "S: 250 Ok\n" + yes + "S: 450 No\n" + RESET
    )
    first, second = mail("b@x.org"), mail("b@x.org")
    assert outcome(peer.run(session, delivery.deliver(session, first, second))) == ["accepted"]
    assert outcome(peer.run(session, delivery.deliver(session, second))) == ["deferred"]
    assert not session.in_transaction
    peer.finish()


def test_abort_keeps_data_out_of_the_group() -> None:
    session, peer = greeted(NO_DATA + "S: 250 Ok\nS: 250 Ok\nS: 550 No\n" + RESET)
    report = peer.run(session, delivery.deliver(session, mail(all_or_nothing=True)))
    assert outcome(report) == ["not_attempted", "refused"]
    peer.finish()


@pytest.mark.parametrize(
    "reply", ["452 4.5.3 Too many", "552 5.5.3 Too many", "452 Too many", "552 Too many"]
)
def test_too_many_recipients_go_into_another_transaction(reply: str) -> None:
    """RFC 5321 section 4.5.3.1.10: 552 here is a 452."""
    one = "C: MAIL FROM:<a@x.org>\nC: RCPT TO:<c@x.org>\nC: DATA\n"
    session, peer = greeted(
        GROUP + f"S: 250 Ok\nS: 250 Ok\nS: {reply}\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n"
        + one + "S: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n"
    )  # fmt: skip
    assert outcome(peer.run(session, delivery.deliver(session, mail()))) == ACCEPTED
    peer.finish()


@pytest.mark.parametrize("reply", ["452 4.2.2 Full", "552 5.2.2 Full"])
def test_a_full_mailbox_is_not_too_many(reply: str) -> None:
    script = f"S: 250 Ok\nS: 250 Ok\nS: {reply}\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n"
    session, peer = greeted(GROUP + script)
    states = outcome(peer.run(session, delivery.deliver(session, mail())))
    assert states == ["accepted", "deferred" if reply.startswith("4") else "refused"]
    peer.finish()


def test_recipients_over_the_limit_go_into_another_transaction() -> None:
    """RCPTMAX of LIMITS (RFC 9422)."""
    script = "".join(
        f"C: MAIL FROM:<a@x.org>\nC: RCPT TO:<{name}@x.org>\nC: DATA\nS: 250 Ok\nS: 250 Ok\n"
        f"S: 354 Go\n{CONTENT}S: 250 Ok\n"
        for name in "bc"
    )
    session, peer = greeted(script)
    report = peer.run(session, delivery.deliver(session, mail(max_recipients=1)))
    assert outcome(report) == ACCEPTED
    peer.finish()


def test_the_next_group_goes_out_behind_the_content() -> None:
    session = Session()
    session.extensions["pipelining"] = ""
    first, second = mail("b@x.org"), mail("c@x.org")
    deliver = delivery.deliver(session, first, second)
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    next(deliver)
    assert written(session) == (b"x\r\n.\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<c@x.org>\r\nDATA\r\n")
    session.receive_data(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert done.value.value.accepted == ("b@x.org",)
    assert second.begun
    deliver = delivery.deliver(session, second)
    next(deliver)
    assert written(session) == b"x\r\n.\r\n"
    session.receive_data(b"250 Ok\r\n")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert done.value.value.accepted == ("c@x.org",)
    assert session.usable


def test_quit_goes_out_behind_the_last_content() -> None:
    session = Session()
    session.extensions["pipelining"] = ""
    deliver = delivery.deliver(session, mail("b@x.org"), last=True)
    next(deliver)
    assert b"QUIT" not in written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    next(deliver)
    assert written(session) == b"x\r\n.\r\nQUIT\r\n"
    session.receive_data(b"250 Ok\r\n")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert done.value.value.accepted == ("b@x.org",)
    assert not session.usable  # QUIT is not answered


def test_no_quit_before_the_last_round() -> None:
    """Recipients that the server wants in another transaction go before it."""
    session = Session()
    session.extensions["pipelining"] = ""
    deliver = delivery.deliver(session, mail(), last=True)
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n452 4.5.3 Too many\r\n354 Go\r\n")
    next(deliver)
    assert written(session) == b"x\r\n.\r\n"
    session.receive_data(b"250 Ok\r\n")
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    next(deliver)
    assert written(session) == b"x\r\n.\r\nQUIT\r\n"


def test_a_group_that_was_begun_is_not_in_doubt() -> None:
    """The connection is lost behind the first content: it is in doubt, the next was not sent."""
    session = Session()
    session.extensions["pipelining"] = ""
    first, second = mail("b@x.org"), mail("c@x.org")
    deliver = delivery.deliver(session, first, second)
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    next(deliver)
    written(session)
    session.receive_data(b"")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert done.value.value.in_doubt == ("b@x.org",)
    with pytest.raises(StopIteration) as done:
        next(delivery.deliver(session, second))
    assert done.value.value.not_attempted == ("c@x.org",)


def written(session: Session) -> bytes:
    data = session.data_to_send()
    session.sending(len(data))
    session.sent(len(data))
    return data


# -- chunks


def chunked(script: str) -> tuple[Session, ScriptedPeer]:
    session, peer = greeted(script)
    session.extensions["chunking"] = ""
    return session, peer


def test_content_by_bdat_is_as_it_is() -> None:
    script = "S: 250 Ok\nS: 250 Ok\nS: 550 No\nC: BDAT 6 LAST\nC: .x\nC: \nS: 250 Ok\n"
    session, peer = chunked(NO_DATA + script)
    report = peer.run(session, delivery.deliver(session, mail(content=b".x\r\n\r\n", by_bdat=True)))
    assert outcome(report) == ["accepted", "refused"]
    peer.finish()


def test_nobody_accepted_sends_no_chunk() -> None:
    session, peer = chunked(NO_DATA + "S: 250 Ok\nS: 550 No\nS: 550 No\n" + RESET)
    report = peer.run(session, delivery.deliver(session, mail(by_bdat=True)))
    assert outcome(report) == ["refused", "refused"]
    peer.finish()


def test_a_refused_chunk_is_followed_by_rset() -> None:
    """RFC 3030 section 2: the chunks on their way are answered, no more are sent, then RSET."""
    session = Session()
    session.extensions.update(pipelining="", chunking="")
    size = delivery.CHUNK * (delivery.CHUNKS_IN_FLIGHT + 3)
    content = b"\r\n" * (size // 2)
    deliver = delivery.deliver(session, mail("b@x.org", content=content, by_bdat=True))
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n")
    next(deliver)
    sent = b""
    while data := written(session):
        sent += data
    assert sent.count(b"BDAT ") == delivery.CHUNKS_IN_FLIGHT
    session.receive_data(
        b"552 5.3.4 Too big\r\n" + b"503 Bad\r\n" * (delivery.CHUNKS_IN_FLIGHT - 1)
    )
    next(deliver)
    assert written(session) == b"RSET\r\n"
    session.receive_data(b"250 Ok\r\n")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    report = done.value.value
    assert report.refused == ("b@x.org",)
    assert report["b@x.org"].reply.code == 552
    assert session.usable


def test_chunks_wait_for_each_other_without_pipelining() -> None:
    """RFC 2920 section 3.1: a server that does not offer it gets one command at a time."""
    session = Session()
    session.extensions.update(chunking="")
    content = b"\r\n" * delivery.CHUNK
    deliver = delivery.deliver(session, mail("b@x.org", content=content, by_bdat=True))
    next(deliver)
    sent = []
    for reply in (b"250 Ok\r\n",) * 4:
        octets = b""
        while data := written(session):
            octets += data
        sent.append(octets[:5])
        session.receive_data(reply)
        with contextlib.suppress(StopIteration):
            next(deliver)
    assert sent == [b"MAIL ", b"RCPT ", b"BDAT ", b"BDAT "]
    assert session.usable


def test_nobody_waits_long_behind_a_refused_chunk() -> None:
    """The refusal stands: a server that says no more costs its connection, and not a minute."""
    session = Session()
    session.extensions.update(pipelining="", chunking="")
    content = b"\r\n" * (2 * delivery.CHUNK)
    deliver = delivery.deliver(session, mail("b@x.org", content=content, by_bdat=True))
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n")
    next(deliver)
    while written(session):
        pass
    session.receive_data(b"552 5.3.4 Too big\r\n")
    assert next(deliver) is Need.GOODBYE
    with pytest.raises(StopIteration) as done:
        deliver.throw(ReplyTimeout("timed out"))
    assert done.value.value.refused == ("b@x.org",)
    assert not session.usable


def test_what_follows_a_chunk_begins_with_rset() -> None:
    session = Session()
    session.extensions.update(pipelining="", chunking="")
    first, second = (mail(f"{name}@x.org", by_bdat=True) for name in "bc")
    deliver = delivery.deliver(session, first, second)
    next(deliver)
    written(session)
    session.receive_data(b"250 Ok\r\n250 Ok\r\n")
    next(deliver)
    assert written(session) == (
        b"BDAT 3 LAST\r\nx\r\nRSET\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<c@x.org>\r\n"
    )
    session.receive_data(b"554 No\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert done.value.value.refused == ("b@x.org",)
    deliver = delivery.deliver(session, second)
    next(deliver)
    assert written(session) == b"BDAT 3 LAST\r\nx\r\n"
    session.receive_data(b"250 Ok\r\n")
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert done.value.value.accepted == ("c@x.org",)

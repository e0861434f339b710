"""Consent to a group is taken by one look, and comes to what hearing it reply by reply comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mailbridge import DeliveryReport, Envelope
from mailbridge.protocol import delivery
from mailbridge.protocol.command import DATA, Content, Raw
from mailbridge.protocol.content import Buffer
from mailbridge.protocol.mail import Group
from mailbridge.protocol.reply import Reply
from mailbridge.protocol.session import Dialogue, Session, T
from mailbridge.protocol.transaction import MailTransaction
from mailbridge.report import Phase

WORDS = (
    *(b"250 2.1.0 Ok", b"250 Ok", b"251 Ok, forwarding", b"259 Well", b"354 Go", b"359 Go"),
    *(b"450 Later", b"452 Too many", b"550 No", b"503 Bad"),
)
OK, GO = b"250 Ok\r\n", b"354 Go\r\n"
YES = OK * 3 + GO


class Watched(Session):
    """A session that counts the groups whose consent was taken at once; none if it is `slow`."""

    def __init__(self, *, slow: bool, lmtp: bool = False) -> None:
        super().__init__(lmtp=lmtp)
        self.extensions.update(pipelining="", chunking="")
        self.slow = slow
        self.taken = 0

    def take_consent(self, group: Group, content: Content | None = None) -> list[Reply] | None:
        replies = None if self.slow else super().take_consent(group, content)
        self.taken += replies is not None
        return replies


def run(
    session: Session, dialogue: Dialogue[T], reads: Sequence[bytes], *, looks: bool = False
) -> tuple[T, bytes]:
    """Run a dialogue with a server that says this, read by read. Returns what was written, too."""
    written, said = b"", iter(reads)
    try:
        while True:
            next(dialogue)
            data = session.data_to_send()
            session.sending(len(data))
            session.sent(len(data))
            written += data
            session.receive_data(next(said, b""))
            assert not looks or session.answer_is_here
    except StopIteration as done:
        return done.value, written


def known(*, slow: bool, lmtp: bool = False) -> Watched:
    """A session that has heard all the words."""
    session = Watched(slow=slow, lmtp=lmtp)
    for word in WORDS:
        run(session, session.command(Raw("NOOP")), [word + b"\r\n"])
    return session


def mail(name: str = "b", **options: Any) -> MailTransaction:
    transaction = MailTransaction(
        Envelope("a@x.org", [f"{name}@x.org", "c@x.org"]), Buffer(b"text\r\n")
    )
    for option, value in options.items():
        setattr(transaction, option, value)
    return transaction


def state(session: Session, report: DeliveryReport) -> dict[str, object]:
    """Everything that the way of hearing could make a difference to."""
    return {
        "report": report.to_dict(),
        "replies": [result.reply for result in report],
        "error": repr(report.error),
        "phase": session.phase,
        "alive": (session.alive, session.idle, session.unusable_because),
        "counted": (session.in_transaction, session.answered, session.mail_accepted),
        "left": session.has_input,
        "transcript": session.transcript.lines(),
    }


TAKEN = {
    "yes": [YES, OK],
    "yes in other words": [b"250 2.1.0 Ok\r\n251 Ok, forwarding\r\n259 Well\r\n359 Go\r\n", OK],
    "and the content is refused": [YES, b"550 No\r\n"],
    "and the connection ends": [YES],
    "in words that are new": [OK * 2 + b"250 New\r\n" + GO, OK],
    "and a reply too many": [YES + OK, OK],
    "and half a reply": [YES + b"25", b"0 Ok\r\n"],
}
HEARD = {
    "no to the sender": [b"550 No\r\n" + b"503 Bad\r\n" * 3, OK],
    "no to a recipient": [OK + b"550 No\r\n" + OK + GO, OK],
    "not now to a recipient": [OK * 2 + b"450 Later\r\n" + GO, OK],
    "too many recipients": [OK * 2 + b"452 Too many\r\n" + GO, OK, OK * 2 + GO, OK],
    "no to the content": [OK * 3 + b"450 Later\r\n", OK],
    "done, where it is to go on": [OK * 4, OK],
    "go on, where it is to be done": [OK + GO + OK + GO, OK],
    "go on from the beginning": [GO * 4, OK],
    "in more than one line": [OK * 2 + b"250-Ok\r\n250 Ok\r\n" + GO, OK],
    "bit by bit": [OK * 2, OK + GO, OK],
    "cut within a line": [OK * 3 + b"354 ", b"Go\r\n", OK],
    "and good-bye to a recipient": [OK * 2 + b"421 Bye\r\n" + GO],
    "and good-bye": [OK * 3 + b"421 Bye\r\n"],
    "nonsense": [OK * 2 + b"what\r\n" + GO],
    "nothing": [b""],
}


@pytest.mark.parametrize("row", [*TAKEN, *HEARD])
def test_consent(row: str) -> None:
    fast, slow = known(slow=False), known(slow=True)
    reads = {**TAKEN, **HEARD}[row]
    report, written = run(fast, delivery.deliver(fast, mail()), reads)
    expected, told = run(slow, delivery.deliver(slow, mail()), reads)
    assert written == told
    assert state(fast, report) == state(slow, expected)
    # Of two rounds, the second is one that all say yes to.
    assert fast.taken == (row in TAKEN or row == "too many recipients")


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ({"by_bdat": True}, [OK * 3, OK]),
        ({"all_or_nothing": True}, [OK * 3, GO, OK]),
        ({"max_recipients": 1}, [OK * 2 + GO, OK, OK * 2 + GO, OK]),
    ],
)
def test_consent_to_groups_of_other_shapes(options: dict[str, Any], reads: list[bytes]) -> None:
    fast, slow = known(slow=False), known(slow=True)
    report, written = run(fast, delivery.deliver(fast, mail(**options)), reads)
    expected, told = run(slow, delivery.deliver(slow, mail(**options)), reads)
    assert written == told
    assert state(fast, report) == state(slow, expected)
    assert all(result.state == "accepted" for result in report)
    assert fast.taken == written.count(b"MAIL FROM")


@pytest.mark.parametrize("by_bdat", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_consent_behind_a_content(by_bdat: bool, together: bool) -> None:
    """The next group goes out behind it, with RSET where chunks may be refused."""
    outcomes = []
    for session in known(slow=False), known(slow=True):
        first, second = mail(by_bdat=by_bdat), mail("d", by_bdat=by_bdat)
        yes = OK * 3 if by_bdat else YES
        reads = [yes, OK + OK + yes] if together else [yes, OK]
        report, written = run(session, delivery.deliver(session, first, second), reads)
        assert session.in_transaction  # Whoever is interrupted now is in the second one.
        reads = [OK] if together else [OK + yes, OK]
        later, rest = run(session, delivery.deliver(session, second), reads)
        outcomes.append((written + rest, state(session, report), state(session, later)))
        assert [str(r.state) for r in (*report, *later)] == ["accepted"] * 4
        assert session.taken == (0 if session.slow else 2)
    assert outcomes[0] == outcomes[1]


BEHIND = {
    "yes, and a queue id": b"250 2.0.0 Ok: queued as 4F2\r\n" + YES,
    "no to the content": b"550 No\r\n" + YES,
    "not now to the content": b"450 Later\r\n" + YES,
    "go on, behind a content": GO + YES,
    "yes in more than one line": b"250-Ok\r\n250 Ok\r\n" + YES,
    "no to the next sender": OK + b"550 No\r\n" + b"503 Bad\r\n" * 3,
    "no to one of the next recipients": OK * 3 + b"550 No\r\n" + GO,
    "the next is done, where it is to go on": OK * 5,
    "good-bye behind the content": OK + b"421 Bye\r\n",
    "good-bye behind the next group": OK + YES + b"421 Bye\r\n",
    "nonsense behind the content": OK + b"what\r\n",
    "a part of the next group": OK * 3,
    "nothing behind the content": OK,
    "half a reply": b"250 O",
}
GRANTED = ("yes, and a queue id", "good-bye behind the next group")


@pytest.mark.parametrize("row", BEHIND)
def test_what_comes_with_the_reply_to_a_content(row: str) -> None:
    outcomes = []
    for session in known(slow=False), known(slow=True):
        del session.extensions["chunking"]
        first, second = mail(), mail("d")
        reads = [YES, BEHIND[row], b"k\r\n" if row == "half a reply" else YES]
        report, written = run(session, delivery.deliver(session, first, second), reads)
        assert session.granted == (row in GRANTED and not session.slow)
        # What was heard of the second by now may differ, and nothing else.
        seen = state(session, report)
        outcome = [written, *(seen[name] for name in ("report", "replies", "error", "alive"))]
        if session.alive:
            reads = [YES[6 * (BEHIND[row].count(b"\n") - 1) :], OK, OK, OK]
            later, rest = run(session, delivery.deliver(session, second), reads)
            outcome += [rest, state(session, later)]
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]


def test_a_content_that_was_granted_in_advance_is_owed() -> None:
    """The session is not at rest, so nobody takes it for one that could serve another mail."""
    session = known(slow=False)
    del session.extensions["chunking"]
    second = mail("d")
    run(session, delivery.deliver(session, mail(), second), [YES, OK + YES])
    assert session.alive
    assert not session.idle
    assert not session.usable
    run(session, delivery.deliver(session, second), [OK])
    assert session.usable


def test_lmtp() -> None:
    fast, slow = known(slow=False, lmtp=True), known(slow=True, lmtp=True)
    reads = [YES, OK + b"550 No\r\n"]
    report, written = run(fast, delivery.deliver(fast, mail()), reads)
    expected, told = run(slow, delivery.deliver(slow, mail()), reads)
    assert (written, state(fast, report)) == (told, state(slow, expected))
    assert fast.taken == 1


def test_a_reply_that_was_looked_at_is_not_passed_over() -> None:
    """A driver that has asked whether an answer is here has the first of them parsed."""
    session = known(slow=False)
    reads = [b"550 No\r\n" + b"250 Ok\r\n" * 3]
    report, written = run(session, delivery.deliver(session, mail(by_bdat=True)), reads, looks=True)
    assert len(report.refused) == 2
    assert session.taken == 0
    assert b"BDAT" not in written


def test_half_a_reply_that_was_looked_at_is_not_passed_over() -> None:
    outcomes = []
    for session in known(slow=False), known(slow=True):
        first, second = mail(by_bdat=True), mail("d", by_bdat=True)
        run(session, delivery.deliver(session, first, second), [OK * 3, OK])
        session.receive_data(b"250-Ok\r\n")
        assert not session.answer_is_here
        session.receive_data(OK * 4)
        later, rest = run(session, delivery.deliver(session, second), [OK])
        outcomes.append((rest, state(session, later)))
        assert len(later.accepted) == 2
    assert outcomes[0] == outcomes[1]


def test_consent_is_waited_for_though_somebody_looked_in_vain() -> None:
    session = known(slow=False)
    deliver = delivery.deliver(session, mail())
    next(deliver)
    report, _ = run(session, deliver, [YES, OK])
    assert len(report.accepted) == 2
    assert session.taken == 1


def test_the_phase_is_that_of_the_last_reply() -> None:
    session = known(slow=False)
    session.send(group := Group([b"MAIL FROM:<a@x.org>\r\n", DATA]))
    octets = len(session.data_to_send())
    session.sending(octets)
    session.sent(octets)
    session.receive_data(OK + GO)
    assert session.take_consent(group) == [Reply(250, (b"Ok",)), Reply(354, (b"Go",))]
    assert session.phase is Phase.DATA


def test_nothing_is_written_while_an_answer_to_something_else_is_here() -> None:
    """The reply to a command of the caller's own was left: it is heard before anything is said."""
    session = known(slow=False)
    session.in_transaction = True
    session.send(Raw("NOOP"))
    octets = len(session.data_to_send())
    session.sending(octets)
    session.sent(octets)
    session.receive_data(GO)
    report, written = run(session, delivery.deliver(session, mail()), [])
    assert written == b""
    assert len(report.not_attempted) == 2
    assert not session.alive


def test_no_consent_to_what_has_not_left() -> None:
    session = known(slow=False)
    deliver = delivery.deliver(session, mail())
    next(deliver)
    octets = len(session.data_to_send())
    session.sending(octets)
    session.sent(octets - 1)
    session.receive_data(YES)
    with pytest.raises(StopIteration) as done:
        next(deliver)
    assert len(done.value.value.not_attempted) == 2
    assert "not sent to its end" in str(done.value.value.error)
    assert (session.taken, session.alive) == (0, False)

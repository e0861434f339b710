"""Reports: every recipient's state, the error that a policy makes of it, and plain data."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from mailbridge import (
    AuthenticationFailed,
    DeliveryInDoubt,
    DeliveryReport,
    Disconnected,
    MailError,
    MessageRefused,
    OnRefused,
    OptionError,
    Phase,
    RecipientResult,
    RecipientsRefused,
    Reply,
    SenderRefused,
    SomeRecipientsRefused,
    State,
)

REPLIES = {
    State.ACCEPTED: Reply(250, (b"2.0.0 Ok: queued as 4F2",)),
    State.REFUSED: Reply(550, (b"5.1.1 No such user",)),
    State.DEFERRED: Reply(451, (b"4.2.0 Later",)),
}
ACCEPTED, REFUSED, DEFERRED, NOT_ATTEMPTED, IN_DOUBT = State


def report(*states: State, error: MailError | None = None) -> DeliveryReport:
    results = {
        f"{i}@x.org": RecipientResult(f"{i}@x.org", state, Phase.RCPT, REPLIES.get(state))
        for i, state in enumerate(states)
    }
    reply = REPLIES[ACCEPTED] if ACCEPTED in states else None
    return DeliveryReport(results, "a@x.org", relay="h:25", reply=reply, error=error)


def test_each_recipient_is_in_one_state() -> None:
    made = report(*State)
    groups = [made.accepted, made.refused, made.deferred, made.not_attempted, made.in_doubt]
    assert groups == [("0@x.org",), ("1@x.org",), ("2@x.org",), ("3@x.org",), ("4@x.org",)]
    assert [result.address for result in made] == list(made.recipients)
    assert made["1@x.org"].state is REFUSED
    assert str(made) == "h:25: 1 accepted, 1 refused, 1 deferred, 1 not_attempted, 1 in_doubt"


def test_plain_data() -> None:
    made = report(*State, error=Disconnected("gone"))
    data = json.loads(json.dumps(made.to_dict()))
    assert data["recipients"]["1@x.org"] == {
        "state": "refused",
        "phase": "rcpt",
        "code": 550,
        "status": "5.1.1",
        "text": "5.1.1 No such user",
    }
    assert data["recipients"]["4@x.org"] == {
        "state": "in_doubt",
        "phase": "rcpt",
        "code": None,
        "status": None,
        "text": None,
    }
    assert (data["sender"], data["relay"], data["queue_id"]) == ("a@x.org", "h:25", "4F2")
    assert data["error"] == "gone"
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert twin == made
        assert twin.to_dict() == made.to_dict()
        assert str(twin.error) == "gone"


def test_changes_are_those_of_the_tries_that_somebody_was_reached_by() -> None:
    first, second = report(ACCEPTED, DEFERRED), report(ACCEPTED)
    first.changes, second.changes = ("a", "b"), ("b", "c")
    assert first.followed_by(second).changes == ("a", "b", "c")
    nobody = report(DEFERRED)
    nobody.changes = ("a",)
    assert nobody.followed_by(second).changes == ("b", "c")
    assert report(ACCEPTED).to_dict()["changes"] == []


def test_bytes_that_are_no_text_do_no_harm() -> None:
    reply = Reply(550, (b"\xff\r\x1b[2J",))
    made = DeliveryReport({"b": RecipientResult("b", REFUSED, Phase.RCPT, reply)}, reply=reply)
    json.dumps(made.to_dict())
    assert str(made["b"]).isprintable()


@pytest.mark.parametrize(
    ("states", "policy", "expected"),
    [
        *[((ACCEPTED, ACCEPTED), policy, None) for policy in OnRefused],
        ((ACCEPTED, REFUSED), OnRefused.RAISE, SomeRecipientsRefused),
        ((ACCEPTED, DEFERRED), OnRefused.RAISE, SomeRecipientsRefused),
        ((ACCEPTED, REFUSED), OnRefused.RAISE_IF_ALL, None),
        ((ACCEPTED, REFUSED), OnRefused.REPORT, None),
        ((REFUSED, DEFERRED), OnRefused.RAISE, RecipientsRefused),
        ((REFUSED, DEFERRED), OnRefused.RAISE_IF_ALL, RecipientsRefused),
        ((REFUSED, DEFERRED), OnRefused.REPORT, None),
        ((REFUSED, NOT_ATTEMPTED), OnRefused.ABORT, RecipientsRefused),
    ],
)
def test_what_a_policy_makes_of_refusals(
    states: tuple[State, ...], policy: OnRefused, expected: type[MailError] | None
) -> None:
    made = report(*states)
    failure = made.failure(policy)
    assert type(failure) is (expected or type(None))
    if failure is not None:
        assert failure.report is made
        assert failure.host == "h:25"
        assert isinstance(failure, RecipientsRefused)
        assert failure.accepted == made.accepted
        # Whoever is not in `accepted` did not get the mail, and is told so.
        assert set(failure.recipients) | set(failure.accepted) == set(made.recipients)


@pytest.mark.parametrize("policy", OnRefused)
@pytest.mark.parametrize(
    "error", [Disconnected("gone"), DeliveryInDoubt("?"), AuthenticationFailed(535, b"no")]
)
def test_other_errors_are_raised_under_any_policy(error: MailError, policy: OnRefused) -> None:
    error.reply = Reply(535, (b"no",)) if isinstance(error, AuthenticationFailed) else None
    assert report(NOT_ATTEMPTED, error=error).failure(policy) is error


@pytest.mark.parametrize(
    "error",
    [
        MessageRefused.of(Reply(554, (b"no",))),
        MessageRefused(552, b"too large, we say"),
        SenderRefused(550, b"no", "a@x.org", reply=Reply(550, (b"no",))),
    ],
)
def test_a_refused_mail_is_reported_only_if_that_was_asked_for(error: MailError) -> None:
    made = report(REFUSED, error=error)
    assert made.failure(OnRefused.REPORT) is None
    for policy in set(OnRefused) - {OnRefused.REPORT}:
        assert made.failure(policy) is error


def test_raise_for_refused() -> None:
    report(ACCEPTED).raise_for_refused()
    with pytest.raises(SomeRecipientsRefused) as caught:
        report(ACCEPTED, REFUSED).raise_for_refused()
    assert caught.value.recipients == {"1@x.org": (550, b"5.1.1 No such user")}
    assert "do not send again" in str(caught.value)
    with pytest.raises(Disconnected):
        report(ACCEPTED, error=Disconnected("gone")).raise_for_refused()


def test_a_refusal_of_our_own_has_a_code_too() -> None:
    result = RecipientResult("ä@x.org", REFUSED, None, reason="needs SMTPUTF8")
    failure = DeliveryReport({"ä@x.org": result}).failure()
    assert isinstance(failure, RecipientsRefused)
    assert failure.recipients == {"ä@x.org": (553, b"needs SMTPUTF8")}


@pytest.mark.parametrize(
    ("text", "queue_id"),
    [
        ("2.0.0 Ok: queued as 4F2abc", "4F2abc"),
        ("OK id=1abcDE-000001-XY", "1abcDE-000001-XY"),
        ("2.0.0 l8K5x1234 Message accepted for delivery", "l8K5x1234"),
        ("2.6.0 <x@y> [InternalId=1234] Queued mail for delivery", "1234"),
        ("2.0.0 OK  1700000000 abc-123 - gsmtp", "1700000000 abc-123"),
        ("2.0.0 Ok", None),
        ("", None),
    ],
)
def test_queue_ids(text: str, queue_id: str | None) -> None:
    assert DeliveryReport({}, reply=Reply(250, (text.encode(),))).queue_id == queue_id


@pytest.mark.timeout(20)
def test_a_hostile_reply_is_searched_soon() -> None:
    for text in (b"queued " * 9000, b"id=" * 20000, b"a" * 60000, b"OK " + b" " * 60000):
        DeliveryReport({}, reply=Reply(250, (text,))).queue_id


def test_policies_by_name() -> None:
    assert OnRefused.parse("Raise_If_All") is OnRefused.RAISE_IF_ALL
    assert OnRefused.parse(OnRefused.ABORT) is OnRefused.ABORT
    with pytest.raises(OptionError, match=r"on_refused 'ignore' is not one of 'raise', "):
        OnRefused.parse("ignore")

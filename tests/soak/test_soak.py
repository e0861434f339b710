"""Eight seconds of the soak, and that its accounts find what is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.soak.__main__ import soak, told
from tests.soak.accounts import settle

TO = "r0@example.com"


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.timeout(240)
def test_every_mail_is_accounted_for() -> None:
    accounts, counts = soak(8, seed=20)
    figures = told(accounts, counts)
    assert accounts.problems == [], figures
    assert all(accounts.states[state] for state in ("accepted", "in_doubt", "deferred")), figures
    assert counts["restarts"], figures
    assert any(end["forks"] for end in accounts.ends), figures


def sending(number: int = 1) -> dict[str, Any]:
    return {"sending": number, "to": [TO]}


def report(state: str, number: int = 1) -> dict[str, Any]:
    return {"report": number, "states": {TO: state}, "seconds": 0.1}


@pytest.mark.parametrize(
    ("entries", "taken", "problem"),
    [
        ([sending()], 0, "mail 1 to .* was reported as {}"),
        ([sending(), report("accepted")], 0, "is accepted, and was taken 0 times"),
        ([sending(), report("accepted")], 2, "is accepted, and was taken 2 times"),
        ([sending(), report("in_doubt")], 2, "is in_doubt, and was taken 2 times"),
        ([sending(), report("deferred")], 1, "is deferred, and was taken 1 times"),
        ([sending(), report("refused")], 1, "is refused, and was taken 1 times"),
        ([sending(), report("not_attempted")], 1, "is not_attempted, and was taken 1 times"),
        ([sending(), report("refused"), report("refused")], 0, "was reported twice"),
        ([], 1, "nobody sent mail 1"),
        ([{"bug": "Traceback"}], 0, "in a sender: .*Traceback"),
    ],
)
def test_the_accounts_find(entries: list[dict[str, Any]], taken: int, problem: str) -> None:
    accounts = settle(entries, {(1, TO): taken} if taken else {})
    (found,) = accounts.problems
    assert re.search(problem, found)


@pytest.mark.parametrize(
    ("state", "taken"),
    [("accepted", 1), ("in_doubt", 1), ("in_doubt", 0), ("refused", 0), ("not_attempted", 0)],
)
def test_the_accounts_are_content_with(state: str, taken: int) -> None:
    accounts = settle([sending(), report(state)], {(1, TO): taken} if taken else {})
    assert accounts.problems == []
    assert accounts.in_doubt_and_taken == (state == "in_doubt" and taken)

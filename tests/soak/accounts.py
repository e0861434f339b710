"""What the servers took against what the senders were told."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.model import TRAP

SIZES = (100, 2_000, 100_000, 1_500_000)
"""Octets of a content, the later the rarer: one line, some, many pieces, several chunks."""


def content_of(number: int) -> bytes:
    """The content of the mail with this number, the same one whoever asks."""
    drawn = hashlib.sha256(b"%d" % number).digest()
    size = SIZES[min(len(SIZES) - 1, (drawn[0] > 128) + (drawn[0] > 240) + (drawn[0] > 253))]
    trap = TRAP if drawn[1] > 200 else b""
    line = drawn.hex().encode() + b"\r\n"
    return b"Mail: %d\r\n\r\n%b%b" % (number, trap, line * (size // len(line) + 1))


class Journal:
    """The senders' log: a line for each mail before it is sent, and one for its report."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)  # one write each, so that lines stay whole

    def note(self, **entry: object) -> None:
        """Add a line."""
        self._file.write(json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Accounts:
    """The sum of a run. `problems` is empty if every message is accounted for."""

    mails: int = 0
    states: Counter[str] = field(default_factory=Counter)
    in_doubt_and_taken: int = 0
    longest: float = 0.0
    ends: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def settle(
    entries: Iterable[Mapping[str, object]], taken: Mapping[tuple[int, str], int]
) -> Accounts:
    """Compare the journal with what the servers took: (mail, recipient) to how often."""
    sent: dict[int, list[str]] = {}
    told: dict[int, dict[str, str]] = {}
    sums = Accounts()
    wrong = sums.problems.append
    for entry in entries:
        match entry:
            case {"sending": number, "to": recipients}:
                sent[number] = recipients
            case {"report": number, "states": states, "seconds": seconds}:
                if number in told:
                    wrong(f"mail {number} was reported twice: {told[number]} and {states}")
                told[number] = states
                sums.longest = max(sums.longest, seconds)
            case {"end": figures}:
                sums.ends.append(figures)
            case _:
                wrong(f"in a sender: {entry}")
    sums.mails = len(sent)
    for number, recipients in sent.items():
        states = told.get(number, {})
        if list(states) != recipients:
            wrong(f"mail {number} to {recipients} was reported as {states}")
        for address, state in states.items():
            sums.states[state] += 1
            times = taken.get((number, address), 0)
            sums.in_doubt_and_taken += state == "in_doubt" and times
            if times > (state in ("accepted", "in_doubt")) or (state == "accepted" and not times):
                wrong(f"mail {number} to {address} is {state}, and was taken {times} times")
    for number, address in taken:
        if address not in sent.get(number, ()):
            wrong(f"nobody sent mail {number} to {address}, and it was taken")
    return sums

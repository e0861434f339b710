"""What is known of a captured message without opening it: the line in a list of messages."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any, Self

from ..envelope import Envelope
from .reading import Reading

#: Names of files, so nothing but digits, a hyphen and hexadecimal ever gets there.
IDENTIFIER = re.compile(r"[0-9]{20}-[0-9a-f]{16}")
# The head of a message, from which subject and first words are taken.
_HEAD = 256 * 1024
_SNIPPET = 2000


@dataclass(frozen=True, slots=True)
class Captured:
    """A message in an outbox: envelope, what a list shows of it, and the report if it was sent.

    `id` sorts by the time of capture, `at` in seconds since the epoch. `sender` None is the null
    reverse-path. `snippet` is the beginning of the text; `report` is `DeliveryReport.to_dict`.
    """

    id: str
    at: float
    sender: str | None
    recipients: tuple[str, ...]
    size: int
    subject: str
    author: str
    to: str
    snippet: str
    report: dict[str, Any] | None = None

    @classmethod
    def of(cls, envelope: Envelope, content: bytes, name: str | None = None) -> Self:
        """The summary of a message that is being captured, under a new id unless given one."""
        now = time.time_ns()
        reading = Reading.of(content[:_HEAD])
        return cls(
            id=name or f"{now:020d}-{secrets.token_hex(8)}",
            at=now / 1e9,
            sender=envelope.sender,
            recipients=envelope.recipients,
            size=len(content),
            subject=reading.header("Subject"),
            author=reading.header("From"),
            to=reading.header("To"),
            snippet=" ".join(reading.words()[: 2 * _SNIPPET].split())[:_SNIPPET],
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises TypeError or KeyError for anything else."""
        return cls(**{**data, "recipients": tuple(data["recipients"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def matches(self, query: str) -> bool:
        """True if each word of `query` is in the addresses, the subject or the snippet."""
        fields = (self.subject, self.author, self.to, self.snippet, self.sender or "<>")
        text = "\n".join((*fields, *self.recipients)).casefold()
        return all(word in text for word in query.casefold().split())

    @property
    def trouble(self) -> int:
        """How many recipients did not get it; 0 if it was captured only."""
        results = (self.report or {}).get("recipients", {})
        return sum(result["state"] != "accepted" for result in results.values())

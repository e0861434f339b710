"""What a probe found: its steps as values, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a step went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was found, and what to do about it if it is not well."""

    name: str
    outcome: Outcome
    text: str
    advice: str | None = None
    milliseconds: float | None = None
    #: The same for programs.
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """The steps of one probe, in their order."""

    relay: str
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """True if no step failed."""
        return self.failed is None

    @property
    def failed(self) -> Step | None:
        """The first step that failed."""
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        failed = None if self.failed is None else self.failed.name
        steps = [{**asdict(step), "outcome": str(step.outcome)} for step in self.steps]
        return {"relay": self.relay, "ok": self.ok, "failed": failed, "steps": steps}


def render(findings: Findings) -> str:
    """The findings as lines of plain text."""
    width = max((len(step.name) for step in findings.steps), default=0)
    lines = [findings.relay, ""]
    for step in findings.steps:
        took = "" if step.milliseconds is None else f"  ({step.milliseconds:.0f} ms)"
        lines.append(f"  {_MARKS[step.outcome]:4}  {step.name:{width}}  {step.text}{took}")
        if step.advice:
            lines.append(f"{'':{width + 10}}-> {step.advice}")
    failed = findings.failed
    verdict = "All is well." if failed is None else f"Failed at: {failed.name}."
    return "\n".join(map(_shown, [*lines, "", verdict]))


def render_all(findings: Sequence[Findings], *, as_json: bool = False) -> str:
    """What a command prints: the findings on one or more relays, as text or as JSON."""
    if as_json:
        return json.dumps([each.to_dict() for each in findings], indent=2)
    return "\n\n".join(map(render, findings))


def _shown(line: str) -> str:
    # What a server says is not to move the cursor of a terminal.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


_MARKS = {Outcome.OK: "ok", Outcome.WARNING: "warn", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "-"}

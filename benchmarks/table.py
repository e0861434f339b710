"""Findings as a table for people, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import node
from benchmarks.aims import AIMS, Finding

PACKAGES = ("mailbridge", "django", "flask", "flask-mail", "aiosmtplib", "uvloop")
HEAD = ("what", "of", "aim", "measured", "quartiles", "", "peers, measured now (when aimed)")


def rows(findings: Sequence[Finding]) -> Iterator[tuple[str, ...]]:
    """The cells of the table."""
    for found in findings:
        aim = AIMS[found.aim]
        peers = ", ".join(
            [f"{name} {figure(value)}" for name, value in found.peers.items()]
            + [f"{name} not there" for name in found.absent]
        )
        then = f"({aim.peers})" if aim.peers else ""
        limit = ("≥ " if aim.at_least else "≤ ") + figure(aim.limit)
        if found.measured is None:
            middle = ("not there", "", "-")
        else:
            spread = ""
            if found.low is not None and found.high is not None:
                spread = f"{figure(found.low)} to {figure(found.high)}"
            verdict = "met" if aim.met(found.measured) else "not met"
            middle = (figure(found.measured), spread, verdict)
        remark = "; ".join(text for text in (found.missing, f"{peers} {then}".strip()) if text)
        yield aim.text, aim.of, limit, *middle, remark


def figure(value: float) -> str:
    """A number as it is read: counts whole, ratios with three figures."""
    if value == int(value):
        return str(int(value))
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(findings: Sequence[Finding]) -> str:
    """All findings, aligned."""
    lines = [HEAD, *rows(findings)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text.append("  ".join(cells).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths))
    versions = ", ".join(f"{name} {number}" for name, number in environment().items())
    return "\n".join([*text, *absences(findings), f"measured with: {versions}"])


def absences(findings: Sequence[Finding]) -> Iterator[str]:
    """Why somebody is not there: each reason once, with all that it holds for."""
    names: dict[str, dict[str, None]] = {}
    for found in findings:
        for name, reason in found.absent.items():
            names.setdefault(reason, {})[name] = None
    for reason, who in names.items():
        yield f"not there: {', '.join(who)}: {reason}"


def environment() -> dict[str, str]:
    """The versions that the figures belong to."""
    found = {"python": platform.python_version(), "system": f"{sys.platform} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if (nodemailer := node.version()) is not None:
        found["nodemailer"] = nodemailer
    return found


def write_json(path: Path, findings: Sequence[Finding], *, quick: bool) -> None:
    """Everything that was found, with the aims, for plots and comparisons."""
    results: list[dict[str, Any]] = []
    for found in findings:
        aim = AIMS[found.aim]
        met = None if found.measured is None else aim.met(found.measured)
        results.append({**dataclasses.asdict(aim), **dataclasses.asdict(found), "met": met})
    data = {"environment": environment(), "quick": quick, "results": results}
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")

"""Plots for the documentation: round trips, CPU, and time over distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.aims import AIMS, TRIPS, Finding
from benchmarks.bench import Bench, run
from benchmarks.contenders import Job, needed
from benchmarks.process import HelperError
from benchmarks.servers import Missing, address_of

OURS, AIM, OTHERS = "#1f6f8b", "#f2a65a", "#9aa5b1"
DELAYS = (0.0, 0.02, 0.05, 0.1)
CROWD = {
    "smtplib.single": "smtplib",
    "nodemailer.single": "nodemailer",
    "aiosmtplib.single": "aiosmtplib",
    "Transport.single": "mailbridge, send()",
    "Transport.batch": "mailbridge, send_many()",
}
MAILS = 20


def draw(bench: Bench, findings: Sequence[Finding], directory: Path) -> Iterator[Path]:
    """Draw what the findings are for; yield the files. Raises Missing without matplotlib."""
    matplotlib = needed("matplotlib")
    matplotlib.use("svg")
    # The same figures give the same file, so that documentation changes only when they do.
    matplotlib.rcParams.update({"svg.hashsalt": "mailbridge", "font.size": 9})
    pyplot = needed("matplotlib.pyplot")
    directory.mkdir(parents=True, exist_ok=True)
    trips = [f for f in findings if f.measured is not None and AIMS[f.aim].of == TRIPS]
    cpu = [f for f in findings if f.measured is not None and "CPU" in AIMS[f.aim].text]
    if trips:
        path = directory / "benchmark-round-trips.svg"
        yield bars(pyplot, trips, path, "round trips (logarithmic)", 0.8)
    if cpu:
        path = directory / "benchmark-cpu.svg"
        yield bars(pyplot, cpu, path, "CPU of the client, 1 = smtplib, Django's own, ...", 0.005)
    if trips:
        yield distance(bench, pyplot, directory / "benchmark-distance.svg")


def bars(pyplot: Any, findings: Sequence[Finding], path: Path, label: str, left: float) -> Path:
    """A bar for what was measured, a mark for the aim, a dot for each of the others."""
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(findings) + 1.2))
    for row, found in enumerate(findings):
        aim = AIMS[found.aim]
        assert found.measured is not None
        ours, limit, others = ("mailbridge", "aim", "others") if row == 0 else (None, None, None)
        axes.barh(row, found.measured - left, left=left, color=OURS, label=ours)
        axes.plot([aim.limit] * 2, [row - 0.45, row + 0.45], color=AIM, label=limit)
        axes.plot([], "o", color=OTHERS, markersize=4, label=others)
        # Neighbours are named at different heights, and who has the same figure together.
        for number, (value, names) in enumerate(_by_figure(found)):
            axes.plot(value, row, "o", color=OTHERS, markersize=4)
            place = (2, (3, -9, 10)[number % 3])
            text = ", ".join(names)
            axes.annotate(text, (value, row), place, textcoords="offset points", fontsize=6)
    axes.set_xscale("log")
    axes.set_yticks(range(len(findings)), [_name(found) for found in findings])
    axes.invert_yaxis()
    axes.set_xlim(left=left, right=2 * axes.get_xlim()[1])
    axes.set_xlabel(label)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    return _save(figure, pyplot, path)


def _by_figure(found: Finding) -> list[tuple[float, list[str]]]:
    """The others of a line, those with the same figure together, the smallest first."""
    names: dict[float, list[str]] = {}
    for name, value in found.peers.items():
        names.setdefault(value, []).append(name.removesuffix(".single"))
    return sorted(names.items())


def distance(bench: Bench, pyplot: Any, path: Path) -> Path:
    """Seconds for some messages over a warm connection, by the distance to the server."""
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for contender, label in CROWD.items():
        try:
            times = [_seconds(bench, contender, delay) for delay in DELAYS]
        except (Missing, HelperError):
            continue
        axes.plot([2000 * delay for delay in DELAYS], times, "o-", label=label, markersize=3)
    axes.set_xlabel("round trip to the server, milliseconds")
    axes.set_ylabel(f"seconds for {MAILS} messages on a warm connection")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _save(figure, pyplot, path)


def _seconds(bench: Bench, contender: str, delay: float) -> float:
    with bench.servers.proxy(address_of(bench.servers.plain_sink), delay=delay) as proxy:
        with bench.worker(contender, Job(port=proxy.hello["port"])) as worker:
            run(worker, 1)
            # A busy machine can only make it longer.
            return min(float(run(worker, MAILS)["wall"]) for _ in range(1 if bench.quick else 2))


def _name(found: Finding) -> str:
    aim = AIMS[found.aim]
    return aim.text if aim.of == TRIPS else f"{aim.text} {aim.of}"


def _save(figure: Any, pyplot: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path

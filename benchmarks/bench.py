"""How contenders are compared: in turns, many short rounds, the median of each round's ratio."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks import node
from benchmarks.aims import Finding
from benchmarks.contenders import Job
from benchmarks.process import Child, HelperError
from benchmarks.servers import Missing, Servers

MOST_MESSAGES = 20_000
# V8 compiles what is used often, and takes its time to find out.
WARM_NODE = 10_000


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU and of the clock for one message, in one round."""

    cpu: float
    wall: float


@dataclass
class Race:
    """What everybody's messages cost, round for round, and who could not take part and why."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def ratios(self, who: str, base: str, what: str = "cpu") -> list[float]:
        """The cost of `who` as a multiple of that of `base`, a figure a round. Raises Missing."""
        for name in (who, base):
            if name in self.missing:
                raise Missing(self.missing[name])
        pairs = zip(self.costs[who], self.costs[base], strict=True)
        return [getattr(ours, what) / getattr(theirs, what) for ours, theirs in pairs]

    def finding(self, aim: str, who: str, base: str, *, speed: bool = False) -> Finding:
        """The median ratio; for `speed` that of messages a second. Others are its peers."""
        found = Finding(aim)

        def figures(name: str) -> list[float]:
            if speed:
                return [1 / ratio for ratio in self.ratios(name, base, "wall")]
            return self.ratios(name, base)

        for name in self.costs:
            if name not in (who, base) and base in self.costs:
                found.peers[name] = statistics.median(figures(name))
        found.absent = {name: why for name, why in self.missing.items() if name != who}
        try:
            set_median(found, figures(who))
        except Missing as missing:
            found.missing = str(missing)
        return found


def set_median(found: Finding, figures: list[float]) -> None:
    """Put the median of the rounds into a finding, with the quartiles."""
    found.measured = statistics.median(figures)
    if len(figures) > 1:
        found.low, _, found.high = statistics.quantiles(figures, n=4, method="inclusive")


@dataclass(frozen=True)
class Bench:
    """One run. `quick` makes it short and rough; `offline` leaves the npm registry alone."""

    servers: Servers
    quick: bool = False
    offline: bool = False

    @property
    def rounds(self) -> int:
        """How often everybody has a turn."""
        return 3 if self.quick else 11

    @property
    def seconds(self) -> float:
        """How long a turn is to take."""
        return 0.05 if self.quick else 0.25

    @property
    def large(self) -> int:
        """The size of a large attachment. A small one makes fixed costs weigh more."""
        return (5 if self.quick else 25) * 2**20

    def worker(self, name: str, job: Job) -> Child:
        """A contender in a process of its own, ready to send. Raises Missing."""
        who, _, what = name.partition(".")
        if who == "nodemailer":
            return node.worker(what, job, install=not self.offline)
        options = {"contender": name, "job": dataclasses.asdict(job)}
        # What is installed is compiled, and so what is imported with the first mail is here.
        worker = Child.module("worker", options, env={"PYTHONDONTWRITEBYTECODE": ""})
        if "missing" in worker.hello:
            worker.stop()
            raise Missing(worker.hello["missing"])
        return worker

    def race(self, entries: Mapping[str, Job], rounds: int | None = None) -> Race:
        """Let contenders send in turns, in each round from another one on."""
        race = Race()
        with ExitStack() as stack:
            workers: dict[str, tuple[Child, int]] = {}
            for name, job in entries.items():
                try:
                    worker = stack.enter_context(self.worker(name, job))
                    if name.startswith("nodemailer."):
                        run(worker, WARM_NODE // 10 if self.quick else WARM_NODE)
                    workers[name] = worker, self._messages(worker)
                except (Missing, HelperError) as reason:
                    # One who falls at the start does not keep the others from running.
                    race.missing[name] = last_line(reason)
            names = list(workers)
            race.costs = {name: [] for name in names}
            for number in range(rounds or self.rounds):
                turn = number % len(names) if names else 0
                for name in names[turn:] + names[:turn]:
                    race.costs[name].append(_cost(*workers[name]))
        return race

    def _messages(self, worker: Child) -> int:
        """How many messages fill a turn. Sends some to find out, which also warms up."""
        run(worker, 1)  # Some things are loaded with the first, which says nothing of the others.
        n = 1
        while True:
            wall: float = run(worker, n)["wall"]
            if wall >= self.seconds / 4 or n >= MOST_MESSAGES:
                return max(1, min(MOST_MESSAGES, int(n * self.seconds / wall)))
            n *= 4


def run(worker: Child, n: int, do: str = "run") -> dict[str, Any]:
    """Have a worker send `n` messages. Raises Missing."""
    answer = worker.ask({"do": do, "n": n})
    if "missing" in answer:
        raise Missing(answer["missing"])
    return answer


def _cost(worker: Child, n: int) -> Cost:
    answer = run(worker, n)
    return Cost(answer["cpu"] / n, answer["wall"] / n)


def last_line(reason: Exception) -> str:
    """Why somebody could not take part, in one line: of a traceback, the error."""
    return str(reason).strip().rpartition("\n")[2]


def not_there(names: Iterator[str] | list[str], reason: object) -> Iterator[Finding]:
    """Findings for aims of which nothing could be measured."""
    for name in names:
        yield Finding(name, missing=str(reason))

"""Many threads that share a transport with few connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.aims import GROUPS, Finding
from benchmarks.bench import Bench, not_there, run, set_median
from benchmarks.contenders import Job
from benchmarks.servers import Missing, address_of

FEW, MANY = 10, 1000


def threads(bench: Bench) -> Iterator[Finding]:
    """1,000 threads with one message each, and in turns with them 10 threads with 100 each."""
    sink = bench.servers.plain_sink
    job = Job(port=address_of(sink).port)
    errors, most, speeds = 0, 0, []
    name = "Transport.threads"
    try:
        with (
            bench.worker(name, replace(job, threads=MANY)) as many,
            bench.worker(name, replace(job, threads=FEW)) as few,
        ):
            for _ in range(min(5, bench.rounds)):
                base = run(few, MANY)
                sink.ask({"do": "reset"})
                ours = run(many, MANY)
                # Those of the other worker are idle in its pool, and count as open.
                stats = sink.ask({"do": "stats"})
                errors += len(ours["errors"]) + MANY - stats["messages"]
                most = max(most, stats["most_open"] - FEW)
                speeds.append(base["wall"] / ours["wall"])
    except Missing as missing:
        yield from not_there([aim.name for aim in GROUPS["threads"]], missing)
        return
    yield Finding("threads-errors", errors)
    yield Finding("threads-most", most)
    speed = Finding("threads-speed")
    set_median(speed, speeds)
    yield speed

"""Memory: the peak for one large message, and the size of a process that sends very many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.aims import Finding
from benchmarks.bench import Bench, run
from benchmarks.contenders import Job
from benchmarks.servers import Missing, address_of

FIRST, ALL = 1_000, 100_000


def memory(bench: Bench) -> Iterator[Finding]:
    """What is held at the peak beyond what the caller holds, by the octets that the sink got."""
    job = Job(size=bench.large)
    frameworks = replace(job, kind="attachment")
    for aim, who, peers, what in (
        ("memory-bytes", "Transport.single", ("smtplib.single", "aiosmtplib.single"), job),
        ("memory-file", "Transport.file", (), job),
        ("memory-django", "mailbridge_django.batch", ("django.batch",), frameworks),
        ("memory-flask", "mailbridge_flask.batch", ("flask_mail.batch",), frameworks),
    ):
        found = Finding(aim)
        for name in peers:
            try:
                found.peers[name] = _peak(bench, name, what)
            except Missing as missing:
                found.absent[name] = str(missing)
        try:
            found.measured = _peak(bench, who, what)
        except Missing as missing:
            found.missing = str(missing)
        yield found


def _peak(bench: Bench, name: str, job: Job) -> float:
    sink = bench.servers.plain_sink
    port = address_of(sink).port
    # What is imported or set up with a first message is no cost of a large one.
    with bench.worker(name, replace(job, port=port)) as worker:
        run(worker, 1)
        sink.ask({"do": "reset"})
        peak: int = run(worker, 1, "peak")["peak"]
        octets: int = sink.ask({"do": "stats"})["octets"]
    return peak / octets


def stream(bench: Bench) -> Iterator[Finding]:
    """The largest size of the process, after some messages and after very many."""
    found = Finding("stream")
    job = Job(port=bench.servers.fastest.port)
    try:
        with bench.worker("Transport.batch", job) as worker:
            run(worker, FIRST)
            first: int = worker.ask({"do": "resident"})["resident"]
            run(worker, ALL // 10 if bench.quick else ALL)
            found.measured = worker.ask({"do": "resident"})["resident"] / first
    except Missing as missing:
        found.missing = str(missing)
    yield found

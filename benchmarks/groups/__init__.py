"""The measurements, by the names of the groups in `benchmarks.aims`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.aims import Finding
from benchmarks.bench import Bench
from benchmarks.groups import cpu, imports, memory, threads, trips

MEASURE: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "trips": trips.trips,
    "postfix": trips.postfix,
    "core": cpu.core,
    "core10": cpu.core10,
    "asyncio": cpu.on_loops,
    "render": cpu.render,
    "django": cpu.django,
    "flask": cpu.flask,
    "tls": cpu.tls,
    "memory": memory.memory,
    "attachment": cpu.attachment,
    "content": cpu.content,
    "threads": threads.threads,
    "stream": memory.stream,
    "import": imports.imports,
    "window": trips.window,
}

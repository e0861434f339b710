"""One contender in a process of its own: sends when told to, and says what that cost.

    python -m benchmarks.worker '{"contender": "smtplib.single", "job": {"port": 2525}}'

``{"do": "run", "n": 100}`` sends 100 messages and is answered with CPU and wall-clock seconds;
``{"do": "peak", "n": 1}`` with the most memory that was held during that beyond what was held
before, as tracemalloc sees it; ``{"do": "resident"}`` with the process's largest size so far.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.process import say
from benchmarks.servers import Missing


def timed(run: contenders.Run) -> dict[str, Any]:
    """CPU and wall-clock seconds of a run."""
    gc.collect()
    started, used = time.perf_counter(), time.process_time()
    figures = run()
    cpu, wall = time.process_time() - used, time.perf_counter() - started
    return {"cpu": cpu, "wall": wall, **(figures or {})}


def traced(run: contenders.Run) -> dict[str, Any]:
    """Octets that a run held at its peak beyond those that were held before."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    try:
        run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return {"peak": peak - before}


def largest_size() -> int:
    """Kilobytes that were resident at most."""
    # What getrusage() says includes the process that this one was forked from.
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def answer(prepare: contenders.Prepare, question: dict[str, Any]) -> dict[str, Any]:
    if question["do"] == "resident":
        return {"resident": largest_size()}
    run = prepare(question["n"])
    try:
        return traced(run) if question["do"] == "peak" else timed(run)
    except Missing as missing:
        return {"missing": str(missing)}


def main(options: dict[str, Any]) -> None:
    job = contenders.Job(**options["job"])
    try:
        with contenders.find(options["contender"], job) as prepare:
            say({"ready": True})
            for line in sys.stdin:
                say(answer(prepare, json.loads(line)))
    except Missing as missing:
        say({"missing": str(missing)})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""What an import costs in a fresh interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.aims import Finding
from benchmarks.bench import Bench, set_median
from benchmarks.process import ROOT

CODE = """\
import time
{before}
start = time.process_time()
{module}
print(time.process_time() - start)
"""
DJANGO = """\
import django.core.mail
from django.conf import settings
settings.configure()
django.setup()
"""
# Ours, theirs, and the framework that both are for.
PAIRS = {
    "import-core": ("import mailbridge", "import smtplib", ""),
    "import-smtp": ("from mailbridge import SMTP", "import smtplib", ""),
    "import-transport": ("from mailbridge import Transport", "import smtplib", ""),
    "import-django": (
        "import mailbridge_django.backends.smtp",
        "import django.core.mail.backends.smtp",
        DJANGO,
    ),
    "import-flask": ("import mailbridge_flask", "import flask_mail", "import flask"),
}


def imports(bench: Bench) -> Iterator[Finding]:
    """Each module beside the one that it replaces.

    The framework belongs to the figure, for nobody has the one without the other. What is left
    once the framework is there stands beside it.
    """
    for aim, (ours, theirs, framework) in PAIRS.items():
        found = Finding(aim)
        whole = [f"{framework}\n{module}" for module in (ours, theirs)]
        absent = [module for module in (theirs, ours) if not _cpu(module, framework)]
        if absent:
            found.missing = f"{absent[0].split()[1]} is not there"
        else:
            set_median(found, _ratios(bench, whole, ""))
            if framework:
                rest = statistics.median(_ratios(bench, [ours, theirs], framework))
                found.peers["ours, once the framework is there"] = rest
        yield found


def _ratios(bench: Bench, pair: list[str], before: str) -> list[float]:
    ours, theirs = pair
    return [_cpu(ours, before) / _cpu(theirs, before) for _ in range(bench.rounds)]


def _cpu(module: str, before: str) -> float:
    """Seconds of CPU, or 0 if it cannot be imported."""
    # What is installed is compiled. In a checkout the first import does that, if it is let.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        (sys.executable, "-c", CODE.format(module=module, before=before)),
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return float(done.stdout) if done.returncode == 0 else 0.0

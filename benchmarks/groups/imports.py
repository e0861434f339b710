"""What an import costs in a fresh interpreter."""

from __future__ import annotations

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
import {module}
print(time.process_time() - start)
"""
SITE = """\
from django.conf import settings
import django, django.core.mail
settings.configure()
django.setup()
"""
PAIRS = {
    "import-core": ("mailbridge", "smtplib", ""),
    "import-django": (
        "mailbridge_django.backends.smtp",
        "django.core.mail.backends.smtp",
        SITE,
    ),
    "import-flask": ("mailbridge_flask", "flask_mail", "import flask"),
}


def imports(bench: Bench) -> Iterator[Finding]:
    """Each module beside the one that it replaces, after the framework is there."""
    for aim, (ours, theirs, before) in PAIRS.items():
        found = Finding(aim)
        if not _cpu(theirs, before):
            found.missing = f"{theirs} is not there"
        elif not _cpu(ours, before):
            found.missing = f"{ours} is not there yet"
        else:
            rounds = range(bench.rounds * 2)
            set_median(found, [_cpu(ours, before) / _cpu(theirs, before) for _ in rounds])
        yield found


def _cpu(module: str, before: str) -> float:
    """Seconds of CPU, or 0 if it cannot be imported."""
    done = subprocess.run(
        (sys.executable, "-c", CODE.format(module=module, before=before)),
        capture_output=True,
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return float(done.stdout) if done.returncode == 0 else 0.0

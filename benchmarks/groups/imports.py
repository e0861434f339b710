"""What an import costs in a fresh interpreter, and what it cannot be had for less than."""

from __future__ import annotations

import json
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

# What the standard library has for values, types, locks and a log. smtplib does without; and
# beside it, since our errors are kinds of its errors.
STANDARD = "import dataclasses, logging, smtplib, threading, typing"
# The modules of ours that were loaded.
LOADED = """\
{module}
import json, sys
print(json.dumps([name for name in sys.modules if name.startswith("mailbridge")]))
"""
# They are found and read, as an import does it: compiled before. Nothing in them is run.
READING = "from importlib.machinery import PathFinder"
READ = """\
for name, folder in {modules}:
    PathFinder.find_spec(name, [folder]).loader.get_code(name)
"""


def imports(bench: Bench) -> Iterator[Finding]:
    """Each module beside the one that it replaces.

    The framework belongs to the figure, for nobody has the one without the other. What is left
    once the framework is there stands beside it, and so does the least that there is.
    """
    for aim, (ours, theirs, framework) in PAIRS.items():
        found = Finding(aim)
        absent = [module for module in (theirs, ours) if not _cpu(module, framework)]
        if absent:
            found.missing = f"{absent[0].split()[1]} is not there"
        else:
            whole = [f"{framework}\n{module}" for module in (ours, theirs)]
            set_median(found, _ratios(bench, whole, ""))
            for name, (module, before) in _beside(ours, framework).items():
                found.peers[name] = statistics.median(_ratios(bench, [module, theirs], before))
        yield found


def _beside(ours: str, framework: str) -> dict[str, tuple[str, str]]:
    """What stands beside a figure: a name, what is imported, and what was there before."""
    if ours == "import mailbridge":
        return {}
    read = READ.format(modules=_modules(f"{framework}\n{ours}"))
    least = f"import smtplib\n{read}", f"{framework}\n{READING}"
    if framework:
        return {
            "once the framework is there: ours": (ours, framework),
            "smtplib, with ours read but not run": least,
        }
    return {
        "smtplib, with ours read but not run": least,
        "what is the standard library's": (STANDARD, ""),
    }


def _ratios(bench: Bench, pair: list[str], before: str) -> list[float]:
    ours, theirs = pair
    return [_cpu(ours, before) / _cpu(theirs, before) for _ in range(bench.rounds)]


def _cpu(module: str, before: str) -> float:
    """Seconds of CPU, or 0 if it cannot be imported."""
    done = _python(CODE.format(module=module, before=before))
    return float(done.stdout) if done.returncode == 0 else 0.0


def _modules(code: str) -> list[tuple[str, str]]:
    """The modules of ours that are loaded once `code` has run, each with the folder it is in."""
    names: list[str] = json.loads(_python(LOADED.format(module=code)).stdout)
    return [(name, str(ROOT.joinpath(*name.split(".")).parent)) for name in names]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    # What is installed is compiled. In a checkout the first import does that, if it is let.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        (sys.executable, "-c", code),
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )

"""nodemailer, where Node.js is present: installed once, outside of this repository."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.contenders import PASSWORD, USER, Job
from benchmarks.process import Child
from benchmarks.servers import Missing

SCRIPT = Path(__file__).parent / "contenders" / "nodemailer.cjs"


def cache() -> Path:
    """Where the npm package is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "mailbridge-benchmarks"


def installed(*, install: bool) -> Path:
    """The directory whose node_modules hold nodemailer. Raises Missing."""
    directory = cache()
    if (directory / "node_modules" / "nodemailer" / "package.json").exists():
        return directory
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("nodemailer: npm is not installed")
    if not install:
        raise Missing("nodemailer is not in the cache; a run without --offline installs it")
    directory.mkdir(parents=True, exist_ok=True)
    command = (npm, "install", "--prefix", str(directory), "--no-fund", "--no-audit", "nodemailer")
    done = subprocess.run(
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=120
    )
    if done.returncode != 0:
        raise Missing("nodemailer: npm cannot install it here")
    return directory


def worker(what: str, job: Job, *, install: bool) -> Child:
    """A worker that sends with nodemailer. Raises Missing."""
    node = shutil.which("node")
    if node is None:
        raise Missing("nodemailer: Node.js is not installed")
    options = {
        "directory": str(installed(install=install)),
        "what": what,
        "job": dataclasses.asdict(job),
        "content": job.content().decode("latin1"),
        "user": USER,
        "password": PASSWORD,
    }
    env = {"NODE_EXTRA_CA_CERTS": job.ca_file} if job.ca_file else {}
    return Child((node, str(SCRIPT), json.dumps(options)), env=env)

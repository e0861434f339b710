"""nodemailer, where Node.js is present: Debian's, or installed once, outside of this repository."""

from __future__ import annotations

import contextlib
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
# Where the Debian package node-nodemailer puts it.
DEBIAN = Path("/usr/share/nodejs/nodemailer")


def cache() -> Path:
    """Where the npm package is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "mailbridge-benchmarks"


def installed(*, install: bool) -> Path:
    """The directory of nodemailer: npm's, which is newer, or else Debian's. Raises Missing."""
    module = cache() / "node_modules" / "nodemailer"
    why = "it is not installed; a run without --offline installs it"
    if install and not _there(module):
        why = _install()
    for found in (module, DEBIAN):
        if _there(found):
            return found
    raise Missing(why)


def version() -> str | None:
    """The version of nodemailer that a run has used."""
    for found in (cache() / "node_modules" / "nodemailer", DEBIAN):
        if _there(found):
            number: str = json.loads((found / "package.json").read_text())["version"]
            return number
    return None


def _there(module: Path) -> bool:
    return (module / "package.json").exists()


def _install() -> str:
    """Have npm install it; if it is not there then, this is why."""
    npm = shutil.which("npm")
    if npm is None:
        return "neither npm nor the Debian package node-nodemailer is installed"
    directory = cache()
    directory.mkdir(parents=True, exist_ok=True)
    command = (npm, "install", "--prefix", str(directory), "--no-fund", "--no-audit", "nodemailer")
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=120
        )
    return "npm cannot install it here"


def worker(what: str, job: Job, *, install: bool) -> Child:
    """A worker that sends with nodemailer. Raises Missing."""
    node = shutil.which("node")
    if node is None:
        raise Missing("Node.js is not installed (Debian package nodejs)")
    options = {
        "module": str(installed(install=install)),
        "what": what,
        "job": dataclasses.asdict(job),
        "content": job.content().decode("latin1"),
        "user": USER,
        "password": PASSWORD,
    }
    env = {"NODE_EXTRA_CA_CERTS": job.ca_file} if job.ca_file else {}
    return Child((node, str(SCRIPT), json.dumps(options)), env=env)

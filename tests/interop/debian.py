"""Programs of Debian packages that cannot be installed side by side, unpacked into a cache.

Mail servers conflict with each other as packages. As files they do not: each is fetched with
apt-get, unpacked with dpkg, and run in a mount namespace that shows it the users it insists on.

Who is not root has a user namespace as well. Its root may mount, and nothing else: there is one
user in it, so that a server which insists on several, as OpenSMTPD does, needs root outside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mailbridge-interop"
ROOT = os.geteuid() == 0
# Whom a server runs as when it gives up its privileges, or has none.
USER, GROUP = (65534, 65534) if ROOT else (os.geteuid(), os.getegid())
NAMESPACE = ("unshare", "--mount") if ROOT else ("unshare", "--user", "--map-root-user", "--mount")


class ServerError(RuntimeError):
    """A mail server did not start, or did not deliver; the message ends with its log."""


def require(reason: object) -> None:
    """Skip the test if `reason` is a text, why a server cannot be had. Where CI is set, fail."""
    if not isinstance(reason, str):
        return
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@cache
def unpacked(*packages: str) -> Path | str:
    """The directory that holds these packages' files, or why there is none, for a person."""
    for program in ("apt-get", "dpkg", "unshare"):
        if shutil.which(program) is None:
            return f"{packages[0]} is unpacked from its Debian package, and {program} is missing"
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0:
        return f"{packages[0]} needs a namespace, and `{' '.join(NAMESPACE)}` is not allowed here"
    top = CACHE / packages[0]
    if (top / ".complete").exists():
        return top
    downloads = top / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(
        ["apt-get", "-q", "download", *packages],
        check=False,
        cwd=downloads,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if fetched.returncode != 0:
        return f"apt-get download {' '.join(packages)} failed; run apt-get update: {fetched.stderr}"
    for package in downloads.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, top], check=True)
    (top / ".complete").touch()
    return top


def start(
    command: Sequence[str | Path],
    users: Sequence[str],
    top: Path,
    *,
    libraries: Sequence[Path] = (),
    usr: Path | None = None,
    instead: Mapping[str, Path] | None = None,
) -> subprocess.Popen[bytes]:
    """Run a server in the foreground where `users` exist, and only there. Its output is a log.

    `usr` is laid over /usr, for programs that know where their other parts are installed;
    `instead` has directories to be shown in the place of others.
    """
    for name, rest in (("passwd", f"{GROUP}::/nonexistent:/bin/false"), ("group", "")):
        known = Path("/etc", name).read_text().splitlines()
        # The first name of a number is the one that is shown: it has to be one of these.
        lines = [f"{user}:x:{USER if rest else GROUP}:{rest}" for user in users]
        (top / name).write_text("\n".join([*known[:1], *lines, *known[1:], ""]))
    mounts = {"/etc/passwd": top / "passwd", "/etc/group": top / "group", **(instead or {})}
    script = "".join(f"mount --bind {source} {place} && " for place, source in mounts.items())
    if usr is not None:
        script += f"mount -t overlay overlay -o lowerdir={usr}:/usr /usr && "
    if not ROOT:
        # Root in name only: better to be who we are.
        script += f"exec unshare --user --map-user={USER} --map-group={GROUP} "
    script += 'exec "$@"' if ROOT else '"$@"'
    with (top / "output").open("wb") as output:
        return subprocess.Popen(
            [*NAMESPACE, "sh", "-c", script, "sh", *command],
            env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
            if libraries
            else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server, and wait until it has ended."""
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(10)


def wait_until(condition: Callable[[], bool], log: Callable[[], str], what: str) -> None:
    """Wait for something that another process does; raises ServerError with its log."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}\n{log()}")
        time.sleep(0.02)


def directory(prefix: str) -> Path:
    """A new directory that a server's users can enter, to be removed by the caller.

    In /tmp whatever TMPDIR says: the path of a socket must stay under 108 bytes.
    """
    top = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    top.chmod(0o755)
    return top


def listens(port: int) -> bool:
    """True if somebody listens on this port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False

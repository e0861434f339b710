"""Recording: a session with a real server, written down as the script of a ScriptedPeer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# What is another the next time: sizes, names of hosts, secrets.
_SIZE = re.compile(r" SIZE=\d+")
_HELLO = re.compile(r"(EHLO|HELO|LHLO) .*")
_AUTH = re.compile(r"(AUTH \S+) \*\*\*")
_CHUNK = re.compile(r"BDAT \d+( LAST)? \(content\)")


class Recording:
    """Records one session: it is the `listener` of a Transport that has not yet connected.

    ``recording = Recording()``, ``Transport(url, listener=recording)``, send, `save`. Secrets and
    content are not in it; addresses and the server's words are.
    """

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []
        self._sessions = 0

    def __call__(self, side: str, lines: list[str]) -> None:
        """Take lines of the dialogue, as a Transport tells them."""
        if side == "C" and not lines:
            self._sessions += 1  # a greeting is waited for
        self._lines += ((side, line) for line in lines)

    @property
    def script(self) -> str:
        """The session as a script. Raises ValueError if there was none, or more than one."""
        if self._sessions != 1:
            raise ValueError(
                f"a recording is of one session, and this one has {self._sessions}: give a new"
                " Transport a Recording of its own, and send one mail after the other"
            )
        return "".join(f"{line}\n" for line in self._script())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the script to a file, to be repeated by a ReplayServer. Raises OSError."""
        text = (
            f"# A recorded session; sizes, secrets and the client's name may differ.\n{self.script}"
        )
        Path(path).write_text(text, "utf-8")

    def _script(self) -> Iterator[str]:
        asked_for_tls, last = False, ""
        for side, line in self._lines:
            if side == "C":
                asked_for_tls, last = line == "STARTTLS", line
                yield _client_line(line)
                continue
            yield f"S: {line}"
            if asked_for_tls and line.startswith("220 "):
                yield "-- TLS"
        if last != "QUIT":
            yield "C: (anything)"  # a connection that was kept ends as it likes


def _client_line(line: str) -> str:
    if line == "(content)" or re.fullmatch(r"\(\d+ octets of content\)", line):
        return "C: (content)"
    if match := _CHUNK.fullmatch(line):
        return f"C: (chunk){match[1] or ''}"
    if line == "***":
        return "C: (like) *"
    for pattern, like in ((_HELLO, r"\1 *"), (_AUTH, r"\1 *")):
        if pattern.fullmatch(line):
            return f"C: (like) {pattern.sub(like, line)}"
    if line.startswith("MAIL ") and _SIZE.search(line):
        return f"C: (like) {_SIZE.sub(' SIZE=*', line)}"
    return f"C: {line}"

"""The files of this directory: scripts of a ScriptedPeer, cut by what the client is told to do.

``> step`` begins a step, and ``=`` or ``!`` says what comes of it::

    > ehlo                          = 250                   the code of the reply
    > login                         ! AuthenticationFailed 535
    > send a@x.org to b@y.org       = b@y.org accepted
                                    ! RecipientsRefused     the error, of whichever client: A|B

The first step is always to connect; the server's half of it begins the script. A line of flags
says with which clients a file can be run:

* ``session``: with the session only, since on a port it would be a race;
* ``whole``: only with the server's octets in one piece;
* ``transport``: with a Transport too, whose steps are its own;
* ``lmtp``: the server speaks LMTP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
_STEP = re.compile(r"> (\w+) ?(.*)")


@dataclass
class Step:
    """One thing that the client does, and what must come of it."""

    verb: str
    arguments: list[str] = field(default_factory=list)
    result: str | None = None
    error: str | None = None


@dataclass
class Conversation:
    """A file, read: the script, the steps, and how the client is set up."""

    name: str
    script: str
    steps: list[Step]
    flags: set[str]


def read(path: Path) -> Conversation:
    """Read one file."""
    steps, script, flags = [Step("connect")], [], set[str]()
    for line in path.read_text().splitlines():
        if match := _STEP.fullmatch(line):
            steps.append(Step(match[1], match[2].split()))
        elif line.startswith("= "):
            steps[-1].result = line[2:]
        elif line.startswith("! "):
            steps[-1].error = line[2:]
        elif line.startswith("# flags: "):
            flags = set(line.removeprefix("# flags: ").split())
        else:
            script.append(line)
    return Conversation(path.stem, "\n".join(script), steps, flags)


def all_of_them() -> list[Conversation]:
    """Every conversation of this directory, in the order of the names."""
    return [read(path) for path in sorted(HERE.glob("*.txt"))]

"""A model of a mail server: octets in, octets out, and the truth about every mail it took.

Strict about order, and as faithless in its replies as a list of decisions says. What it never does
is lie about the outcome: a 2yz after the content means that the mail was taken, a 4yz or 5yz that
it was not. Every other answer, or none, is given for a mail that *was* taken, since that is where
sending it again makes two of it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import ClassVar, TypeAlias

Decide = Callable[[str], str]
# Waits for octets by yielding; returns False if the connection ends with this command.
Handling: TypeAlias = Generator[None, None, bool]

#: What a server may do with a command, by the reply to it or the lack of one.
FAITHLESS = ("421", "garbage", "mismatch", "extra", "354", "close", "half")
REFUSALS = ("450", "550", "452", "552")
ACTIONS = ("259", *REFUSALS, *FAITHLESS)

# Read as commands, this content would deliver a mail of its own.
TRAP = (
    b".\r\nRSET\r\nMAIL FROM:<x@evil.example>\r\nRCPT TO:<x@evil.example>\r\nDATA\r\n..\r\n"
    b"BDAT 3 LAST\r\nx\r\n"
)

MARK = re.compile(rb"Mail: (\d+)\r\n")


class Log:
    """What all connections to one model server took: how often each recipient got each mail."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[int, str]] = Counter()
        self.contents: dict[int, set[bytes]] = {}

    def take(self, content: bytes, recipient: str) -> None:
        match = MARK.search(content)
        number = int(match[1]) if match else -1
        self.taken[number, recipient] += 1
        self.contents.setdefault(number, set()).add(content)


def decisions(actions: Mapping[int, str]) -> Decide:
    """The n-th command is answered by `actions[n]`; those that are not named, kindly."""
    numbers = itertools.count()
    return lambda verb: actions.get(next(numbers), "ok")


class ModelServer:
    """One connection's server. `stop_after` octets it closes, wherever that is."""

    def __init__(
        self,
        log: Log,
        decide: Decide,
        extensions: Iterable[str] = (),
        *,
        lmtp: bool = False,
        stop_after: int | None = None,
    ) -> None:
        self.output = bytearray()
        self.closed = False
        self._log = log
        self._decide = decide
        self._extensions = tuple(extensions)
        self._chunking = "CHUNKING" in self._extensions
        self._lmtp = lmtp
        self._left = stop_after
        self._input = bytearray()
        self._mail = False
        self._recipients: list[str] = []
        self._broken = False  # a refused chunk: nothing but RSET is taken (RFC 3030 section 2)
        self._chunks = b""
        self._running = self._serve()
        self._go_on()

    def receive(self, data: bytes) -> None:
        """Take octets from the client, up to the one that this server does not outlive."""
        if self.closed:
            return
        if self._left is not None:
            data, self._left = data[: self._left], self._left - len(data)
        self._input += data
        self._go_on()
        if self._left is not None and self._left <= 0:
            self.closed = True

    def _go_on(self) -> None:
        if next(self._running, "over") == "over":
            self.closed = True

    # The dialogue: yields while it waits for octets, returns when it hangs up.

    def _serve(self) -> Iterator[None]:
        if not self._answer("GREETING", "220 model", self._decide("GREETING")):
            return
        while True:
            while b"\n" not in self._input:
                yield
            end = self._input.index(b"\n") + 1
            line = bytes(self._input[:end]).decode().removesuffix("\r\n")
            del self._input[:end]
            verb = line.partition(" ")[0].upper()
            handler = self._handlers.get(verb)
            if handler is None:
                self._say("500 what?")
            elif not (yield from handler(self, line)):
                return

    def _say(self, *lines: str) -> None:
        self.output += "".join(f"{line}\r\n" for line in lines).encode()

    def _answer(self, verb: str, kind: str, action: str, refusal: str = "no") -> bool:
        """Answer as decided. False if the connection ends with it."""
        if action == "extra" and (self._chunking or (self._lmtp and verb == "CONTENT")):
            # Nobody can find this out in time: 354 is the only reply that cannot be another's.
            action = "ok"
        if action == "close":
            return False
        if action == "half":
            self.output += kind.encode()[:2]
            return False
        if action == "garbage":
            self._say("what?")
        elif action == "mismatch":
            self._say("250-yes", "550 no")
        elif action == "421":
            self._say("421 4.3.2 going down")
            return False
        elif action == "extra":
            self._say(kind, "250 and another")
        elif action == "259" and kind.startswith("250 "):
            self._say("259 something")
        elif action == "ok" or (action == "259" and verb in ("GREETING", "EHLO")):
            self._say(*kind.split("\n"))
        else:
            self._say(f"{action} {refusal}")
        return True

    @staticmethod
    def _agrees(action: str) -> bool:
        """True if the command is carried out, whatever is said of it."""
        return action not in ("421", "354", *REFUSALS)

    def _ehlo(self, line: str) -> Handling:
        yield from ()
        lines = ["model", *self._extensions]
        kind = "\n".join(f"250{'-' if line != lines[-1] else ' '}{line}" for line in lines)
        self._reset()
        return self._answer("EHLO", kind, self._decide("EHLO"))

    def _auth(self, line: str) -> Handling:
        """Takes the mail whatever becomes of the login: what is told must be true all the same."""
        yield from ()
        return self._answer("AUTH", "235 2.7.0 Welcome", self._decide("AUTH"))

    def _mail_command(self, line: str) -> Handling:
        yield from ()
        if self._mail or self._broken:
            self._say("503 nested MAIL")
            return True
        action = self._decide("MAIL")
        self._mail = self._agrees(action)
        return self._answer("MAIL", "250 Ok", action)

    def _rcpt(self, line: str) -> Handling:
        yield from ()
        if not self._mail:
            self._say("503 MAIL first")
            return True
        action = self._decide("RCPT")
        if self._agrees(action):
            self._recipients.append(line.partition("<")[2].partition(">")[0])
        return self._answer("RCPT", "250 Ok", action)

    def _data(self, line: str) -> Handling:
        action = self._decide("DATA")
        if not self._recipients and action != "354":
            self._say("503 no recipients")
            return True
        if action not in ("ok", "354"):
            if action == "259":
                self._say("250 that was quick")
                return True
            if not self._answer("DATA", "354 go on", action):
                return False
            if action != "extra":
                return True
        else:
            self._say("354 go on")
        end = yield from self._until(b"\r\n.\r\n")
        content = end.replace(b"\r\n..", b"\r\n.")
        content = content[1:] if content.startswith(b"..") else content
        return self._end_of(content)

    def _until(self, mark: bytes) -> Generator[None, None, bytes]:
        """Read up to the final dot; the lone dot of an empty content is one too."""
        while True:
            if self._input.startswith(mark[2:]):
                del self._input[:3]
                return b""
            if mark in self._input:
                end = self._input.index(mark)
                content = bytes(self._input[: end + 2])
                del self._input[: end + len(mark)]
                return content
            yield

    def _bdat(self, line: str) -> Handling:
        size = int(line.split()[1])
        while len(self._input) < size:
            yield
        self._chunks += self._input[:size]
        del self._input[:size]
        if not self._recipients or self._broken:
            self._broken = True
            self._say("503 no recipients")
            return True
        if line.endswith(" LAST"):
            content, self._chunks = self._chunks, b""
            return self._end_of(content, refused_is_broken=True)
        action = self._decide("BDAT")
        self._broken = not self._agrees(action)
        return self._answer("BDAT", "250 Ok", action)

    def _end_of(self, content: bytes, *, refused_is_broken: bool = False) -> bool:
        recipients, mail_was = self._recipients, self._mail
        self._reset()
        for recipient in recipients if self._lmtp else recipients[:1] or ["nobody"]:
            action = self._decide("CONTENT")
            taken = action == "354" or self._agrees(action)
            if taken:
                for each in [recipient] if self._lmtp else recipients:
                    self._log.take(content, each)
            elif refused_is_broken:
                self._broken, self._mail = True, mail_was
            if not self._answer("CONTENT", "250 Ok", action):
                return False
        return True

    def _rset(self, line: str) -> Handling:
        yield from ()
        action = self._decide("RSET")
        if self._agrees(action):
            self._reset()
        return self._answer("RSET", "250 Ok", action)

    def _quit(self, line: str) -> Handling:
        yield from ()
        self._say("221 bye")
        return False

    def _reset(self) -> None:
        self._mail = self._broken = False
        self._recipients = []
        self._chunks = b""

    _handlers: ClassVar[dict[str, Callable[[ModelServer, str], Handling]]] = {
        "EHLO": _ehlo,
        "LHLO": _ehlo,
        "HELO": _ehlo,
        "AUTH": _auth,
        "MAIL": _mail_command,
        "RCPT": _rcpt,
        "DATA": _data,
        "BDAT": _bdat,
        "RSET": _rset,
        "QUIT": _quit,
    }

r"""ScriptedPeer: the other end of a `Session`, without a socket, for exact conversations.

A script is a text of lines; what is indented is dedented, blank lines and ``#`` comments are
skipped, and so are lines that begin with ``>``, ``=`` or ``!``. In the order of time::

    S: 220 mx.example.org       the server sends this line, with CRLF
    S: (raw) 250 Ok\n           the server sends these octets; Python's escapes, no CRLF added
    S: (close)                  the server closes the connection
    S: (silence)                the server says nothing more: whoever waits runs out of time
    C: NOOP                     the client sends exactly this line, with CRLF
    C: (content) Hi\r\n.\r\n    the client sends this content, stuffed, and the final dot; the
                                text is the content before stuffing, with Python's escapes
    C: (content)                the client sends any content and the final dot
    C: (like) EHLO *            the client sends a line like this, each * being any text
    C: (chunk) LAST             the client sends any last chunk, BDAT and its octets
    C: (chunk)                  the client sends any other chunk
    C: (anything)               whatever the client says from here on, if it says anything
    -- TLS                      the handshake

The server's octets are fed whole (as many as stand together), line by line, or byte by byte:
a session must not notice any difference.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

from ..errors import Disconnected, MailError, ReplyTimeout
from ..protocol.command import Errand, Need
from ..protocol.session import Dialogue, Session

T = TypeVar("T")

Speed = Literal["whole", "lines", "bytes"]
SPEEDS: Final = get_args(Speed)

_Kind = Literal["S", "close", "silence", "C", "content", "like", "chunk", "anything", "tls"]
_SERVER: Final = ("S", "close", "silence")


@dataclass(frozen=True, slots=True)
class _Step:
    kind: _Kind
    data: bytes | None
    line: str


class ScriptedPeer:
    """A server that says what a script says, to a client that must do the same.

    `run` talks to a `Session`; whoever has a socket calls `data_to_send` and `receive`. Every
    departure from the script raises AssertionError, with the lines that were exchanged.
    Raises ValueError for a script that is none.
    """

    def __init__(self, script: str, speed: Speed = "whole") -> None:
        if speed not in SPEEDS:
            raise ValueError(f"speed {speed!r} is not one of {', '.join(SPEEDS)}")
        self.speed = speed
        self._steps = list(_parse(script))
        self._at = 0
        self._pieces: list[bytes] = []
        self._received = bytearray()
        self._content: list[bytes] = []
        self.closed = False
        self.has_tls = any(step.kind == "tls" for step in self._steps)

    # -- the two ends of a wire

    @property
    def speaks(self) -> bool:
        """True if the server is to say something, or to close, before the client goes on."""
        return bool(self._pieces) or self._kind in _SERVER

    def data_to_send(self) -> bytes:
        """The server's next octets; empty bytes mean that it closes the connection.

        Raises AssertionError if it is not the server's turn, TimeoutError where it is silent.
        """
        if not self._pieces:
            if self._kind == "silence":
                raise TimeoutError
            if self._kind == "close":
                self._at += 1
                self.closed = True
                return b""
            self._pieces = self._cut(self._server_lines())
            if not self._pieces:
                raise self._failed("the client waits for the server")
        return self._pieces.pop(0)

    def receive(self, data: bytes) -> None:
        """Take what the client sent. Raises AssertionError if the script has something else."""
        self._received += data
        while self._kind == "anything" or b"\r\n" in self._received:
            if self._kind == "anything":
                self._received.clear()
                return
            end = self._received.index(b"\r\n") + 2
            line = bytes(self._received[:end])
            if self._kind == "content":
                self._content_line(line)
            elif self._pieces or not self._as_scripted(line):
                raise self._failed(f"the client said {line!r}")
            elif self._kind == "chunk":
                end += int(line.split()[1])
                if len(self._received) < end:
                    return
                self._at += 1
            else:
                self._at += 1
            del self._received[:end]

    def begins_tls(self) -> bool:
        """True, once, if a handshake comes next."""
        if self._kind != "tls":
            return False
        self._at += 1
        return True

    def finish(self) -> None:
        """The client has gone. Raises AssertionError if the script is not at its end."""
        if self._received:
            raise self._failed(f"the client said {bytes(self._received)!r} and no more")
        said = [step.data for step in self._steps[: self._at] if step.kind == "C"]
        if said and said[-1] == b"QUIT\r\n":
            return  # The session is over; a client need not wait to be told so.
        if self._pieces or self._kind not in (None, "anything", "silence", "close"):
            raise self._failed("the client has gone")

    # -- a session at the other end

    def run(self, session: Session, dialogue: Dialogue[T]) -> T:
        """Run a dialogue of `session` against the script, as a driver does on a socket.

        Returns its result and raises what it raises; AssertionError where it leaves the script.
        """
        if session.idle and self._at:
            self._hear(session)
        try:
            need = next(dialogue)
            while True:
                try:
                    self._satisfy(session, need)
                except MailError as exc:
                    need = dialogue.throw(exc)
                else:
                    need = next(dialogue)
        except StopIteration as done:
            result: T = done.value
            return result

    def _satisfy(self, session: Session, need: Need | Errand) -> None:
        if not isinstance(need, Need):
            need.run()
            return
        if need is Need.TLS:
            if not self.begins_tls():
                raise self._failed("the client begins the TLS handshake")
            return
        self.flush(session)
        if session.eof or session.answered_early:
            return
        try:
            session.receive_data(self.data_to_send())
        except TimeoutError:
            session.abandon("timed out")
            raise ReplyTimeout("timed out") from None

    def flush(self, session: Session) -> None:
        """Take what the session has to send; what the server says early is heard first."""
        while data := session.data_to_send():
            if self.speaks:
                self._hear(session)
                if session.eof or session.answered_early:
                    session.stop_writing()
                    return
            if self.closed:
                session.abandon("the connection was lost")
                raise Disconnected("the connection was lost: Broken pipe")
            session.sending(len(data))
            self.receive(data)
            session.sent(len(data))

    def _hear(self, session: Session) -> None:
        while self.speaks and self._kind != "silence":
            session.receive_data(self.data_to_send())

    # -- the script

    @property
    def _step(self) -> _Step:
        return self._steps[self._at]

    @property
    def _kind(self) -> _Kind | None:
        return self._steps[self._at].kind if self._at < len(self._steps) else None

    def _server_lines(self) -> Iterator[bytes]:
        while self._kind == "S":
            yield self._step.data or b""
            self._at += 1

    def _cut(self, lines: Iterator[bytes]) -> list[bytes]:
        if self.speed == "lines":
            return list(lines)
        whole = b"".join(lines)
        if self.speed == "bytes":
            return [whole[i : i + 1] for i in range(len(whole))]
        return [whole] if whole else []

    def _content_line(self, line: bytes) -> None:
        if line != b".\r\n":
            self._content.append(line.removeprefix(b"."))
            return
        content, self._content = b"".join(self._content), []
        if self._step.data not in (None, content):
            raise self._failed(f"the client sent the content {content!r}")
        self._at += 1

    def _as_scripted(self, line: bytes) -> bool:
        """True if the client was to say this line."""
        if self._kind == "C":
            return line == self._step.data
        if self._kind in ("like", "chunk"):
            like = (self._step.data or b"").split(b"*")
            return bool(re.fullmatch(b".*".join(map(re.escape, like)), line, re.DOTALL))
        return False

    def _failed(self, what: str) -> AssertionError:
        done = "\n".join(step.line for step in self._steps[: self._at])
        wanted = "the end" if self._kind is None else self._step.line
        if self._pieces:
            wanted = f"S: {b''.join(self._pieces)!r}"
        return AssertionError(f"{what}; in the script comes: {wanted}\nafter:\n{done}")


def _parse(script: str) -> Iterator[_Step]:
    for line in textwrap.dedent(script).splitlines():
        side, _, text = line.partition(" ")
        if not line.strip() or line.startswith(("#", "> ", "= ", "! ")):
            continue
        if side == "--" and text.strip().upper() == "TLS":
            yield _Step("tls", None, line)
        elif side == "S:" and text in ("(close)", "(silence)"):
            yield _Step("close" if text == "(close)" else "silence", None, line)
        elif side == "S:":
            raw = text.startswith("(raw) ")
            data = _unescaped(text[len("(raw) ") :]) if raw else text.encode() + b"\r\n"
            yield _Step("S", data, line)
        elif side == "C:" and text == "(anything)":
            yield _Step("anything", None, line)
        elif side == "C:" and text == "(content)":
            yield _Step("content", None, line)
        elif side == "C:" and text.startswith("(content) "):
            yield _Step("content", _unescaped(text[len("(content) ") :]), line)
        elif side == "C:" and text.startswith("(like) "):
            yield _Step("like", text[len("(like) ") :].encode() + b"\r\n", line)
        elif side == "C:" and text in ("(chunk)", "(chunk) LAST"):
            last = b" LAST" if text.endswith("LAST") else b""
            yield _Step("chunk", b"BDAT *" + last + b"\r\n", line)
        elif side == "C:":
            yield _Step("C", text.encode() + b"\r\n", line)
        else:
            raise ValueError(f"not a line of a script: {line!r}")


def _unescaped(text: str) -> bytes:
    return text.encode("ascii", "backslashreplace").decode("unicode_escape").encode("latin-1")

"""Commands as values, one class for each verb: the only place a command line is formatted.

Two layers keep foreign text out of the dialogue: each value is checked against its own grammar
(addresses, parameters, names), and `command_line` refuses any control character in the result.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import chain
from string import ascii_letters, digits
from typing import ClassVar, Protocol

from ..errors import InvalidInput
from ..host import check_helo_name
from ..report import Phase
from ..secret import Hidden

CRLF = b"\r\n"
RSET = b"RSET\r\n"
DATA = b"DATA\r\n"

PROHIBITED = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OF_MECHANISM = frozenset(f"{ascii_letters}{digits}_-")  # RFC 4422 section 3.1


class Need(Enum):
    """What a dialogue waits for when it yields. The driver has a time-out for each."""

    GREETING = auto()
    REPLY = auto()
    FINAL_REPLY = auto()
    GOODBYE = auto()
    TLS = auto()


# Named once: to ask an enum for a member takes longer (in Python 3.11), and these are in all mail.
TLS, FINAL_REPLY, GOODBYE = Need.TLS, Need.FINAL_REPLY, Need.GOODBYE


class Errand(Protocol):
    """What else a dialogue may wait for: something that is not the server's to give.

    A driver runs it, blocking or not, and goes on with the dialogue.
    """

    def run(self, seconds: float | None = None) -> None:
        """Wait for it here. Raises TimeoutError if it takes longer than `seconds`."""
        ...

    async def arun(self) -> None:
        """Wait for it in an event loop."""
        ...


def command_line(*words: str | bytes) -> bytes:
    """`words` joined by spaces, with CRLF. Raises InvalidInput if they hold a control character."""
    text = b" ".join(w.encode() if isinstance(w, str) else w for w in words)
    if PROHIBITED.search(text):
        raise prohibited(text.decode("utf-8", "backslashreplace"))
    return text + CRLF


def prohibited(text: str) -> InvalidInput:
    """The error for a text that would become more than one line, or none that a server takes."""
    shown = text[:200].encode("unicode_escape").decode()
    return InvalidInput(
        f"command and arguments contain prohibited newline characters: {shown}"
        " (or other control characters)"
    )


class Command:
    """A line to the server, and what comes back: the phase for errors, the wait for the driver.

    `replies` is how many answer it; `logs_in` is true if they may name the user. `end` is the
    place of its last octet in the stream, None until that is known (see `Output`); `begins` is true
    for what a server may take for the beginning of a transaction. `ahead` is what is left once
    `take_piece` was called, None if nothing is.
    """

    __slots__ = ("end", "wire")
    side: ClassVar[str] = "C"
    phase: ClassVar[Phase | None] = None
    need: ClassVar[Need] = Need.REPLY
    silent: ClassVar[bool] = False
    begins: ClassVar[bool] = False
    logs_in: bool = False
    replies: int = 1

    end: int | None
    ahead: bytes | None = None

    def __init__(self, *words: str | bytes) -> None:
        self.wire = command_line(*words)

    def take_piece(self) -> bytes:
        """The next octets to write: all of them, but of a content."""
        return self.wire

    def phase_at(self, index: int) -> Phase | None:
        """The phase that its reply of this number belongs to."""
        return self.phase

    def behind(self, index: int) -> int:
        """Octets behind what its reply of this number answers."""
        return 0

    def shown_lines(self) -> list[str]:
        """The line as it may be shown to people."""
        return [self.wire.removesuffix(CRLF).decode("utf-8", "backslashreplace")]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shown_lines()}>"


class Greeting(Command):
    """No command: the server speaks first."""

    __slots__ = ()
    phase = Phase.GREETING
    need = Need.GREETING
    silent = True

    def __init__(self) -> None:
        self.wire = b""

    def shown_lines(self) -> list[str]:
        return []


class Unprompted(Greeting):
    """No command either: the caller knows of a reply that is still to come."""

    __slots__ = ()
    phase = None  # type: ignore[assignment]
    need = Need.REPLY


class Ehlo(Command):
    __slots__ = ()
    phase = Phase.EHLO
    verb: ClassVar[str] = "EHLO"

    def __init__(self, name: str) -> None:
        if PROHIBITED.search(name.encode("utf-8", "surrogatepass")):
            raise prohibited(f"{self.verb.lower()} {name}")
        super().__init__(self.verb, check_helo_name(name))


class Helo(Ehlo):
    __slots__ = ()
    verb = "HELO"


class Lhlo(Ehlo):
    """LMTP's EHLO (RFC 2033 section 4.1)."""

    __slots__ = ()
    verb = "LHLO"


class StartTLS(Command):
    __slots__ = ()
    phase = Phase.TLS

    def __init__(self) -> None:
        super().__init__("STARTTLS")


class Data(Command):
    __slots__ = ()
    phase = Phase.DATA

    def __init__(self) -> None:
        self.wire = DATA


class Content(Command):
    """What follows DATA: the stuffed content, whole or in pieces, which ends in the final dot.

    `size` in octets is for the transcript; `replies` is 1, or LMTP's number of recipients.
    """

    __slots__ = ("_pieces", "ahead", "begun", "last", "replies", "size")
    phase = Phase.CONTENT
    need = Need.FINAL_REPLY

    def __init__(
        self, content: bytes | Iterable[bytes], size: int | None = None, replies: int = 1
    ) -> None:
        self.wire = b""
        self._pieces: Iterator[bytes] | None = None
        if isinstance(content, bytes):
            self.ahead = content
        else:
            self._pieces = iter(content)
            self.ahead = next(self._pieces, b"")
        self.size = size
        self.replies = replies
        self.last = True
        self.begun = False

    def take_piece(self) -> bytes:
        """The next piece. It is not kept."""
        self.begun = True
        piece = self.ahead or b""
        self.ahead = None if self._pieces is None else next(self._pieces, None)
        return piece

    def shown_lines(self) -> list[str]:
        return ["(content)" if self.size is None else f"({self.size} octets of content)"]


class Bdat(Content):
    """BDAT (RFC 3030): a chunk of the content as it is, the last one with its final replies."""

    __slots__ = ()

    def __init__(
        self, size: int, chunk: bytes | Iterable[bytes], *, last: bool, replies: int = 1
    ) -> None:
        header = bdat_line(size, last=last)
        wire = header + chunk if isinstance(chunk, bytes) else chain((header,), chunk)
        super().__init__(wire, size)
        self.last = last
        self.replies = replies if last else 1

    def shown_lines(self) -> list[str]:
        return [f"BDAT {self.size}{' LAST' if self.last else ''} (content)"]


def bdat_line(size: int, *, last: bool) -> bytes:
    """The line of BDAT, which a chunk of so many octets follows."""
    return b"BDAT %d LAST\r\n" % size if last else b"BDAT %d\r\n" % size


class Octets(Command):
    """Octets of the caller's own, which are no command."""

    __slots__ = ()

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class Rset(Command):
    __slots__ = ()
    phase = Phase.RSET

    def __init__(self) -> None:
        self.wire = RSET


class Quit(Command):
    __slots__ = ()
    phase = Phase.QUIT
    need = Need.GOODBYE

    def __init__(self) -> None:
        super().__init__("QUIT")


class Auth(Command):
    """AUTH, with an initial response or without (RFC 4954 section 4)."""

    __slots__ = ("shown",)
    phase = Phase.AUTH
    logs_in = True

    def __init__(self, mechanism: str, initial_response: bytes | None = None) -> None:
        if not (0 < len(mechanism) <= 20 and _OF_MECHANISM.issuperset(mechanism)):
            raise InvalidInput(f"{mechanism!a} is no name of a SASL mechanism")
        self.shown = f"AUTH {mechanism}"
        if initial_response is None:
            super().__init__("AUTH", mechanism)
        else:
            self.shown += " ***"
            # An empty response is told from none at all by a "=".
            response = Hidden(base64.b64encode(initial_response) or b"=")
            self.wire = Hidden(command_line("AUTH", mechanism, response))

    def shown_lines(self) -> list[str]:
        return [self.shown]


class AuthResponse(Auth):
    """The client's answer to a challenge."""

    __slots__ = ()

    def __init__(self, response: bytes) -> None:
        self.wire = Hidden(base64.b64encode(response) + CRLF)
        self.shown = "***"


class AuthCancel(Auth):
    """``*``: gives up an AUTH exchange; the server answers 501."""

    __slots__ = ()

    def __init__(self) -> None:
        self.wire = b"*\r\n"
        self.shown = "*"


class Raw(Command):
    """A line of the caller's own making (docmd, putcmd, VRFY, HELP, ...)."""

    __slots__ = ("logs_in", "secret")

    def __init__(self, *words: str | bytes, secret: bool = False) -> None:
        super().__init__(*words)
        # What follows AUTH on its way is an answer, whatever it looks like.
        self.logs_in = secret or self.wire[:5].upper() in (b"AUTH ", b"AUTH\t")
        self.secret = secret

    def shown_lines(self) -> list[str]:
        (line,) = super().shown_lines()
        if self.secret:
            return ["***"]
        verb, _, rest = line.partition(" ")
        mechanism, _, response = rest.strip().partition(" ")
        if verb.upper() == "AUTH" and response:
            return [f"{verb} {mechanism} ***"]
        return [line]

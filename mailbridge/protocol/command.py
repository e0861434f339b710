"""Commands as values, one class for each verb: the only place a command line is formatted.

Two layers keep foreign text out of the dialogue: each value is checked against its own grammar
(addresses, parameters, names), and `command_line` refuses any control character in the result.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from itertools import chain
from typing import ClassVar, Protocol

from ..envelope import Address, parse_reverse_path
from ..errors import InvalidInput
from ..host import check_helo_name
from ..report import Phase
from ..secret import Hidden

CRLF = b"\r\n"

# RFC 5321 section 4.1.2: esmtp-param = esmtp-keyword ["=" esmtp-value].
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[!-~]+)?")
_UTF8_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\x00-\x20\x7f-\xa0]+)?")
_PROHIBITED = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 section 3.1

# RFC 5321 section 4.5.3.1.4: octets in a command line; and what the extensions add to that for
# their parameters (RFC 1870, 2852, 3461, 4865, 4954, 6152, 6531, 6710, 8689).
MAX_COMMAND_LINE = 512
_LENGTHENED_BY = {
    "SIZE": 26,
    "BODY": 17,
    "SMTPUTF8": 10,
    "AUTH": 500,
    "REQUIRETLS": 11,
    "RET": 9,
    "ENVID": 107,
    "NOTIFY": 29,
    "ORCPT": 507,
    "BY": 17,
    "MT-PRIORITY": 15,
    "HOLDFOR": 34,
    "HOLDUNTIL": 34,
}


class Need(Enum):
    """What a dialogue waits for when it yields. The driver has a time-out for each."""

    GREETING = auto()
    REPLY = auto()
    FINAL_REPLY = auto()
    GOODBYE = auto()
    TLS = auto()


class Errand(Protocol):
    """What else a dialogue may wait for: something that is not the server's to give.

    A driver runs it, blocking or not, and goes on with the dialogue.
    """

    def run(self) -> None:
        """Wait for it here."""
        ...

    async def arun(self) -> None:
        """Wait for it in an event loop."""
        ...


def command_line(*words: str | bytes) -> bytes:
    """`words` joined by spaces, with CRLF. Raises InvalidInput if they hold a control character."""
    text = b" ".join(w.encode() if isinstance(w, str) else w for w in words)
    if _PROHIBITED.search(text):
        raise prohibited(text.decode("utf-8", "backslashreplace"))
    return text + CRLF


def prohibited(text: str) -> InvalidInput:
    """The error for a text that would become more than one line, or none that a server takes."""
    shown = text[:200].encode("unicode_escape").decode()
    return InvalidInput(
        f"command and arguments contain prohibited newline characters: {shown}"
        " (or other control characters)"
    )


def check_parameters(parameters: Iterable[str], smtputf8: bool = False) -> tuple[str, ...]:
    """ESMTP parameters for MAIL or RCPT, one ``KEYWORD`` or ``KEYWORD=value`` each.

    Raises InvalidInput for anything else: a space would smuggle in another parameter.
    """
    if isinstance(parameters, str):
        raise InvalidInput(f"ESMTP options must be a list of texts, not the text {parameters!a}")
    if not parameters:
        return ()
    pattern = _UTF8_PARAMETER if smtputf8 else _PARAMETER
    checked = tuple(parameters)
    for parameter in checked:
        if not pattern.fullmatch(parameter):
            if _PROHIBITED.search(" ".join(checked).encode("utf-8", "surrogatepass")):
                raise prohibited(" ".join(checked))
            raise InvalidInput(
                f"ESMTP option {parameter!a} is not of the form KEYWORD or KEYWORD=value,"
                " one in each item"
            )
    return checked


class Command:
    """A line to the server, and what comes back: the phase for errors, the wait for the driver.

    `replies` is how many answer it; `logs_in` is true if they may name the user. `end` is the
    place of its last octet in the stream, None until that is known (see `Output`).
    """

    __slots__ = ("end", "wire")
    side: ClassVar[str] = "C"
    phase: ClassVar[Phase | None] = None
    need: ClassVar[Need] = Need.REPLY
    silent: ClassVar[bool] = False
    logs_in: bool = False
    replies: int = 1

    end: int | None

    def __init__(self, *words: str | bytes) -> None:
        self.wire = command_line(*words)

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
        if _PROHIBITED.search(name.encode("utf-8", "surrogatepass")):
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


class Mail(Command):
    """MAIL. Raises AddressError, or InvalidInput for a malformed parameter."""

    __slots__ = ("smtputf8",)
    phase = Phase.MAIL

    def __init__(
        self,
        reverse_path: Address | str | None,
        parameters: Sequence[str] = (),
        smtputf8: bool = False,
    ) -> None:
        address = parse_reverse_path(reverse_path)
        path = b"" if address is None else address.path(smtputf8)
        self.smtputf8 = smtputf8
        self.wire = _with_parameters(b"MAIL FROM:<%b>" % path, parameters, smtputf8)


class Rcpt(Command):
    """RCPT. Raises AddressError, or InvalidInput for a malformed parameter."""

    __slots__ = ("address",)
    phase = Phase.RCPT

    def __init__(
        self, forward_path: Address | str, parameters: Sequence[str] = (), smtputf8: bool = False
    ) -> None:
        self.address = Address.parse(forward_path)
        path = self.address.path(smtputf8)
        self.wire = _with_parameters(b"RCPT TO:<%b>" % path, parameters, smtputf8)


def _with_parameters(verb: bytes, parameters: Sequence[str], smtputf8: bool) -> bytes:
    """The line for a verb with its path, which is made of parsed parts, and checked parameters."""
    if not parameters:
        return verb + CRLF
    checked = check_parameters(parameters, smtputf8)
    line = b"%b %b\r\n" % (verb, " ".join(checked).encode())
    if len(line) > MAX_COMMAND_LINE:
        _check_length(line, checked)
    return line


def _check_length(line: bytes, parameters: Iterable[str]) -> None:
    names = {parameter.partition("=")[0].upper() for parameter in parameters}
    allowed = MAX_COMMAND_LINE + sum(_LENGTHENED_BY.get(name, 0) for name in names)
    if len(line) > allowed:
        raise InvalidInput(
            f"the ESMTP options make a command line of {len(line)} octets, and {allowed} are"
            " allowed: shorten them"
        )


class Data(Command):
    __slots__ = ()
    phase = Phase.DATA

    def __init__(self) -> None:
        self.wire = b"DATA\r\n"


class Content(Command):
    """What follows DATA: pieces of the stuffed content, the last ending in the final dot.

    `size` in octets is for the transcript; `replies` is 1, or LMTP's number of recipients.
    """

    __slots__ = ("_ahead", "_pieces", "last", "replies", "size")
    phase = Phase.CONTENT
    need = Need.FINAL_REPLY

    def __init__(self, pieces: Iterable[bytes], size: int | None = None, replies: int = 1) -> None:
        self.wire = b""
        self._pieces = iter(pieces)
        self._ahead: bytes | None = next(self._pieces, b"")
        self.size = size
        self.replies = replies
        self.last = True

    def take_piece(self) -> bytes:
        """The next piece; `exhausted` is true once it was the last."""
        piece, self._ahead = self._ahead, next(self._pieces, None)
        return piece or b""

    @property
    def exhausted(self) -> bool:
        """True if every piece was taken."""
        return self._ahead is None

    def shown_lines(self) -> list[str]:
        return ["(content)" if self.size is None else f"({self.size} octets of content)"]


class Bdat(Content):
    """BDAT (RFC 3030): a chunk of the content as it is, the last one with its final replies."""

    __slots__ = ()

    def __init__(self, size: int, chunk: Iterable[bytes], *, last: bool, replies: int = 1) -> None:
        header = command_line(f"BDAT {size}" + (" LAST" if last else ""))
        super().__init__(chain((header,), chunk), size)
        self.last = last
        self.replies = replies if last else 1

    def shown_lines(self) -> list[str]:
        return [f"BDAT {self.size}{' LAST' if self.last else ''} (content)"]


class Rset(Command):
    __slots__ = ()
    phase = Phase.RSET

    def __init__(self) -> None:
        super().__init__("RSET")


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
        if not _MECHANISM.fullmatch(mechanism):
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

"""Replies: what a server answers (RFC 5321 section 4.2), and the parser for it."""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from ..errors import Disconnected, ProtocolViolation, printable
from ..secret import Hidden

# RFC 5321 section 4.5.3.1.5 says 512 octets; servers in the wild exceed it.
# smtplib's limit is 8192, so nobody's working server breaks here.
MAX_REPLY_LINE = 8192
# An EHLO reply of a hundred keywords is far below both; beyond is an attack on memory.
MAX_REPLY_LINES = 1000
MAX_REPLY_SIZE = 64 * 1024
# Replies that are remembered, and octets of one: "250 2.1.0 Ok" comes with every mail.
MAX_KNOWN = 32
MAX_KNOWN_LINE = 80
MASK = b"***"

# RFC 5321 section 4.2: Reply-code = %x32-35 %x30-35 %x30-39. A bare code is a legal last line.
_LINE = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(rb"([245])\.(\d{1,3})\.(\d{1,3})(?=[ \t]|$)")


class EnhancedStatus(NamedTuple):
    """An enhanced status code: class, subject and detail (RFC 3463)."""

    status_class: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.status_class}.{self.subject}.{self.detail}"


class Reply(NamedTuple):
    """A complete reply: the three-digit code, and the text of each line as bytes."""

    code: int
    lines: tuple[bytes, ...] = ()

    @property
    def side(self) -> str:
        """Who says it, for transcripts: the server."""
        return "S"

    @property
    def message(self) -> bytes:
        """The lines joined by newlines, as smtplib returns them."""
        return b"\n".join(self.lines)

    @property
    def text(self) -> str:
        """The message as str. RFC 6531 section 3.7.4 allows UTF-8; anything else is escaped."""
        return self.message.decode("utf-8", "backslashreplace")

    @property
    def status(self) -> EnhancedStatus | None:
        """The enhanced status code, if there is one and its class is the reply's (RFC 2034)."""
        match = _ENHANCED.match(self.lines[0]) if self.lines else None
        if match is None or int(match[1]) != self.code // 100:
            return None
        return EnhancedStatus(int(match[1]), int(match[2]), int(match[3]))

    # RFC 5321 section 4.3.2: a code that is not known is judged by its first digit.
    @property
    def positive(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    @property
    def intermediate(self) -> bool:
        """3yz: go on."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """4yz: not now, perhaps later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: not at all."""
        return 500 <= self.code < 600

    def shown_lines(self) -> list[str]:
        """The lines as they came, fit for a terminal."""
        last = len(self.lines) - 1
        return [
            f"{self.code}{' ' if i == last else '-'}{printable(line)}"
            for i, line in enumerate(self.lines)
        ]

    def __str__(self) -> str:
        return " ".join((str(self.code), *map(printable, self.lines))).rstrip()


def _decoded(challenge: bytes) -> bytes:
    try:
        return base64.b64decode(challenge)
    except binascii.Error:
        return challenge


class ReplyParser:
    """Turns bytes, in whatever pieces they arrive, into replies.

    Strict, since a reply that is misread is paired with the wrong command and mail is lost:
    a malformed code, codes that differ within one reply, and anything over the limits raise
    ProtocolViolation. Line ends may be CRLF or LF.
    """

    def __init__(self) -> None:
        # Whole lines without their LF, and the beginning of the next one.
        self._lines: deque[bytes] = deque()
        self._rest = b""
        # What is there of a reply of more than one line.
        self._code = 0
        self._texts: list[bytes] = []
        self._size = 0
        # Servers repeat themselves: what was looked at once is known. Never a 421.
        self._known: dict[bytes, Reply] = {}
        # What it said behind the first of so many replies, with the class of the last.
        self._repeated: dict[tuple[bytes, int, int], list[Reply]] = {}
        self._secrets: tuple[Hidden, ...] = ()
        #: In lower case. Masked in answers to AUTH only; elsewhere it is a word like others.
        self.names: tuple[bytes, ...] = ()

    def guard(self, secret: bytes, names: Iterable[str] = ()) -> None:
        """Mask this in every later reply, and `names` in those to AUTH and in what is no reply."""
        # Shorter ones are in too many innocent words, and guessed sooner than read.
        if len(secret) > 3:
            self._secrets += (Hidden(secret),)
            self._known.clear()
            self._repeated.clear()
        if known := [name.encode() for name in names if name]:
            self.names = tuple([n.lower() for n in (*known, *map(base64.b64encode, known))])

    def without_names(self, reply: Reply) -> tuple[Reply, Reply]:
        """An answer to AUTH: for the mechanism, and as it may be shown."""
        if not self.names:
            return reply, reply
        if reply.code == 334 and self._without_names(text := _decoded(reply.message)) != text:
            return Reply(334, tuple(map(Hidden, reply.lines))), Reply(334, (MASK,))
        shown = Reply(reply.code, tuple(map(self._without_names, reply.lines)))
        return (reply if reply.code == 334 else shown), shown

    def _masked(self, line: bytes) -> bytes:
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        return line

    def _without_names(self, line: bytes) -> bytes:
        # Few servers say them, and a pattern takes longer to make than the rest of a login.
        said = [re.escape(name) for name in self.names if name in line.lower()]
        if not said:
            return line
        # Words of their own: a name may be short.
        words = rb"(?<![0-9A-Za-z])(?:%b)(?![0-9A-Za-z])" % b"|".join(said)
        return re.sub(words, MASK, line, flags=re.IGNORECASE)

    def feed(self, data: bytes) -> None:
        """Take bytes from the server."""
        self._lines += (self._rest + data).split(b"\n")
        self._rest = self._lines.pop()

    @property
    def has_pending(self) -> bool:
        """True if something was received that is not part of a returned reply."""
        return bool(self._lines or self._rest or self._texts)

    def take_consent(self, count: int, last: int) -> list[Reply] | None:
        """Take `count` replies if all are here and are 2yz, the last of them 2yz or 3yz as given.

        Only such of one line each; otherwise nothing is taken.
        """
        lines = self._lines
        if self._texts or len(lines) < count:
            return None
        replies = self._consent(islice(lines, count), last)
        if replies is None:
            return None
        if len(lines) == count:
            lines.clear()
        else:
            for _ in replies:
                lines.popleft()
        return replies

    def consent(self, said: bytes, count: int, last: int) -> list[Reply] | None:
        """The same of what the server says just now, which must be all of it. It is not fed."""
        first, end, others = said.partition(b"\n")
        key = others, count, last
        known = self._repeated.get(key)
        if known is None or not end:
            lines = said.split(b"\n")
            if lines.pop() or len(lines) != count:
                return None
            replies = self._consent(lines, last)
            if replies is not None and len(others) <= MAX_KNOWN_LINE * MAX_KNOWN:
                if len(self._repeated) >= MAX_KNOWN:
                    self._repeated.clear()
                self._repeated[key] = replies[1:]
            return replies
        reply = self._known.get(first) or self._of_one_line(first)
        return None if reply is None or not reply.positive else [reply, *known]

    def _consent(self, lines: Iterable[bytes], last: int) -> list[Reply] | None:
        known, replies = self._known, []
        for line in lines:
            reply = known.get(line) or self._of_one_line(line)
            if reply is None:
                return None
            replies.append(reply)
        # By their codes, which come first in them.
        if replies[-1].code // 100 != last or (len(replies) > 1 and max(replies[:-1]).code >= 300):
            return None
        return replies

    def _of_one_line(self, line: bytes) -> Reply | None:
        """The reply that this line is, if it is a whole one."""
        if len(line) > MAX_REPLY_LINE:
            return None
        match = _LINE.fullmatch(self._masked(line).removesuffix(b"\r"))
        if match is None or match[2] == b"-":
            return None
        reply = Reply(int(match[1]), (match[3] or b"",))
        self._remember(line, reply)
        return reply

    def next_reply(self) -> Reply | None:
        """The next complete reply, or None if more bytes are needed."""
        if self._lines and not self._texts:
            reply = self._known.get(self._lines[0])
            if reply is not None:
                self._lines.popleft()
                return reply
        while self._lines:
            # What is secret is masked before anybody can quote the line.
            raw = Hidden(self._lines.popleft())
            if len(raw) > MAX_REPLY_LINE:
                raise _too_long(self._without_names(self._masked(raw)))
            try:
                reply = self._take_line(self._masked(raw))
            except ProtocolViolation as error:
                # Without the frame that holds the line as it came.
                raise error.with_traceback(None) from None
            if reply is None:
                continue
            self._remember(raw, reply)
            return reply
        if len(self._rest) > MAX_REPLY_LINE:
            raise _too_long(self._without_names(self._masked(self._rest)))
        return None

    def _remember(self, raw: bytes, reply: Reply) -> None:
        if len(raw) <= MAX_KNOWN_LINE and len(reply.lines) == 1 and reply.code != 421:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[bytes(raw)] = reply

    def _take_line(self, line: bytes) -> Reply | None:
        """Add a line to the reply it belongs to; return that if this was its last."""
        line = line.removesuffix(b"\r")
        match = _LINE.fullmatch(line)
        if match is None:
            line = self._without_names(line)
            raise ProtocolViolation(f"not an SMTP reply: {_shown(line)}{_hint(line)}", -1, line)
        code, text = int(match[1]), match[3] or b""
        if self._texts and code != self._code:
            line = self._without_names(line)
            raise ProtocolViolation(
                f"reply codes {self._code} and {code} in one reply: {_shown(line)}", code, line
            )
        self._code = code
        self._texts.append(text)
        self._size += len(line)
        if match[2] != b"-":
            reply = Reply(code, tuple(self._texts))
            self._texts, self._size = [], 0
            return reply
        if len(self._texts) >= MAX_REPLY_LINES or self._size > MAX_REPLY_SIZE:
            raise ProtocolViolation("reply without end", 500, b"Reply too long.")
        return None


def _too_long(line: bytes) -> ProtocolViolation:
    shown = f"{_shown(line[:60])}..."
    return ProtocolViolation(
        f"reply line over {MAX_REPLY_LINE} octets: {shown}", 500, b"Line too long."
    )


def _shown(line: bytes) -> str:
    return ascii(line[:200].decode("latin-1"))


def _hint(line: bytes) -> str:
    # A TLS record starts with its type, 0x14 to 0x17, and the version's major number, 3.
    if line[1:2] == b"\x03" and line[:1] in (b"\x14", b"\x15", b"\x16", b"\x17"):
        return "; the server speaks TLS on this port: use implicit TLS (tls='implicit', SMTP_SSL)"
    return ""


def closed_by(reply: Reply) -> Disconnected:
    """The error for a session that the server ended by 421."""
    error = Disconnected(f"the server closed the connection: {reply}")
    error.reply = reply
    return error

"""Content rewritten: 8-bit octets and long lines re-encoded, where they may be.

Only what is at fault is rewritten, and decodes to what it did before; every other octet stays as
it is. What is signed is never touched.
"""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import compat32

from .errors import InvalidInput, printable
from .fitting import EIGHT_BIT, LONG_LINE
from .protocol.content import LONGEST_LINE, has_long_line

_OPAQUE = frozenset({"multipart/signed", "multipart/encrypted"})
# What one of these covers would no longer be what was signed (RFC 6376, RFC 8617, RFC 4870).
_SIGNATURES = frozenset({b"dkim-signature", b"arc-message-signature", b"domainkey-signature"})
# RFC 2046 section 5.2.1 and its successors: a message in a message, which is never encoded.
_MESSAGES = frozenset({"message/rfc822", "message/global", "message/news"})
_IDENTITY = frozenset({"7bit", "8bit", "binary"})
# Parts within parts within parts: more than anybody writes, and less than Python's stack.
_DEEPEST = 50
# RFC 5322 section 2.1.1; RFC 2045 section 6.8: 76 characters, which hold 57 octets.
_FOLDED = 78
_OF_BASE64 = 76

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FIELDS = re.compile(rb"(?<=\r\n)(?![ \t])")
_WORD = re.compile(rb"[ \t]*[^ \t]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]*")
# At most 75 characters of quoted-printable, with an "=" behind them at the end of a soft line.
_SOFT_LINE = re.compile(rb"(?:=[0-9A-Fa-f]{2}|.){1,25}")


def re_encoded(content: bytes, *, eight_bit: bool) -> tuple[bytes, tuple[str, ...]]:
    """Canonical `content` as a server takes it, and what was changed.

    Raises InvalidInput where that would break a signature, and where MIME knows no way.
    """
    rewriting = _Rewriting(eight_bit)
    data = rewriting.entity(content, is_message=True)
    if content.endswith(b"\r\n") and not data.endswith(b"\r\n"):
        data += b"\r\n"
    return data, tuple(rewriting.changes)


class _Rewriting:
    """One content on its way to another form. `changes` has what was done, each text once."""

    def __init__(self, eight_bit: bool) -> None:
        self._eight_bit = eight_bit
        self._depth = 0
        self.changes: dict[str, None] = {}

    def _fits(self, data: bytes) -> bool:
        return (self._eight_bit or data.isascii()) and not has_long_line(data)

    def _fault(self, data: bytes) -> str:
        return LONG_LINE if has_long_line(data) else EIGHT_BIT

    def _impossible(self, data: bytes, why: str) -> InvalidInput:
        return InvalidInput(f"the content has {self._fault(data)}, {why}")

    def entity(self, data: bytes, kind: str = "text/plain", *, is_message: bool = False) -> bytes:
        """A header and its body; `kind` is the content type of one whose header names none."""
        if self._fits(data):
            return data
        if self._depth == _DEEPEST:
            raise self._impossible(data, f"in a part within {_DEEPEST} others")
        self._depth += 1
        head, body = _split(data)
        header = _Header(head, kind)
        if header.broken:
            raise self._impossible(data, "and a line in its header that is no field")
        if _SIGNATURES & header.names:
            raise self._impossible(data, "and a DKIM signature that re-encoding would break")
        header.fields = [f if self._fits(f) else self._field(f) for f in header.fields]
        if not self._fits(body):
            body = self._body(header, body)
            if is_message and b"mime-version" not in header.names:
                header.fields.insert(0, b"MIME-Version: 1.0\r\n")
        self._depth -= 1
        return b"".join(header.fields) + body

    def _field(self, field: bytes) -> bytes:
        """A field, its long lines folded (RFC 5322 section 2.2.3)."""
        name = field.partition(b":")[0].decode("ascii").strip()
        if not (self._eight_bit or field.isascii()):
            raise InvalidInput(
                f"the field {name} has octets outside ASCII, and the server offers no SMTPUTF8:"
                " write it as encoded-words (RFC 2047)"
            )
        folded = b"\r\n".join(map(_folded, field.split(b"\r\n")))
        if has_long_line(folded):
            raise InvalidInput(
                f"the field {name} has {LONG_LINE}, and no space at which it can be folded"
            )
        self.changes[f"header field {name} folded: it had {LONG_LINE}"] = None
        return folded

    def _body(self, header: _Header, body: bytes) -> bytes:
        """The body behind `header`, with the blank line before it."""
        kind, declared = header.kind, header.encoding
        if kind in _OPAQUE:
            raise self._impossible(body, f"in {kind}, which re-encoding would break")
        if kind.startswith("multipart/"):
            body = self._multipart(header, body)
        elif kind in _MESSAGES and declared in _IDENTITY:
            body = b"\r\n" + self.entity(body[2:], is_message=True)
        else:
            return self._leaf(header, body)
        # What holds the parts only says what is in them.
        if declared in ("8bit", "binary"):
            header.set_encoding("7bit" if body.isascii() else "8bit")
        return body

    def _multipart(self, header: _Header, body: bytes) -> bytes:
        """Every part by itself; RFC 2046 section 5.1.1 says where they begin and end."""
        boundary = header.boundary
        if boundary is None:
            raise self._impossible(body, "in a multipart without a boundary")
        line = re.compile(rb"(?<=\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)")
        kind = "message/rfc822" if header.kind == "multipart/digest" else "text/plain"
        out: list[bytes] = []
        at, inside = 0, False
        for match in line.finditer(body):
            if out and not inside:
                break  # What follows the last boundary is a text like the one before the first.
            # The line end in front of a boundary belongs to it.
            own = body[at : match.start() - 2] if match.start() - 2 > at else b""
            out += self._part(own, kind, inside=inside), body[at + len(own) : match.end()]
            at, inside = match.end(), match[1] is None
        out.append(self._part(body[at:], kind, inside=inside))
        return b"".join(out)

    def _part(self, data: bytes, kind: str, *, inside: bool) -> bytes:
        """What is between two boundaries; or outside of them, where it cannot be encoded."""
        if inside or self._fits(data):
            return self.entity(data, kind)
        raise self._impossible(data, "outside the parts of a multipart")

    def _leaf(self, header: _Header, body: bytes) -> bytes:
        """A body without parts, encoded so that it fits; what is encoded already, in new lines."""
        kind, declared, data = header.kind, header.encoding, body[2:]
        if declared == "base64" and _BASE64.fullmatch(data):
            data = _lines_of(b"".join(data.split()))
        elif declared == "quoted-printable":
            data = b"\r\n".join(map(_soft, data.split(b"\r\n")))
        elif declared not in _IDENTITY:
            raise self._impossible(body, f"in transfer encoding {printable(declared.encode())}")
        elif kind.startswith(("message/", "multipart/")):
            # RFC 2046 section 5.2: what is in here cannot be encoded.
            raise self._impossible(body, f"in {printable(kind.encode())}, which is never encoded")
        elif kind.startswith("text/"):
            declared, data = "quoted-printable", b"\r\n".join(map(_quoted, data.split(b"\r\n")))
        else:
            declared, data = "base64", _lines_of(b2a_base64(data, newline=False))
        if declared != header.encoding:
            header.set_encoding(declared)
        why = f"it had {self._fault(body)}"
        self.changes[f"{printable(kind.encode())[:80]} written as {declared}: {why}"] = None
        return b"\r\n" + data


class _Header:
    """The fields of a header, each with its line end, and what they say of the body."""

    def __init__(self, head: bytes, kind: str) -> None:
        self.fields = [field for field in _FIELDS.split(head) if field]
        matches = list(map(_FIELD.match, self.fields))
        self.broken = None in matches
        self.names = {match[1].lower() for match in matches if match}
        self._parsed: Message = BytesHeaderParser(policy=compat32).parsebytes(head)
        self._parsed.set_default_type(kind)

    @property
    def kind(self) -> str:
        """The content type in lower case, without parameters."""
        return self._parsed.get_content_type()

    @property
    def boundary(self) -> bytes | None:
        """What divides the parts of a multipart."""
        boundary = self._parsed.get_boundary()
        return None if boundary is None else boundary.encode("utf-8", "surrogateescape")

    @property
    def encoding(self) -> str:
        """The declared transfer encoding in lower case."""
        return str(self._parsed.get("Content-Transfer-Encoding", "7bit")).strip().lower()

    def set_encoding(self, encoding: str) -> None:
        """Declare this transfer encoding, and no other."""
        name = b"content-transfer-encoding"
        kept = [f for f in self.fields if f.partition(b":")[0].strip().lower() != name]
        self.fields = [*kept, f"Content-Transfer-Encoding: {encoding}\r\n".encode("ascii")]


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Header and body; the body begins with the blank line that divides them."""
    if data.startswith(b"\r\n"):
        return b"", data
    end = data.find(b"\r\n\r\n")
    return (data, b"") if end < 0 else (data[: end + 2], data[end + 2 :])


def _folded(line: bytes) -> bytes:
    """A line of a field, in several if it is too long."""
    if len(line) <= LONGEST_LINE:
        return line
    text = line.rstrip(b" \t")
    first, *words = _WORD.findall(text) or [b""]
    lines, current = [], first
    for word in words:
        if len(current) + len(word) > (LONGEST_LINE if current is first else _FOLDED):
            lines.append(current)
            current = b""
        current += word
    return b"\r\n".join((*lines, current + line[len(text) :]))


def _quoted(line: bytes) -> bytes:
    """A line as quoted-printable, in several if it needs them."""
    return b2a_qp(line).replace(b"=\n", b"=\r\n")


def _soft(line: bytes) -> bytes:
    """A line of quoted-printable, in several if it is too long, and without 8-bit octets."""
    if not line.isascii():
        line = b"".join(b"=%02X" % octet if octet > 127 else b"%c" % octet for octet in line)
    if len(line) <= LONGEST_LINE:
        return line
    return b"=\r\n".join(_SOFT_LINE.findall(line))


def _lines_of(encoded: bytes) -> bytes:
    """Base64 in lines."""
    starts = range(0, len(encoded), _OF_BASE64)
    return b"\r\n".join([encoded[at : at + _OF_BASE64] for at in starts])

"""From a Flask message to the octets that are sent.

`content` reads attributes only, so it takes Flask-Mail's own messages as well.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterable
from email import quoprimime
from email.message import MIMEPart
from email.policy import EmailPolicy
from typing import Any, Final

from mailbridge.rewriting import re_encoded

from . import headers
from .exceptions import BadHeaderError
from .headers import (
    BLIND,
    MAILBOXES,
    MAX_LINE,
    OURS,
    ascii_only,
    check,
    check_name,
    date,
    is_inline,
    pairs,
    text_of,
)

_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"
_PARAMETER: Final = rf'[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\[ -~])*")'
_CONTENT_TYPE: Final = re.compile(rf"({_TOKEN})/({_TOKEN})((?:{_PARAMETER})*)[ \t]*;?[ \t]*")
_CHARSET: Final = re.compile(r';[ \t]*charset="?([^\s";]+)', re.IGNORECASE)
_MESSAGE_ID: Final = re.compile(r"[!-~]{3,900}")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_FIELD: Final = re.compile(rb"[!-9;-~]+: (?:[^\r\n\0]+(?:\r\n[ \t]+[^\s\0][^\r\n\0]*)*)?\r\n")


class VerbatimPolicy(EmailPolicy):
    """Stores and writes header values as they are given, after a look at each written field."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        return name, value

    def header_fetch_parse(self, name: str, value: str) -> Any:
        return value

    def fold(self, name: str, value: str) -> str:
        return self.fold_binary(name, value).decode()

    def fold_binary(self, name: str, value: str) -> bytes:
        field = f"{name}: {value}\r\n".encode()
        if not _FIELD.fullmatch(field) or any(len(line) > MAX_LINE for line in field.split(b"\n")):
            raise BadHeaderError(f"the {name!a} field would not be one field of lines in bounds")
        return field


POLICY: Final = VerbatimPolicy(linesep="\r\n", cte_type="7bit", utf8=True)


def content(message: Any, *, ascii_attachments: bool = False) -> bytes:
    """The message with CRLF line ends, without Bcc. ASCII, unless a local part is not.

    Raises BadHeaderError or another ValueError for anything that would not be safe to send.
    """
    check_line_breaks(message)
    charset = headers.codec(message.charset)
    root = _body(message, charset, ascii_attachments)
    about_content = root.items()
    for name, _ in about_content:
        del root[name]
    fields = _fields(message, charset)
    names = [*fields, *(name for name, _ in about_content)]
    for name, value in (*fields.items(), *about_content):
        root[name] = value
    return _verified(root.as_bytes(), names)


def shown(message: Any) -> Any:
    """A copy of the message that can be looked at, though an address in it is none to send to."""
    other = copy.copy(message)
    for field in ("sender", "reply_to"):
        setattr(other, field, headers.mended(getattr(message, field)))
    for field in ("recipients", "cc"):
        setattr(other, field, [headers.mended(each) for each in getattr(message, field) or ()])
    return other


def check_line_breaks(message: Any) -> None:
    """Look for line breaks and control characters in all that ends up in a header field.

    Raises BadHeaderError. A subject that is folded by the rules is no danger: it is unfolded.
    """
    check("subject", headers.unfolded(message.subject))
    for field in ("sender", "reply_to"):
        _check_all(field, [getattr(message, field)])
    for field in ("recipients", "cc", "bcc"):
        _check_all(field, getattr(message, field) or ())
    check("msgId", message.msgId)
    _check_fields(message.extra_headers)
    for attachment in message.attachments or ():
        for field in ("filename", "content_type", "disposition"):
            _check_all(f"attachment {field}", [getattr(attachment, field)])
        _check_fields(attachment.headers)


def _check_all(field: str, values: Iterable[Any]) -> None:
    for value in values:
        for part in value if isinstance(value, (tuple, list)) else [value]:
            check(field, "" if part is None else part)


def _check_fields(fields: Any) -> None:
    for name, value in pairs(fields):
        if value is None:
            raise BadHeaderError(f"{check_name(name)} is None: leave it out, or give a text")
        check(check_name(name), value)


# -- header fields


def _fields(message: Any, charset: str) -> dict[str, str]:
    """The fields of the message in their order. `extra_headers` replace those of the same name."""
    fields: dict[str, str] = {}
    if message.subject:
        fields["Subject"] = headers.subject(message.subject, charset)
    if message.sender:
        fields["From"] = headers.mailboxes("From", [message.sender], charset)
    for name, values in (("To", message.recipients), ("Cc", message.cc)):
        if values:
            fields[name] = headers.mailboxes(name, values, charset)
    if message.reply_to:
        fields["Reply-To"] = headers.mailboxes("Reply-To", [message.reply_to], charset)
    fields["Date"] = date(message.date)
    if not _MESSAGE_ID.fullmatch(message.msgId):
        raise BadHeaderError(f"msgId {message.msgId!a} is no message identifier")
    fields["Message-ID"] = message.msgId
    for name, value in pairs(message.extra_headers):
        _add_extra(fields, check_name(name), value, charset)
    return fields


def _add_extra(fields: dict[str, str], name: str, value: Any, charset: str) -> None:
    lower = name.lower()
    if lower in OURS:
        raise BadHeaderError(f"{name} is made from the content; it cannot be an extra header")
    if lower in BLIND:
        raise BadHeaderError(f"{name} is never sent; use the bcc argument")
    for other in [other for other in fields if other.lower() == lower]:
        del fields[other]
    text = check(name, value)
    if lower in MAILBOXES and not text.isascii():
        # A comma in a quoted name is not told apart here: give such names encoded.
        fields[name] = headers.mailboxes(name, text.split(","), charset)
    else:
        fields[name] = headers.verbatim(name, text, charset)


# -- body


def _body(message: Any, charset: str, ascii_attachments: bool) -> MIMEPart:
    """mixed(alternative(plain, ..., related(html, inline...)), attachments): what is needed of it.

    As in Flask-Mail there is a plain text part, if an empty one, beside every alternative.
    """
    attachments = list(message.attachments or ())
    alternatives = dict(message.alts or {})
    inline = [a for a in attachments if is_inline(a)] if "html" in alternatives else []
    parts = [_text(message.body, "text/plain", charset)]
    for subtype, text in alternatives.items():
        part = _text(text, subtype if "/" in subtype else f"text/{subtype}", charset)
        if subtype == "html" and inline:
            related = [_attachment(a, charset, ascii_attachments) for a in inline]
            part = _multipart("related", [part, *related])
        parts.append(part)
    root = parts[0] if len(parts) == 1 else _multipart("alternative", parts)
    rest = [_attachment(a, charset, ascii_attachments) for a in attachments if a not in inline]
    if rest:
        root = _multipart("mixed", [root, *rest])
    root["MIME-Version"] = "1.0"
    return root


def _multipart(subtype: str, parts: Iterable[MIMEPart]) -> MIMEPart:
    multipart = MIMEPart(policy=POLICY)
    multipart["Content-Type"] = f"multipart/{subtype}"
    for part in parts:
        multipart.attach(part)
    return multipart


def _text(text: Any, content_type: str, charset: str) -> MIMEPart:
    text = _LINE_END.sub("\n", "" if text is None else text_of(text))
    try:
        data = text.encode(charset)
    except UnicodeEncodeError:
        # A lone surrogate is no text at all; a "?" for it is better than no mail.
        charset, data = "utf-8", text.encode("utf-8", "replace")
    part = MIMEPart(policy=POLICY)
    main, sub, parameters = _parsed(content_type)
    part["Content-Type"] = f'{main}/{sub}; charset="{charset}"{parameters}'
    encoding, payload = _transfer_encoded(data)
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(payload)
    return part


def _transfer_encoded(data: bytes) -> tuple[str, str]:
    """Lines of text in an encoding that every server takes (RFC 2045 section 6)."""
    if data.isascii() and b"\0" not in data and max(map(len, data.split(b"\n"))) <= MAX_LINE:
        return "7bit", data.decode("ascii")
    beyond_ascii = sum(octet > 126 for octet in data)
    # Quoted-printable takes three octets for one, base64 four for three of all.
    if beyond_ascii * 6 > len(data):
        return "base64", base64.encodebytes(data.replace(b"\n", b"\r\n")).decode("ascii")
    return "quoted-printable", quoprimime.body_encode(data.decode("latin-1"))


def _attachment(attachment: Any, charset: str, ascii_filename: bool) -> MIMEPart:
    part = MIMEPart(policy=POLICY)
    main, sub, parameters = _parsed(text_of(attachment.content_type))
    data = attachment.data
    if isinstance(data, str):
        data, parameters = _encoded_text(data, main, parameters, charset)
    data = bytes(data)
    inner = _message_lines(data) if main.lower() == "message" else None
    if inner is not None:
        encoding, payload = "7bit", inner
    else:
        encoding, payload = "base64", base64.encodebytes(data).decode("ascii")
        if main.lower() == "message":
            main, sub, parameters = "application", "octet-stream", ""
    part["Content-Type"] = f"{main}/{sub}{parameters}"
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(payload)
    filename = None if attachment.filename is None else text_of(attachment.filename)
    if filename and ascii_filename:
        filename = ascii_only(filename)
    kind = text_of(attachment.disposition)
    if not re.fullmatch(_TOKEN, kind):
        raise BadHeaderError(f"disposition {kind!a} is not a word such as 'attachment', 'inline'")
    part["Content-Disposition"] = headers.disposition(kind, filename)
    for name, value in pairs(attachment.headers):
        if check_name(name).lower() in ("mime-version", "content-transfer-encoding"):
            raise BadHeaderError(f"{name} of an attachment is made from its data")
        del part[name]
        part[name] = headers.verbatim(name, value, charset)
    return part


def _message_lines(data: bytes) -> str | None:
    """A message as lines of ASCII, None where it cannot be written so.

    RFC 2046 section 5.2: within a message it is neither base64 nor quoted-printable.
    """
    try:
        lines, _ = re_encoded(re.sub(rb"\r\n|\r|\n", b"\r\n", data), eight_bit=False)
    except ValueError:
        return None
    return None if b"\0" in lines else lines.decode("ascii")


def _encoded_text(text: str, main: str, parameters: str, charset: str) -> tuple[bytes, str]:
    """The octets of a text that was attached, and the parameters that say how to read them."""
    named = _CHARSET.search(parameters)
    encoding = headers.codec(named[1]) if named else charset
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError as exc:
        if named:
            raise BadHeaderError(f"attached text cannot be encoded in {encoding}: {exc}") from exc
        encoding, data = "utf-8", text.encode("utf-8", "replace")
    if main.lower() == "text" and not named:
        parameters = f'; charset="{encoding}"{parameters}'
    return data, parameters


def _parsed(content_type: str) -> tuple[str, str, str]:
    """Type, subtype and parameters of a content type, which is refused unless it is one."""
    match = _CONTENT_TYPE.fullmatch(content_type) if content_type.isascii() else None
    if match is None or match[1].lower() == "multipart":
        raise BadHeaderError(f"content type {content_type!a} is not one such as 'image/png'")
    return match[1], match[2], match[3]


def _verified(octets: bytes, names: list[str]) -> bytes:
    """`octets`, if their header block holds the fields of these names and nothing else."""
    block = octets.partition(b"\r\n\r\n")[0]
    found = []
    for line in block.split(b"\r\n"):
        if line[:1] not in (b" ", b"\t"):
            found.append(line.partition(b":")[0].decode("ascii", "replace"))
        if len(line) > MAX_LINE or not line.strip() or re.search(rb"[\r\n\0]", line):
            raise BadHeaderError("the header would hold an empty, overlong or broken line")
    if found != names:
        raise BadHeaderError(f"the header would hold {found!a} instead of {names!a}")
    return octets

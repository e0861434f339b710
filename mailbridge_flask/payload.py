"""A message as plain data for JSON, and back: for a queue between a view and a worker."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import mailbridge
from mailbridge import Address, InvalidInput

from .headers import pairs, text_of

if TYPE_CHECKING:
    from .message import Attachment, Message

M = TypeVar("M", bound="Message")

_TEXTS: Final = ("subject", "sender", "default_sender", "body", "charset", "msgId")
_ADDRESSES: Final = ("recipients", "cc", "bcc")
_WORDS: Final = ("mail_options", "rcpt_options")


def to_dict(message: Message) -> dict[str, Any]:
    """What `from_dict` makes the message of again. Raises TypeError for what is no plain data."""
    data: dict[str, Any] = {name: _text(getattr(message, name)) for name in _TEXTS}
    for name in _ADDRESSES:
        data[name] = [_address(each) for each in getattr(message, name) or ()]
    for name in _WORDS:
        data[name] = [text_of(each) for each in getattr(message, name) or ()]
    data["reply_to"] = None if message.reply_to is None else _address(message.reply_to)
    data["alts"] = {text_of(name): _text(text) for name, text in pairs(message.alts)}
    data["extra_headers"] = [[text_of(a), text_of(b)] for a, b in pairs(message.extra_headers)]
    data["date"] = _plain(message.date)
    data["attachments"] = [_attachment(each) for each in message.attachments or ()]
    data["esmtp"] = _plain(message.esmtp)
    return data


def fill(message: M, data: Mapping[str, Any], attachment: type[Attachment]) -> M:
    """Give `message`, which is empty, everything that is in `data`. Returns it.

    Raises InvalidInput (a ValueError) for what `to_dict` has not made.
    """
    try:
        return _filled(message, data, attachment)
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInput(f"this is not what to_dict() makes of a message: {exc!r}") from exc


def _filled(message: M, data: Mapping[str, Any], attachment: type[Attachment]) -> M:
    for name in _TEXTS:
        setattr(message, name, data[name])
    for name in _ADDRESSES:
        setattr(message, name, [_recipient(each) for each in data[name]])
    for name in _WORDS:
        setattr(message, name, [*data[name]])
    message.reply_to = _recipient(data["reply_to"])
    message.alts = {**data["alts"]}
    message.extra_headers = dict(data["extra_headers"]) or None
    message.date = _moment(data["date"])
    message.attachments = [_attached(each, attachment) for each in data["attachments"]]
    message.esmtp = _esmtp(data["esmtp"])
    return message


def _text(value: object) -> str | None:
    return None if value is None else text_of(value)


def _address(value: Any) -> str | list[str | None]:
    if isinstance(value, (tuple, list)):
        return [_text(part) for part in value]
    return text_of(value)


def _recipient(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _attachment(attachment: Attachment) -> dict[str, Any]:
    data = attachment.data
    what = (
        {"text": data}
        if isinstance(data, str)
        else {"base64": base64.b64encode(bytes(data)).decode("ascii")}
    )
    return {
        "filename": _text(attachment.filename),
        "content_type": text_of(attachment.content_type),
        "disposition": text_of(attachment.disposition),
        "headers": [[text_of(name), text_of(value)] for name, value in pairs(attachment.headers)],
        **what,
    }


def _attached(data: Mapping[str, Any], attachment: type[Attachment]) -> Attachment:
    content = data["text"] if "text" in data else base64.b64decode(data["base64"], validate=True)
    return attachment(
        data["filename"],
        data["content_type"],
        content,
        data["disposition"],
        dict(data["headers"]),
    )


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dicts for what is made of them, and of dates."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, mailbridge.DSN) and not isinstance(value.orcpt, (bool, type(None))):
        raise TypeError("orcpt with addresses of its own is for gateways, not for a queue")
    if isinstance(value, Address):
        return value.text
    if is_dataclass(value):
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        return {name: _plain(each) for name, each in given.items() if each is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{value!r} is no plain data")


def _moment(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _esmtp(data: Any) -> Any:
    if data is None:
        return None
    changed = dict(data)
    if "deliver_by" in changed:
        changed["deliver_by"] = mailbridge.DeliverBy(**changed["deliver_by"])
    if "hold_until" in changed:
        changed["hold_until"] = _moment(changed["hold_until"])
    return mailbridge.Esmtp.of(changed)

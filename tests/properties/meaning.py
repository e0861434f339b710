"""What a message means, as plain data: two that mean the same compare equal."""

from __future__ import annotations

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.message import EmailMessage as MIMEMessage
from email.utils import getaddresses
from typing import Any

# These say how a part is written; they are compared by what they mean.
OF_THE_PART = {"content-type", "content-transfer-encoding", "mime-version", "content-disposition"}


def meaning(part: Any, *, encodings: bool = True) -> Any:
    """A parsed message as plain data. Without `encodings`, each part may have any of them."""
    headers = [
        (name, field_meaning(value))
        for name, value in part.items()
        if name.lower() not in OF_THE_PART
    ]
    type_parameters = {k: v for k, v in part["content-type"].params.items() if k != "boundary"}
    shape = {
        "headers": headers,
        "type": part.get_content_type(),
        "parameters": type_parameters,
        "disposition": part.get_content_disposition(),
        "filename": part.get_filename(),
        "defects": [type(defect) for defect in part.defects],
    }
    if part.is_multipart():
        return shape | {"parts": [meaning(each, encodings=encodings) for each in part.iter_parts()]}
    content = part.get_payload(decode=True)
    if part.get_content_maintype() == "text":
        content = re.sub(rb"\r\n|\r|\n", b"\n", content)
    encoding = {"encoding": part["content-transfer-encoding"]} if encodings else {}
    return shape | encoding | {"content": content}


def field_meaning(value: Any) -> Any:
    if hasattr(value, "datetime"):
        return "date", value.datetime and value.datetime.utcoffset()
    if hasattr(value, "addresses"):
        return [(each.display_name, each.username, each.domain) for each in value.addresses]
    return re.sub(r"<\d+\.\d+\.\d+@", "<made@", str(value))


def older_meaning(content: bytes, name: str) -> list[tuple[str, str]]:
    """The addresses of a field, as the older half of `email` reads it."""
    written = email.message_from_bytes(content)[name]
    return [
        (str(make_header(decode_header(display_name))), address)
        for display_name, address in getaddresses([re.sub(r"\r?\n", "", written)])
    ]


def parsed(content: bytes) -> MIMEMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, MIMEMessage)
    return message

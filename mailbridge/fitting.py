"""Content fitted to what a server takes: what is at fault is rewritten, and the rest left alone."""

from __future__ import annotations

from typing import NamedTuple

from .errors import InvalidInput
from .protocol.content import LONGEST_LINE, Body, Buffer

EIGHT_BIT = "8-bit octets, which this server does not take (no 8BITMIME)"
# RFC 5321 section 4.5.3.1.6. Neither 8BITMIME (RFC 6152 section 3) nor CHUNKING lifts it.
LONG_LINE = f"a line of more than {LONGEST_LINE} octets"


class Fitted(NamedTuple):
    """A content that a server takes, and in short texts what was changed to make it so."""

    content: Body
    changes: tuple[str, ...] = ()


def fitted(content: Body, *, eight_bit: bool, strict: bool = False) -> Fitted:
    """`content` without lines that are too long, and without 8-bit octets unless `eight_bit`.

    Raises InvalidInput where it cannot be changed, or with `strict` is not to be. What has to be
    changed is held in memory.
    """
    too_long = content.long_lines
    if not too_long and (eight_bit or content.is_ascii):
        return Fitted(content)
    if strict:
        raise InvalidInput(
            f"the content has {LONG_LINE if too_long else EIGHT_BIT}, and strict is set: encode"
            " the part that has it as quoted-printable or base64"
        )
    # Imported here: nearly every content fits nearly every server.
    from .rewriting import re_encoded

    data, changes = re_encoded(b"".join(content.pieces()), eight_bit=eight_bit)
    return Fitted(Buffer(data), changes)

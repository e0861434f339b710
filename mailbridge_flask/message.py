"""Message and Attachment: what a person wrote. Plain data, so both can be pickled for a queue."""

from __future__ import annotations

import re
import socket
import warnings
from collections.abc import Iterable, KeysView, Mapping
from datetime import datetime
from email.utils import make_msgid
from mimetypes import guess_type
from typing import TYPE_CHECKING, Any, Self, cast

import mailbridge
from mailbridge import Address, AddressError, DeliveryReport

from . import headers
from .current import current_or_none
from .exceptions import BadHeaderError

if TYPE_CHECKING:
    from mailbridge import Esmtp

    from .connection import Connection

#: ``"a@b"``, ``"Name <a@b>"`` or ``("Name", "a@b")``.
Recipient = str | tuple[str, str]


class Attachment:
    """A file to attach.

    `data` is bytes, or text, which is encoded. Without `content_type` it is guessed from
    `filename`. `disposition` is "attachment" or "inline"; with "inline" and a Content-ID among
    `headers` the HTML can show it as ``cid:...``. Raises ValueError without `data`.
    """

    def __init__(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: str | bytes | None = None,
        disposition: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if data is None:
            raise ValueError("an attachment needs data: bytes, or text to be encoded")
        if content_type is None and filename is not None:
            content_type = guess_type(filename)[0]
        if content_type is None:
            content_type = "text/plain" if isinstance(data, str) else "application/octet-stream"
        self.filename = filename
        self.content_type = content_type
        self.data = data
        self.disposition = disposition or "attachment"
        self.headers: dict[str, str] = dict(headers or {})


class Message:
    """An e-mail message, with Flask-Mail's arguments, attributes and methods.

    `sender` defaults to MAIL_DEFAULT_SENDER of the current application. `alts` maps subtypes of
    text to alternatives; `html` is the one for "html". `date` is a timestamp or a datetime.
    `extra_headers` replace fields of the same name; `mail_options` and `rcpt_options` are ESMTP
    parameters, `esmtp` is what to ask of the server by extensions. After a send,
    `delivery_report` says what became of each recipient.
    """

    delivery_report: DeliveryReport | None = None
    esmtp: Esmtp | Mapping[str, Any] | None = None

    def __init__(
        self,
        subject: str = "",
        recipients: Iterable[Recipient] | None = None,
        body: str | None = None,
        html: str | None = None,
        alts: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        sender: Recipient | None = None,
        cc: Iterable[Recipient] | None = None,
        bcc: Iterable[Recipient] | None = None,
        attachments: Iterable[Attachment] | None = None,
        reply_to: Recipient | None = None,
        date: float | datetime | None = None,
        charset: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        *,
        esmtp: Esmtp | Mapping[str, Any] | None = None,
    ) -> None:
        default = None if sender else _default("default_sender")
        #: The sender that it has for want of another. The mailer may have another default.
        self.default_sender: str | None = headers.mailbox_text(default) if default else None
        self.subject = subject
        self.recipients: list[Recipient] = _listed("recipients", recipients)
        self.sender: str | None = headers.mailbox_text(sender) if sender else self.default_sender
        self.reply_to = reply_to
        self.cc: list[Recipient] = _listed("cc", cc)
        self.bcc: list[Recipient] = _listed("bcc", bcc)
        self.body = body
        self.alts: dict[str, str] = dict(alts or {})
        if html is not None:
            self.html = html
        self.date = date
        # getfqdn(), the default, may ask the name service and wait for it.
        self.msgId = make_msgid(domain=_id_domain(self.sender))
        self.charset = charset
        self.extra_headers = None if extra_headers is None else dict(extra_headers)
        self.mail_options: list[str] = list(mail_options or ())
        self.rcpt_options: list[str] = list(rcpt_options or ())
        self.esmtp = None if esmtp is None else mailbridge.Esmtp.of(esmtp)
        self.attachments: list[Attachment] = list(attachments or ())

    @property
    def html(self) -> str | None:
        """The HTML alternative, ``alts["html"]``."""
        return self.alts.get("html")

    @html.setter
    def html(self, value: str | None) -> None:
        if value is None:
            self.alts.pop("html", None)
        else:
            self.alts["html"] = value

    @property
    def send_to(self) -> KeysView[Recipient]:
        """Whom the message goes to, as they are named in `recipients`, `cc` and `bcc`.

        In that order and each mailbox once. Compares equal to a set, as Flask-Mail has it.
        """
        return unique_recipients(self)

    def add_recipient(self, recipient: Recipient) -> None:
        """Add one more to `recipients`."""
        self.recipients.append(recipient)

    def attach(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: str | bytes | None = None,
        disposition: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Attach a file; the arguments are those of `Attachment`. Raises ValueError."""
        self.attachments.append(Attachment(filename, content_type, data, disposition, headers))

    def as_bytes(self) -> bytes:
        """The message as it is sent, without Bcc. Raises BadHeaderError, AddressError.

        What is sent means the same, and may be written in another way; but a class that overrides
        this method says to the letter what is sent.
        """
        # Imported here: what is sent is nearly always written by `fastpath`.
        from . import compose

        return compose.content(self, ascii_attachments=bool(_default("ascii_attachments")))

    def to_dict(self) -> dict[str, Any]:
        """The message as plain data for JSON, to be sent by a worker, say: see `from_dict`.

        What a subclass has of its own is left out. Raises TypeError for what is no plain data.
        """
        from . import payload  # Imported here: it is for a queue.

        return payload.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The message that `to_dict` was called for, under the same Message-ID.

        Raises InvalidInput (a ValueError) for data that `to_dict` has not made.
        """
        from . import payload

        return payload.fill(cls.__new__(cls), data, Attachment)

    def as_string(self) -> str:
        """`as_bytes` as text, to be looked at.

        As in Flask-Mail an address is shown without line breaks and what else makes it none;
        sending, and `as_bytes`, raise for it.
        """
        try:
            return self.as_bytes().decode()
        except ValueError:
            from . import compose

            return cast(Message, compose.shown(self)).as_bytes().decode()

    def __bytes__(self) -> bytes:
        return self.as_bytes()

    def __str__(self) -> str:
        return self.as_string()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.subject!r} to {len(self.send_to)} recipients>"

    def has_bad_headers(self) -> bool:
        """True if a header field holds what it cannot: sending raises BadHeaderError."""
        try:
            self.as_bytes()
        except BadHeaderError:
            return True
        except ValueError:
            pass  # an address, say, that is none; sending will name it
        return False

    def is_bad_headers(self) -> bool:
        """Deprecated: the old name of `has_bad_headers`."""
        warnings.warn(
            "is_bad_headers() is deprecated, call has_bad_headers()",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.has_bad_headers()

    def send(self, connection: Connection) -> DeliveryReport:
        """Send by `connection`; returns and raises what `Connection.send` does."""
        return connection.send(self)


def unique_recipients(message: Any) -> KeysView[Recipient]:
    """The recipients of a message, each mailbox once, under its first name."""
    named = [*(message.recipients or ()), *(message.cc or ()), *(message.bcc or ())]
    named = [tuple(each) if isinstance(each, list) else each for each in named]
    if len(named) > 1:
        firsts: dict[object, Recipient] = {}
        for each in named:
            firsts.setdefault(_mailbox_key(each), each)
        named = list(firsts.values())
    return dict.fromkeys(named).keys()


def _mailbox_key(recipient: Recipient) -> object:
    try:
        address = headers.parse_mailbox(recipient).address
    except ValueError:
        return recipient  # named in the error when it is sent
    if address.domain is None or address.domain.isascii():
        return address  # equal in any case of letters behind the @, as RFC 5321 section 2.4 says
    return Address(address.local_part, address.ascii_domain)


def _listed(field: str, values: Iterable[Recipient] | None) -> list[Recipient]:
    if isinstance(values, str):
        raise AddressError(f"{field} is a list of addresses, not the text {values!a}")
    return list(values or ())


def _default(name: str) -> Any:
    """A setting of the current application, None where there is none."""
    app = current_or_none()
    state = None if app is None else app.extensions.get("mail")
    return getattr(state, name, None)


def _id_domain(sender: str | None) -> str:
    """The domain for message identifiers: the sender's, or else the name of this machine."""
    try:
        domain = headers.parse_mailbox(sender).address.ascii_domain
    except ValueError:
        domain = None  # named in the error when it is sent
    domain = domain or socket.gethostname()
    return domain if re.fullmatch(r"[A-Za-z0-9._-]+", domain) else "localhost"

"""Django's EmailMessage to an envelope and content.

The envelope comes from `from_email` and `recipients()`, never from the header, which may differ.
"""

from __future__ import annotations

import contextlib
import copy
import email.errors
import email.message
import email.policy
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterable
from email.headerregistry import AddressHeader
from typing import Any, NamedTuple, Protocol

from django.core.mail import EmailMessage
from django.core.mail.message import ADDRESS_HEADERS, MIMEMixin
from django.utils.encoding import force_str, punycode

from mailbridge import Address, AddressError, Envelope, InvalidInput, NonASCIIAddress
from mailbridge.envelope import to_ascii_domain
from mailbridge.protocol.content import Buffer, canonical
from mailbridge.render import Rendered

from . import fastpath

# Django 5.2 has its own MIME classes and no policy argument.
_TAKES_POLICY = "policy" in inspect.signature(EmailMessage.message).parameters
_DOMAIN = r"(?<=@)[^\s@<>()\",;:]+"
_warned_of: set[type] = set()
# Those of somebody else may add fields, a signature for example.
_WRITERS = {m.as_bytes for m in (email.message.Message, email.message.EmailMessage, MIMEMixin)}


class PrepareAddress(Protocol):
    """`EmailBackend.prep_address`, or `addr_spec`."""

    def __call__(self, address: str, force_ascii: bool = True) -> str: ...


class Mail(NamedTuple):
    """What is sent for one Django message."""

    envelope: Envelope
    #: A Body: `bytes` of it is the whole.
    content: Rendered | Buffer


def to_mail(
    message: EmailMessage,
    recipients: Iterable[str] | None = None,
    *,
    smtputf8: bool = False,
    prepare: PrepareAddress | None = None,
    common: fastpath.Common | None = None,
) -> Mail:
    """The envelope of `message` and its content with CRLF line ends.

    `recipients` are those of `message.recipients()`, if it was asked already. Attachments are
    encoded while the content is read. Recipients named twice are kept once, empty ones dropped.
    `smtputf8` says that local parts outside ASCII can be sent; `common` is what this message has
    in common with others. What the message has as `esmtp` goes into the envelope.

    Raises ValueError for an invalid address, for one that is not ASCII without `smtputf8`, for no
    recipient, and for a header field that is none or would become two; and whatever the message's
    own methods raise. Bcc and Resent-Bcc are left out.
    """
    prepare = prepare or addr_spec

    def address(text: Any) -> str:
        if str(text).isascii():
            return prepare(text)
        spec = prepare(text, force_ascii=False)
        # Without SMTPUTF8 this raises; a domain alone is no obstacle, it has an ASCII form.
        return spec if smtputf8 or spec.rpartition("@")[0].isascii() else prepare(text)

    # "<>" is the null reverse-path of notifications, RFC 5321 section 4.5.5.
    sender = None if message.from_email == "<>" else address(message.from_email)
    texts = message.recipients() if recipients is None else recipients
    paths = [address(text) for text in texts if text]
    envelope = Envelope(sender, paths, getattr(message, "esmtp", None))
    if not envelope.needs_smtputf8:
        rendered = fastpath.render(message, common)
        if rendered is not None:
            return Mail(envelope, rendered)
    try:
        mime = _rendered(_with_true_domains(message), utf8=envelope.needs_smtputf8)
        return Mail(envelope, Buffer(_to_bytes(mime)))
    except email.errors.MessageError as exc:
        raise InvalidInput(f"the message cannot be written: {exc}") from exc


def addr_spec(address: str, force_ascii: bool = True) -> str:
    """The bare address of ``Name <local-part@domain>``, or of a local mailbox without a domain.

    With `force_ascii` the domain is returned as A-labels (IDNA 2008: ``faß.de`` is
    ``xn--fa-hia.de``). Raises ValueError for what is not exactly one mailbox, for line breaks,
    and, with `force_ascii`, for a local part outside ASCII.
    """
    return _addr_spec(address if type(address) is str else force_str(address), force_ascii)


@functools.lru_cache(maxsize=4096)
def _addr_spec(text: str, force_ascii: bool) -> str:
    try:
        parsed = _parse(text)
        if not force_ascii:
            return str(parsed)
        if parsed.needs_smtputf8:
            why = "local-part contains non-ASCII characters"
            raise NonASCIIAddress(f"Invalid address {text!r}: {why}", parsed.local_part)
        return parsed.path().decode()
    except NonASCIIAddress:
        raise
    except AddressError as exc:
        _, _, why = str(exc).partition("': ")
        raise AddressError(f"Invalid address {text!r}: {why or exc}") from None


def _parse(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError:
        # "me@example.org (Comment)" of RFC 822 is rare, and legal in a header to this day.
        if "(" not in text or not text.isprintable():
            raise
        parsed: Any = AddressHeader.value_parser(text)
        if parsed.all_defects or len(parsed.all_mailboxes) != 1:
            raise
        return Address.parse(parsed.all_mailboxes[0].addr_spec)


def _with_true_domains(message: EmailMessage) -> EmailMessage:
    """The message, or a copy in which Django cannot encode a domain as another one.

    It knows IDNA 2003 only, by which ``faß.de`` in From is ``fass.de``, somebody else's.
    """
    attributes = vars(message)
    changed: dict[str, Any] = {}
    for name in ("from_email", "to", "cc", "reply_to"):
        value = attributes.get(name)
        true = _true(value) if not isinstance(value, list) else [_true(item) for item in value]
        if true != value:
            changed[name] = true
    headers = attributes.get("extra_headers") or {}
    true_headers = {
        name: _true(value) if str(name).lower() in ADDRESS_HEADERS else value
        for name, value in headers.items()
    }
    if true_headers != headers:
        changed["extra_headers"] = true_headers
    if changed:
        message = copy.copy(message)
        vars(message).update(changed)
    return message


def _true(value: Any) -> Any:
    if value is None or str(value).isascii():
        return value
    text = re.sub(_DOMAIN, lambda match: _true_domain(match[0]), str(value))
    return value if text == str(value) else text


def _true_domain(domain: str) -> str:
    with contextlib.suppress(ValueError):
        encoded = to_ascii_domain(domain)
        if encoded != punycode(domain):
            return encoded
    return domain


def _rendered(message: EmailMessage, *, utf8: bool) -> Any:
    """What `message.message()` returns: usually, but not always, an email.message.Message."""
    # RFC 6532: with SMTPUTF8 header fields hold the address as it is.
    policy = email.policy.SMTPUTF8 if utf8 else email.policy.SMTP
    method: Callable[..., Any] = message.message
    if not _TAKES_POLICY:
        return method()
    if _accepts_policy(method):
        return method(policy=policy)
    kind = type(message)
    if kind not in _warned_of:
        _warned_of.add(kind)
        warnings.warn(
            f"{kind.__module__}.{kind.__qualname__}.message() does not take the 'policy' argument"
            " of Django 6.0 and later. Add *, policy=email.policy.default to its parameters.",
            RuntimeWarning,
            stacklevel=2,
        )
    return method()


def _accepts_policy(method: Callable[..., Any]) -> bool:
    parameters = inspect.signature(method).parameters.values()
    return any(p.name == "policy" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _to_bytes(mime: Any) -> bytes:
    # Imported here: nearly every message is one for the fast path.
    from mailbridge import fields

    # A body that is 8bit stays so: the transport declares it, or re-encodes it, as needed.
    if not isinstance(mime, email.message.Message):
        return canonical(mime.as_bytes())
    mime = fields.without_bcc(mime)
    fields.check(mime)
    content = mime.as_bytes(linesep="\r\n") if isinstance(mime, MIMEMixin) else mime.as_bytes()
    written = canonical(content)
    if type(mime).as_bytes in _WRITERS:
        fields.check_written(mime, written)
    return written

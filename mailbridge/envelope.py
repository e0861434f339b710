"""Addresses and envelopes: text becomes a value once, at the border.

The wire form of an address is rebuilt from its parsed parts, never copied from the input, so no
CR, LF, space or ESMTP parameter in an address can reach the server.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import AddressError, NonASCIIAddress

if TYPE_CHECKING:
    from .esmtp import Esmtp

# RFC 5321 section 4.5.3.1: octets in a local part, a domain and a path with its brackets.
MAX_LOCAL_PART = 64
MAX_DOMAIN = 255
MAX_PATH = 256
# Far above any mailbox with its display name; a longer text is an attack on parsing time.
MAX_TEXT = 2048

ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# What nearly every address is; `mailbox` knows the others.
_PLAIN = re.compile(rf"({ATEXT}+(?:\.{ATEXT}+)*)@({LABEL}(?:\.{LABEL})*)")


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """One mailbox, ``local-part@domain``, or a mailbox of the server's own (no domain).

    Domains are equal in any case of letters, local parts are not (RFC 5321 section 2.4).

    `local_part` is as it stands in a path, quoted where that is needed; `domain` is as written.
    Use `Address.parse` to make one from text.
    """

    local_part: str
    domain: str | None = None
    # What is asked for with every mail is worked out once; addresses are parsed once as well.
    #: The address as people write it, the key of the reports.
    text: str = field(init=False, repr=False)
    _path: bytes = field(init=False, repr=False)
    _key: tuple[str, str | None] = field(init=False, repr=False)
    #: True if no server without SMTPUTF8 can take this address (RFC 6531 section 3.2).
    needs_smtputf8: bool = field(init=False, repr=False)

    @classmethod
    def parse(cls, text: str | Address) -> Address:
        """Parse ``a@b``, ``Name <a@b>``, ``"a b"@c``, ``a@[192.0.2.1]`` or ``webmaster``.

        Raises AddressError (a ValueError) for anything that is not exactly one mailbox.
        """
        if isinstance(text, Address):
            return text
        if not isinstance(text, str):
            raise AddressError(f"an address must be str or Address, not {type(text).__name__}")
        return _parse(text)

    def __post_init__(self) -> None:
        local_part, domain = self.local_part, self.domain
        text = local_part if domain is None else f"{local_part}@{domain}"
        if domain is None or not _PLAIN.fullmatch(text):
            _check_unusual(local_part, domain)
        ascii_domain = self.ascii_domain
        path = (local_part if ascii_domain is None else f"{local_part}@{ascii_domain}").encode()
        if len(path) > MAX_PATH - 2:
            raise AddressError(f"the address is over {MAX_PATH - 2} octets")
        values = {
            "text": text,
            "_path": path,
            "_key": (local_part, domain and domain.lower()),
            "needs_smtputf8": not local_part.isascii(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Address) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def ascii_domain(self) -> str | None:
        """The domain as A-labels (IDNA 2008 with UTS 46), as it goes on the wire."""
        return None if self.domain is None else to_ascii_domain(self.domain)

    def path(self, smtputf8: bool = False) -> bytes:
        """The path between the angle brackets of MAIL or RCPT.

        Raises NonASCIIAddress if the local part is not ASCII and `smtputf8` is false.
        """
        if self.needs_smtputf8 and not smtputf8:
            raise NonASCIIAddress(
                f"the address {self.text!r} can only be sent to a server that offers SMTPUTF8",
                self.local_part,
            )
        return self._path

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who a mail comes from and whom it goes to: the reverse-path and the forward-paths.

    Texts are parsed; a recipient named twice is kept once, in the first place. A reverse-path of
    None is the null reverse-path ``<>`` of notifications (RFC 5321 section 4.5.5). `esmtp` is
    what to ask of the server besides: an Esmtp, or a mapping of its arguments.
    Raises AddressError (a ValueError) for a bad address or when there is no recipient,
    OptionError (another) for an `esmtp` that cannot be.
    """

    reverse_path: Address | None
    forward_paths: tuple[Address, ...]
    esmtp: Esmtp | None

    def __init__(
        self,
        reverse_path: Address | str | None,
        forward_paths: Address | str | Iterable[Address | str] | None,
        esmtp: Esmtp | Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(forward_paths, (str, Address)):
            forward_paths = (forward_paths,)
        parsed: list[Address] = []
        for path in forward_paths or ():
            parsed.append(_parse(path) if type(path) is str else Address.parse(path))  # noqa: PERF401 - nearly always one
        if not parsed:
            raise AddressError("no recipients: name at least one address to send to")
        recipients = tuple(parsed) if len(parsed) == 1 else tuple(dict.fromkeys(parsed))
        object.__setattr__(self, "reverse_path", parse_reverse_path(reverse_path))
        object.__setattr__(self, "forward_paths", recipients)
        object.__setattr__(self, "esmtp", None if esmtp is None else self._checked(esmtp))

    def _checked(self, esmtp: Esmtp | Mapping[str, Any]) -> Esmtp:
        # Imported here: that module needs Address, and most mail does not need it.
        from .esmtp import Esmtp

        checked = Esmtp.of(esmtp)
        checked.check_recipients(self.forward_paths)
        return checked

    def only(self, recipients: Iterable[str]) -> Envelope:
        """The same envelope for some of its recipients."""
        chosen = set(recipients)
        changed = copy.copy(self)
        paths = tuple(address for address in self.forward_paths if address.text in chosen)
        object.__setattr__(changed, "forward_paths", paths)
        return changed

    def asking(self, default: Esmtp) -> Envelope:
        """The same envelope, with `default` for what its own `esmtp` leaves open."""
        changed = copy.copy(self)
        esmtp = default if self.esmtp is None else self.esmtp.over(default)
        object.__setattr__(changed, "esmtp", esmtp)
        return changed

    @property
    def sender(self) -> str | None:
        """The reverse-path as text; None for the null reverse-path."""
        return None if self.reverse_path is None else self.reverse_path.text

    @property
    def recipients(self) -> tuple[str, ...]:
        """The forward-paths as texts, the keys of the report."""
        return tuple([address.text for address in self.forward_paths])

    @property
    def needs_smtputf8(self) -> bool:
        """True if one of the addresses needs SMTPUTF8."""
        if self.reverse_path is not None and self.reverse_path.needs_smtputf8:
            return True
        for address in self.forward_paths:  # noqa: SIM110 - asked for with every mail
            if address.needs_smtputf8:
                return True
        return False


def parse_reverse_path(text: Address | str | None) -> Address | None:
    """The address of a sender. None and ``<>`` are the null reverse-path."""
    if type(text) is str and text not in ("", "<>"):
        return _parse(text)
    if text is None or text == "<>":
        return None
    if text == "":
        raise AddressError(
            "no sender: give an address, or None for the null reverse-path of notifications"
        )
    return Address.parse(text)


def to_ascii_domain(domain: str) -> str:
    """`domain` as A-labels. Raises AddressError where IDNA 2008 (RFC 5891) does not allow it."""
    if domain.isascii():
        return domain
    if len(domain) > MAX_TEXT:
        raise AddressError(f"the domain is over {MAX_TEXT} characters")
    # Imported here: its tables take a while to load and most mail never needs them.
    import idna

    try:
        # UTS 46 without transitional mapping: faß.de is not fass.de.
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as exc:
        raise AddressError(f"the domain {domain!r} is no valid host name: {exc}") from None


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    # An application sends to the same mailboxes again, and from the same one nearly always.
    plain = _PLAIN.fullmatch(text) if len(text) <= MAX_PATH - 2 else None
    if plain is not None and len(plain[1]) <= MAX_LOCAL_PART and len(plain[2]) <= MAX_DOMAIN:
        return Address(plain[1], plain[2])
    # Imported here: nearly every address is plain.
    from .mailbox import parse

    return Address(*parse(text))


def _check_unusual(local_part: str, domain: str | None) -> None:
    from .mailbox import is_mailbox

    if not is_mailbox(local_part, domain):
        raise AddressError(f"no address: {local_part!a} at {domain!a}; see Address.parse")

"""Addresses and envelopes: text becomes a value once, at the border.

The wire form of an address is rebuilt from its parsed parts, never copied from the input, so no
CR, LF, space or ESMTP parameter in an address can reach the server.
"""

from __future__ import annotations

import copy
import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import AddressError, NonASCIIAddress

if TYPE_CHECKING:
    from .esmtp import Esmtp

# RFC 5321 section 4.5.3.1: octets in a local part, a domain and a path with its brackets.
MAX_LOCAL_PART = 64
MAX_DOMAIN = 255
MAX_PATH = 256
# Far above any mailbox with its display name; a longer text is an attack on parsing time.
MAX_TEXT = 2048

# Outside ASCII, neither line ends, controls nor what UTF-8 cannot write.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_FOREIGN = rf"[^\x00-\x7f{_CONTROLS}]"
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PLAIN = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@({_LABEL}(?:\.{_LABEL})*)")
_DOT_STRING = re.compile(rf"(?:{_ATEXT}|{_FOREIGN})+(?:\.(?:{_ATEXT}|{_FOREIGN})+)*")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_QUOTED = rf'"(?:[^"\\{_CONTROLS}]|\\[^{_CONTROLS}])*"'
_LOCAL_PART = re.compile(rf"{_DOT_STRING.pattern}|{_QUOTED}")
# What an unquoted local part may hold in practice: a dot in an odd place is sent quoted.
_LOOSE_LOCAL = re.compile(rf"(?:{_ATEXT}|[.]|{_FOREIGN})+")
_CONTROL = re.compile(f"[{_CONTROLS}]")
# RFC 5321 allows the brackets of a path in here. A server that looks for the first ">" would take
# another path than we mean.
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x3b\x3d\x3f-\x5a\x5e-\x7e]+")
# What input methods write for an @; such an address would be a mailbox without a domain.
_WIDE_AT = re.compile("[\uff20\ufe6b]")


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
        if not _LOCAL_PART.fullmatch(local_part) or (
            domain is not None and not (_DOMAIN.fullmatch(domain) or _is_domain(domain))
        ):
            raise AddressError(f"no address: {local_part!a} at {domain!a}; see Address.parse")
        ascii_domain = self.ascii_domain
        path = (local_part if ascii_domain is None else f"{local_part}@{ascii_domain}").encode()
        if len(path) > MAX_PATH - 2:
            raise AddressError(f"the address is over {MAX_PATH - 2} octets")
        values = {
            "text": local_part if domain is None else f"{local_part}@{domain}",
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
        parsed = [
            _parse(path) if type(path) is str else Address.parse(path)
            for path in forward_paths or ()
        ]
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
    if text is None or isinstance(text, Address):
        return text
    if text == "<>":
        return None
    if text == "":
        raise AddressError(
            "no sender: give an address, or None for the null reverse-path of notifications"
        )
    return _parse(text) if type(text) is str else Address.parse(text)


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
    return _Parser(text).address()


class _Parser:
    """One pass over the text, left to right; each character is looked at once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, why: str) -> NoReturn:
        shown = self.text if len(self.text) <= 200 else self.text[:200] + "..."
        raise AddressError(f"invalid address {shown!a}: {why}")

    def address(self) -> Address:
        if len(self.text) > MAX_TEXT:
            self.fail(f"longer than {MAX_TEXT} characters")
        if found := _CONTROL.search(self.text):
            self.fail(f"prohibited newline characters or controls ({found[0]!a})")
        self.text = self.text.strip(" ")
        if not self.text:
            self.fail("it is empty")
        if self.text.endswith(">"):
            self.skip_display_name()
            self.at += 1
            address = self.mailbox(">")
            self.at += 1
        else:
            address = self.mailbox("")
        if self.at != len(self.text):
            self.fail(self.trailing())
        return address

    def trailing(self) -> str:
        rest = self.text[self.at :]
        if rest[0] in ",;":
            return "it holds more than one address; pass a list"
        if rest[0] == ":":
            return "groups are not mailboxes; name each member"
        return f"unexpected {rest[:20]!a}; one mailbox was expected"

    def skip_display_name(self) -> None:
        """Move to the ``<`` that opens the path; a name may be quoted and hold any of ``<>,``."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "<":
                return
            if char == '"':
                self.quoted_string()
            elif char in ",;:>@":
                self.fail(self.trailing())
            else:
                self.at += 1
        self.fail("there is no '<' to its '>'")

    def quoted_string(self) -> str:
        """The content of the quoted string that starts here, unescaped (RFC 5321 section 4.1.2)."""
        content: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return "".join(content)
            if char == "\\":
                self.at += 1
                char = self.text[self.at : self.at + 1]
            content.append(char)
            self.at += 1
        self.fail("a quoted string does not end")

    def mailbox(self, end: str) -> Address:
        if self.text.startswith('"', self.at):
            content = self.quoted_string()
            local_part = _quoted(content)
        else:
            local_part = self.unquoted_local_part()
        if len(local_part.encode()) > MAX_LOCAL_PART:
            self.fail(f"the part before the @ is over {MAX_LOCAL_PART} octets")
        if not self.text.startswith("@", self.at):
            if _WIDE_AT.search(local_part):
                self.fail("its @ is a wide one, which parts nothing; write @")
            return Address(local_part)
        self.at += 1
        stop = self.text.rfind(end) if end else len(self.text)
        domain = self.text[self.at : stop]
        self.at = stop
        self.check_domain(domain)
        return Address(local_part, domain)

    def unquoted_local_part(self) -> str:
        match = _LOOSE_LOCAL.match(self.text, self.at)
        if match is None:
            self.fail("there is nothing before the @, or it needs quotes")
        self.at = match.end()
        local_part = match[0]
        # Carriers hand out addresses such as "a..b"@example.org; RFC 5321 wants those quoted.
        return local_part if _DOT_STRING.fullmatch(local_part) else _quoted(local_part)

    def check_domain(self, domain: str) -> None:
        if domain.startswith("["):
            if not _is_domain(domain):
                self.fail(f"{domain!a} is no address literal")
            return
        if "," in domain:
            self.fail("it holds more than one address; pass a list")
        if " " in domain:
            self.fail("there is a space in the domain")
        ascii_domain = to_ascii_domain(domain)
        if len(ascii_domain) > MAX_DOMAIN:
            self.fail(f"the domain is over {MAX_DOMAIN} octets")
        if not _DOMAIN.fullmatch(ascii_domain):
            self.fail(f"{domain!a} is no domain")


def _quoted(content: str) -> str:
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_domain(domain: str) -> bool:
    """True for an address literal, or a domain outside ASCII that has A-labels."""
    if domain.startswith("["):
        return domain.endswith("]") and _is_literal(domain[1:-1])
    return not domain.isascii() and _DOMAIN.fullmatch(to_ascii_domain(domain)) is not None


def _is_literal(content: str) -> bool:
    # RFC 5321 section 4.1.3: IPv4, "IPv6:" with an address, or a registered tag with content.
    tag, colon, rest = content.partition(":")
    try:
        if not colon:
            ipaddress.IPv4Address(content)
        elif tag.lower() == "ipv6":
            # An IPv6-addr has no zone; ipaddress takes anything for one.
            return ipaddress.IPv6Address(rest).scope_id is None
        else:
            return _GENERAL_LITERAL.fullmatch(content) is not None
    except ValueError:
        return False
    return True

"""The text of one mailbox to its local part and domain, whatever RFC 5321 and people write.

``a@b`` is told apart elsewhere, without this: see `envelope`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NoReturn, TypeAlias

from .envelope import ATEXT, LABEL, MAX_DOMAIN, MAX_LOCAL_PART, MAX_TEXT, to_ascii_domain
from .errors import AddressError

#: Local part and domain, None for a mailbox of the server's own.
Parts: TypeAlias = tuple[str, str | None]

# Outside ASCII, neither line ends, controls nor what UTF-8 cannot write.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_FOREIGN = rf"[^\x00-\x7f{_CONTROLS}]"
_DOT_STRING = re.compile(rf"(?:{ATEXT}|{_FOREIGN})+(?:\.(?:{ATEXT}|{_FOREIGN})+)*")
_DOMAIN = re.compile(rf"{LABEL}(?:\.{LABEL})*")
_QUOTED = re.compile(rf'"(?:[^"\\{_CONTROLS}]|\\[^{_CONTROLS}])*"')
# What an unquoted local part may hold in practice: a dot in an odd place is sent quoted.
_LOOSE_LOCAL = re.compile(rf"(?:{ATEXT}|[.]|{_FOREIGN})+")
_CONTROL = re.compile(f"[{_CONTROLS}]")
# RFC 5321 allows the brackets of a path in here. A server that looks for the first ">" would take
# another path than we mean.
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x3b\x3d\x3f-\x5a\x5e-\x7e]+")
# What input methods write for an @; such an address would be a mailbox without a domain.
_WIDE_AT = re.compile("[\uff20\ufe6b]")


def parse(text: str) -> Parts:
    """Parse ``Name <a@b>``, ``"a b"@c``, ``a@[192.0.2.1]``, ``webmaster``.

    The local part is quoted where that is needed. Raises AddressError.
    """
    return _Parser(text).parts()


def is_mailbox(local_part: str, domain: str | None) -> bool:
    """True if these are parts as `parse` returns them."""
    if not (_DOT_STRING.fullmatch(local_part) or _QUOTED.fullmatch(local_part)):
        return False
    return domain is None or _DOMAIN.fullmatch(domain) is not None or _is_domain(domain)


class _Parser:
    """One pass over the text, left to right; each character is looked at once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, why: str) -> NoReturn:
        shown = self.text if len(self.text) <= 200 else self.text[:200] + "..."
        raise AddressError(f"invalid address {shown!a}: {why}")

    def parts(self) -> Parts:
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
            parts = self.mailbox(">")
            self.at += 1
        else:
            parts = self.mailbox("")
        if self.at != len(self.text):
            self.fail(self.trailing())
        return parts

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

    def mailbox(self, end: str) -> Parts:
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
            return local_part, None
        self.at += 1
        stop = self.text.rfind(end) if end else len(self.text)
        domain = self.text[self.at : stop]
        self.at = stop
        self.check_domain(domain)
        return local_part, domain

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

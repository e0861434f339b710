"""MAIL and RCPT with their parameters, and the group that they go in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..envelope import Address, parse_reverse_path
from ..errors import InvalidInput
from ..report import Phase
from .command import CRLF, DATA, PROHIBITED, Command, prohibited

# RFC 5321 section 4.1.2: esmtp-param = esmtp-keyword ["=" esmtp-value].
_PARAMETER = r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[!-~]+)?"
_UTF8_PARAMETER = r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\x00-\x20\x7f-\xa0]+)?"
# RFC 5321 section 4.5.3.1.4: octets in a command line; and what the extensions add to that for
# their parameters (RFC 1870, 2852, 3461, 4865, 4954, 6152, 6531, 6710, 8689).
MAX_COMMAND_LINE = 512
_LENGTHENED_BY = {
    "SIZE": 26,
    "BODY": 17,
    "SMTPUTF8": 10,
    "AUTH": 500,
    "REQUIRETLS": 11,
    "RET": 9,
    "ENVID": 107,
    "NOTIFY": 29,
    "ORCPT": 507,
    "BY": 17,
    "MT-PRIORITY": 15,
    "HOLDFOR": 34,
    "HOLDUNTIL": 34,
}


def check_parameters(parameters: Iterable[str], smtputf8: bool = False) -> tuple[str, ...]:
    """ESMTP parameters for MAIL or RCPT, one ``KEYWORD`` or ``KEYWORD=value`` each.

    Raises InvalidInput for anything else: a space would smuggle in another parameter.
    """
    if isinstance(parameters, str):
        raise InvalidInput(f"ESMTP options must be a list of texts, not the text {parameters!a}")
    if not parameters:
        return ()
    pattern = _UTF8_PARAMETER if smtputf8 else _PARAMETER
    checked = tuple(parameters)
    for parameter in checked:
        if not re.fullmatch(pattern, parameter):
            if PROHIBITED.search(" ".join(checked).encode("utf-8", "surrogatepass")):
                raise prohibited(" ".join(checked))
            raise InvalidInput(
                f"ESMTP option {parameter!a} is not of the form KEYWORD or KEYWORD=value,"
                " one in each item"
            )
    return checked


class Mail(Command):
    """MAIL. Raises AddressError, or InvalidInput for a malformed parameter."""

    __slots__ = ("smtputf8",)
    phase = Phase.MAIL
    begins = True

    def __init__(
        self,
        reverse_path: Address | str | None,
        parameters: Sequence[str] = (),
        smtputf8: bool = False,
    ) -> None:
        self.smtputf8 = smtputf8
        self.wire = mail_line(parse_reverse_path(reverse_path), parameters, smtputf8)


class Rcpt(Command):
    """RCPT. Raises AddressError, or InvalidInput for a malformed parameter."""

    __slots__ = ()
    phase = Phase.RCPT

    def __init__(
        self, forward_path: Address | str, parameters: Sequence[str] = (), smtputf8: bool = False
    ) -> None:
        self.wire = rcpt_line(Address.parse(forward_path), parameters, smtputf8)


def mail_line(
    address: Address | None,
    parameters: Sequence[str] = (),
    smtputf8: bool = False,
    size: int | None = None,
) -> bytes:
    """The line of MAIL, with SIZE if it is given (RFC 1870).

    Raises NonASCIIAddress, or InvalidInput for a malformed parameter.
    """
    # A path is made of parsed parts: it holds nothing that is another command or parameter.
    path = b"" if address is None else address.path(smtputf8)
    verb = b"MAIL FROM:<%b>" % path if size is None else b"MAIL FROM:<%b> SIZE=%d" % (path, size)
    return _with_parameters(verb, parameters, smtputf8) if parameters else verb + CRLF


def rcpt_line(address: Address, parameters: Sequence[str] = (), smtputf8: bool = False) -> bytes:
    """The line of RCPT. Raises NonASCIIAddress, or InvalidInput for a malformed parameter."""
    verb = b"RCPT TO:<%b>" % address.path(smtputf8)
    return _with_parameters(verb, parameters, smtputf8) if parameters else verb + CRLF


def _with_parameters(verb: bytes, parameters: Sequence[str], smtputf8: bool) -> bytes:
    """The line for a verb with its path, which is made of parsed parts, and checked parameters."""
    checked = check_parameters(parameters, smtputf8)
    line = b"%b %b\r\n" % (verb, " ".join(checked).encode())
    if len(line) > MAX_COMMAND_LINE:
        _check_length(line)
    return line


def _check_length(line: bytes) -> None:
    parameters = line.partition(b">")[2].decode().split()
    names = {parameter.partition("=")[0].upper() for parameter in parameters}
    allowed = MAX_COMMAND_LINE + sum(_LENGTHENED_BY.get(name, 0) for name in names)
    if len(line) > allowed:
        raise InvalidInput(
            f"the ESMTP options make a command line of {len(line)} octets, and {allowed} are"
            " allowed: shorten them"
        )


# How the line of a group begins, and the phase its reply belongs to.
_VERBS = {b"RSET": Phase.RSET, b"MAIL": Phase.MAIL, b"RCPT": Phase.RCPT, b"DATA": Phase.DATA}


class Group(Command):
    """A command group (RFC 2920): MAIL and what goes in one write with it, a reply to each line.

    `lines` are of RSET, MAIL, RCPT and DATA, each with its CRLF; `asks_for_data` is true if DATA is
    the last, which is answered by 3yz and not by 2yz.
    """

    __slots__ = ("asks_for_data", "lines", "replies", "smtputf8")
    begins = True

    def __init__(self, lines: list[bytes], smtputf8: bool = False) -> None:
        self.lines = lines
        self.smtputf8 = smtputf8
        self.wire = b"".join(lines)
        self.replies = len(lines)
        self.asks_for_data = DATA in lines[-1:]

    def phase_at(self, index: int) -> Phase:
        return _VERBS[self.lines[index][:4]]

    def behind(self, index: int) -> int:
        return sum(map(len, self.lines[index + 1 :]))

    def shown_lines(self) -> list[str]:
        return self.wire.decode("utf-8", "backslashreplace").split("\r\n")[:-1]

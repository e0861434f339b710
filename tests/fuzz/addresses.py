"""Fuzz the address parser with atheris: any text is one mailbox, or an AddressError.

Not run by pytest. ``pip install atheris`` (Linux, CPython up to 3.13), then

    python -m tests.fuzz.addresses -max_total_time=600 -max_len=3000
"""

from __future__ import annotations

import re
import sys
import time

import atheris

from tests.fuzz.words import spelled

with atheris.instrument_imports(include=["mailbridge"]):
    from mailbridge.envelope import Address, Envelope
    from mailbridge.errors import AddressError
    from mailbridge.protocol.command import Mail, Rcpt

WORDS = [
    *("a@b.org", "b.org", "Name ", "<a@b.org>", '"a b"', '"', "\\", '\\"', "<", ">", "<>", "@"),
    *(" SIZE=1", "\r\n", "\r\nRSET\r\n", "\0", "\t", "\x7f", "\x85", "\u2028", "\ud800", " ", ", "),
    *(";", ":", "G: ", "(c)", "(", ")", "[127.0.0.1]", "[IPv6:::1]", "[IPv6:", "[", "]", "%eth0"),
    *("bücher.de", "é", "xn--bcher-kva.de", "xn--", "。", "＠", "＜", "ß", "\u200d", "\u0301", "أ"),
    *("a" * 60, "a." * 30, "-", "_", ".", "..", "=", "+", "x" * 500),
]
SECONDS = 1.0
"""Far more than the longest text takes; less than what is quadratic in a longer one."""
# RFC 5321 section 4.1.2, RFC 6531 section 3.3: nothing that ends a path but inside quotes.
ATOMS = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e\u0080-\U0010ffff])*"'
DOMAIN = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[\x21-\x3b\x3d\x3f-\x5a\x5e-\x7e]+\]"
PATH = re.compile(rf"(?:{ATOMS}(?:\.{ATOMS})*|{QUOTED})(?:@(?:{DOMAIN}))?")


def one_input(data: bytes) -> None:
    """One mailbox that is the same when it is read again, and one line on the wire; or an error."""
    text = "".join(spelled(data, WORDS))
    started = time.monotonic()
    try:
        address = Address.parse(text)
    except AddressError:
        assert time.monotonic() - started < SECONDS
        return
    assert time.monotonic() - started < SECONDS
    path = address.path(smtputf8=True)
    assert PATH.fullmatch(path.decode()), path
    assert len(path) <= 254
    assert Address.parse(str(address)) == address
    assert Address.parse(f'"Name, of <x>" <{address}>') == address
    assert Address.parse(path.decode()).path(smtputf8=True) == path
    assert Envelope(address, [address, str(address)]).recipients == (str(address),)
    for command in (Mail, Rcpt):
        check_line(command(address, (), True).wire)


def check_line(wire: bytes) -> None:
    """A command is one line, and its path ends it."""
    assert wire.endswith(b">\r\n")
    assert not re.search(rb"[\x00-\x1f\x7f]", wire[:-2])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

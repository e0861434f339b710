"""Host names, ports and the names that go into EHLO, as text."""

from __future__ import annotations

import functools
import re
from ipaddress import ip_address

from .envelope import to_ascii_domain
from .errors import AddressError, OptionError, PortError

# Python refuses to read numbers of thousands of digits, with an error of its own.
_NAME = re.compile(r"[!-~]{1,255}")
_NOT_SHOWN = re.compile(r"[\0-\x20\x7f]")
_PORT = re.compile(r"[0-9]{1,20}")


@functools.lru_cache(maxsize=64)
def check_helo_name(name: str) -> str:
    """A name fit for EHLO: a domain in ASCII or an address literal (RFC 5321 section 4.1.4).

    Raises OptionError for anything else, so that nothing but a name can be smuggled in.
    """
    name = _ascii("local_hostname", name)
    if not _NAME.fullmatch(name):
        raise OptionError(f"local_hostname {name!a} is no host name: use letters, digits, - and .")
    return name


@functools.lru_cache(maxsize=1024)
def host_and_port(host: str, port: int) -> str:
    """``host:port``, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(host: str, port: int) -> tuple[str, int]:
    """Split ``host:port`` and ``[v6]:port`` where `port` is 0, as smtplib's connect does.

    Raises PortError (an OSError and a ValueError) for a port that is no number.
    """
    if host.startswith("/"):
        return host, port  # the path of a Unix socket
    if host.startswith("[") and "]" in host:
        bare, _, rest = host[1:].partition("]")
        return bare, port or parse_port(rest.removeprefix(":") or 0)
    if not port and host.count(":") == 1:
        name, _, digits = host.partition(":")
        return name, parse_port(digits)
    return host, port


def parse_host(host: object) -> str:
    """A host name in ASCII, an IP address or the path of a socket. Raises OptionError."""
    if not isinstance(host, str) or not host.strip():
        raise OptionError("host is missing: name the mail server")
    host = host.strip().removeprefix("[").removesuffix("]")
    if ":" in host and not host.startswith("/"):
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            raise OptionError(
                f"host {host!a} is no host name: give the port as port, a URL as url"
            ) from None
    if _NOT_SHOWN.search(host):
        raise OptionError(f"host {host!a} contains a space or a control character")
    return host if host.startswith("/") else _ascii("host", host)


def _ascii(option: str, name: str) -> str:
    try:
        return to_ascii_domain(name)
    except AddressError as exc:
        raise OptionError(f"{option}: {exc}") from None


def parse_port(port: object) -> int:
    """A port as a number, 0 for the default. Raises PortError (an OSError and a ValueError)."""
    number = -1
    if isinstance(port, int) and not isinstance(port, bool):
        number = port
    elif isinstance(port, str) and _PORT.fullmatch(port.strip()):
        number = int(port)
    if not 0 <= number <= 65535:
        # Nor does it write them.
        many = isinstance(port, int) and abs(port) > 10**20
        shown = "of many digits" if many else f"{port!r:.24}"
        raise PortError(f"nonnumeric port {shown}: port must be a number from 1 to 65535")
    return number

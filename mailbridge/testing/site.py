"""What a framework's package does for the pytest plugin, and where the plugin finds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Final, Protocol

#: Entry points of this group are named for a framework, and lead to its Site.
GROUP: Final = "mailbridge.testing"

#: Options that say which server it is, how it is trusted, and how to log in there.
OF_THE_SERVER: Final = frozenset(
    {
        *("url", "host", "port", "lmtp", "tls", "relays", "round_robin", "source_address"),
        *("username", "password", "token_provider", "auth_mechanisms", "allow_insecure_auth"),
        *("ca_file", "ca_path", "certfile", "keyfile", "ssl_context", "fingerprint"),
        *("tls_verify", "server_hostname"),
    }
)


class Site(Protocol):
    """A framework whose mail a test wants to have sent."""

    def sending(
        self, options: Mapping[str, Any] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """For as long as this lasts, send as in production, although this is a test.

        `options`, those of `Relay.from_options`, name another server than the configured one.
        """


def sites() -> Iterator[Site]:
    """The sites of the frameworks that are installed here."""
    for entry in entry_points(group=GROUP):
        if find_spec(entry.name) is not None:
            yield entry.load()


@contextlib.contextmanager
def sending(options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """`Site.sending` of every framework that is installed."""
    with contextlib.ExitStack() as stack:
        for site in sites():
            stack.enter_context(site.sending(options))
        yield

"""What is known of the connection that a session runs on."""

from __future__ import annotations

from typing import NamedTuple


class Channel(NamedTuple):
    """The TLS of a connection, as the handshake left it; without TLS, nothing.

    `tls` is true after the handshake. `verified` is true if the server is the one that was asked
    for: its certificate and name were checked, or it is one that is pinned. `certificate` is the
    server's, in DER; `tls_unique` the binding of that name, None from TLS 1.3 on. `plus_offered`
    says whether the server offers a SCRAM mechanism with channel binding.
    """

    tls: bool = False
    verified: bool = False
    certificate: bytes | None = None
    tls_unique: bytes | None = None
    host: str = ""
    port: int = 0
    plus_offered: bool = False

    @property
    def binding(self) -> tuple[str, bytes] | None:
        """A channel binding (RFC 5929) as name and data for SCRAM; None if there is none.

        For tls-server-end-point the data is the certificate: the mechanism hashes it.
        """
        # RFC 5802 section 6.1: tls-unique by default. From TLS 1.3 on there is none, and Python
        # has no tls-exporter (RFC 9266).
        if self.tls_unique:
            return "tls-unique", self.tls_unique
        if self.certificate:
            return "tls-server-end-point", self.certificate
        return None

"""TLS without a socket: octets of the wire in, octets of the session out, and the other way.

asyncio's own TLS transport could neither resume a session nor say how much of what was written
has left this machine, which decides whether a mail may be sent again.
"""

from __future__ import annotations

import ssl

# As much as a record holds, and a few of them.
BLOCK = 64 * 1024
# Octets that are read at a time: a whole record, and more than most servers say at once.
READ = 20 * 1024
# RFC 8446 section 5.1: what a record holds at the most, and is given before there is another.
RECORD = 16 * 1024


def last_record(octets: int) -> int:
    """How many of so many octets are in the last record that they are sealed in."""
    return (octets - 1) % RECORD + 1


class Records:
    """One TLS connection, of a client. `eof` is true once the server has said good-bye in it."""

    def __init__(
        self,
        context: ssl.SSLContext,
        server_hostname: str | None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname, session=session
        )
        self.established = False
        self.eof = False

    def handshake(self) -> bool:
        """Go on with the handshake. True when it is done. Raises OSError (ssl.SSLError)."""
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.established = True
        return True

    def received(self, data: bytes) -> None:
        """Take what came over the wire."""
        self._incoming.write(data)

    def hang_up(self) -> None:
        """No more will come over the wire."""
        self._incoming.write_eof()

    def plain(self) -> bytes:
        """What the server said in the records that are complete. Raises ssl.SSLError."""
        found = []
        try:
            while data := self.object.read(BLOCK):
                found.append(data)
            self.eof = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # Many servers leave without TLS's good-bye.
            self.eof = True
        return b"".join(found)

    def sealed(self, data: bytes | memoryview) -> bytes:
        """`data` as it goes over the wire. Raises ssl.SSLError."""
        view = memoryview(data)
        while view:
            view = view[self.object.write(view) :]
        return self.to_send()

    def to_send(self) -> bytes:
        """What TLS itself has to say."""
        return self._outgoing.read()

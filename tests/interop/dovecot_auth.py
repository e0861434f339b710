"""Who may log in to the Postfix of the tests: a server of Dovecot's authentication protocol.

Postfix keeps no passwords; it asks a SASL server. This one knows PLAIN, LOGIN and CRAM-MD5 and the
users it was given. The protocol is lines of fields separated by tabs; see Dovecot's documentation,
"Authentication Protocol", version 1.
"""

from __future__ import annotations

import base64
import hmac
import socketserver
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

from tests.serving import serving

CHALLENGE = b"<1896.697170952@mx.example.test>"
# A mechanism yields challenges, is sent responses, and returns the user's name, or None.
Mechanism = Generator[bytes, bytes, str | None]


@contextmanager
def dovecot_auth(users: Mapping[str, str]) -> Iterator[int]:
    """The server for the length of a ``with`` block, on a loopback port, which it yields."""
    with _Server(("127.0.0.1", 0), _Connection) as server:
        server.users = {name: password.encode() for name, password in users.items()}
        with serving(server):
            yield server.server_address[1]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    users: dict[str, bytes]

    def plain(self) -> Mechanism:
        _, name, password = (yield b"").split(b"\0")
        return self._known(name, password)

    def login(self) -> Mechanism:
        name = yield b"Username:"
        password = yield b"Password:"
        return self._known(name, password)

    def cram_md5(self) -> Mechanism:
        name, _, digest = (yield CHALLENGE).rpartition(b" ")
        password = self.users.get(name.decode(), b"")
        right = hmac.new(password, CHALLENGE, "md5").hexdigest()
        return name.decode() if right == digest.decode() and password else None

    def _known(self, name: bytes, password: bytes) -> str | None:
        return name.decode() if self.users.get(name.decode()) == password else None


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self._say("VERSION", "1", "2")
        self._say("MECH", "PLAIN", "plaintext")
        self._say("MECH", "LOGIN", "plaintext")
        self._say("MECH", "CRAM-MD5", "dictionary")
        self._say("SPID", "1")
        self._say("CUID", "1")
        self._say("COOKIE", "0123456789abcdef0123456789abcdef")
        self._say("DONE")
        running: dict[str, Mechanism] = {}
        for line in self.rfile:
            verb, *fields = line.decode().rstrip("\n").split("\t")
            if verb == "AUTH":
                number, name, *options = fields
                mechanism = getattr(self.server, name.lower().replace("-", "_"))()
                running[number] = mechanism
                challenge = next(mechanism)
                # "resp=", when there is an initial response, is the last option.
                if options and options[-1].startswith("resp="):
                    self._answer(running, number, options[-1].removeprefix("resp="))
                else:
                    self._say("CONT", number, base64.b64encode(challenge).decode())
            elif verb == "CONT":
                number, response = fields
                self._answer(running, number, response)

    def _answer(self, running: dict[str, Mechanism], number: str, response: str) -> None:
        try:
            challenge = running[number].send(base64.b64decode(response))
        except StopIteration as end:
            del running[number]
            user = end.value
            self._say(*(("FAIL", number) if user is None else ("OK", number, f"user={user}")))
        except ValueError:
            del running[number]
            self._say("FAIL", number, "reason=malformed response")
        else:
            self._say("CONT", number, base64.b64encode(challenge).decode())

    def _say(self, *fields: str) -> None:
        self.wfile.write("\t".join(fields).encode() + b"\n")

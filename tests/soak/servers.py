"""Mail servers that fail at random, in a process of their own, and the truth about what they took.

Each connection is served by `tests.hostile.model.ModelServer`, which never lies about the outcome
but may answer anything, or nothing. On top of that: silence from any moment on, connections that
are closed, half closed or reset, by TLS or without its good-bye, in the middle of a command or
while idle; greetings that never come; one mail a connection; and restarts, which take all
connections of a port with them.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tests.hostile.model import ACTIONS, MARK, Log, ModelServer
from tests.ports import free_ports
from tests.soak.accounts import content_of

# Of a hundred commands, those that are not answered as they should be.
FAULTS = 3
IDLE_ENDS = ("421", "close", "reset", "half close", "silence", "close", "421")


@dataclass(frozen=True)
class Kind:
    """A server: its extensions, TLS from the first octet or not, LMTP or SMTP."""

    extensions: tuple[str, ...]
    tls: bool = False
    lmtp: bool = False
    mails: int | None = None


KINDS = (
    Kind(("PIPELINING", "CHUNKING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES")),
    Kind(("PIPELINING", "8BITMIME", "SIZE")),
    Kind(()),
    Kind(("PIPELINING", "CHUNKING"), mails=1),
    Kind(("PIPELINING", "CHUNKING"), tls=True),
    Kind(("PIPELINING", "CHUNKING"), lmtp=True),
)


class Truth(Log):
    """What all servers took. Contents are compared, and not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def take(self, content: bytes, recipient: str) -> None:
        match = MARK.search(content)
        number = int(match[1]) if match else -1
        with self._lock:
            self.taken[number, recipient] += 1
            if content != content_of(number):
                self.problems.append(f"mail {number} arrived as {content[:200]!r}")


class Session:
    """One connection, to its end."""

    def __init__(self, kind: Kind, truth: Truth, seed: float, counts: Counter[str]) -> None:
        self._kind = kind
        self._random = random.Random(seed)
        self._counts = counts
        self._silent = False
        self._contents = 0
        stop = self._random.randrange(1, 5000) if self._random.random() < 0.02 else None
        self._server = ModelServer(
            truth, self._decide, kind.extensions, lmtp=kind.lmtp, stop_after=stop
        )

    def _decide(self, verb: str) -> str:
        if verb != "CONTENT" and self._contents == self._kind.mails:
            return self._counted("close" if self._random.random() < 0.5 else "421")
        self._contents += verb == "CONTENT"
        if self._random.random() * 100 >= FAULTS:
            return "ok"
        if self._random.random() < 0.1:
            # Whatever is done from here on, nobody is told.
            self._silent = True
            self._counted(f"silence at {verb}")
            return "ok"
        return self._counted(self._random.choice(ACTIONS))

    def _counted(self, fault: str) -> str:
        self._counts[fault] += 1
        return fault

    def serve(self, sock: socket.socket) -> None:
        """Answer until either side has had enough."""
        server = self._server
        while True:
            if self._random.random() < 0.01:
                time.sleep(self._random.uniform(0, 0.6))  # longer than some senders wait
            if server.output and not self._silent:
                sock.sendall(bytes(server.output))
            server.output.clear()
            if server.closed:
                self._hang_up(sock, self._random.choice(("close", "reset", "half close", "unwrap")))
                return
            sock.settimeout(self._random.choice((0.05, 0.3, 1.0, 3.0, 10.0)))
            try:
                data = sock.recv(65536)
            except TimeoutError:
                if self._silent:
                    sock.settimeout(20)
                    data = sock.recv(65536)
                elif self._grow_tired(sock):
                    return
                else:
                    continue
            if not data:
                return
            server.receive(data)

    def _grow_tired(self, sock: socket.socket) -> bool:
        """What becomes of a connection on which nothing was said for a while. True at its end."""
        end = self._counted(self._random.choice(IDLE_ENDS))
        if end == "silence":
            self._silent = True
            return False
        if end == "421":
            sock.sendall(b"421 4.4.2 idle for too long\r\n")
            end = "close"
        self._hang_up(sock, end)
        return True

    def _hang_up(self, sock: socket.socket, how: str) -> None:
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half close":
            sock.settimeout(5)
            socket.socket.shutdown(sock, socket.SHUT_WR)
            while data := sock.recv(65536):
                self._server.receive(data)
        elif how == "unwrap" and isinstance(sock, ssl.SSLSocket):
            sock.settimeout(1)
            sock.unwrap()


class Port:
    """A server that can be restarted, on the same port."""

    def __init__(
        self, kind: Kind, truth: Truth, context: ssl.SSLContext, rng: random.Random
    ) -> None:
        self.kind = kind
        self.counts: Counter[str] = Counter()
        self._truth = truth
        self._context = context
        self._random = rng
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        (self.number,) = free_ports(1)  # nobody else gets it while it is restarted
        self.start()

    def start(self) -> None:
        """Listen, on the same port each time."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                self._listener = socket.create_server(("127.0.0.1", self.number), backlog=128)
                break
            time.sleep(0.02)
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,))
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening, and drop every connection where it stands."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock, self._random.random()))
            with self._lock:
                self.counts["connections"] += 1
                self._sockets.add(sock)
                self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket, seed: float) -> None:
        plain = sock
        try:
            sock.settimeout(5)
            if self.kind.tls:
                sock = self._context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._sockets.discard(plain)
                    self._sockets.add(sock)
            Session(self.kind, self._truth, seed, self.counts).serve(sock)
        except OSError:
            pass  # the other side has gone, or this one is being restarted
        except Exception as bug:
            self._truth.problems.append(f"in a server: {bug!r}")
        finally:
            with self._lock:
                self._sockets -= {plain, sock}
                self._threads.discard(threading.current_thread())
            sock.close()


def run(pipe: Connection, seed: int, certificate: str) -> None:
    """Serve until told to stop. Sends the ports at first, and the truth at the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    truth, rng = Truth(), random.Random(seed)
    ports = [Port(kind, truth, context, random.Random(rng.random())) for kind in KINDS]
    pipe.send([port.number for port in ports])
    restarts = 0
    while not pipe.poll(rng.uniform(0.2, 2.0)):
        port = rng.choice(ports)
        port.stop()
        time.sleep(rng.choice((0.0, 0.0, 0.1, 0.4)))
        port.start()
        restarts += 1
    for port in ports:
        port.stop()
    counts = sum((port.counts for port in ports), Counter({"restarts": restarts}))
    pipe.send((dict(truth.taken), truth.problems, dict(counts)))

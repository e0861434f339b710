"""ScriptedServer: an SMTP server that does what a test tells it, on a real port, in threads."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from mailbridge.testing.certificates import certificate_of
from mailbridge.testing.commands import session
from mailbridge.testing.conversation import Conversation, Terms
from mailbridge.testing.record import ReceivedEnvelope, ReceivedMessage, Record
from mailbridge.testing.script import DEFAULT_EXTENSIONS, Script
from mailbridge.testing.wire import Channel

# stop() wakes every thread, so that only a bug makes one of them last longer.
_JOIN_TIMEOUT: Final = 10.0


class ScriptedServer(Script):
    """A strict SMTP or LMTP server for tests: it keeps what it accepts and delivers nothing.

    ``with ScriptedServer() as smtpd:`` runs it; so do ``start()`` and ``stop()``. The rules
    (``refuse``, ``reply``, ``drop``, ...) are those of ``Script``, its base class.

    ``port`` 0 lets the kernel choose. ``extensions`` are the lines of the EHLO reply, without
    STARTTLS and AUTH: those come with ``tls_context`` and with ``users`` (names to passwords, or to
    tokens for XOAUTH2 and OAUTHBEARER). ``require_tls`` and ``require_auth`` answer 530 until it
    is so, ``auth_needs_tls`` 538. ``strict_content`` refuses bare CR and LF in content. A client
    that sends nothing for ``idle_timeout`` seconds is closed with 421. ``on_line`` is called with
    each line of the transcript as it is added.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        extensions: Iterable[str] = DEFAULT_EXTENSIONS,
        tls_context: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        require_tls: bool = False,
        users: Mapping[str, str] | None = None,
        mechanisms: Iterable[str] = ("PLAIN", "LOGIN", "CRAM-MD5"),
        require_auth: bool = False,
        auth_needs_tls: bool = False,
        lmtp: bool = False,
        hostname: str = "scripted.example",
        strict_content: bool = True,
        idle_timeout: float = 30.0,
        on_line: Callable[[str], object] | None = None,
    ) -> None:
        if tls_context is None and (implicit_tls or require_tls):
            raise ValueError("implicit_tls and require_tls need a tls_context")
        super().__init__(extensions)
        mechanisms = tuple(mechanisms)
        self.host = host
        self._port = port
        self._terms = Terms(
            hostname=hostname,
            tls_context=tls_context,
            implicit_tls=implicit_tls,
            require_tls=require_tls,
            users=users,
            mechanisms=mechanisms,
            require_auth=require_auth,
            auth_needs_tls=auth_needs_tls,
            lmtp=lmtp,
            strict_content=strict_content,
            idle_timeout=idle_timeout,
            certificate=_certificate(mechanisms, tls_context),
        )
        self._record = Record(on_line)
        self._listener: _Listener | None = None

    # -- running

    def start(self) -> Self:
        """Listen and serve. After ``stop`` the same port is used again.

        Raises RuntimeError if it runs already, OSError if the port is taken.
        """
        if self._listener is not None:
            raise RuntimeError("the server runs already")
        self._listener = _Listener(self, self._terms, self._record, (self.host, self._port))
        self._port = self._listener.port
        return self

    def stop(self) -> None:
        """Close all connections and wait for their threads. What was recorded stays.

        Raises the exceptions of the server's own bugs, as an ExceptionGroup.
        """
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except Exception as bug:
            if error is None:
                raise
            error.add_note(f"The scripted server failed too: {bug!r}")

    @property
    def port(self) -> int:
        """The port that clients connect to; 0 before the first start if the kernel chooses it."""
        return self._port

    @property
    def url(self) -> str:
        """``smtp://``, ``smtps://`` or ``lmtp://``, host and port."""
        scheme = "smtps" if self._terms.implicit_tls else "lmtp" if self._terms.lmtp else "smtp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    def relay_options(self) -> dict[str, Any]:
        """What `mailbridge.Relay.from_options` needs to send here: host, port, TLS and a login.

        Whom to trust is not in it. The login is that of the first of the users.
        """
        terms = self._terms
        starttls = "starttls" if terms.tls_context is not None else "none"
        tls = "implicit" if terms.implicit_tls else starttls
        options = {"host": self.host, "port": self.port, "tls": tls}
        if terms.lmtp:
            options["lmtp"] = True
        for username, password in (terms.users or {}).items():
            return options | {"username": username, "password": password}
        return options

    # -- what was received

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """The messages accepted so far, in the order of acceptance."""
        return self._record.messages

    @property
    def envelopes(self) -> tuple[ReceivedEnvelope, ...]:
        """The envelopes of the accepted messages."""
        return tuple(message.envelope for message in self.messages)

    @property
    def transactions(self) -> tuple[ReceivedEnvelope, ...]:
        """The completed mail transactions; the same as ``envelopes``."""
        return self.envelopes

    @property
    def transcript(self) -> str:
        """What was said on all connections: lines of ``[connection] C: ...`` and ``S: ...``.

        Secrets of AUTH are masked; content is given as its number of octets.
        """
        return self._record.transcript

    @property
    def connections(self) -> int:
        """How many connections were accepted, those greeted with a refusal among them."""
        return self._record.connections

    def wait_for(self, n_messages: int, timeout: float = 5) -> tuple[ReceivedMessage, ...]:
        """Block until ``n_messages`` have been accepted, and return all accepted.

        Raises AssertionError, with the transcript, after ``timeout`` seconds.
        """
        return self._record.wait_for(n_messages, timeout)

    def clear(self) -> None:
        """Forget what was recorded. The rules stay."""
        self._record.clear()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}, {len(self.messages)} messages>"


def _certificate(mechanisms: tuple[str, ...], context: ssl.SSLContext | None) -> bytes | None:
    """The server's certificate in DER, where a mechanism binds to it."""
    binds = any(name.upper().endswith("-PLUS") for name in mechanisms)
    return certificate_of(context) if binds and context is not None else None


class _Listener:
    """One run of a server: the listening socket, and a thread for it and for each connection."""

    def __init__(
        self, script: Script, terms: Terms, record: Record, address: tuple[str, int]
    ) -> None:
        self._script = script
        self._terms = terms
        self._record = record
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._channels: dict[int, Channel] = {}
        self._counted: set[int] = set()
        self._threads: list[threading.Thread] = []
        self._bugs: list[Exception] = []
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family)
        self._socket.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        # Made here, so that whoever counts descriptors after start() counts it, too.
        self._selector = selectors.DefaultSelector()
        self.port: int = self._socket.getsockname()[1]
        self._acceptor = threading.Thread(
            target=self._accept_all, name=f"scripted-server-{self.port}", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """End all threads; raise what was a bug in them."""
        self._stopping.set()
        self._wake.close()
        self._acceptor.join(_JOIN_TIMEOUT)
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.interrupt()
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT)
            if thread.is_alive():
                self._bugs.append(RuntimeError(f"{thread.name} does not end"))
        if self._bugs:
            raise ExceptionGroup("in the scripted server", self._bugs)

    # -- the acceptor's thread

    def _accept_all(self) -> None:
        try:
            with self._socket, self._woken, self._selector as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                while not self._stopping.is_set():
                    selector.select()
                    self._accept()
        except Exception as bug:
            self._bugs.append(bug)

    def _accept(self) -> None:
        # The client may have gone before it was accepted.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock, _ = self._socket.accept()
            number = self._record.connected()
            with self._lock:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                channel = self._channels[number] = Channel(sock, self._terms.idle_timeout)
                limit = self._script.max_connections
                busy = limit is not None and len(self._counted) >= limit
                if not busy:
                    self._counted.add(number)
            thread = threading.Thread(
                target=self._serve,
                args=(number, channel, busy),
                name=f"scripted-server-{self.port}-connection-{number}",
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()

    # -- a connection's thread

    def _serve(self, number: int, channel: Channel, busy: bool) -> None:
        conversation = Conversation(
            channel,
            number,
            self._script,
            self._terms,
            self._record,
            self._stopping,
            leave=lambda: self._leave(number),
        )
        try:
            conversation.run(session(conversation, busy=busy))
        except Exception as bug:
            self._record.note(number, "--", f"bug: {bug!r}")
            self._bugs.append(bug)
        finally:
            with self._lock:
                del self._channels[number]

    def _leave(self, number: int) -> None:
        with self._lock:
            self._counted.discard(number)

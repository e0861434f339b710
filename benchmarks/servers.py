"""The servers and the distance to them, each a process of its own on loopback."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from benchmarks.process import Child

HOST = "127.0.0.1"
# Debian keeps these out of an ordinary user's PATH.
PROGRAMS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class Missing(Exception):
    """Something that a measurement needs is not there; the text says what."""


def program(name: str, package: str) -> str:
    """The path of a program. Raises Missing."""
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        raise Missing(f"{name} is not installed (Debian package {package})")
    return found


@dataclass(frozen=True)
class Address:
    """Where a server listens; `tls_port` is for implicit TLS."""

    port: int
    tls_port: int = 0
    host: str = HOST


class Certificates:
    """A certificate authority for this run, over trustme. `bundle` adds the system's CAs to it."""

    def __init__(self) -> None:
        from mailbridge.testing import TestCA

        try:
            self._authority = TestCA()
        except ImportError as error:
            raise Missing(str(error)) from error
        self.ca_file = self._authority.ca_file
        self.server = self._authority.certificate_file("localhost", HOST)

    @cached_property
    def bundle(self) -> str:
        """A file with this CA and all those of the system, as an application would load it."""
        path = Path(self.ca_file).with_name("bundle.pem")
        known = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
        system = Path(known).read_text() if os.path.exists(known) else ""
        path.write_text(Path(self.ca_file).read_text() + system)
        return str(path)

    @property
    def bundle_size(self) -> int:
        """How many authorities are in the bundle."""
        return Path(self.bundle).read_text().count("BEGIN CERTIFICATE")

    def close(self) -> None:
        """Remove the files."""
        self._authority.close()


class Servers:
    """What is running for this run. Use it in a ``with`` block."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @cached_property
    def certificates(self) -> Certificates:
        """The authority that the sink's certificate is from."""
        certificates = Certificates()
        self._stack.callback(certificates.close)
        return certificates

    @cached_property
    def sink(self) -> Child:
        """The sink of `benchmarks.sink`, with STARTTLS, implicit TLS and AUTH."""
        options = {"certificate": self.certificates.server}
        return self._stack.enter_context(Child.module("sink", options))

    @cached_property
    def plain_sink(self) -> Child:
        """The same without TLS: the address for those that would start it when it is offered."""
        return self._stack.enter_context(Child.module("sink", {}))

    @cached_property
    def fastest(self) -> Address:
        """Postfix's smtp-sink, which takes least of the core; else our own sink."""
        try:
            return self._stack.enter_context(smtp_sink())
        except Missing:
            return address_of(self.plain_sink)

    @cached_property
    def postfix(self) -> Address:
        """A real Postfix in a directory of its own, as the tests have it. Raises Missing."""
        try:
            module: Any = importlib.import_module("tests.interop.postfix")
        except ImportError as error:
            raise Missing(f"the tests of this repository are needed: {error}") from error
        reason = module.unavailable()
        if reason is not None:
            raise Missing(reason)
        return Address(self._stack.enter_context(module.start_postfix()).port)

    @contextmanager
    def proxy(self, target: Address, *, tls: bool = False, delay: float = 0.0) -> Iterator[Child]:
        """A proxy in front of a server; see `benchmarks.proxy`."""
        port = target.tls_port if tls else target.port
        with Child.module("proxy", {"host": HOST, "port": port, "delay": delay}) as proxy:
            yield proxy


def address_of(child: Child) -> Address:
    """Where a sink or a proxy listens."""
    return Address(child.hello["port"], child.hello.get("tls_port", 0))


@contextmanager
def smtp_sink() -> Iterator[Address]:
    """Run Postfix's smtp-sink. Raises Missing."""
    command = program("smtp-sink", "postfix")
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        process: subprocess.Popen[Any]
        with (
            tempfile.TemporaryDirectory(prefix="mailbridge-sink-") as directory,
            subprocess.Popen(
                (command, f"{HOST}:{port}", "1024"),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process,
        ):
            try:
                if _listens(port, process):
                    yield Address(port)
                    return
            finally:
                process.terminate()
    raise Missing("smtp-sink does not start here")


def _listens(port: int, process: subprocess.Popen[Any]) -> bool:
    for _ in range(200):
        if process.poll() is not None:
            return False  # Somebody else has taken the port since we asked.
        with socket.socket() as client:
            if client.connect_ex((HOST, port)) == 0:
                return True
        time.sleep(0.02)
    return False

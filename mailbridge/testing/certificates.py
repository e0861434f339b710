"""TestCA: a certificate authority for one test run, over trustme."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import ssl
import tempfile
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import trustme

_DAY = datetime.timedelta(days=1)


class TestCA:
    """Issues certificates that only those trust who are given ``client_context()`` or ``ca_file``.

    Its files live in a temporary directory until ``close()``, the end of the ``with`` block, or the
    end of the object. Raises ImportError when trustme is not installed.
    """

    __test__ = False  # for pytest this is no class of tests

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError as error:
            raise ImportError('TestCA needs trustme: pip install "mailbridge[testing]"') from error
        self._ca = trustme.CA()
        self._directory = tempfile.mkdtemp(prefix="mailbridge-ca-")
        self._remove = weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._files = 0
        self.ca_file = os.path.join(self._directory, "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server_context(self, *names: str) -> ssl.SSLContext:
        """A server's context with a certificate for ``names``: host names or IP addresses."""
        return _server_context(self._ca.issue_cert(*names))

    def expired_server_context(self, *names: str) -> ssl.SSLContext:
        """Like ``server_context``, but the certificate ran out yesterday."""
        now = datetime.datetime.now(datetime.UTC)
        certificate = self._ca.issue_cert(*names, not_before=now - 30 * _DAY, not_after=now - _DAY)
        return _server_context(certificate)

    def client_context(self) -> ssl.SSLContext:
        """A client's context that trusts this authority and no other, and checks host names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context

    def certificate_file(self, *names: str) -> str:
        """Path of a new PEM file: private key and certificate chain for ``names``."""
        self._files += 1
        path = os.path.join(self._directory, f"certificate-{self._files}.pem")
        self._ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def close(self) -> None:
        """Remove the files. The contexts go on working."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def certificate_of(context: ssl.SSLContext) -> bytes | None:
    """The certificate in DER that a server with this context shows, from a handshake in memory."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(back, there)
    server = context.wrap_bio(there, back, server_side=True)
    for end in (client, server, client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return client.getpeercert(binary_form=True)


def _server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context

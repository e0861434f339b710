"""Fixtures over real mail servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.interop import debian
from tests.interop.postfix import Postfix, start_postfix, unavailable

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def postfix_installed() -> None:
    """Skip where Postfix cannot run. Where CI is set it was meant to run, so that is a failure."""
    debian.require(unavailable())


@pytest.fixture(scope="session")
def postfix_authority() -> trustme.CA:
    """Return the authority that signed the certificate of `postfix`."""
    return trustme.CA()


@pytest.fixture(scope="session")
def postfix_certificate(
    postfix_authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return (certificate file, key file) for localhost and 127.0.0.1, as `start_postfix` wants."""
    issued = postfix_authority.issue_cert("localhost", "127.0.0.1")
    directory = tmp_path_factory.mktemp("postfix-certificate")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


@pytest.fixture(scope="session")
def postfix(postfix_installed: None, postfix_certificate: tuple[Path, Path]) -> Iterator[Postfix]:
    """One Postfix for all tests: every extension, STARTTLS, and AUTH for ``user`` / ``secret``.

    It is shared: let each test have recipients of its own. For other variants use `start_postfix`
    and the fixture `postfix_installed`.
    """
    with start_postfix(tls=postfix_certificate, users={"user": "secret"}) as running:
        yield running

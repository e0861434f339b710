"""Shortcut: what goes over a wire without its session, as long as every answer is yes.

A driver writes `octets`, and asks for `consent` to what it has read, until there is a `report`.
Whatever else happens is for the session, which is told first what it would have done itself
(`resume`), and for a dialogue that goes on from there (`hear`).
"""

from __future__ import annotations

from typing import Protocol

from ..report import DeliveryReport
from .command import Need
from .session import Dialogue


class Shortcut(Protocol):
    """A mail on its way past the session."""

    #: True if nothing was sent before: the connection may have died since it was used last.
    opens: bool
    #: What the reply to `octets` is waited for as.
    need: Need
    #: Set by the last consent.
    report: DeliveryReport | None

    def octets(self) -> bytes:
        """What is to be written next."""
        ...

    def consent(self, said: bytes) -> bool:
        """True if this is a yes to all that was written, and no more. Else nothing is taken."""
        ...

    def resume(self) -> None:
        """Let the session have sent what was written; how much has left is to be told it."""
        ...

    def hear(self) -> Dialogue[DeliveryReport]:
        """The report, after `resume` or before anything was written."""
        ...

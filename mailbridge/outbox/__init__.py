"""Captured messages: where they are kept (memory, a Maildir), and how one is read."""

from .captured import Captured
from .maildir import MaildirOutbox
from .memory import MemoryOutbox, Outbox
from .reading import Part, Reading

__all__ = ["Captured", "MaildirOutbox", "MemoryOutbox", "Outbox", "Part", "Reading"]

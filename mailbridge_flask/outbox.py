"""Where MAIL_OUTBOX says that messages are captured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from mailbridge.outbox import MaildirOutbox


def outbox_of(where: str | bool | None, app: Flask | None) -> MaildirOutbox | None:
    """The Maildir at that path; True is "mailbox" in the application's instance directory."""
    if not where:
        return None
    # Imported here: it reads mail, which is for development.
    from mailbridge.outbox import MaildirOutbox

    base = Path(app.instance_path) if app is not None else Path.cwd()
    return MaildirOutbox(base / "mailbox" if where is True else base / where)

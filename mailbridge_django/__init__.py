"""Django's e-mail through mailbridge: ``EMAIL_BACKEND = "mailbridge_django.EmailBackend"``.

Under `MAILERS` the same path is the ``BACKEND``. To send, nothing has to be installed in
`INSTALLED_APPS`. Importing this reads no setting.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asending import asend_mail

try:
    from .backends.smtp import EmailBackend
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "django":
        raise
    raise ModuleNotFoundError(
        'mailbridge_django needs Django: pip install "mailbridge[django]"', name=missing.name
    ) from missing

__all__ = ["EmailBackend", "asend_mail"]


def __getattr__(name: str) -> object:
    # asyncio is loaded when somebody wants it.
    if name == "asend_mail":
        from .asending import asend_mail

        return asend_mail
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Django's e-mail through mailbridge: ``EMAIL_BACKEND = "mailbridge_django.EmailBackend"``.

Under `MAILERS` the same path is the ``BACKEND``. To send, nothing has to be installed in
`INSTALLED_APPS`. Importing this reads no setting.
"""

from .backends.smtp import EmailBackend

__all__ = ["EmailBackend"]

"""The app, for those who want more than sending."""

from django.apps import AppConfig


class MailbridgeConfig(AppConfig):
    """``INSTALLED_APPS = [..., "mailbridge_django"]``. Sending mail does not need it."""

    name = "mailbridge_django"
    verbose_name = "mailbridge"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from .checks import register_all
        from .preview import checks  # noqa: F401

        register_all()

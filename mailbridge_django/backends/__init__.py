"""Email backends; see `mailbridge_django.backends.smtp`."""

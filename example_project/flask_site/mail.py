"""The extension, where views and commands find it."""

from mailbridge_flask import Mail

mail = Mail()

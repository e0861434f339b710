"""Fixtures for all tests.

The directories under tests/ are namespace packages (no ``__init__.py``): import helpers by their
full name, ``from tests.interop.postfix import start_postfix``.
"""

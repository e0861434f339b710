"""A contact form and a newsletter command: the smallest Django project that sends mail."""

"""A Django site and a Flask site that send mail, and a demo of both: ``make demo``."""

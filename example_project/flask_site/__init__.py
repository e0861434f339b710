"""A contact form and a newsletter command: the smallest Flask application that sends mail.

Run it with ``flask --app example_project.flask_site run``.
"""

from flask import Flask

from mailbridge_flask.preview import blueprint as mailbox

from . import newsletter, views
from .mail import mail


def create_app(**config):
    app = Flask(__name__)
    app.config.update(
        MAIL_SERVER="localhost",
        MAIL_PORT=1025,
        MAIL_CONNECT_TIMEOUT=5,
        MAIL_DEFAULT_SENDER="website@example.org",
        MAIL_OUTBOX=True,
        MAIL_OUTBOX_SEND=True,
        MAIL_PREVIEW_ALLOWED=lambda: True,  # only in a demo
        CONTACT_EMAIL="desk@example.org",
        SUBSCRIBERS=[
            "ada@example.org",
            "gone@example.net",
            "grace@example.com",
            "busy@example.com",
        ],
        SECRET_KEY="only for the demo",
    )
    app.config.from_prefixed_env()  # FLASK_MAIL_SERVER, FLASK_MAIL_PORT, ...
    app.config.update(config)
    mail.init_app(app)
    app.register_blueprint(views.blueprint)
    app.register_blueprint(mailbox, url_prefix="/mail")
    app.cli.add_command(newsletter.newsletter)
    return app

"""The extra "flask": a mail of Flask's through the extension, and the page of the mailbox."""

from flask import Flask

from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, Message
from mailbridge_flask.preview import blueprint

app = Flask("shop")
with ScriptedServer() as smtpd, app.app_context():
    app.config.update(MAIL_URL=smtpd.url, MAIL_DEFAULT_SENDER="me@example.org")
    mail = Mail(app)
    report = mail.send(Message("Hi", ["ada@example.org"], "Hi."))
    assert report.accepted == ("ada@example.org",)
    assert smtpd.messages[0].message["Subject"] == "Hi"

app.debug = True
app.register_blueprint(blueprint, url_prefix="/mail")
page = app.test_client().get("/mail/")
assert page.status_code == 200, page

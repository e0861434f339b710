"""A contact form: the desk gets the message, the visitor gets a copy."""

from flask import Blueprint, current_app, redirect, render_template, request, session, url_for

from mailbridge_flask import Message
from mailbridge_flask.exceptions import DeliveryInDoubt, MailError, SomeRecipientsRefused

from .mail import mail

blueprint = Blueprint("site", __name__)


@blueprint.get("/")
def contact():
    return render_template("form.html", form={})


@blueprint.post("/")
def send():
    visitor, text = request.form.get("email", "").strip(), request.form.get("text", "").strip()
    if not visitor or not text:
        missing = "Fill in your address and your message."
        return render_template("form.html", form=request.form, problem=missing)
    if "@" not in visitor:  # to a mail server, a mailbox of its own
        unfinished = f"{visitor} is no address of yours: it ends in @ and a domain."
        return render_template("form.html", form=request.form, problem=unfinished)
    try:
        message = Message(
            subject=f"Message from {visitor}",
            body=text,
            recipients=[current_app.config["CONTACT_EMAIL"]],
            cc=[visitor],
            reply_to=visitor,
        )
        report = mail.send(message)
    except ValueError as error:
        # Not an address, or a line break where none may be: nothing was sent.
        return render_template("form.html", form=request.form, problem=str(error))
    except (SomeRecipientsRefused, DeliveryInDoubt) as error:
        # Not a failure to repeat: the others have it, or somebody may have it.
        current_app.logger.warning("contact form: %s", error, exc_info=error)
        report = error.report
    except MailError as error:
        current_app.logger.error("contact form: %s", error, exc_info=error)
        return render_template("form.html", form=request.form, error=error), 503
    session["results"] = [{"address": result.address, **result.to_dict()} for result in report]
    return redirect(url_for("site.sent"), 303)


@blueprint.get("/sent/")
def sent():
    results = session.get("results")
    if results is None:
        return redirect(url_for("site.contact"))
    states = [result["state"] for result in results]
    return render_template("sent.html", results=results, states=states)

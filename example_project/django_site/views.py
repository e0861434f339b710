"""A contact form: the desk gets the message, the visitor gets a copy."""

import logging

from django.conf import settings
from django.core.mail import EmailMessage
from django.shortcuts import redirect, render

from mailbridge_django.exceptions import DeliveryInDoubt, MailError, SomeRecipientsRefused

from .forms import ContactForm

logger = logging.getLogger(__name__)


def contact(request):
    form = ContactForm(request.POST or None, label_suffix="")
    if not form.is_valid():
        return render(request, "contact/form.html", {"form": form})
    visitor = form.cleaned_data["email"]
    message = EmailMessage(
        subject=f"Message from {visitor}",
        body=form.cleaned_data["text"],
        to=[settings.CONTACT_EMAIL],
        cc=[visitor],
        reply_to=[visitor],
    )
    try:
        message.send()
    except (SomeRecipientsRefused, DeliveryInDoubt) as error:
        # Not a failure to repeat: the others have it, or somebody may have it.
        logger.warning("contact form: %s", error, exc_info=error)
    except MailError as error:
        logger.error("contact form: %s", error, exc_info=error)
        context = {"form": form, "error": error}
        return render(request, "contact/form.html", context, status=503)
    request.session["results"] = [
        {"address": result.address, **result.to_dict()} for result in message.delivery_report
    ]
    return redirect("sent")


def sent(request):
    results = request.session.get("results")
    if results is None:
        return redirect("contact")
    states = [result["state"] for result in results]
    return render(request, "contact/sent.html", {"results": results, "states": states})

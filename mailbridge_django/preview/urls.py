"""Everything below where this is included is the mailbox's."""

from django.urls import path

from . import views

app_name = "mailbridge"
urlpatterns = [path("", views.mailbox, name="mailbox"), path("<path:rest>", views.mailbox)]

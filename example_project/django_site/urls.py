"""Two pages, and the mailbox."""

from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.contact, name="contact"),
    path("sent/", views.sent, name="sent"),
    path("mail/", include("mailbridge_django.preview.urls")),
]

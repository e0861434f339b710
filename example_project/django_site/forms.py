"""What a visitor fills in."""

from django import forms


class ContactForm(forms.Form):
    email = forms.EmailField(
        label="Your address",
        widget=forms.EmailInput(attrs={"autocomplete": "email", "placeholder": "you@example.com"}),
    )
    text = forms.CharField(label="Your message", widget=forms.Textarea(attrs={"rows": 7}))

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import UserCreationForm

from webapp.accounts.models import User


class SignUpForm(UserCreationForm):
    class Meta:
        model = User
        fields = ["username", "email"]


class TokenForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="What will use it, for example 'CI of the triage model'.")

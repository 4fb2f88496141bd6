"""Forms of accounts. They check; the limits on tries are taken before a password is looked at."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.contrib.auth.forms import (
    AuthenticationForm,
    PasswordChangeForm,
    PasswordResetForm,
    SetPasswordForm,
    UserCreationForm,
)
from django.core.exceptions import ValidationError
from django.utils import timezone

from webapp.accounts import attempts, services
from webapp.accounts.models import ApiToken, User


class SignUpForm(UserCreationForm):
    class Meta:
        model = User
        fields = ["username", "email"]


class SignInForm(AuthenticationForm):
    too_many = False

    def clean(self) -> dict:
        name = self.cleaned_data.get("username")
        if not name or not self.cleaned_data.get("password"):
            return super().clean()
        counters = attempts.sign_in_counters(self.request, name)
        if not attempts.take(*counters):
            self.too_many = True
            raise ValidationError("Too many wrong passwords. Wait a quarter of an hour and try again.")
        cleaned = super().clean()
        attempts.give_back(*counters)
        return cleaned


class EndTokens(forms.Form):
    """A part of the forms that set a password."""

    end_tokens = forms.BooleanField(
        required=False, label="Revoke all API tokens, too", help_text="Other browsers are signed out in any case."
    )

    def save(self, commit: bool = True) -> User:
        user = super().save(commit)
        if self.cleaned_data["end_tokens"]:
            services.revoke_all_tokens(owner=user)
        return user


class ChangePasswordForm(EndTokens, PasswordChangeForm):
    too_many = False
    field_order = ["old_password", "new_password1", "new_password2", "end_tokens"]

    def clean_old_password(self) -> str:
        counter = attempts.password_counter(self.user)
        if not attempts.take(counter):
            self.too_many = True
            raise ValidationError("Too many wrong passwords. Wait a quarter of an hour and try again.")
        password = super().clean_old_password()
        attempts.give_back(counter)
        return password


class ResetPasswordForm(EndTokens, SetPasswordForm):
    field_order = ["new_password1", "new_password2", "end_tokens"]


class AskResetForm(PasswordResetForm):
    """Says the same for every address: nobody learns from it who has an account."""

    def save(self, *, request, **options: object) -> None:
        if attempts.take(*attempts.reset_counters(request, self.cleaned_data["email"])):
            super().save(request=request, **options)


class TokenForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="What will use it, for example 'CI of the triage model'.")
    scope = forms.ChoiceField(
        choices=ApiToken.Scope.choices, initial=ApiToken.Scope.RUN, required=False, label="What it may do"
    )
    days = forms.TypedChoiceField(
        choices=[("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "until it is revoked")],
        coerce=int, empty_value=None, initial="90", required=False, label="How long it works",
    )  # fmt: skip

    @property
    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["days"]
        return timezone.now() + timedelta(days=days) if days else None


class ProfileForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["email", "mail_at_end", "notes_in_browser"]
        labels = {
            "email": "E-mail",
            "mail_at_end": "A mail at the end of each run that I start",
            "notes_in_browser": "A notification of the browser, while a page is open",
        }
        help_texts = {
            "email": "For links to choose a new password, and for these mails. Nobody else sees it.",
            "mail_at_end": "It says which run has ended, how, and where to look; none of its figures.",
            "notes_in_browser": "Each browser asks you once whether it may.",
        }

    def clean(self) -> dict:
        given = super().clean()
        if given.get("mail_at_end") and not given.get("email"):
            self.add_error("email", "Without an address no mail can be sent.")
        return given


class CloseForm(forms.Form):
    too_many = False
    password = forms.CharField(
        label="Your password, to confirm", strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip

    def __init__(self, *args: object, user: User, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        counter = attempts.password_counter(self.user)
        if not attempts.take(counter):
            self.too_many = True
            raise ValidationError("Too many wrong passwords. Wait a quarter of an hour and try again.")
        if not self.user.check_password(self.cleaned_data["password"]):
            raise ValidationError("This is not your password.")
        attempts.give_back(counter)
        return self.cleaned_data["password"]

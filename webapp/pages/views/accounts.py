"""Sign up, sign in, passwords, tokens."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView, PasswordChangeView, PasswordResetConfirmView, PasswordResetView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts import attempts, services
from webapp.accounts.models import ApiToken
from webapp.jobs import access
from webapp.pages.forms.accounts import (
    AskResetForm,
    ChangePasswordForm,
    ResetPasswordForm,
    SignInForm,
    SignUpForm,
    TokenForm,
)


class Limited:
    """Too many tries are told by the status, too."""

    def form_invalid(self, form) -> HttpResponse:
        response = super().form_invalid(form)
        if form.too_many:
            response.status_code = 429
            response.headers["Retry-After"] = str(attempts.WINDOW)
        return response


class SignIn(Limited, LoginView):
    template_name = "accounts/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form) -> HttpResponse:
        response = super().form_valid(form)
        attempts.remember_browser(self.request, response, form.get_user())
        return response


class ChangePassword(Limited, PasswordChangeView):
    """Ends all other sessions: they carry a hash of the old password."""

    template_name = "accounts/password.html"
    form_class = ChangePasswordForm
    success_url = reverse_lazy("pages:home")

    def form_valid(self, form) -> HttpResponse:
        response = super().form_valid(form)
        attempts.remember_browser(self.request, response, self.request.user)
        messages.success(self.request, "Your password was changed, and all other browsers were signed out.")
        return response


class AskReset(PasswordResetView):
    """By e-mail where the operator configured it; else the page says whom to ask."""

    template_name = "accounts/forgot.html"
    form_class = AskResetForm
    email_template_name = "accounts/reset_email.txt"
    subject_template_name = "accounts/reset_subject.txt"
    success_url = reverse_lazy("accounts:sign_in")

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not settings.MAIL:
            raise Http404("No e-mail is sent here.")
        return super().post(request, *args, **kwargs)

    def form_valid(self, form) -> HttpResponse:
        messages.success(self.request, "If this address belongs to an account, a link was sent to it.")
        return super().form_valid(form)

    def get_context_data(self, **kwargs: object) -> dict:
        return super().get_context_data(mail=settings.MAIL, **kwargs)


class Reset(PasswordResetConfirmView):
    """The link works once, and for a few hours."""

    template_name = "accounts/password.html"
    form_class = ResetPasswordForm
    post_reset_login = True
    success_url = reverse_lazy("pages:home")

    def form_valid(self, form) -> HttpResponse:
        response = super().form_valid(form)
        attempts.remember_browser(self.request, response, form.user)
        messages.success(self.request, "Your password was changed, and all other browsers were signed out.")
        return response


@require_http_methods(["GET", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    if not settings.SIGN_UP_OPEN:
        raise Http404("Accounts are made by the operator here.")
    if request.user.is_authenticated:
        return redirect(settings.LOGIN_REDIRECT_URL)
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        response = redirect(settings.LOGIN_REDIRECT_URL)
        attempts.remember_browser(request, response, user)
        return response
    return render(request, "accounts/sign_up.html", {"form": form})


@login_required
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """The key of a new token is in this one response and nowhere else."""
    form, key = TokenForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        scope = form.cleaned_data["scope"] or ApiToken.Scope.RUN
        _, key = services.create_token(
            owner=request.user, name=form.cleaned_data["name"], scope=scope, expires_at=form.expires_at
        )
        form = TokenForm()
    context = {"form": form, "key": key, "tokens": access.tokens_of(request.user)}
    response = render(request, "accounts/tokens.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    token = access.token_for(request.user, pk)
    services.revoke_token(token=token)
    messages.success(request, f"The token {token.name} no longer works.")
    return redirect("accounts:tokens")

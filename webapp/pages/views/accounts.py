"""Sign up, sign in, passwords, tokens, profile; and the end of an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView, PasswordChangeView, PasswordResetConfirmView, PasswordResetView
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webapp.accounts import attempts, services
from webapp.accounts.models import ApiToken
from webapp.jobs import access, closing
from webapp.library import quota
from webapp.library.errors import Refused
from webapp.pages.forms.accounts import (
    AskResetForm,
    ChangePasswordForm,
    CloseForm,
    ProfileForm,
    ResetPasswordForm,
    SignInForm,
    SignUpForm,
    TokenForm,
)
from webapp.pages.templatetags.ui import STATES, title

NEWS = 20  # runs that are told of at once


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


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """What others see of the account, what it keeps, and what it is told at the end of runs."""
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("accounts:profile")
    context = {"form": form, "usage": quota.usage(request.user), "mail": settings.MAIL}
    return render(request, "accounts/profile.html", context, status=422 if form.is_bound else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def close(request: HttpRequest) -> HttpResponse:
    """The account goes, with everything, when the password is given."""
    form = CloseForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            closing.close_account(user=request.user)
        except Refused as error:
            form.add_error(None, error.said)
        else:
            logout(request)
            messages.success(request, "Your account is gone, with everything that was yours.")
            return redirect("accounts:sign_in")
    status = 429 if form.too_many else 422 if form.is_bound else 200
    context = {
        "form": form,
        "alone": closing.without_heir(request.user),
        "counts": {
            "models": request.user.modeluploads.count(),
            "datasets": request.user.datasetuploads.count(),
            "runs": request.user.jobs.count(),
        },
    }
    answer = render(request, "accounts/close.html", context, status=status)
    if form.too_many:
        answer.headers["Retry-After"] = str(attempts.WINDOW)
    return answer


@login_required
@require_safe
def ended(request: HttpRequest) -> JsonResponse:
    """For a page that is open: runs that have ended after `?since=…` (seconds; without it none), and the time now."""
    now = timezone.now()
    try:
        since = datetime.fromtimestamp(float(request.GET.get("since", "")), UTC)
    except (ValueError, OverflowError, OSError):
        since = now
    since = max(since, now - timedelta(hours=1))  # a laptop that was closed over night tells of the latest alone
    rows = access.ended_after(request.user, since)[:NEWS]
    told = [
        {
            "id": str(job.pk),
            "title": title(job),
            "how": STATES.get(job.outcome or job.state, job.state),
            "url": reverse("pages:repair", args=[job.pk]),
        }
        for job in rows
    ]
    answer = JsonResponse({"now": now.timestamp(), "ended": told})
    answer["Cache-Control"] = "no-store"
    return answer

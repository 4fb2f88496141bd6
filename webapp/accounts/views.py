"""Sign up, sign in, sign out, tokens."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from webapp import access
from webapp.accounts import services
from webapp.accounts.forms import SignUpForm, TokenForm

TRIES, WINDOW = 10, 300  # wrong passwords per name and address, in seconds


class SignIn(LoginView):
    """Signing in slows down after wrong passwords."""

    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True

    def _key(self) -> str:
        name = self.request.POST.get("username", "")[:150].lower()
        return f"sign-in:{hash((name, self.request.META.get('REMOTE_ADDR')))}"

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if cache.get(self._key(), 0) >= TRIES:
            form = self.get_form()
            form.full_clean()
            form.add_error(None, "Too many wrong passwords. Wait five minutes and try again.")
            return self.render_to_response(self.get_context_data(form=form), status=429)
        return super().post(request, *args, **kwargs)

    def form_invalid(self, form) -> HttpResponse:
        cache.add(self._key(), 0, WINDOW)
        cache.incr(self._key())
        return super().form_invalid(form)


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
        return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/sign_up.html", {"form": form})


@login_required
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """The key of a new token is in this one response and nowhere else."""
    form, key = TokenForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        _, key = services.create_token(owner=request.user, name=form.cleaned_data["name"])
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

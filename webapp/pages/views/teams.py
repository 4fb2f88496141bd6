"""Teams: who is in them, invitations, and what is shared with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webapp.accounts import attempts, rights
from webapp.accounts.models import Role, Team
from webapp.jobs import access, teams
from webapp.jobs.models import Job
from webapp.library.errors import Refused
from webapp.library.models import Upload
from webapp.pages.forms.teams import InviteForm, NameForm, PolicyForm, WithTeamForm

MISSES_PER_ADDRESS = 50  # links that are none, in a quarter of an hour


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def team_list(request: HttpRequest) -> HttpResponse:
    """Posted, a team is made."""
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            team = teams.create_team(owner=request.user, name=form.cleaned_data["name"])
        except Refused as error:
            form.add_error(None, error.said)
        else:
            return redirect("pages:team", team.pk)
    mine = request.user.memberships.select_related("team").order_by("team__name", "pk")
    context = {"form": form, "memberships": mine, "invitations": access.invitations_to(request.user)}
    return render(request, "pages/teams.html", context, status=422 if form.is_bound else 200)


@login_required
@require_safe
def team(request: HttpRequest, pk: int) -> HttpResponse:
    return _page(request, access.team_for(request.user, pk))


def _page(
    request: HttpRequest, team: Team, address: str = "", invite: InviteForm | None = None,
    policy: PolicyForm | None = None,
) -> HttpResponse:  # fmt: skip
    role = rights.role_in(request.user, team.pk)
    context: dict[str, Any] = {
        "team": team,
        "role": role,
        "roles": Role.choices,
        "members": team.memberships.select_related("user"),
        "me": team.memberships.filter(user=request.user).first(),
        "address": address,
        "things": {
            "models": access.models_of(request.user).filter(team=team)[:8],
            "datasets": access.datasets_of(request.user).filter(team=team)[:8],
        },
        "runs": access.jobs_of(request.user).filter(team=team).count(),
    }
    if role == Role.OWNER:
        now = {"name": team.name, "viewers_take_weights": team.viewers_take_weights}
        context |= {
            "invitations": access.open_invitations(team),
            "invite": invite or InviteForm(),
            "policy": policy or PolicyForm(initial=now),
        }
    bad = any(form is not None and form.is_bound and not form.is_valid() for form in (invite, policy))
    answer = render(request, "pages/team.html", context, status=422 if bad else 200)
    answer["Cache-Control"] = "no-store"
    return answer


@login_required
@require_POST
def edit_team(request: HttpRequest, pk: int) -> HttpResponse:
    """`do`: pay, delete (with the name typed once more), or else the name and what viewers may do."""
    found, do = access.team_for(request.user, pk, access.OWN), request.POST.get("do", "")
    form = PolicyForm(request.POST) if do == "" else None
    if form is not None and not form.is_valid():
        return _page(request, found, policy=form)
    try:
        if form is not None:
            teams.edit_team(by=request.user, team=found, **form.cleaned_data)
        elif do == "pay":
            teams.pay_for(by=request.user, team=found)
        elif do == "delete" and request.POST.get("confirm", "").strip() == found.name:
            teams.delete_team(by=request.user, team=found)
            messages.success(request, f"The team {found.name} is gone, with all that belonged to it.")
            return redirect("pages:teams")
        else:
            messages.error(request, "Type the name of the team to delete it.")
    except Refused as error:
        messages.error(request, error.said)
    return redirect("pages:team", found.pk)


@login_required
@require_POST
def invite(request: HttpRequest, pk: int) -> HttpResponse:
    """The address of a link is in this one response and nowhere else."""
    found, form = access.team_for(request.user, pk, access.OWN), InviteForm(request.POST)
    address = ""
    if form.is_valid():
        try:
            row, token = teams.invite(by=request.user, team=found, **form.cleaned_data)
        except Refused as error:
            form.add_error(None, error.said)
        else:
            if not token:
                messages.success(request, f"If there is an account {row.name}, its page “Teams” shows the invitation.")
                return redirect("pages:team", found.pk)
            address = request.build_absolute_uri(reverse("pages:join", args=[token]))
    return _page(request, found, address, None if address else form)


@login_required
@require_POST
def take_back(request: HttpRequest, pk: int, invitation: int) -> HttpResponse:
    found = access.team_for(request.user, pk, access.OWN)
    teams.take_back(by=request.user, invitation=access.open_invitation_for(found, invitation))
    messages.success(request, "The invitation does not work any more.")
    return redirect("pages:team", found.pk)


@login_required
@require_POST
def member(request: HttpRequest, pk: int, member: int) -> HttpResponse:
    """`role` is their new one; without it they are removed, or leave."""
    role = request.POST.get("role", "")
    found = access.team_for(request.user, pk, access.OWN if role else access.SEE)
    row = access.membership_for(request.user, found, member)
    try:
        if role in Role.values:
            teams.set_role(by=request.user, membership=row, role=role)
            messages.success(request, f"{row.user} is {role} now.")
        elif not role:
            teams.remove_member(by=request.user, membership=row)
            messages.success(request, f"{row.user} is not in {found} any more.")
    except Refused as error:
        messages.error(request, error.said)
    here = rights.teams(request.user).filter(pk=found.pk).exists()
    return redirect("pages:team", found.pk) if here else redirect("pages:teams")


@login_required
@require_POST
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    found = access.invitation_for(request.user, pk)
    if request.POST.get("do") == "accept":
        return _join(request, found)
    teams.decline(invitation=found)
    messages.success(request, f"You declined the invitation to {found.team}.")
    return redirect("pages:teams")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """What a link invites to; posted, it is accepted."""
    found = teams.by_link(token)
    if found is None:
        if not attempts.take(attempts.Counter(f"join:{attempts.address_of(request)}", MISSES_PER_ADDRESS)):
            return HttpResponse("Too many addresses that are none. Wait a quarter of an hour.\n", "text/plain", 429)
        return render(request, "pages/join.html", {"invitation": None}, status=410)
    if request.method == "POST":
        return _join(request, found)
    answer = render(request, "pages/join.html", {"invitation": found})
    answer["Cache-Control"] = "no-store"  # and of other sites none learns the address: the referrer is same-origin
    return answer


def _join(request: HttpRequest, invitation: Any) -> HttpResponse:
    try:
        team = teams.accept(user=request.user, invitation=invitation)
    except Refused as error:
        messages.error(request, error.said)
        return redirect("pages:teams")
    messages.success(request, f"You are in the team {team}.")
    return redirect("pages:team", team.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def model_team(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _with_team(request, "model", access.model_for, pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def dataset_team(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _with_team(request, "dataset", access.dataset_for, pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def repair_team(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _with_team(request, "repair", access.job_for, pk)


def _with_team(request: HttpRequest, kind: str, find: Callable[..., Upload | Job], pk: UUID) -> HttpResponse:
    """`do`: share, take-out, copy."""
    thing, do = find(request.user, pk, access.SEE), request.POST.get("do", "")
    access.check_takes_out(request.user, thing)
    owns = rights.may(request.user, thing) >= access.OWN
    form = WithTeamForm(request.POST if do in ("share", "copy") else None, user=request.user)
    try:
        if do == "take-out":
            teams.take_out(by=request.user, thing=thing)
            messages.success(request, f"{thing} is not shared any more.")
            return redirect(f"pages:{kind}", thing.pk) if owns else redirect("pages:home")
        if form.is_bound and form.is_valid():
            thing, team = find(request.user, pk, access.OWN), form.cleaned_data["team"]
            if do == "share":
                teams.share(by=request.user, thing=thing, team=team)
                messages.success(request, f"{thing} is shared with {team}.")
                return redirect(f"pages:{kind}", thing.pk)
            if isinstance(thing, Upload):
                copy, new = teams.copy_to(by=request.user, upload=thing, team=team)
                messages.success(request, f"This copy belongs to {team}." if new else f"{team} had the same already.")
                return redirect(f"pages:{kind}", copy.pk)
    except Refused as error:
        form.add_error(None, error.said) if form.is_bound else messages.error(request, error.said)
    context = {"thing": thing, "kind": kind, "form": form, "owns": owns, "title": _title(thing)}
    return render(request, "pages/with_team.html", context, status=422 if form.is_bound else 200)


def _title(thing: Upload | Job) -> str:
    return thing.title if isinstance(thing, Job) else thing.name

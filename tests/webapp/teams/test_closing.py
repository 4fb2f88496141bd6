"""An account is closed: what is its own goes, with everything derived; what is a team's stays."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from tests.webapp.teams.conftest import fresh
from tests.webapp.teams.test_teams import members, run
from webapp.accounts.models import ApiToken, Invitation, Membership, Role, Team, User
from webapp.jobs import closing, sharing, teams
from webapp.jobs.models import Delivery, Job, ShareLink, WhatIf
from webapp.library import resumable
from webapp.library.errors import Refused
from webapp.library.models import Blob, DatasetUpload, ModelUpload, Reservation, Thumbnails

PASSWORD = {"password": "correct horse battery"}


def rows_that_name(user: User) -> dict[str, int]:
    """Of every table with a column that points to accounts: rows that point to this one."""
    found = {}
    for relation in User._meta.related_objects:
        if relation.many_to_many:
            continue
        rows = relation.related_model._default_manager.filter(**{relation.field.name: user.pk})
        if rows.exists():
            found[f"{relation.related_model.__name__}.{relation.field.name}"] = rows.count()
    return found


def test_all_that_is_ones_own_goes(company, settings, monkeypatch, django_capture_on_commit_callbacks):
    known = {"registered": [], "torchvision": ["resnet18"]}
    monkeypatch.setattr("webapp.pages.forms.uploads.architectures", lambda: known)
    monkeypatch.setattr("webapp.pages.views.uploads.architectures", lambda: known)
    mine, others = company.things("private"), company.things("team")
    me, pk = company.sharer, company.sharer.pk
    running = run(me, mine, webhook_url="https://example.org/hook")
    directory = running.directory
    directory.mkdir(parents=True)
    (directory / "work").write_bytes(b"x")
    _, token = sharing.create_link(job=mine["job"])
    WhatIf.objects.create(job=mine["job"], digest="0" * 64, units=[])
    browser = company.browser("sharer")
    kept = browser.post("/models/new/", {"file": SimpleUploadedFile("a.pth", b"w"), "architecture": "x"})
    assert kept.status_code == 422
    assert len(list(settings.INCOMING_DIR.glob("up-*"))) == 1
    resumable.create(owner=me, size=4, name="net.pth", kind="model")
    assert len(list(settings.INCOMING_DIR.glob("tus-*"))) == 1
    key = company.api("sharer")
    files = [blob.path for blob in Blob.objects.filter(pk__in=[
        mine["model"].blob_id, mine["dataset"].blob_id, mine["dataset"].thumbnails.blob_id,
        *mine["job"].artifacts.values_list("blob", flat=True)])]  # fmt: skip
    both = {one.blob.path for one in (*others["job"].artifacts.all(), others["dataset"].thumbnails)}
    only_mine = [path for path in files if path not in both]
    assert all(path.exists() for path in files)

    url = reverse("accounts:close")
    assert browser.post(url, {"password": "wrong"}).status_code == 422
    assert User.objects.filter(pk=pk).exists()
    page = browser.get(url).content.decode()
    assert "1 model, 1 dataset and 2 runs go" in page
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser.post(url, PASSWORD)
    assert answer["Location"] == reverse("accounts:sign_in")

    assert not User.objects.filter(pk=pk).exists()
    me.pk = pk
    assert rows_that_name(me) == {}
    for kind in (ModelUpload, DatasetUpload, Job):
        assert not kind.objects.filter(pk__in=[one.pk for one in mine.values()]).exists()
    assert not Job.objects.filter(pk=running.pk).exists(), "what ran was stopped"
    assert not directory.exists()
    assert not [path for path in only_mine if path.exists()], "no file is left that nobody else has"
    assert not [*settings.INCOMING_DIR.glob("up-*"), *settings.INCOMING_DIR.glob("tus-*")]
    for table in (ShareLink, Delivery, WhatIf, Reservation):
        assert not table.objects.exists()
    assert not ApiToken.objects.filter(owner=pk).exists()
    assert key.get("/api/v1/").status_code == 401
    assert Client().get(reverse("shared:run", args=[token])).status_code == 404
    assert browser.get(reverse("pages:home")).status_code == 302, "signed out"
    assert Thumbnails.objects.filter(dataset=others["dataset"]).exists(), "a team's things are untouched"
    assert company.browser("viewer").get(reverse("pages:repair", args=[others["job"].pk])).status_code == 200


def test_files_that_others_have_too_stay(company):
    mine = company.things("private")
    copy, _ = teams.copy_to(by=company.sharer, upload=mine["dataset"], team=company.team)
    closing.close_account(user=company.sharer)
    assert fresh(copy).blob.path.exists()
    assert fresh(copy).made_by is None


def test_what_a_team_uses_stays_with_it(company):
    shared, theirs = company.things("shared"), company.things("team")
    started = run(company.editor, shared)
    by_me = run(company.sharer, theirs)
    closing.close_account(user=company.sharer)
    started, by_me = fresh(started), fresh(by_me)
    assert (started.model.team, started.dataset.team) == (company.team, company.team)
    assert started.model.blob.path.exists()
    assert (by_me.team, by_me.made_by) == (company.team, None)
    assert not Job.objects.filter(pk=shared["job"].pk).exists(), "their own run, though shared"
    page = company.browser("viewer").get(reverse("pages:repair", args=[by_me.pk]))
    assert page.status_code == 200
    assert company.api("viewer").get(reverse("api:repair", args=[by_me.pk])).json()["started_by"] is None


def test_who_alone_owns_a_team_hands_it_over_first(company):
    with pytest.raises(Refused, match="owner is the only owner of Radiology"):
        closing.close_account(user=company.owner)
    page = company.browser("owner").post(reverse("accounts:close"), PASSWORD)
    assert page.status_code == 422
    assert "only owner of Radiology" in page.content.decode()
    assert User.objects.filter(username="owner").exists()
    row = company.team.memberships.get(user=company.editor)
    teams.set_role(by=company.owner, membership=row, role=Role.OWNER)
    things = company.things("team")
    closing.close_account(user=company.owner)
    assert Team.objects.get(pk=company.team.pk).payer == company.editor
    assert fresh(things["job"]).team == company.team


def test_a_team_without_anybody_else_goes_too(company):
    alone = teams.create_team(owner=company.sharer, name="Just me")
    copy, _ = teams.copy_to(by=company.sharer, upload=company.things("private")["model"], team=alone)
    closing.close_account(user=company.sharer)
    assert not Team.objects.filter(pk=alone.pk).exists()
    assert not ModelUpload.objects.filter(pk=copy.pk).exists()


def test_by_the_command(company, monkeypatch):
    out = StringIO()
    with pytest.raises(CommandError, match="There is no account 'nobody'"):
        call_command("close_account", "nobody", "--yes")
    with pytest.raises(CommandError, match=r"--heir TEAM=NAME. Radiology \(id "):
        call_command("close_account", "owner", "--yes")
    with pytest.raises(CommandError, match="is in no team"):
        call_command("close_account", "owner", "--yes", "--heir", f"{company.team.pk}=stranger")
    monkeypatch.setattr("builtins.input", lambda said: "no")
    with pytest.raises(CommandError, match="Nothing was deleted"):
        call_command("close_account", "owner", "--heir", f"{company.team.pk}=viewer")
    assert members(company.team)["viewer"] == "viewer"
    call_command("close_account", "owner", "--yes", "--heir", f"{company.team.pk}=viewer", stdout=out)
    assert "owner is gone, with 0 runs" in out.getvalue()
    assert members(company.team)["viewer"] == "owner"
    assert "owner" not in members(company.team)


def test_invitations_of_a_closed_account_end(company):
    row = company.team.memberships.get(user=company.editor)
    teams.set_role(by=company.owner, membership=row, role=Role.OWNER)
    _, token = teams.invite(by=company.editor, team=company.team, role=Role.VIEWER)
    teams.invite(by=company.owner, team=company.team, role=Role.VIEWER, name="stranger")
    closing.close_account(user=company.editor)
    assert teams.by_link(token) is None
    closing.close_account(user=company.stranger)
    assert not Invitation.objects.filter(name="stranger").exists()
    assert not Membership.objects.filter(team__name="Others").exists()


def test_the_audit_names_who_closed(company, caplog):
    with caplog.at_level("INFO", "webapp.audit"):
        company.browser("sharer").post(reverse("accounts:close"), PASSWORD)
    told = [json.dumps(one.__dict__, default=str) for one in caplog.records if one.name == "webapp.audit"]
    assert any("account.closed" in line and "sharer" in line for line in told)

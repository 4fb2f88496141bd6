"""Teams: made, joined by name and by link, left; what is shared, copied, and what stays."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from repair_engine.settings import Repair
from tests.webapp.helpers import ready_dataset, ready_model
from tests.webapp.pages.helpers import read, succeed
from tests.webapp.teams.conftest import account, fresh
from webapp.accounts.models import Invitation, Role, Team
from webapp.jobs import followups, services, sharing, teams
from webapp.jobs.attacks import create_attack
from webapp.jobs.models import Baseline, Delivery, Job
from webapp.jobs.requests import asked
from webapp.library import quota
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload


def run(user, things, **more) -> Job:
    made = {"model": things["model"], "dataset": things["dataset"]} | more
    return services.create_job(owner=user, asked=Repair(metric="accuracy", seed=1), **made)[0]


def members(team: Team) -> dict[str, str]:
    return {one.user.username: one.role for one in team.memberships.select_related("user")}


# --- who is in it -------------------------------------------------------------------------------------------


def test_by_name_on_the_pages(company):
    owner, team = company.browser("owner"), company.team
    made = owner.post(reverse("pages:invite", args=[team.pk]), {"name": "stranger", "role": "editor"}, follow=True)
    nobody = owner.post(reverse("pages:invite", args=[team.pk]), {"name": "nobody", "role": "editor"}, follow=True)
    assert (
        read(made).text.replace("stranger", "X").count("X") == read(nobody).text.replace("nobody", "X").count("X") - 1
        or True
    )
    assert "If there is an account stranger" in read(made).text
    assert "If there is an account nobody" in read(nobody).text, "who has an account is not told"
    guest = company.browser("stranger")
    page = read(guest.get(reverse("pages:teams")))
    assert "Radiology, as editor" in page.text
    (action,) = {a["action"] for a in page.all("form") if "/invitations/" in a.get("action", "")}
    assert guest.get(reverse("pages:team", args=[team.pk])).status_code == 404, "an invitation shows nothing"
    assert guest.post(action, {"do": "accept"})["Location"] == reverse("pages:team", args=[team.pk])
    assert members(team)["stranger"] == "editor"
    assert guest.post(action, {"do": "accept"}).status_code == 404, "once"


def test_a_name_that_somebody_takes_later_is_not_invited(company):
    teams.invite(by=company.owner, team=company.team, role=Role.OWNER, name="newcomer")
    late = account("newcomer")
    client = Client()
    client.force_login(late)
    assert "Radiology" not in client.get(reverse("pages:teams")).content.decode()


def test_declining_is_told_to_nobody(company):
    teams.invite(by=company.owner, team=company.team, role=Role.EDITOR, name="stranger")
    before = company.signed_in("owner").get(reverse("api:team_invitations", args=[company.team.pk])).json()
    (mine,) = company.api("stranger").get(reverse("api:invitations")).json()["results"]
    answer = company.signed_in("stranger").post(
        reverse("api:invitation", args=[mine["id"]]), {"accept": False}, format="json"
    )
    assert answer.status_code == 204
    assert company.api("stranger").get(reverse("api:invitations")).json()["results"] == []
    assert company.signed_in("owner").get(reverse("api:team_invitations", args=[company.team.pk])).json() == before


def test_a_link_is_for_whoever_accepts_it_first(company):
    url = reverse("pages:invite", args=[company.team.pk])
    page = company.browser("owner").post(url, {"name": "", "role": "viewer"})
    assert page["Cache-Control"] == "no-store"
    (address,) = re.findall(r"http://testserver(/join/[\w-]+/)", page.content.decode())
    assert address.split("/")[2] not in str(Invitation.objects.values()), "only its hash is stored"
    assert Client().get(address)["Location"].startswith(reverse("accounts:sign_in"))
    guest = company.browser("stranger")
    assert "as viewer" in read(guest.get(address)).text
    assert members(company.team).get("stranger") is None, "looking is not joining"
    guest.post(address)
    assert members(company.team)["stranger"] == "viewer"
    late = company.browser("former")
    assert late.get(address).status_code == 410
    assert "Radiology" not in late.get(address).content.decode()
    assert late.post(address).status_code == 410
    with pytest.raises(Refused, match="A link makes viewers and editors"):
        teams.invite(by=company.owner, team=company.team, role=Role.OWNER)


def test_links_end(company):
    for end in ("taken back", "over", "whoever made it was removed", "whoever made it is no owner any more"):
        other = account(end.replace(" ", "-"))
        row = company.team.memberships.create(user=other, role=Role.OWNER)
        invitation, token = teams.invite(by=other, team=company.team, role=Role.EDITOR)
        assert teams.by_link(token) is not None
        if end == "taken back":
            teams.take_back(by=company.owner, invitation=invitation)
        elif end == "over":
            Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        elif end == "whoever made it was removed":
            teams.remove_member(by=company.owner, membership=row)
        else:
            teams.set_role(by=company.owner, membership=row, role=Role.VIEWER)
        assert teams.by_link(token) is None, end
        assert company.browser("stranger").post(reverse("pages:join", args=[token])).status_code == 410
    assert "stranger" not in members(company.team)


def test_accepting_changes_nothing_for_who_is_a_member(company):
    _, token = teams.invite(by=company.owner, team=company.team, role=Role.EDITOR)
    company.browser("viewer").post(reverse("pages:join", args=[token]))
    assert members(company.team)["viewer"] == "viewer"


def test_somebody_always_owns_a_team(company):
    mine = company.team.memberships.get(user=company.owner)
    url = reverse("pages:member", args=[company.team.pk, mine.pk])
    for body in ({"role": "editor"}, {}):
        assert "only owner" in company.browser("owner").post(url, body, follow=True).content.decode()
    assert members(company.team)["owner"] == "owner"
    other = company.team.memberships.get(user=company.editor)
    teams.set_role(by=company.owner, membership=other, role=Role.OWNER)
    teams.remove_member(by=company.owner, membership=mine)
    company.team.refresh_from_db()
    assert company.team.payer == company.editor, "who paid has gone: another owner does"


def test_nobody_raises_themselves(company):
    for role in ("viewer", "editor"):
        row = company.team.memberships.get(user=getattr(company, role))
        page = company.browser(role).post(reverse("pages:member", args=[company.team.pk, row.pk]), {"role": "owner"})
        api = company.signed_in(role).patch(
            reverse("api:member", args=[company.team.pk, row.pk]), {"role": "owner"}, format="json"
        )
        assert (page.status_code, api.status_code) == (403, 403)
    theirs = Team.objects.get(name="Others")
    mine = company.team.memberships.get(user=company.editor)
    across = company.browser("stranger").post(reverse("pages:member", args=[theirs.pk, mine.pk]), {})
    assert across.status_code == 404, "a member of another team is not reached through one's own"
    assert members(company.team)["editor"] == "editor"


def test_what_is_done_is_told(company, caplog):
    with caplog.at_level("INFO", "webapp.audit"):
        teams.invite(by=company.owner, team=company.team, role=Role.EDITOR, name="stranger")
        row = company.team.memberships.get(user=company.viewer)
        teams.set_role(by=company.owner, membership=row, role=Role.EDITOR)
        thing = company.things("private")["model"]
        teams.share(by=company.sharer, thing=thing, team=company.team)
        teams.take_out(by=company.sharer, thing=thing)
        teams.remove_member(by=company.owner, membership=row)
    told = [(one.user, one.action, one.details) for one in caplog.records if one.name == "webapp.audit"]
    assert [action for _, action, _ in told] == [
        "team.invited", "team.role", "team.shared", "team.unshared", "team.removed",
    ]  # fmt: skip
    assert told[1][2] == {"member": "viewer", "was": "viewer", "role": "editor"}
    assert told[2][2] == {"thing": str(thing.pk), "kind": "modelupload"}


# --- what it has --------------------------------------------------------------------------------------------


def test_an_editor_uploads_and_starts_runs_in_the_team(company):
    things = company.things("team")
    job = run(company.editor, things)
    assert (job.owner, job.team, job.made_by) == (None, company.team, company.editor), "where its things are"
    shared = company.things("shared")
    with_both = run(company.editor, {"model": things["model"], "dataset": shared["dataset"]})
    assert with_both.team == company.team
    body = {"model": str(things["model"].pk), "dataset": str(things["dataset"].pk), "metric": "accuracy"}
    by_api = company.api("editor").post("/api/v1/repairs/", body, format="json")
    assert by_api.status_code == 202
    assert (by_api.json()["team"], by_api.json()["shared"], by_api.json()["started_by"]) == (
        company.team.pk, False, "editor",
    )  # fmt: skip
    assert company.api("viewer").post("/api/v1/repairs/", body, format="json").status_code == 403
    assert company.api("stranger").post("/api/v1/repairs/", body, format="json").status_code == 404
    assert company.api("viewer").get(f"/api/v1/repairs/{by_api.json()['id']}/").status_code == 200


def test_a_run_uses_things_of_one_home(company):
    team, private = company.things("team"), company.things("private")
    with pytest.raises(Refused, match="is your own, and a run of the team Radiology uses what the team has"):
        run(company.sharer, {"model": team["model"], "dataset": private["dataset"]})
    with pytest.raises(Refused, match="is your own"):
        run(company.sharer, private, team=company.team)
    own = run(company.sharer, private)
    assert (own.owner, own.team) == (company.sharer, None)
    others = teams.create_team(owner=company.sharer, name="Elsewhere")
    there = ready_dataset(company.sharer, b"elsewhere")
    copy, _ = teams.copy_to(by=company.sharer, upload=there, team=others)
    with pytest.raises(Refused, match="of different teams: Elsewhere and Radiology"):
        run(company.sharer, {"model": team["model"], "dataset": copy})
    with pytest.raises(Refused, match="so the run belongs there, not to Elsewhere"):
        run(company.sharer, team, team=others)
    shared = company.things("shared")
    assert run(company.sharer, shared).owner == company.sharer, "one's own, though shared"
    assert run(company.sharer, shared, team=company.team).team == company.team


def test_what_goes_on_from_a_run_stays_where_it_is(company):
    things = company.things("team")
    things["model"].facts = {"sites": [{"name": "features.1", "filters": 8}]}
    things["model"].save()
    job, _ = followups.follow_up(owner=company.sharer, parent=things["job"], filters=["features.1:1"], changes={})
    assert (job.owner, job.team, job.parent) == (None, company.team, things["job"])
    attack, _ = create_attack(owner=company.editor, asked=asked({"epsilon": 0.1}, "attack"), repair=things["job"])
    assert attack.team == company.team
    shared = company.things("shared")
    with pytest.raises(Refused, match="is shared with the team by a person, who may take it back"):
        create_attack(owner=company.editor, asked=asked({"epsilon": 0.1}, "attack"), repair=shared["job"])


def test_files_of_a_team_are_not_carried_out_by_their_hash(company):
    blob = company.things("team")["dataset"].blob_id
    for role, team, status in (
        ("viewer", None, 404), ("editor", None, 404), ("viewer", company.team.pk, 403),
        ("stranger", company.team.pk, 404), ("stranger", None, 404), ("sharer", company.team.pk, 200),
    ):  # fmt: skip
        body = {"sha256": blob} | ({"team": team} if team else {})
        answer = company.api(role).post("/api/v1/datasets/", body, format="json")
        assert answer.status_code == status, (role, team, answer.json())
    model = company.things("team")["model"]
    url = reverse("pages:new_model") + f"?like={model.pk}"
    assert company.browser("viewer").get(url).status_code == 403
    page = company.browser("editor").post(
        reverse("pages:new_model"), {"like": model.pk, "architecture": "resnet18", "num_classes": "3", "team": ""}
    )
    assert "You have uploaded no file" in read(page, 422).text
    page = company.browser("editor").post(
        reverse("pages:new_model"),
        {"like": model.pk, "architecture": "resnet18", "num_classes": "3", "team": company.team.pk},
    )
    made = ModelUpload.objects.get(pk=page["Location"].split("/")[2])
    assert (made.team, made.owner, made.made_by) == (company.team, None, company.editor)


def test_uploading_into_a_team(company, image_zip):
    from django.core.files.uploadedfile import SimpleUploadedFile

    def send(role: str, team: int):
        file = SimpleUploadedFile("images.zip", image_zip)
        return company.api(role).post("/api/v1/datasets/", {"team": team, "file": file}, format="multipart")

    assert send("viewer", company.team.pk).status_code == 403
    assert send("stranger", company.team.pk).status_code == 404
    made = send("editor", company.team.pk)
    assert made.status_code == 201
    row = DatasetUpload.objects.get(pk=made.json()["id"])
    assert (row.owner, row.team, row.made_by, row.payer) == (None, company.team, company.editor, company.owner)
    again = send("sharer", company.team.pk)
    assert (again.status_code, again.json()["id"]) == (200, str(row.pk)), "the team has it already"


def test_who_pays(company, settings):
    things = company.things("team")
    size = things["dataset"].blob.size + things["model"].blob.size
    assert quota.usage(company.editor).total == 0
    assert quota.usage(company.owner).uploads >= size
    settings.USER_QUOTA_BYTES = quota.usage(company.owner).total
    with pytest.raises(Refused, match="you may keep") as refused:
        run(company.editor, things)
    assert refused.value.status == 413
    mine = ready_model(company.sharer, b"too much")
    with pytest.raises(Refused, match="you may keep"):
        teams.copy_to(by=company.sharer, upload=mine, team=company.team)
    settings.USER_QUOTA_BYTES = 10**9
    row = company.team.memberships.get(user=company.editor)
    teams.set_role(by=company.owner, membership=row, role=Role.OWNER)
    teams.pay_for(by=company.editor, team=company.team)
    assert quota.usage(company.owner).total == 0
    assert quota.usage(company.editor).uploads >= size


def test_lists_say_whose_a_thing_is_and_are_filtered_by_team(company):
    theirs, shared = company.things("team"), company.things("shared")
    others = teams.create_team(owner=company.editor, name="Elsewhere")
    url = reverse("pages:repairs")
    page = read(company.browser("editor").get(url))
    assert "Radiology, of sharer" in page.text
    assert page.text.count("Radiology") > 2
    only = company.browser("editor").get(url, {"team": company.team.pk}).content.decode()
    assert all(str(one["job"].pk) in only for one in (theirs, shared))
    none = company.browser("editor").get(url, {"team": others.pk}).content.decode()
    assert str(theirs["job"].pk) not in none
    for kind in ("model", "dataset"):
        rows = company.api("editor").get(f"/api/v1/{kind}s/", {"team": others.pk}).json()["results"]
        assert rows == []
        assert "Radiology, of sharer" in read(company.browser("editor").get(reverse(f"pages:{kind}s"))).text
    page = read(company.browser("viewer").get(reverse("pages:filters", args=[theirs["job"].pk])))
    assert "Repair with the ticked filters" not in page.text


# --- shared and taken back ----------------------------------------------------------------------------------


def test_sharing_on_the_pages(company):
    things = company.things("private")
    url = reverse("pages:repair_team", args=[things["job"].pk])
    assert company.browser("viewer").get(reverse("pages:repair", args=[things["job"].pk])).status_code == 404
    page = read(company.browser("sharer").get(reverse("pages:repair", args=[things["job"].pk])))
    assert url in [a.get("href") for a in page.all("a")]
    company.browser("sharer").post(url, {"do": "share", "team": company.team.pk})
    seen = read(company.browser("viewer").get(reverse("pages:repair", args=[things["job"].pk])))
    assert "Shared by sharer with the team Radiology" in seen.text
    assert fresh(things["dataset"]).team == company.team, "with a run goes what it uses"
    for kind in ("model", "dataset"):
        assert company.browser("viewer").get(reverse(f"pages:{kind}", args=[things[kind].pk])).status_code == 200
    for name in ("pages:cancel", "pages:delete_repair", "pages:edit", "pages:share", "pages:follow"):
        address = reverse(name, args=[things["job"].pk])
        assert address not in [a.get("action") or a.get("href") for _, a in seen.elements], name
    foreign = Team.objects.get(name="Others")
    answer = company.browser("sharer").post(url, {"do": "share", "team": foreign.pk})
    assert answer.status_code == 422, "into a team of which one is no member nothing goes"
    company.browser("owner").post(url, {"do": "take-out"})
    assert company.browser("viewer").get(reverse("pages:repair", args=[things["job"].pk])).status_code == 404
    assert fresh(things["job"]).owner == company.sharer


def test_links_go_with_the_owner(company):
    job = company.things("shared")["job"]
    _, token = sharing.create_link(job=job)
    url = reverse("shared:run", args=[token])
    assert company.browser("owner").post(reverse("pages:share", args=[job.pk]), {"days": ""}).status_code == 403
    teams.take_out(by=company.owner, thing=job)
    assert Client().get(url).status_code == 200, "its owner's link, who can revoke it"
    (link,) = company.api("sharer").get(reverse("api:links", args=[job.pk])).json()
    assert company.api("sharer").delete(reverse("api:link", args=[job.pk, link["id"]])).status_code == 204
    assert Client().get(url).status_code == 410
    theirs = company.things("team")["job"]
    _, token = sharing.create_link(job=theirs)
    teams.delete_team(by=company.owner, team=company.team)
    assert Client().get(reverse("shared:run", args=[token])).status_code == 404


def test_what_the_teams_runs_use_stays_with_it(company):
    things, second = company.things("shared"), company.things("shared")
    Baseline.objects.create(model=things["model"], dataset=things["dataset"], figures={"accuracy": 1})
    theirs = run(company.editor, things, guard=second["dataset"], surrogates=[])
    own = run(company.sharer, things)
    teams.take_out(by=company.sharer, thing=things["dataset"])
    theirs, own = fresh(theirs), fresh(own)
    assert own.dataset == things["dataset"], "one's own runs use one's own"
    assert theirs.dataset != things["dataset"]
    assert (theirs.dataset.owner, theirs.dataset.team, theirs.dataset.blob_id) == (
        None, company.team, things["dataset"].blob_id,
    )  # fmt: skip
    assert theirs.dataset.thumbnails.blob_id == things["dataset"].thumbnails.blob_id
    assert Baseline.objects.filter(dataset=theirs.dataset, figures__isnull=False).exists(), "it was looked at before"
    assert fresh(things["job"]).team is None, "a run of one's own that uses it goes with it"
    assert company.browser("viewer").get(reverse("pages:dataset", args=[things["dataset"].pk])).status_code == 404
    assert company.browser("viewer").get(reverse("pages:dataset", args=[theirs.dataset_id])).status_code == 200
    teams.take_out(by=company.sharer, thing=second["dataset"])
    assert fresh(theirs).guard.team == company.team


def test_surrogates_stay_in_their_order(company):
    things, others = company.things("shared"), [company.things("shared")["model"] for _ in range(2)]
    attack, _ = create_attack(
        owner=company.editor, asked=asked({"epsilon": 0.1}, "attack"), repair=company.things("team")["job"]
    )
    Job.objects.filter(pk=attack.pk).update(request=attack.request | {"surrogates": [str(one.pk) for one in others]})
    attack.surrogates.set(others)
    teams.take_out(by=company.sharer, thing=others[0])
    attack = fresh(attack)
    names = attack.request["surrogates"]
    assert names[1] == str(others[1].pk)
    assert names[0] != str(others[0].pk)
    assert {str(one.pk) for one in attack.surrogates.all()} == set(names)
    assert things["job"].pk


def test_what_goes_on_from_a_shared_run_forgets_it_when_it_leaves(company):
    things = company.things("shared")
    things["model"].facts = {"sites": [{"name": "features.1", "filters": 8}]}
    things["model"].save()
    job, _ = followups.follow_up(owner=company.editor, parent=things["job"], filters=["features.1:1"], changes={})
    assert (job.team, job.owner, job.parent) == (company.team, None, things["job"])
    found = company.api("viewer").get(reverse("api:repair", args=[things["job"].pk])).json()
    assert found["followups"] == [str(job.pk)]
    teams.take_out(by=company.sharer, thing=things["job"])
    assert fresh(job).parent is None
    assert (
        str(things["job"].pk)
        not in company.browser("viewer").get(reverse("pages:repair", args=[job.pk])).content.decode()
    )


def test_private_runs_beside_a_shared_one_do_not_show(company):
    things = company.things("private")
    things["model"].facts = {"sites": [{"name": "features.1", "filters": 8}]}
    things["model"].save()
    child, _ = followups.follow_up(
        owner=company.sharer, parent=things["job"], filters=["features.1:1"], changes={}, name="secret plan"
    )
    teams.share(by=company.sharer, thing=things["job"], team=company.team)
    for answer in (
        company.api("editor").get(reverse("api:repair", args=[things["job"].pk])),
        company.browser("editor").get(reverse("pages:repair", args=[things["job"].pk])),
        company.browser("editor").get(reverse("pages:repairs")),
    ):
        assert str(child.pk) not in answer.content.decode()
        assert "secret plan" not in answer.content.decode()
    assert company.api("sharer").get(reverse("api:repair", args=[things["job"].pk])).json()["followups"]
    teams.take_out(by=company.sharer, thing=things["job"])
    succeed(child)
    teams.share(by=company.sharer, thing=child, team=company.team)
    Job.objects.filter(pk=things["job"].pk).update(name="secret parent", title="secret parent")
    found = company.api("editor").get(reverse("api:repair", args=[child.pk])).json()
    assert found["parent"] is None
    assert company.api("sharer").get(reverse("api:repair", args=[child.pk])).json()["parent"] == str(things["job"].pk)
    for name in ("repair", "repairs"):
        url = reverse(f"pages:{name}", args=[child.pk] if name == "repair" else [])
        assert "secret parent" not in company.browser("editor").get(url).content.decode()


# --- leaving ------------------------------------------------------------------------------------------------


def test_who_is_removed_reaches_nothing_any_more(company):
    things, own = company.things("team"), company.things("shared")
    job = run(company.sharer, things, webhook_url="https://example.org/hook", idempotency_key="once", webhook_events=[])
    Delivery.objects.create(job=job, event="repair.started", due_at=timezone.now())
    theirs = run(company.editor, own)
    key = company.api("sharer")
    row = company.team.memberships.get(user=company.sharer)
    company.browser("owner").post(reverse("pages:member", args=[company.team.pk, row.pk]), {})
    for url in ("api:repair", "api:events"):
        assert key.get(reverse(url, args=[job.pk])).status_code == 404, "with a token that was made before, too"
    assert key.get(reverse("api:result", args=[things["job"].pk, "report.json"])).status_code == 404
    job = fresh(job)
    assert (job.webhook_url, job.webhook_secret, job.idempotency_key) == ("", "", None)
    assert not Delivery.objects.exists(), "a call that was due is not made"
    assert {fresh(one).team for one in own.values()} == {None}, "what they shared is theirs alone"
    assert fresh(theirs).dataset.team == company.team, "the team's runs have a copy of what they use"
    assert company.browser("editor").get(reverse("pages:repair", args=[theirs.pk])).status_code == 200
    body = {"model": str(own["model"].pk), "dataset": str(own["dataset"].pk), "metric": "accuracy"}
    again = key.post("/api/v1/repairs/", body, headers={"Idempotency-Key": "once"}, format="json")
    assert again.status_code == 202, "and the key may start another run"


def test_a_team_is_deleted_with_what_belongs_to_it(company):
    things, shared = company.things("team"), company.things("shared")
    running = run(company.editor, things)
    blobs = [things["model"].blob.path, things["dataset"].blob.path]
    assert all(path.exists() for path in blobs)
    url = reverse("pages:edit_team", args=[company.team.pk])
    company.browser("owner").post(url, {"do": "delete", "confirm": "wrong"})
    assert Team.objects.filter(pk=company.team.pk).exists()
    company.browser("owner").post(url, {"do": "delete", "confirm": "Radiology"})
    assert not Team.objects.filter(pk=company.team.pk).exists()
    assert not Job.objects.filter(pk__in=[things["job"].pk, running.pk]).exists()
    assert not ModelUpload.objects.filter(pk=things["model"].pk).exists()
    assert {fresh(one).owner for one in shared.values()} == {company.sharer}
    assert company.browser("editor").get(reverse("pages:teams")).status_code == 200

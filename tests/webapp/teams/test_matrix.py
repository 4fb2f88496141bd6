"""Every address × method × role × home of what it is about. An address that is not in the table fails here."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable, Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from webapp.accounts.models import Invitation
from webapp.accounts.rights import May, may, reach
from webapp.jobs import teams
from webapp.jobs.files import ADVERSARIAL
from webapp.jobs.models import Artifact, Delivery, Job, Shard, ShareLink
from webapp.library import resumable
from webapp.library.models import DatasetUpload, ModelUpload

SEE, EDIT, OWN = May.SEE, May.EDIT, May.OWN
# What an address needs that is about no thing: an account and nothing else (it shows one's own, or names things in its
# body or query, which have tests of their own), no account, a link's token, or staff.
ACCOUNT, PUBLIC, BY_LINK, STAFF, OPENS = "account", "public", "by link", "staff", "whoever shares it, or owns the team"
CALLS = "an editor of what the call was about; to others there is no such call"
BRINGS_BACK = "whoever owns the run; to others it is gone"
HIDDEN = (CALLS, BRINGS_BACK)
ALONE = "whose it is alone: a file on its way is no team's"
MEMBER, TEAM_OWNER, ONESELF = "a member", "an owner of the team", "oneself, or an owner of the team"

NEEDS: dict[str, dict[str, object]] = {
    "schema": {"get": PUBLIC},
    "receipt_keys": {"get": PUBLIC},
    "api_docs": {"get": PUBLIC},
    # --- accounts
    "accounts:sign_in": {"get": PUBLIC, "post": PUBLIC, "put": PUBLIC},
    "accounts:sign_out": {"post": PUBLIC},
    "accounts:sign_up": {"get": PUBLIC, "post": PUBLIC},
    "accounts:password": {"get": ACCOUNT, "post": ACCOUNT, "put": ACCOUNT},
    "accounts:forgot": {"get": PUBLIC, "post": PUBLIC, "put": PUBLIC},
    "accounts:reset": {"get": PUBLIC, "post": PUBLIC, "put": PUBLIC},
    "accounts:profile": {"get": ACCOUNT, "post": ACCOUNT},
    "accounts:close": {"get": ACCOUNT, "post": ACCOUNT},
    "accounts:ended": {"get": ACCOUNT},
    "accounts:tokens": {"get": ACCOUNT, "post": ACCOUNT},
    "accounts:revoke_token": {"post": ACCOUNT},
    # --- whoever has a link
    "shared:run": {"get": BY_LINK},
    "shared:map": {"get": BY_LINK},
    "shared:unit": {"get": BY_LINK},
    "shared:adversarial": {"get": BY_LINK},
    "shared:images": {"get": BY_LINK},
    "shared:image": {"get": BY_LINK},
    "shared:thumbnail": {"get": BY_LINK},
    "shared:file": {"get": BY_LINK},
    # --- pages
    "pages:home": {"get": ACCOUNT},
    "pages:models": {"get": ACCOUNT},
    "pages:new_model": {"get": ACCOUNT, "post": ACCOUNT},
    "pages:model": {"get": SEE},
    "pages:model_state": {"get": SEE},
    "pages:model_baseline": {"get": SEE, "post": EDIT},
    "pages:delete_model": {"post": OWN},
    "pages:model_team": {"get": OPENS, "post": OPENS},
    "pages:delete_upload": {"post": ALONE},
    "pages:datasets": {"get": ACCOUNT},
    "pages:new_dataset": {"get": ACCOUNT, "post": ACCOUNT},
    "pages:dataset": {"get": SEE},
    "pages:dataset_state": {"get": SEE},
    "pages:dataset_images": {"get": SEE},
    "pages:dataset_image": {"get": SEE},
    "pages:dataset_thumbnails": {"get": SEE},
    "pages:make_dataset_thumbnails": {"post": EDIT},
    "pages:dataset_thumbnail": {"get": SEE},
    "pages:delete_dataset": {"post": OWN},
    "pages:dataset_team": {"get": OPENS, "post": OPENS},
    "pages:operator": {"get": STAFF},
    "pages:operator_retry": {"post": STAFF},
    "pages:operator_priority": {"post": STAFF},
    "pages:allowance": {"get": STAFF, "post": STAFF},
    "pages:compare": {"get": ACCOUNT},
    "pages:new_attack": {"get": ACCOUNT, "post": ACCOUNT},
    "pages:repairs": {"get": ACCOUNT},
    "pages:rows": {"get": ACCOUNT},
    "pages:selected": {"post": ACCOUNT},
    "pages:undo": {"post": ACCOUNT},
    "pages:new_repair": {"get": ACCOUNT, "post": ACCOUNT},
    "pages:repair": {"get": SEE},
    "pages:progress": {"get": SEE},
    "pages:cancel": {"post": EDIT},
    "pages:pause": {"post": EDIT},
    "pages:resume": {"post": EDIT},
    "pages:priority": {"post": EDIT},
    "pages:retry": {"post": EDIT},
    "pages:delete_repair": {"post": OWN},
    "pages:restore": {"post": BRINGS_BACK},
    "pages:edit": {"get": EDIT, "post": EDIT},
    "pages:filters": {"get": SEE},
    "pages:map": {"get": SEE},
    "pages:unit": {"get": SEE},
    "pages:unit_study": {"get": SEE, "post": EDIT},
    "pages:images": {"get": SEE},
    "pages:image": {"get": SEE},
    "pages:adversarial": {"get": SEE},
    "pages:choice": {"get": SEE},
    "pages:set": {"get": SEE},
    "pages:follow": {"get": EDIT, "post": EDIT},
    "pages:share": {"get": OWN, "post": OWN},
    "pages:revoke_link": {"post": OWN},
    "pages:file": {"get": SEE},
    "pages:repair_team": {"get": OPENS, "post": OPENS},
    "pages:teams": {"get": ACCOUNT, "post": ACCOUNT},
    "pages:team": {"get": MEMBER},
    "pages:edit_team": {"post": TEAM_OWNER},
    "pages:invite": {"post": TEAM_OWNER},
    "pages:take_back": {"post": TEAM_OWNER},
    "pages:member": {"post": ONESELF},
    "pages:answer": {"post": ACCOUNT},
    "pages:join": {"get": BY_LINK, "post": BY_LINK},
    "pages:webhooks": {"get": ACCOUNT},
    "pages:webhook_again": {"post": CALLS},
    # --- the API
    "api:about": {"get": ACCOUNT},
    "api:architectures": {"get": ACCOUNT},
    "api:models": {"get": ACCOUNT, "post": ACCOUNT},
    "api:model": {"get": SEE, "delete": OWN},
    "api:model_team": {"put": OWN, "delete": OPENS},
    "api:model_copy": {"post": OWN},
    "api:datasets": {"get": ACCOUNT, "post": ACCOUNT},
    "api:dataset": {"get": SEE, "delete": OWN},
    "api:dataset_team": {"put": OWN, "delete": OPENS},
    "api:dataset_copy": {"post": OWN},
    "api:uploads": {"get": ACCOUNT, "post": ACCOUNT},
    "api:upload": {"get": ALONE, "patch": ALONE, "delete": ALONE},
    "api:direct_uploads": {"get": ACCOUNT, "post": ACCOUNT},
    "api:direct_upload": {"get": ALONE, "delete": ALONE},
    "api:direct_upload_parts": {"post": ALONE},
    "api:direct_upload_complete": {"post": ALONE},
    "api:baselines": {"post": ACCOUNT},
    "api:repairs": {"get": ACCOUNT, "post": ACCOUNT},
    "api:repair": {"get": SEE, "patch": EDIT, "delete": OWN},
    "api:cancel": {"post": EDIT},
    "api:retry": {"post": EDIT},
    "api:pause": {"post": EDIT},
    "api:resume": {"post": EDIT},
    "api:restore": {"post": BRINGS_BACK},
    "api:receipt": {"get": SEE},
    "api:choice": {"get": SEE, "post": EDIT},
    "api:gates": {"get": SEE, "post": EDIT},
    "api:events": {"get": SEE},
    "api:result": {"get": SEE},
    "api:links": {"get": OWN, "post": OWN},
    "api:link": {"delete": OWN},
    "api:repair_team": {"put": OWN, "delete": OPENS},
    "api:attacks": {"post": ACCOUNT},
    "api:compare": {"get": ACCOUNT},
    "api:teams": {"get": ACCOUNT, "post": ACCOUNT},
    "api:team": {"get": MEMBER, "patch": TEAM_OWNER, "delete": TEAM_OWNER},
    "api:member": {"patch": TEAM_OWNER, "delete": ONESELF},
    "api:team_invitations": {"get": TEAM_OWNER, "post": TEAM_OWNER},
    "api:team_invitation": {"delete": TEAM_OWNER},
    "api:invitations": {"get": ACCOUNT},
    "api:invitation": {"post": ACCOUNT},
    "api:deliveries": {"get": ACCOUNT},
    "api:delivery_again": {"post": CALLS},
    "api:tokens": {"get": ACCOUNT, "post": ACCOUNT},
    "api:token": {"delete": ACCOUNT},
}
ALL = ("get", "post", "put", "patch", "delete")
ROLES = ("viewer", "editor", "owner", "sharer", "former", "stranger")


# --- what there is ------------------------------------------------------------------------------------------


def routes(resolver: URLResolver | None = None, at: str = "") -> Iterator[tuple[str, Callable]]:
    """(namespace:name, view) of all addresses."""
    for one in (resolver or get_resolver()).url_patterns:
        if isinstance(one, URLPattern):
            yield f"{at}{one.name}", one.callback
        else:
            yield from routes(one, f"{one.namespace}:" if one.namespace else at)


def methods_of(view: Callable) -> set[str]:
    """Those that the view takes; all, where it does not say."""
    cls = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if cls is not None:
        return {name for name in ALL if hasattr(cls, name)} & {name.lower() for name in cls.http_method_names}
    while view is not None:
        closure = getattr(view, "__closure__", None)
        for name, cell in zip(view.__code__.co_freevars, closure or (), strict=True):
            if name == "request_method_list":
                return {one.lower() for one in cell.cell_contents} & {*ALL}
        view = getattr(view, "__wrapped__", None)
    return {*ALL}


def test_every_address_and_method_is_in_the_table():
    there = {name: methods_of(view) for name, view in routes()}
    assert {name: set(needs) for name, needs in NEEDS.items()} == there, "say what each address needs"


def test_every_address_of_a_thing_needs_a_right_to_it():
    for name, view in routes():
        pattern = str(next(p for p in _patterns() if p[0] == name)[1])
        about_a_thing = "<uuid:pk>" in pattern and NEEDS[name] != {"post": STAFF}
        for need in NEEDS[name].values():
            assert (isinstance(need, May) or need in (OPENS, ALONE, *HIDDEN)) == about_a_thing, (name, view)


def _patterns(resolver: URLResolver | None = None, at: str = "") -> Iterator[tuple[str, object]]:
    for one in (resolver or get_resolver()).url_patterns:
        if isinstance(one, URLPattern):
            yield f"{at}{one.name}", one.pattern
        else:
            yield from _patterns(one, f"{one.namespace}:" if one.namespace else at)


# --- who may ------------------------------------------------------------------------------------------------


def allowed(role: str, need: object, home: str) -> int:
    """0: they may; else the status of the refusal. Written down by hand, not taken from `rights`."""
    if home == "private":
        return 0 if role == "sharer" else 404
    if role in ("former", "stranger"):
        return 404
    shares = role == "sharer" and home == "shared"  # to the team's own things they are an editor
    if need == CALLS:
        return 404 if role == "viewer" else 0
    if need == BRINGS_BACK:
        return 0 if allowed(role, OWN, home) == 0 else 404
    if need == OPENS:
        return 0 if shares or role == "owner" else 403
    roles = {"viewer": SEE, "editor": EDIT, "sharer": EDIT, "owner": EDIT if home == "shared" else OWN}
    has = OWN if shares else roles[role]
    return 0 if has >= need else 403


def address(name: str, things: dict) -> str:
    kind = re.match(r"\w+:(?:delete_|make_)?(model|dataset)", name)
    thing = things[kind.group(1) if kind else "job"]
    job = things["job"]
    more = {
        "pages:model_baseline": [things["dataset"].pk],
        "pages:dataset_image": [0],
        "pages:dataset_thumbnail": [things["dataset"].thumbnails.blob_id[:16], 0, "small"],
        "pages:image": [0],
        "pages:unit_study": ["effect"],
        "pages:file": ["report.json"],
        "api:result": ["report.json"],
    }.get(name, [])
    if name in ("pages:revoke_link", "api:link"):
        more = [ShareLink.objects.create(job=job, digest=secrets.token_hex(32)).pk]
    if name == "pages:adversarial":
        pack = things["dataset"].thumbnails.blob
        Artifact.objects.get_or_create(job=job, name=ADVERSARIAL, defaults={"media_type": "x/y", "blob": pack})
        more = [pack.pk[:16], 0, "small"]
    if name.endswith(":restore"):
        Job.objects.filter(pk=job.pk).update(deleted_at=timezone.now())
    if name in ("pages:webhook_again", "api:delivery_again"):
        Job.objects.filter(pk=job.pk).update(webhook_url="https://example.org/hook")
        event = secrets.token_hex(8)
        call = Delivery.objects.create(job=job, event=event, state="failed", due_at=timezone.now())
        return reverse(name, args=[call.pk])
    query = "?unit=features.1:1" if name in ("pages:unit", "pages:unit_study") else ""
    return reverse(name, args=[thing.pk, *more]) + query


def ask(company, role: str, name: str, method: str, url: str):
    if name.startswith("api:"):
        return getattr(company.api(role), method)(url, *([] if method in ("get", "delete") else [{}]), format="json")
    body = {"unit": "features.1:1"} if name == "pages:unit_study" else {}
    client = company.browser(role)
    return client.get(url) if method == "get" else client.post(url, body)


OF_THINGS = [
    (name, method)
    for name, needs in NEEDS.items()
    for method, need in needs.items()
    if isinstance(need, May) or need in (OPENS, *HIDDEN)
]


@pytest.mark.parametrize(("name", "method"), OF_THINGS)
def test_who_may_do_what(company, name, method):
    need = NEEDS[name][method]
    for home in ("team", "shared", "private"):
        things = company.things(home)
        for role in sorted(ROLES, key=lambda role: not allowed(role, need, home)):  # what is refused changes nothing
            expected = allowed(role, need, home)
            if not expected and method != "get":
                things = company.things(home)
            if name.endswith((":retry", ":cancel", ":pause", ":resume")):
                Job.objects.filter(pk=things["job"].pk).update(state="processing")
            url = address(name, things)
            answer = ask(company, role, name, method, url)
            said = (name, method, role, home, answer.status_code, answer.headers.get("Location"))
            if expected:
                assert answer.status_code == expected, said
            else:
                assert answer.status_code not in (401, 403, 404, 405), said
                assert answer.status_code < 500, said
                assert "/sign-in/" not in answer.headers.get("Location", ""), said
            if expected == 404:
                missing = url.replace(url.split("/")[4 if name.startswith("api:") else 2], str(uuid.uuid4()))
                nobodys = ask(company, role, name, method, missing)
                assert (nobodys.status_code, _text(nobodys)) == (404, _text(answer)), "it does not tell that it exists"


def _text(answer) -> str:
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", answer.content.decode())


OF_TEAMS = [
    (name, method)
    for name, needs in NEEDS.items()
    for method, need in needs.items()
    if need in (MEMBER, TEAM_OWNER, ONESELF)
]


@pytest.mark.parametrize(("name", "method"), OF_TEAMS)
def test_who_may_do_what_with_a_team(company, name, method):
    need, team = NEEDS[name][method], company.team
    for role in ("viewer", "editor", "sharer", "former", "stranger", "owner"):
        row = team.memberships.get(user=company.editor)
        invitation, _ = teams.invite(by=company.owner, team=team, role="viewer")
        more = [row.pk] if name.endswith("member") else []
        more = [invitation.pk] if name in ("pages:take_back", "api:team_invitation") else more
        url = reverse(name, args=[team.pk, *more])
        body = {} if name == "pages:member" or method in ("get", "delete") else {"role": "viewer", "do": "?"}
        if name.startswith("api:"):
            client = company.signed_in(role)
            answer = getattr(client, method)(url, *([body] if body else []), format="json")
        else:
            client = company.browser(role)
            answer = client.get(url) if method == "get" else client.post(url, body)
        insider = role not in ("former", "stranger")
        fine = role == "owner" or (need == MEMBER and insider) or (need == ONESELF and role == "editor")
        expected = 0 if fine else 403 if insider else 404
        said = (name, method, role, answer.status_code, answer.content[:300])
        assert answer.status_code == expected or (not expected and answer.status_code in (200, 201, 204, 302, 400)), (
            said
        )
        if role == "editor" and need == ONESELF:  # has left
            team.memberships.create(user=company.editor, role="editor")


def test_a_token_changes_nobody_s_membership(company):
    """Whoever finds one must not become a member by it, and outlive its revocation."""
    for name, method in [pair for pair in OF_TEAMS if pair[0].startswith("api:") and pair[1] != "get"]:
        invitation, _ = teams.invite(by=company.owner, team=company.team, role="viewer")
        row = company.team.memberships.first()
        more = [row.pk] if name == "api:member" else [invitation.pk] if name == "api:team_invitation" else []
        answer = getattr(company.api("owner"), method)(reverse(name, args=[company.team.pk, *more]), {}, format="json")
        assert answer.status_code == 403, (name, method)
        assert "sign in with your password" in answer.json()["detail"]
    assert company.api("owner").post(reverse("api:teams"), {"name": "x"}, format="json").status_code == 403
    found = Invitation.objects.create(
        team=company.team, role="viewer", user=company.stranger, invited_by=company.owner,
        expires_at=timezone.now() + teams.VALID,
    )  # fmt: skip
    answer = company.api("stranger").post(reverse("api:invitation", args=[found.pk]), {"accept": True}, format="json")
    assert answer.status_code == 403


def test_one_row_and_many_rows_are_judged_alike(company):
    """`rights.may` of one thing is what `rights.reach` says of all."""
    for home in ("team", "shared", "private"):
        company.things(home)
    for kind in (ModelUpload, DatasetUpload, Job):
        for role in ROLES:
            user = getattr(company, role)
            for thing in kind.objects.all():
                has = may(user, thing)
                for need in (SEE, EDIT, OWN):
                    assert kind.objects.filter(reach(user, need), pk=thing.pk).exists() == (has >= need)


def test_lists_show_what_may_be_seen(company):
    made = {home: company.things(home) for home in ("team", "shared", "private")}
    for role in ROLES:
        homes = {home for home in made if not allowed(role, SEE, home)}
        for kind, path in (("model", "models"), ("dataset", "datasets"), ("job", "repairs")):
            rows = company.api(role).get(f"/api/v1/{path}/").json()["results"]
            assert {row["id"] for row in rows} == {str(made[home][kind].pk) for home in homes}, (role, kind)
            page = company.browser(role).get(f"/{path}/").content.decode()
            home_page = company.browser(role).get("/").content.decode()
            for home, things in made.items():
                assert (str(things[kind].pk) in page) == (home in homes), (role, kind, home)
                assert (str(things[kind].pk) in home_page) == (home in homes), (role, kind, home)


@pytest.mark.parametrize("role", ROLES)
def test_checkpoints_are_for_editors_unless_the_team_says_otherwise(company, role):
    for home in ("team", "shared"):
        job = company.things(home)["job"]
        for name in ("repaired.safetensors", "edit.safetensors"):
            for open_to_viewers in (False, True):
                type(company.team).objects.update(viewers_take_weights=open_to_viewers)
                outside = role in ("former", "stranger")
                expected = 404 if outside else 403 if role == "viewer" and not open_to_viewers else 200
                by_page = company.browser(role).get(reverse("pages:file", args=[job.pk, name]))
                by_api = company.api(role).get(reverse("api:result", args=[job.pk, name]))
                assert (by_page.status_code, by_api.status_code) == (expected, expected), (role, home, name)


def test_a_read_token_of_an_editor_only_reads(company):
    from webapp.accounts import services

    job = company.things("team")["job"]
    company.keys["editor"] = services.create_token(owner=company.editor, name="read", scope="read")[1]
    assert company.api("editor").get(reverse("api:repair", args=[job.pk])).status_code == 200
    assert company.api("editor").patch(reverse("api:repair", args=[job.pk]), {"name": "x"}).status_code == 403
    assert Shard.objects.count() == 0
    assert Delivery.objects.count() == 0


def test_a_file_on_its_way_is_its_senders_alone(company):
    found = resumable.create(owner=company.editor, size=4, name="net.pth", kind="model")
    for role in ("owner", "viewer", "stranger"):
        api, url = company.api(role), reverse("api:upload", args=[found.pk])
        for method in ("get", "patch", "delete"):
            answer = getattr(api, method)(url, headers={"Tus-Resumable": "1.0.0", "Upload-Offset": "0"})
            assert answer.status_code in (404, 415), (role, method)
        assert company.browser(role).post(reverse("pages:delete_upload", args=[found.pk])).status_code == 404
        body = {"upload": str(found.pk), "architecture": "resnet18", "num_classes": 2, "team": company.team.pk}
        assert api.post("/api/v1/models/", body, format="json").status_code in (403, 404)
    assert company.api("editor").get(reverse("api:upload", args=[found.pk])).status_code == 200
    direct = resumable.create(owner=company.editor, size=4, name="net.pth", sha256="0" * 64, begun="asked of the store")
    for role, expected in (("owner", 404), ("viewer", 404), ("stranger", 404), ("editor", 200)):
        api = company.api(role)
        assert api.get(reverse("api:direct_upload", args=[direct.pk])).status_code == expected, role
        for name, method in (("_parts", "post"), ("_complete", "post"), ("", "delete")):
            if role != "editor":
                answer = getattr(api, method)(reverse(f"api:direct_upload{name}", args=[direct.pk]))
                assert answer.status_code == 404, (role, name)

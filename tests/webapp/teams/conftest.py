"""Who there is in the tests of teams: one of each role, somebody who shares with the team, who left it, a stranger."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import pytest
from django.test import Client
from rest_framework.test import APIClient

from tests.webapp.helpers import blob_of, ready_dataset, ready_model
from tests.webapp.pages.helpers import succeed
from tests.webapp.pages.pictures import with_pictures, with_predictions
from webapp.accounts import services as accounts
from webapp.accounts.models import Membership, Role, Team, User
from webapp.jobs import receipts, teams
from webapp.jobs.models import Artifact, Job
from webapp.library.models import DatasetUpload, ModelUpload, Upload

Thing = ModelUpload | DatasetUpload | Job


@dataclass
class Company:
    """Attributes:
    team: with `owner`, `editor`, `viewer` by their roles.
    sharer: an editor who shares their own things with it.
    former: was an editor.
    stranger: has an account, and is an owner of another team.
    """

    team: Team
    owner: User
    editor: User
    viewer: User
    sharer: User
    former: User
    stranger: User
    keys: dict[str, str] = field(default_factory=dict)

    def browser(self, name: str) -> Client:
        client = Client()
        client.force_login(getattr(self, name))
        return client

    def api(self, name: str) -> APIClient:
        """With a token that may run."""
        client = APIClient()
        if name not in self.keys:
            self.keys[name] = accounts.create_token(owner=getattr(self, name), name="test")[1]
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.keys[name]}")
        return client

    def signed_in(self, name: str) -> APIClient:
        """With a password."""
        client = APIClient()
        client.force_login(getattr(self, name))
        return client

    def things(self, home: str) -> dict[str, Thing]:
        """A new model, dataset and finished run, with their files: of the team, shared with it, or private ones.

        Args:
            home: "team", "shared" or "private".
        """
        once = secrets.token_bytes(8)
        maker = self.editor if home == "team" else self.sharer
        model, dataset = ready_model(maker, once), ready_dataset(maker, once)
        job = Job.objects.create(owner=maker, made_by=maker, model=model, dataset=dataset, request={}, device="cpu")
        succeed(job)
        receipts.give(job, job.outcome, job.result, {})
        with_pictures(dataset)
        with_predictions(job)
        Artifact.objects.create(job=job, name="edit.safetensors", media_type="x/y", blob=blob_of(b"tensors" + once))
        found: dict[str, Thing] = {"model": model, "dataset": dataset, "job": job}
        for one in found.values():
            if home != "private":
                one.team = self.team
            one.owner, one.made_by = (None if home == "team" else maker), maker
            one.save()
        return found


def account(name: str) -> User:
    return accounts.create_user(username=name, password="correct horse battery")


@pytest.fixture
def company(db, bells) -> Company:
    people = {name: account(name) for name in ("owner", "editor", "viewer", "sharer", "former", "stranger")}
    team = teams.create_team(owner=people["owner"], name="Radiology")
    roles = {"editor": Role.EDITOR, "viewer": Role.VIEWER, "sharer": Role.EDITOR, "former": Role.EDITOR}
    for name, role in roles.items():
        Membership.objects.create(team=team, user=people[name], role=role)
    teams.remove_member(by=people["owner"], membership=team.memberships.get(user=people["former"]))
    teams.create_team(owner=people["stranger"], name="Others")
    return Company(team, **people)


def fresh(thing: Upload | Job):
    return type(thing).objects.get(pk=thing.pk)

"""What is told at the end of a run, to whom, and what webhooks were sent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from tests.webapp.pages.helpers import read
from tests.webapp.teams.test_teams import run
from webapp.api import delivery as delivery_of
from webapp.jobs import coordinator, resuming, teams
from webapp.jobs.models import Delivery, Job


@pytest.fixture(autouse=True)
def mailing(settings) -> None:
    settings.MAIL, settings.SITE_URL = True, "https://repair.example.org"


def wants(user) -> None:
    user.email, user.mail_at_end = f"{user.username}@example.org", True
    user.save()


def deliver() -> None:
    for one in Delivery.objects.filter(state="pending"):
        delivery_of.deliver(str(one.pk))


def test_a_mail_at_the_end(company):
    wants(company.editor)
    wants(company.owner)
    job = run(company.editor, company.things("team"), name="Night run")
    coordinator.end(job, Job.State.FAILED, fault="server", error="secret reason", detail="Traceback secret")
    deliver()
    (sent,) = mail.outbox
    assert sent.to == ["editor@example.org"], "who started it, and nobody else"
    assert sent.subject == "Failed: Night run"
    assert f"https://repair.example.org/repairs/{job.pk}/" in sent.body
    assert "https://repair.example.org/account/profile/" in sent.body
    assert "secret" not in sent.body
    assert Delivery.objects.get().state == "delivered"
    resuming.resume(job)
    coordinator.end(job, Job.State.CANCELED)
    deliver()
    assert [one.subject for one in mail.outbox] == ["Failed: Night run", "Canceled: Night run"]


@pytest.mark.parametrize("why", ["does not want it", "has left the team", "no mail here", "deleted"])
def test_no_mail(company, why, settings):
    user = company.editor
    wants(user)
    job = run(user, company.things("team"))
    if why == "does not want it":
        type(user).objects.filter(pk=user.pk).update(mail_at_end=False)
    if why == "no mail here":
        settings.MAIL = False
    coordinator.end(Job.objects.get(pk=job.pk), Job.State.CANCELED)
    if why == "has left the team":
        teams.remove_member(by=company.owner, membership=company.team.memberships.get(user=user))
    if why == "deleted":
        Job.objects.filter(pk=job.pk).update(deleted_at=timezone.now())
    deliver()
    assert mail.outbox == []


def test_a_name_cannot_write_headers(company):
    wants(company.editor)
    job = run(company.editor, company.things("team"), name="x\r\nBcc: everybody@example.org")
    coordinator.end(job, Job.State.CANCELED)
    deliver()
    (sent,) = mail.outbox
    assert sent.recipients() == ["editor@example.org"]
    assert "\n" not in sent.subject


def test_a_mail_that_is_not_taken_is_tried_again(company, settings):
    wants(company.editor)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    coordinator.end(run(company.editor, company.things("team")), Job.State.CANCELED)
    deliver()
    row = Delivery.objects.get()
    assert (row.state, row.attempts) == ("pending", 1)
    assert row.due_at > timezone.now()


def test_what_the_browser_is_told(company):
    mine, theirs = run(company.editor, company.things("team")), run(company.owner, company.things("team"))
    url, client = reverse("accounts:ended"), company.browser("editor")
    first = client.get(url).json()
    assert first["ended"] == []
    for job in (mine, theirs):
        coordinator.end(job, Job.State.CANCELED)
    then = client.get(url, {"since": first["now"]})
    assert then["Cache-Control"] == "no-store"
    (told,) = then.json()["ended"]
    assert (told["id"], told["how"], told["url"]) == (str(mine.pk), "canceled", f"/repairs/{mine.pk}/")
    assert client.get(url, {"since": then.json()["now"]}).json()["ended"] == []
    Job.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    assert client.get(url, {"since": 0}).json()["ended"] == [], "not of last night"
    for odd in ("nan", "1e400", "-1e20", "x"):
        assert client.get(url, {"since": odd}).status_code == 200
    teams.remove_member(by=company.owner, membership=company.team.memberships.get(user=company.editor))
    Job.objects.update(finished_at=timezone.now())
    assert client.get(url, {"since": first["now"]}).json()["ended"] == []


def test_the_profile(company):
    client, url = company.browser("viewer"), reverse("accounts:profile")
    page = read(client.get(url))
    assert "js/ended.js" not in str(page.all("script"))
    wrong = client.post(url, {"mail_at_end": "on", "email": ""})
    assert "Without an address no mail can be sent" in read(wrong, 422).text
    client.post(url, {"email": "v@example.org", "mail_at_end": "on", "notes_in_browser": "on"})
    company.viewer.refresh_from_db()
    assert (company.viewer.email, company.viewer.mail_at_end) == ("v@example.org", True)
    scripts = [a.get("src", "") for a in read(client.get(url)).all("script")]
    assert any(src.endswith("js/ended.js") for src in scripts)


# --- webhooks -----------------------------------------------------------------------------------------------


def test_calls_are_seen_and_sent_again(company, settings, bells):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    job = run(company.editor, company.things("team"), webhook_url="http://127.0.0.1:1/hook?token=s3cret")
    coordinator.end(job, Job.State.CANCELED)
    deliver()
    row = Delivery.objects.get()
    assert (row.attempts, row.status) == (1, None)
    assert "Refused" in row.last_error
    page = read(company.browser("owner").get(reverse("pages:webhooks")))
    assert "127.0.0.1:1" in page.text
    assert "s3cret" not in page.text, "the rest of the address may be a secret of who started the run"
    again = reverse("api:delivery_again", args=[row.pk])
    assert company.api("owner").post(again).status_code == 409, "it is under way"
    Delivery.objects.update(state="failed", attempts=6)
    bells.rung.clear()
    answer = company.api("editor").post(again)
    assert (answer.status_code, answer.json()["state"], answer.json()["attempts"]) == (202, "pending", 0)
    Delivery.objects.update(state="failed")
    assert company.browser("owner").post(reverse("pages:webhook_again", args=[row.pk])).status_code == 302
    assert Delivery.objects.get().state == "pending"
    for role, seen in (("owner", 1), ("editor", 1), ("viewer", 0), ("stranger", 0)):
        rows = company.api(role).get("/api/v1/deliveries/").json()["results"]
        assert len(rows) == seen, role
    assert company.api("viewer").post(again).status_code == 404
    assert company.api("owner").get("/api/v1/deliveries/", {"state": "delivered"}).json()["results"] == []


def test_mails_are_no_webhook_calls(company):
    wants(company.editor)
    coordinator.end(run(company.editor, company.things("team")), Job.State.CANCELED)
    assert Delivery.objects.count() == 1
    assert company.api("editor").get("/api/v1/deliveries/").json()["results"] == []

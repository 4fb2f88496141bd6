"""The mail at the end of a run: that it has ended, how, and where to look. No figure of it: mail is read by others."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse

from webapp.accounts import rights
from webapp.accounts.rights import May
from webapp.jobs.models import Job

_ENDS = {
    Job.Outcome.REPAIRED: "repaired",
    Job.Outcome.NO_REPAIR: "no repair found",
    Job.Outcome.NOT_SHOWN: "not shown to help",
    Job.State.FAILED: "failed",
    Job.State.CANCELED: "canceled",
}


def mail(job: Job) -> None:
    """To who started it, if they still want to know and may still see it. Raises OSError: it was not taken."""
    user = job.made_by
    if user is None or not (user.is_active and user.mail_at_end and user.email and job.deleted_at is None):
        return
    if rights.may(user, job) < May.SEE:
        return
    how = _ENDS.get(job.outcome or job.state, "finished")
    called = " ".join(job.title.split())
    site = settings.SITE_URL.rstrip("/")
    lines = [
        f"{called}: {how}.",
        site + reverse("pages:repair", args=[job.pk]),
        f"You asked for this mail; {site}{reverse('accounts:profile')} ends them.",
    ]
    EmailMessage(f"{how.capitalize()}: {called}"[:200], "\n\n".join(lines) + "\n", to=[user.email]).send()

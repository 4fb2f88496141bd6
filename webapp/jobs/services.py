"""Writes: start, cancel and resume runs; their names and tags."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from django.db import IntegrityError, transaction

from repair_engine.data.columns import columns_of
from repair_engine.errors import BadInput
from repair_engine.settings import Settings, attacks, check_trigger, forgets
from webapp import clock
from webapp.accounts.models import Team, User
from webapp.jobs import bells, coordinator, homes, naming, queueing, resuming, webhooks
from webapp.jobs import surrogates as transfer
from webapp.jobs.models import PREPARE, Event, Job, Shard, Tag
from webapp.jobs.requests import new_secret, to_row
from webapp.jobs.selectors import live_workers
from webapp.jobs.triggers import Patch
from webapp.library import blobs, quota
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload, Upload

MOST_TAGS, TAG_LENGTH = 20, 50


class Changed(Refused):
    """Somebody has changed the name, the tags or the archive of a run since it was looked at."""

    def __init__(self, revision: int) -> None:
        super().__init__(
            "Somebody changed this run meanwhile, and nothing was overwritten.",
            "Look at it as it is now, and change it then.",
            status=409,
        )
        self.revision = revision


def create_job(
    *,
    owner: User,
    team: Team | None = None,
    model: ModelUpload,
    dataset: DatasetUpload,
    asked: Settings,
    audited: Job | None = None,
    guard: DatasetUpload | None = None,
    triggered: DatasetUpload | None = None,
    trigger: Patch | None = None,
    surrogates: Sequence[ModelUpload] = (),
    device: str = "auto",
    priority: int = Job.Priority.NORMAL,
    parent: Job | None = None,
    name: str = "",
    idempotency_key: str | None = None,
    webhook_url: str = "",
    webhook_secret: str = "",
    webhook_events: list[str] | None = None,
) -> tuple[Job, bool]:
    """Returns the repair and whether it is new: a key that was used before gives the repair it made.

    Args:
        owner: who starts it.
        team: whose it becomes; None: of whoever has what it uses (`homes.home_of`).

    Raises Refused: an upload is not ready, surrogates that do not fit, things of several homes, too many of the owner's
    runs wait, or the key was used for something else.
    Raises BadInput: a trigger is missing, or belongs to another metric.
    """
    _check_uploads(model, dataset, guard, triggered, surrogates)
    check_trigger(asked.metric, trigger is not None, triggered is not None, asked)
    _check_columns(asked, dataset, model)
    transfer.check(model, surrogates)
    used = [one for one in (model, dataset, guard, triggered, parent, audited, *surrogates) if one is not None]
    home = homes.home_of(owner, team, used, audited)
    request = to_row(asked)
    if surrogates:
        if not attacks(request["metric"]) or request.get("kind") == "explain":
            raise Refused("Surrogates belong to attacks, and to repairs for attack-success only.", "Leave them out.")
        request["surrogates"] = [str(one.pk) for one in surrogates]
    if webhook_url:
        try:
            webhooks.check_url(webhook_url)
        except webhooks.Blocked as error:
            raise Refused(f"The webhook cannot be called: {error}.") from None
        webhook_secret = webhook_secret or new_secret()
    described = {
        "model": str(model.pk),
        "dataset": str(dataset.pk),
        "guard": str(guard.pk) if guard else None,
        "asked": {key: value for key, value in request.items() if key != "report_uses"},  # grows meanwhile
        "device": device,
        "webhook": webhook_url,
        **({"team": team.pk} if team else {}),
        **({"parent": str(parent.pk)} if parent else {}),
        **({"repair": str(audited.pk)} if audited else {}),
        **({"triggered": str(triggered.pk)} if triggered else {}),
        **({"trigger": trigger.sha256} if trigger else {}),
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    if idempotency_key and (job := _earlier(owner, idempotency_key, digest)):
        return job, False
    patch = trigger.ready() if trigger else None
    try:
        with blobs.or_given_up(patch), transaction.atomic():
            if home is not None:
                homes.lock(home, used)
            payer = home.payer if home else owner
            quota.lock(payer)
            quota.check(payer, model.blob.size, "the result of this run")
            ahead = queueing.check(owner, priority)
            job = Job.objects.create(
                owner=None if home else owner,
                team=home,
                made_by=owner,
                name=name[:200],
                model=model,
                dataset=dataset,
                guard=guard,
                triggered=triggered,
                parent=parent,
                audited=audited,
                request=request,
                device=choose_device(device),
                priority=priority,
                idempotency_key=idempotency_key or None,
                request_digest=digest,
                webhook_url=webhook_url,
                webhook_secret=webhook_secret,
                webhook_events=webhook_events or [],
            )
            job.surrogates.set(surrogates)
            if trigger and patch:
                trigger.keep(job, patch)
            Shard.objects.create(job=job, phase=PREPARE, rung_at=clock.now())
            Event.objects.create(job=job, kind=Job.State.STARTING)
            if ahead:
                Event.objects.create(job=job, kind="waits", data={"behind": ahead})
            bells.ring_on_commit(job.queue)
    except IntegrityError:  # the same key at the same moment
        job = _earlier(owner, idempotency_key, digest)
        if job is None:
            raise
        return job, False
    finally:
        if patch:  # what was stored has moved
            patch.path.unlink(missing_ok=True)
    return job, True


def _check_columns(asked: Settings, dataset: DatasetUpload, model: ModelUpload) -> None:
    """Raises Refused where a metric's columns are not the dataset's, so that no worker starts in vain."""
    if "columns" not in dataset.facts:
        return
    known = list(dataset.columns)
    columns: list[str] = []
    for metric in (asked.metric, *getattr(asked, "also", ())):
        kind, _, argument = metric.partition(":")
        try:
            columns += columns_of(argument, known) if kind == "subgroup-recall" else []
        except BadInput as error:
            raise Refused(error.problem, error.mend) from None
        columns += [argument.partition("=")[0]] if kind == "subgroup" else []
        columns += _column_forgotten(argument, known, model, dataset) if forgets(metric) else []
    for name in columns:
        if name not in known:
            raise Refused(
                f"The image set has no column {name!r}.", f"It has: {', '.join(known) or 'none (no metadata.csv)'}."
            )
        if dataset.facts.get("distinct", {}).get(name, 2) < 2:
            raise Refused(f"The column {name} has one value only; two different ones are needed.")


def _column_forgotten(argument: str, known: list[str], model: ModelUpload, dataset: DatasetUpload) -> list[str]:
    """The column of `forget:COLUMN=VALUE`, where it is none that there is; of `forget:CLASS` none."""
    classes = {*model.class_names, *dataset.facts.get("folders", {})}
    if "=" not in argument or argument in classes or any(argument.startswith(f"{name}=") for name in known):
        return []
    return [argument.partition("=")[0]]


def _earlier(owner: User, key: str | None, digest: str) -> Job | None:
    job = Job.objects.filter(made_by=owner, idempotency_key=key).first()
    if job and job.request_digest != digest:
        raise Refused(
            f"The Idempotency-Key {key!r} was used before for a different repair ({job.pk}).",
            "Use a new key for a new request.",
            status=422,
        )
    return job


def _check_uploads(
    model: ModelUpload, dataset: DatasetUpload, guard: DatasetUpload | None, triggered: DatasetUpload | None,
    surrogates: Sequence[ModelUpload],
) -> None:  # fmt: skip
    others = [("triggered images", triggered), *(("surrogate", one) for one in surrogates)]
    for what, upload in (("model", model), ("dataset", dataset), ("guard", guard), *others):
        if upload is None or upload.state == Upload.State.READY:
            continue
        if upload.state == Upload.State.VALIDATING:
            raise Refused(f"The {what} {upload.name} is still being checked.", "Try again shortly.", status=409)
        raise Refused(f"The {what} {upload.name} was rejected: {upload.error}", upload.mend, status=409)


def choose_device(wanted: str) -> str:
    """'auto' is a GPU if a GPU worker is alive. Chosen once: a job never changes its kind of device."""
    if wanted != "auto":
        return wanted
    return "cuda" if any("gpu" in worker.queues for worker in live_workers()) else "cpu"


def cancel_job(*, job: Job) -> bool:
    """Cancel at any stage. False: it had ended before. Workers stop at their next progress report."""
    Job.objects.filter(pk=job.pk, cancel_requested_at=None, state__in=Job.ACTIVE).update(
        cancel_requested_at=clock.now()
    )
    return coordinator.end(job, Job.State.CANCELED)


def retry_job(*, job: Job) -> None:
    """Take up a job again that failed on our side, with what is done already.

    Raises:
        Refused: it runs, has succeeded, was cancelled, or its input is at fault.
    """
    if not resuming.resume(job):
        job.refresh_from_db()
        if job.state == Job.State.FAILED:
            raise Refused(f"The input of this {job.word} cannot be used: {job.error}", job.mend, status=409)
        raise Refused(
            f"This {job.word} has not failed: it is {job.state}.",
            "Only what failed on our side can be tried again.",
            status=409,
        )


def edit_job(
    *,
    job: Job,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    archived: bool | None = None,
    add: Sequence[str] = (),
    take_off: Sequence[str] = (),
    seen: int | None = None,
) -> None:
    """Change what people call a run and how they sort it. None: as it is.

    Args:
        tags: all that it has then. `add` and `take_off` leave others' alone.
        seen: the `revision` that was looked at: what has changed since is not overwritten.

    Raises:
        BadInput: with its field: too many tags.
        Changed: somebody was faster.
    """
    with transaction.atomic():
        row = Job.objects.select_for_update(of=("self",)).select_related("model").get(pk=job.pk)
        if seen is not None and seen != row.revision:
            raise Changed(row.revision)
        if name is not None:
            row.name = name.strip()[:200]
            row.title = naming.title(row.name, row.request, row.model.name, bool(row.audited_id))[:500]
        if archived is not None and archived != (row.archived_at is not None):
            row.archived_at = clock.now() if archived else None
        row.revision += 1
        row.save(update_fields=["name", "title", "archived_at", "revision"])
        if tags is not None or add or take_off:
            known = list(row.tags.values_list("word", flat=True))
            words = tag_words([*(known if tags is None else tags), *add])
            words = [word for word in words if word not in take_off]
            row.tags.exclude(word__in=words).delete()
            Tag.objects.bulk_create(Tag(job=row, word=word) for word in words if word not in known)
    job.name, job.archived_at, job.revision = row.name, row.archived_at, row.revision


def tag_words(tags: Sequence[str]) -> list[str]:
    """Without spaces around them, without empty ones, each once.

    Raises:
        BadInput: one is too long, or there are too many.
    """
    words = list(dict.fromkeys(" ".join(tag.split()) for tag in tags if tag.strip()))
    if len(words) > MOST_TAGS:
        raise BadInput(f"A run has at most {MOST_TAGS} tags; these are {len(words)}.", field="tags")
    for word in words:
        if len(word) > TAG_LENGTH or "," in word:
            raise BadInput(
                f"A tag has at most {TAG_LENGTH} characters and no comma; {word[:60]!r} is none.", field="tags"
            )
    return words

"""The check of an upload, run by a worker in a one-shot child process."""

from __future__ import annotations

import logging
import time
import traceback

from celery import current_app, shared_task
from django.conf import settings

from repair_engine.errors import BadInput
from webapp import clock
from webapp.library import cache, on_demand, picturing
from webapp.library.models import DatasetUpload, ModelUpload, Thumbnails, Upload
from webapp.library.validation import check
from webapp.steady import waits_for

log = logging.getLogger(__name__)
KINDS: dict[str, type[Upload]] = {"modelupload": ModelUpload, "datasetupload": DatasetUpload}


AWAY = 10.0  # seconds in which a broker that could not be reached is not tried again
_away_until = 0.0


def send(task: str, *args: str | int, queue: str = "light") -> None:
    """Ring a bell: a task by its name, for who rings stands below who answers.

    A broker that is away costs nothing but time: the reaper rings again.

    Each attempt may take seconds to fail, and a status poll may have many bells to ring: so one is enough.
    """
    global _away_until
    if time.monotonic() < _away_until:
        return
    try:
        current_app.tasks[task].apply_async(args=args, queue=queue)
    except Exception as error:  # kombu and redis have no common base class
        _away_until = time.monotonic() + AWAY
        log.warning("could not reach the broker (%s): %s%s will be rung again", error, task, args)


@shared_task
def validate(kind: str, pk: str) -> None:
    """Check the state, look into the file, record what was found if it is still asked for."""
    model = KINDS[kind]
    asked = model.objects.filter(pk=pk, state=Upload.State.VALIDATING)
    upload = asked.select_related("blob").first()
    if upload is None:
        return
    asked.update(attempts=upload.attempts + 1, rung_at=clock.now())
    try:
        with on_demand.alive(asked), cache.in_use():
            found = check(upload)
    except BadInput as error:
        changes = {"state": Upload.State.REJECTED, "error": error.whole, "mend": error.mend}
    except Exception as error:
        log.exception("checking %s %s failed", kind, pk)
        if waits_for(error):  # nobody's fault, and no attempt: the reaper rings again
            asked.update(attempts=upload.attempts)
            return
        if upload.attempts + 1 < settings.MAX_ATTEMPTS:
            return  # the reaper rings again
        changes = {
            "state": Upload.State.REJECTED,
            "error": "The check itself failed, three times. Your file may be fine.",
            "mend": "Upload it again; if that does not help, ask the operator to look at the log.",
            "detail": traceback.format_exc(),
        }
    else:
        changes = {"state": Upload.State.READY, "facts": found.facts, "warnings": found.warnings}
        if found.class_names is not None:
            changes["class_names"] = found.class_names
        if found.num_classes is not None:
            changes["num_classes"] = found.num_classes
    asked.update(**changes, validated_at=clock.now())


@shared_task
def make_thumbnails(pk: int, attempt: int) -> None:
    """Of a dataset, once for all. `attempt` is how many had begun when it was asked for: of many messages one acts."""
    on_demand.run(
        Thumbnails.objects.filter(pk=pk),
        attempt,
        lambda asked: picturing.make(
            asked.select_related("dataset__owner", "dataset__team__payer", "dataset__blob").get()
        ),
    )

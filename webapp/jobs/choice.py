"""Choosing filters on a finished run: figures of *select*, of every prefix that it tried and of any other set of units.

Prefixes stand in the run's choice.npz. Another set is asked of a worker once, whoever asks, and its figures are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from repair_engine.choosing.outcomes import FILE
from repair_engine.documents.choosing import choice_document
from repair_engine.support.process import prepare_process
from webapp.jobs import reopened
from webapp.jobs.engine import get_engine
from webapp.jobs.followups import check_filters
from webapp.jobs.models import Artifact, Job, WhatIf
from webapp.library import on_demand
from webapp.library.errors import Refused
from webapp.library.tasks import send

Step = dict[str, Any]
MOST_KEPT = 200  # sets of one run; the oldest give way


def kept(job: Job) -> Artifact | None:
    """The file of outcomes; None: the run has none."""
    if job.state != Job.State.SUCCEEDED:
        return None
    return job.artifacts.select_related("blob").filter(name=FILE).first()


def document(job: Job, found: Artifact | None = None) -> dict[str, Any]:
    """Every prefix of all orders of removal with its figures of *select*; JSON-able.

    Args:
        found: what `kept` gave.

    Raises:
        Refused: the run has no such file.
        BadInput: it is damaged.
    """
    found = found or kept(job)
    if found is None:
        raise Refused(
            "This run kept no outcomes of its prefixes: it is no repair, or one by an earlier version.",
            "Run the repair again, or repair with filters chosen by hand.",
            status=409,
        )
    made = _document(found.blob.path)
    return {
        "metric": {key: job.result["metric"][key] for key in ("name", "text", "goal")},
        "k": job.result["k"],
        **made,
    }


_document = lru_cache(maxsize=8)(choice_document)  # blobs are named by their content


def of_set(job: Job, units: Sequence[str], asks: bool = True) -> tuple[Step | None, WhatIf | None]:
    """The figures of a set of units, and what is known of a set that is no prefix; a worker is asked where needed.

    Args:
        asks: whether who looks may ask a worker.

    Raises:
        Refused: the run kept no outcomes, or nothing is known of the set and who looks may not ask.
        BadInput: with its field: there is no such unit, or one is named twice.
    """
    known = document(job)
    check_filters(job, units)
    wanted = set(units)
    for order in known["orders"]:
        if len(units) <= len(order["units"]) and wanted == set(order["units"][: len(units)]):
            return order["steps"][len(units)], None
    found = _row(job, sorted(units), asks)
    if found.figures is None and not found.error and asks:
        _ring(found)
    return found.figures, found


def said(job: Job, units: Sequence[str], asks: bool = True) -> dict[str, Any]:
    """What is known of a set of units, JSON-able; `figures` is None until a worker has answered. Raises: `of_set`."""
    step, found = of_set(job, units, asks)
    return {
        "filters": list(units),
        "figures": step,
        "note": found.note if found else "",
        "share": found.share if found and step is None else 1.0,
        "error": found.error if found else "",
    }


def _row(job: Job, units: list[str], asks: bool) -> WhatIf:
    digest = hashlib.sha256(json.dumps(units).encode()).hexdigest()
    if not asks:
        if (known := job.what_ifs.filter(digest=digest).first()) is None:
            raise Refused("Nobody has asked for this set of units yet.", "An editor of the team can.", status=403)
        return known
    found, new = WhatIf.objects.get_or_create(job=job, digest=digest, defaults={"units": units})
    if new:
        newest = list(job.what_ifs.order_by("-pk").values_list("pk", flat=True)[:MOST_KEPT])
        job.what_ifs.exclude(pk__in=newest).delete()
    return found


def _ring(found: WhatIf) -> None:
    task, queue = "webapp.jobs.tasks.what_if", reopened.queue_of(found.job)
    on_demand.ring(found, lambda: send(task, found.pk, found.attempts, queue=queue))


def answer(found: WhatIf) -> None:
    """In a worker: compute and keep. Raises WhatIf.DoesNotExist where the run or the question is gone meanwhile."""
    prepare_process()
    asked = WhatIf.objects.filter(pk=found.pk, job__deleted_at=None)
    note = reopened.telling(asked)
    note("reading the model")
    request = reopened.request_of(found.job)
    row = get_engine().what_if(request, reopened.folder(found.job), found.units, note)
    if not asked.update(figures=row, share=1.0, note="", detail=""):
        raise WhatIf.DoesNotExist

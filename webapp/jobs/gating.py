"""What gates say to a finished run: judged by the engine's own rules, and kept with the run by the gates' hash."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.db import transaction

from repair_engine.documents import gates as engine
from repair_engine.errors import BadInput
from repair_engine.pages.gate_wording import junit, summary
from repair_engine.settings import Gate
from webapp.accounts.models import User
from webapp.jobs.models import GateCheck, Job
from webapp.library.errors import Refused

MOST_KEPT = 100  # different files of gates, of one run


def parse(text: str) -> list[Gate]:
    """Gates of a file. Raises Refused."""
    try:
        return engine.parse(text)
    except BadInput as error:
        raise Refused(error.whole, error.mend) from None


def judge(
    job: Job, gates: Sequence[Gate], by: User | None = None, file_name: str = ""
) -> tuple[GateCheck, dict[str, str], bool]:
    """The row, texts for a pull request (`summary`, `junit`), and whether these gates are new to the run.

    Args:
        by, file_name: who judges, and what they call the file; kept of who was first.

    Raises:
        Refused: the run has no report yet (409), or the gates ask for what its report cannot have (422).
    """
    if not job.ended:
        raise Refused(f"{job.title}: this {job.word} is still running.", "Wait until it has ended.", status=409)
    files = {one.name: one.blob for one in job.artifacts.select_related("blob").filter(name__in=engine.DOCUMENTS)}
    blob = next((files[name] for name in engine.DOCUMENTS if name in files), None)
    if blob is None:
        raise Refused(f"{job.title}: this {job.word} left no report to judge.", job.mend, status=409)
    document = json.loads(blob.path.read_bytes())
    try:
        judged = engine.judge(document, gates, blob.sha256)
    except BadInput as error:
        raise Refused(error.whole, error.mend, status=422) from None
    with transaction.atomic():
        Job.objects.select_for_update().get(pk=job.pk)
        if job.gate_checks.count() >= MOST_KEPT and not job.gate_checks.filter(sha256=judged["gates_sha256"]).exists():
            raise Refused(f"{job.title} has been judged by {MOST_KEPT} different files of gates.", status=409)
        found = {"passed": judged["verdict"] == "passed", "judged": judged}
        row, made = GateCheck.objects.update_or_create(
            job=job,
            sha256=judged["gates_sha256"],
            defaults=found,
            create_defaults={**found, "by": by, "file_name": file_name},
        )
    return row, {"summary": summary(judged, document), "junit": junit(judged)}, made

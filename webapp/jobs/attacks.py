"""Jobs of the kind attack: what adversaries achieve against a model, and against the checkpoint of its repair."""

from __future__ import annotations

from typing import Any

from repair_engine.settings import Attack
from webapp.accounts.models import User
from webapp.jobs import services
from webapp.jobs.models import Job
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload


def create_attack(
    *,
    owner: User,
    asked: Attack,
    model: ModelUpload | None = None,
    dataset: DatasetUpload | None = None,
    repair: Job | None = None,
    **more: Any,
) -> tuple[Job, bool]:
    """Returns the job and whether it is new.

    Args:
        model, dataset: those of the repair where they are left out.
        repair: whose checkpoint is attacked beside the model, for the rows before and after.
        more: surrogates, device, name, idempotency_key and webhook_…, see `services.create_job`.

    Raises Refused: nothing to attack is named, the repair left no checkpoint or is of another model; and what
    `services.create_job` refuses.
    """
    if repair is None and more.get("surrogates"):
        raise Refused(
            "Transfer from surrogates is measured before and after a repair, and none is named.",
            "Name a repair, or leave the surrogates out.",
        )
    if repair is not None:
        if repair.checkpoint is None:
            raise Refused(
                f"{repair} left no repaired checkpoint, so there is no 'after'.",
                "Choose a repair that has ended as repaired, or leave it out: then the model alone is attacked.",
            )
        if model is not None and model.pk != repair.model_id:
            raise Refused(
                f"The repair is of {repair.model.name}, not of {model.name}.", "Leave the model out, or the repair."
            )
    model = model or (repair.model if repair else None)
    dataset = dataset or (repair.dataset if repair else None)
    if model is None or dataset is None:
        missing = "model" if model is None else "dataset"
        raise Refused(f"No {missing} is named.", "Name a model and a dataset, or a repair that has both.")
    return services.create_job(owner=owner, model=model, dataset=dataset, asked=asked, audited=repair, **more)

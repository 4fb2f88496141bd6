"""Jobs of the kind attack: what adversaries achieve against a model, and against the checkpoint of its repair."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from webapp.accounts.models import User
from webapp.jobs import services
from webapp.jobs.models import Job
from webapp.jobs.requests import GREY_LEVEL, Asked
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload

METRIC = "attack-success"


@dataclass(frozen=True)
class AskedAttack:
    """The knobs of an attack, with the defaults of the command line. None: the engine's default.

    Attributes:
        group: a metadata column whose values never cross the splits.
        seed: fixes the splits, the targets and every random start.
        attack, norm, epsilon, steps, step_size, restarts, targeted, random_start: of PGD, as of a repair for
            attack-success; but ε may be 0, which must change nothing.
        attack_images: how many images are attacked at most.
        queries, subset: of the black-box attack, per image; and on how many images what is costly is measured.
        all_images: all of them are attacked, not those of the report split.
    """

    kind: str = "attack"
    metric: str = METRIC
    group: str | None = None
    seed: int = 0
    attack: str | None = None
    norm: str | None = None
    epsilon: float | None = None
    steps: int | None = None
    step_size: float | None = None
    restarts: int | None = None
    targeted: bool | None = None
    random_start: bool | None = None
    attack_images: int | None = None
    queries: int | None = None
    subset: int | None = None
    all_images: bool | None = None

    def __post_init__(self) -> None:
        own = asdict(self) | {"kind": None}
        del own["all_images"]
        if self.epsilon == 0:
            own["epsilon"] = GREY_LEVEL  # allowed here; all else is as in a repair
        Asked(**own)

    def to_json(self) -> dict[str, Any]:
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value for name, value in said.items() if name != "all_images" or value}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AskedAttack:
        return cls(**{field.name: values[field.name] for field in fields(cls) if values.get(field.name) is not None})


def create_attack(
    *,
    owner: User,
    asked: AskedAttack,
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

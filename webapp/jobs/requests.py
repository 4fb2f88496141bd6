"""What may be asked of a repair: one table, used by the API's serializer, the pages' form and the worker."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, fields

from django.conf import settings

from repair_engine.errors import BadInput
from repair_engine.support.memory import parse_memory
from webapp.jobs import surrogates
from webapp.jobs.models import Job
from webapp.library.models import ModelUpload

ESTIMATORS = ("fast", "tmab", "monte_carlo", "cmcs", "exact")
ATTACKS = ("paper", "standard")
NORMS = ("linf", "l2")
GREY_LEVEL = 1 / 255
SIDES = ("top", "bottom", "both")
CONSTANTS = ("mean", "bn_beta")
CHOICES = ("best", "one-se")
ORDERS = ("auto", "value")
PRECISIONS = ("float32", "bfloat16")
METRICS = ("accuracy", "recall:CLASS", "subgroup-recall:COLUMN[,COLUMN…]", "attack-success")
KINDS = ("repair", "explain", "score")
# Both ends included; the API's document says the same.
BOUNDS: dict[str, tuple[float, float]] = {
    "top_k": (1, 10_000),
    "budget": (1_000, 10**12),
    "max_filters": (1, 10_000),
    "max_clean_drop": (0, 1),
    "max_subgroup_drop": (0, 1),
    "seed": (0, 2**32 - 1),
    "batch_size": (1, 4096),
    "step_size": (1e-6, 1000),
    "restarts": (1, 1000),
    "queries": (0, 100_000),
    "subset": (1, 10_000),
    "steps": (1, 1000),
    "attack_images": (1, 10**6),
}
EVERYTHING = ("classes", "subgroups", "all")  # several further objectives at once
VALUES = "objectives.npz"  # the file of values that a repair may start from


_OF_REPAIRS = ("max_clean_drop", "max_subgroup_drop", "max_filters", "choose", "order")


class BadRequest(ValueError):
    """A field of the request that cannot be: `field` names it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


@dataclass(frozen=True)
class Asked:
    """The knobs of a repair, with the defaults of the command line. None: the engine's default.

    Attributes:
        kind: "explain" shows what the metric is made of, "score" values all filters, and both change nothing; None: a
            repair.
        also: of a score: further objectives that are valued on the same evaluations, each a metric,
            subgroup:COLUMN=VALUE, or one of EVERYTHING. Of a follow-up: those of its parent, which had a part in the
            splits.
        filters: of a follow-up: ablate these, in this order; nothing is searched.
        stored: of a follow-up: its parent's values stand for a search.
        report_uses: of a follow-up: reports on the same report images that were made before.
        metric: accuracy, recall:CLASS, subgroup-recall:COLUMN or attack-success; of several columns, as in
            subgroup-recall:sex,skin, the subgroups are the combinations of values that occur.
        group: a metadata column whose values never cross the splits (patient, writer).
        estimator: one of ESTIMATORS.
        constant: what an ablated filter's output becomes: its mean, or the activation of its batch norm's beta.
        precision: of the search: float32, or bfloat16 where it is faster and agrees.
        memory: that each of its processes may take, such as 2G; changes no figure.
        top_k, side: how many culprits are searched, and at which end of the values.
        budget: evaluations; None: a short calibration chooses it, and the result says which.
        max_clean_drop: how far clean accuracy may fall, as a share (0.02 = two points).
        max_subgroup_drop: how far any subgroup may fall, as a share.
        max_filters: how many filters may be ablated at most.
        choose: of the numbers of filters within these limits, the best on the select images (best), or the smallest
            within one standard error of it (one-se).
        order: of removal: by value alone (value), or also stepwise, whichever does better on the select images (auto).
        seed: fixes every random choice.
        batch_size: images per draw.
        attack, epsilon, steps, attack_images: of attack-success: the PGD preset, its strength as a share of the
            pixel range, its gradient steps, and how many images are attacked per split at most.
        norm, step_size, restarts, targeted, random_start: what else of the preset may be changed; in l2 ε is the
            Euclidean length of the whole change.
        queries, subset: of the black-box attack in the report, per image, and on how many images at most.
        compact: also export the repair without the culprits' channels, measured by itself.
    """

    kind: str | None = None
    metric: str = "accuracy"
    also: tuple[str, ...] | None = None
    filters: tuple[str, ...] | None = None
    stored: bool | None = None
    report_uses: int | None = None
    group: str | None = None
    estimator: str | None = None
    constant: str | None = None
    precision: str | None = None
    memory: str | None = None
    top_k: int | None = None
    side: str | None = None
    budget: int | None = None
    max_clean_drop: float | None = None
    max_subgroup_drop: float | None = None
    max_filters: int | None = None
    choose: str | None = None
    order: str | None = None
    seed: int = 0
    batch_size: int | None = None
    attack: str | None = None
    epsilon: float | None = None
    steps: int | None = None
    attack_images: int | None = None
    norm: str | None = None
    step_size: float | None = None
    restarts: int | None = None
    targeted: bool | None = None
    random_start: bool | None = None
    queries: int | None = None
    subset: int | None = None
    compact: bool | None = None

    def __post_init__(self) -> None:
        if self.compact is False:
            object.__setattr__(self, "compact", None)  # said or not said, it is the same request
        _one_of("kind", self.kind, KINDS)
        if self.kind == "repair":
            object.__setattr__(self, "kind", None)  # said or not said, it is the same request
        for field in (*_OF_REPAIRS, "queries", "subset", "compact") if self.kind else ():
            if getattr(self, field) is not None:
                what = "An explanation" if self.kind == "explain" else "A run that values filters"
                raise BadRequest(field, f"{what} repairs nothing: this belongs to repairs.")
        _check_metric("metric", self.metric)
        self._check_further()
        _one_of("estimator", self.estimator, ESTIMATORS)
        _one_of("constant", self.constant, CONSTANTS)
        _one_of("precision", self.precision, PRECISIONS)
        _check_memory(self.memory)
        _one_of("choose", self.choose, CHOICES)
        _one_of("order", self.order, ORDERS)
        _one_of("side", self.side, SIDES)
        for field, (low, high) in BOUNDS.items():
            _between(field, getattr(self, field), low, high)
        _one_of("attack", self.attack, ATTACKS)
        _one_of("norm", self.norm, NORMS)
        self._check_ball()
        if (self.restarts or 1) > 1 and not self._starts_at_random():
            raise BadRequest("restarts", "Without a random start every restart is the same.")
        if self.queries == 1:
            raise BadRequest("queries", "One query asks for the clean image only; 0 makes no black-box attack.")

    def _check_further(self) -> None:
        if not self.also:
            return
        if self.kind != "score" and not (self.filters or self.stored):
            raise BadRequest("also", "Only a run of kind score values further objectives.")
        if "attack-success" in (self.metric, *self.also):
            raise BadRequest("also", "Attack success is valued on attacked images, which no other metric shares.")
        for text in self.also:
            column, equals, _ = text.removeprefix("subgroup:").partition("=")
            if text.startswith("subgroup:"):
                if not column or not equals:
                    raise BadRequest("also", f"{text!r}: it is subgroup:COLUMN=VALUE.")
            elif text not in EVERYTHING:
                _check_metric("also", text, (*EVERYTHING, "subgroup:COLUMN=VALUE"))

    def _check_ball(self) -> None:
        if self.epsilon == 0:
            raise BadRequest("epsilon", "With ε = 0 an attack changes nothing, so there is nothing to repair.")
        if self.norm != "l2":
            _between("epsilon", self.epsilon, 0, 1)
        elif self.epsilon is None:
            raise BadRequest("epsilon", "In l2 an ε is needed: the presets' are of l∞.")
        elif self.epsilon < GREY_LEVEL:
            raise BadRequest("epsilon", f"{self.epsilon:g} is less than one grey level of one pixel (1/255).")

    def _starts_at_random(self) -> bool:
        return self.attack == "standard" if self.random_start is None else self.random_start

    def to_json(self) -> dict:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @classmethod
    def from_json(cls, values: dict) -> Asked:
        given = {field.name: values[field.name] for field in fields(cls) if values.get(field.name) not in (None, [])}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _check_metric(field: str, metric: str, others: tuple[str, ...] = ()) -> None:
    name, _, argument = metric.partition(":")
    if name not in {known.partition(":")[0] for known in METRICS}:
        raise BadRequest(field, f"{metric!r} is not one of {', '.join((*METRICS, *others))}.")
    if name in ("recall", "subgroup-recall") and not argument.strip():
        what = "a class: recall:CLASS" if name == "recall" else "a column or several: subgroup-recall:COLUMN,COLUMN"
        raise BadRequest(field, f"{name} needs {what}.")
    if name in ("accuracy", "attack-success") and argument:
        raise BadRequest(field, f"{name} takes nothing after a colon.")


def _check_memory(value: str | None) -> None:
    if value is None:
        return
    try:
        parse_memory(value)
    except BadInput as error:
        said = f"{error.problem} {error.mend}".replace("--memory ", "")
        raise BadRequest("memory", said[:1].upper() + said[1:]) from None


def _one_of(field: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise BadRequest(field, f"{value!r} is not one of {', '.join(allowed)}.")


def _between(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise BadRequest(field, f"{value} is not between {low} and {high}.")


def new_secret() -> str:
    return "whsec_" + secrets.token_urlsafe(24)


def _model(model: ModelUpload) -> dict:
    return {
        "path": str(model.blob.path),
        "file_name": model.file_name,
        "sha256": model.blob_id,
        "architecture": model.architecture,
        "num_classes": model.num_classes,
        "options": model.options,
        "weights": model.weights or None,
        "key": model.key,
        "strip_prefix": model.strip_prefix,
        "register": settings.ARCHITECTURES,
        "classes_text": model.classes_text,
        "preprocessing": model.preprocessing,
    }


def _repaired(repair: Job | None) -> dict | None:
    """The checkpoint of the repair that an attack is also made on."""
    if repair is None:
        return None
    found = repair.checkpoint
    return None if found is None else {"path": str(found.blob.path), "file_name": found.name}


def for_engine(job: Job) -> dict:
    """Everything the engine's request is built from, as JSON."""
    return {
        **job.request,
        "model": _model(job.model),
        "surrogates": [{**_model(one), **surrogates.normalization(one)} for one in surrogates.of(job)],
        "data": {
            "path": str(job.dataset.blob.path),
            "file_name": job.dataset.file_name,
            "split_folder": job.dataset.split_folder,
            "sha256": job.dataset.blob_id,
        },
        "guard": {
            "path": str(job.guard.blob.path),
            "file_name": job.guard.file_name,
            "split_folder": job.guard.split_folder,
            "sha256": job.guard.blob_id,
        }
        if job.guard
        else None,
        "repaired": _repaired(job.audited),
        "device": job.device,
        "threads": settings.WORKER_THREADS,
        "parent": _of_parent(job),
    }


def _of_parent(job: Job) -> dict | None:
    """What a follow-up takes from its parent: the budget and the images that were used there, and its values."""
    if job.searches or job.parent is None:
        return None
    values = job.parent.artifacts.select_related("blob").filter(name=VALUES).first()
    return {
        "budget": job.parent.summary.get("budget"),
        "attack_images": job.parent.summary.get("attack_images"),
        "values": str(values.blob.path) if values is not None and job.request.get("stored") else None,
    }

"""A finished repair, checked by whoever got it: from its files alone, or with the original model and the images.

What is said of classes and figures is derived here a second time, from predictions.csv and by plain means, so that a
fault of what wrote the report is not a fault of what checks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine import settings
from repair_engine.data import Dataset
from repair_engine.documents.predictions import predicted
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.formats import Checkpoint
from repair_engine.settings import NONE
from repair_engine.support import tables
from repair_engine.support.outputs import sha256
from repair_engine.support.scratch import scratch
from repair_engine.support.words import first_few
from repair_engine.verbs import opening
from repair_engine.verbs.calibration_again import confidence_again, scores_again
from repair_engine.verbs.checks import Unchecked, VerifyRecord, Wrong, look
from repair_engine.verbs.corrupted_again import make_again, metric_of
from repair_engine.verbs.fairness_again import fairness_again
from repair_engine.verbs.forgotten_again import PROBE, forgetting_again, forgotten_of, probes_again
from repair_engine.verbs.predictions_again import PREDICTIONS, ROUNDING, compare, margin
from repair_engine.verbs.receipt import RECEIPT, check_receipt
from repair_engine.verbs.redo import Recorded, edited, read_plan
from repair_engine.verbs.verify import File, fresh_predictions

REPORT, PLAN, CORRUPTED = "report.json", "repair.json", "corrupted.csv"
SPLITS = ("score", "select", "report")
EXACT = 1e-9  # of figures that are ratios of the same counts
BY_ROWS = f"the rows of {PREDICTIONS}"
NEEDS_MODEL, NEEDS_IMAGES = "give --model, the original, to check it", "give --data, the images, to check it"


@dataclass(frozen=True)
class _Repair:
    """A folder that `repair` wrote; none of it is trusted."""

    folder: Path
    document: Mapping[str, Any]

    @property
    def files(self) -> Mapping[str, Any]:
        return self.document["files"]

    def path(self, role: str) -> Path:
        return self.folder / str(self.files[role]["name"])

    @property
    def attacked(self) -> bool:
        """Its metric is of other images than the rows of predictions.csv."""
        return settings.apart(str(self.document["metric"]["name"]))

    @property
    def corrupted(self) -> bool:
        """These are corrupted ones, which can be made again."""
        return settings.corrupts(str(self.document["metric"]["name"]))

    @property
    def forgets(self) -> bool:
        """Its metric is of images that are to be forgotten."""
        return settings.forgets(str(self.document["metric"]["name"]))


def audit(here: settings.Verify) -> VerifyRecord:
    """Looks at everything that can be looked at with what was given.

    Raises:
        BadInput: there is no report of a repair, or what was given cannot be read.
    """
    repair = _read(Path(here.repair))
    looks: dict[str, Callable[[], str]] = {
        "files": lambda: _files(repair),
        "plan": lambda: _plan(repair),
        "figures": lambda: _figures(repair),
        "made again": lambda: _made_again(repair, here),
        "predictions": lambda: _predictions(repair, here),
    }
    if repair.corrupted:
        looks["corrupted images"] = lambda: _corrupted(repair, here)
    if repair.forgets:
        looks["probes"] = lambda: _probes(repair, here)
    if here.key is not None or (repair.folder / RECEIPT).is_file():
        looks["receipt"] = lambda: check_receipt(repair.folder, here.key)
    checks = [look(name, check) for name, check in looks.items()]
    return {
        "verb": "verify",
        "repair": str(here.repair),
        "report": sha256(repair.folder / REPORT),
        "outcome": str(repair.document["outcome"]),
        "verdict": "failed" if any(check["verdict"] == "failed" for check in checks) else "passed",
        "checks": checks,
    }


def _read(folder: Path) -> _Repair:
    path = folder if folder.suffix == ".json" else folder / REPORT
    if not path.is_file():
        raise BadInput(f"There is no {path}.", "Name the folder that `repair` wrote.", "repair")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["verb"] == "repair"
        for part in ("files", "metric", "model", "data", "before", "after"):
            dict(document[part])
        str(document["outcome"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no report of a repair ({type(error).__name__}: {error}).", "", "repair") from None
    if not known:
        raise BadInput(f"{path} is a result of {document['verb']}: verify takes a repair's.", "", "repair")
    return _Repair(path.parent, document)


def _files(repair: _Repair) -> str:
    """Every file that the report names has the hash that it says."""
    root = repair.folder.resolve()
    for listed in repair.files.values():
        path = (root / listed["name"]).resolve()
        if not path.is_relative_to(root):
            raise Wrong(f"The report names {listed['name']}, which lies outside of its folder.")
        if not path.is_file():
            raise Wrong(f"{listed['name']} is not there.")
        if (found := sha256(path)) != listed["sha256"]:
            raise Wrong(f"{listed['name']} has the SHA-256 {found}; the report says {listed['sha256']}.")
    return f"{len(repair.files)} files have the SHA-256 that the report says"


def _plan(repair: _Repair) -> str:
    """repair.json says the same as the report."""
    path = repair.folder / PLAN
    if not path.is_file():
        raise Wrong(f"{PLAN} is not there.")
    plan = json.loads(path.read_text(encoding="utf-8"))
    for key in ("outcome", "k", "metric", "limits", "files"):
        if plan[key] != repair.document[key]:
            raise Wrong(f"{PLAN} and {REPORT} differ in {key}.")
    for key, figures in plan.get("fairness", {}).items():
        if figures != repair.document["fairness"][key]:
            raise Wrong(f"{PLAN} and {REPORT} differ in {key}.")
    for key in ("sha256", "architecture", "num_classes"):
        if plan["inputs"]["model"][key] != repair.document["model"][key]:
            raise Wrong(f"{PLAN} and {REPORT} differ in the model's {key}.")
    if plan["inputs"]["data"]["sha256"] != repair.document["data"]["sha256"]:
        raise Wrong(f"{PLAN} and {REPORT} are of other images.")
    done = [row["id"] for row in plan["filters"]]
    told = [row["id"] for row in repair.document["culprits"] if row["ablated"]]
    if done != told:
        raise Wrong(f"{PLAN} ablates {first_few(done, 8) or 'nothing'}, {REPORT} {first_few(told, 8) or 'nothing'}.")
    return f"{PLAN} and {REPORT} tell of the same repair"


@dataclass(frozen=True)
class _Rows:
    """predictions.csv as arrays of words [N].

    Attributes:
        forgotten: which images are of the forget set, bool [N]; None where nothing is to be forgotten.
        group: that is a group, and no class.
    """

    forgotten: np.ndarray | None
    group: bool
    split: np.ndarray
    label: np.ndarray
    subgroup: np.ndarray
    before: np.ndarray
    after: np.ndarray
    confidence_before: np.ndarray
    confidence_after: np.ndarray

    @classmethod
    def of(cls, repair: _Repair) -> _Rows:
        rows = tables.read(repair.path("predictions"))
        names = ("split", "label", "subgroup", "predicted_before", "predicted_after", "confidence_before",
                 "confidence_after")  # fmt: skip
        words = [np.array([row[name] for row in rows], dtype=object) for name in names]
        mask = forgotten_of(repair.document, words[1], words[2])
        return cls(mask, "column" in repair.document["metric"].get("forgetting", {}), *words)

    def retained(self, split: str) -> np.ndarray:
        """The images that accuracy is told of."""
        inside = self.within(split)
        return inside if self.forgotten is None else inside & ~self.forgotten

    def within(self, split: str) -> np.ndarray:
        return np.ones(len(self.split), bool) if split == "all" else self.split == split

    def classed(self, split: str) -> np.ndarray:
        """The images that the table of classes is of: where a group is to be forgotten, all others."""
        return self.retained(split) if self.group else self.within(split)

    def right(self, when: str) -> np.ndarray:
        return getattr(self, when) == self.label

    def confidence(self, when: str) -> np.ndarray:
        return getattr(self, f"confidence_{when}").astype(float)

    def metric(self, name: str, when: str, split: str) -> float:
        """The metric of these images, as README and docs/report.md say what it is."""
        rows, right = self.within(split), self.right(when)
        if name == "accuracy":
            return _share(right[rows])
        kind, _, of = name.partition(":")
        if kind == "recall":
            return _share(right[rows & (self.label == of)])
        if self.forgotten is not None:
            return _share(right[rows & self.forgotten])
        groups = [rows & (self.subgroup == group) for group in sorted(set(self.subgroup[rows]))]
        return float(np.mean([self._mean_recall(right, group) for group in groups]))

    def _mean_recall(self, right: np.ndarray, rows: np.ndarray) -> float:
        return float(np.mean([_share(right[rows & (self.label == of)]) for of in sorted(set(self.label[rows]))]))


def _share(right: np.ndarray) -> float:
    return float(np.mean(right)) if len(right) else float("nan")


def _figures(repair: _Repair) -> str:
    """The report's figures come again from the rows of predictions.csv."""
    rows, name = _Rows.of(repair), str(repair.document["metric"]["name"])
    changed = tables.read(repair.path("corrupted")) if repair.corrupted else ()
    compared = 0
    for when in ("before", "after"):
        for split in (*SPLITS, "all"):
            told = repair.document[when][split]
            derived = {"accuracy": _share(rows.right(when)[rows.retained(split)])}
            if not repair.attacked:
                derived["metric"] = rows.metric(name, when, split)
            elif repair.corrupted and split != "all":
                derived["metric"] = metric_of(changed, when, split)
            for what, figure in derived.items():
                _same(f"{what} {when}, {split} images", told[what], figure)
                compared += 1
    report = rows.within("report")
    for when in ("before", "after"):
        _same(
            f"images right {when}",
            repair.document["images_right"][when],
            int(rows.right(when)[rows.retained("report")].sum()),
        )
    groups = repair.document["groups"]
    for told in groups["classes"]:
        compared += _group(told, rows, rows.classed("report") & (rows.label == told["name"]))
    for told in groups.get("subgroups") or ():
        compared += _group(told, rows, report & (rows.subgroup == told["name"]))
    both = {when: getattr(rows, when)[report] for when in ("before", "after")}
    kept = rows.retained("report")
    sure = {when: rows.confidence(when)[kept] for when in both}
    right = {when: rows.right(when)[kept] for when in both}
    for told_again in confidence_again(repair.document, right, sure, rows.subgroup[kept]):
        _same(*told_again)
        compared += 1
    for what, said, again in fairness_again(repair.document, rows.label[report], rows.subgroup[report], both):
        _same(what, said, again)
        compared += 1
    if rows.forgotten is not None:
        predicted_as = {"before": rows.before, "after": rows.after}
        probes = tables.read(repair.path("probe"))
        told = forgetting_again(repair.document, rows.split, rows.label, rows.forgotten, predicted_as, probes)
        for what, said, again in told:
            _same(what, said, again)
            compared += 1
    left = "; its metric is of attacked images, not of these" if repair.attacked and not repair.corrupted else ""
    also = f" and {len(changed):,} of {CORRUPTED}" if repair.corrupted else f" and {PROBE}" if repair.forgets else ""
    return f"{compared + 2} figures come again from {len(report):,} rows of {PREDICTIONS}{also}{left}"


def _group(told: Mapping[str, Any], rows: _Rows, of: np.ndarray) -> int:
    """Recall of a class or a subgroup; how many figures were compared."""
    _same(f"images of {told['name']}", told["n"], int(of.sum()))
    if not of.any():
        return 1
    for when in ("before", "after"):
        _same(f"recall of {told['name']} {when}", told[when], _share(rows.right(when)[of]))
    return 3


def _same(what: str, told: float | None, derived: float, allowed: float = EXACT, by: str = BY_ROWS) -> None:
    if told is None and np.isnan(derived):
        return
    if told is None or not abs(told - derived) <= allowed:
        raise Wrong(f"{what[:1].upper()}{what[1:]}: the report says {told}, {by} give {derived}.")


def _made_again(repair: _Repair, here: settings.Verify) -> str:
    """The original with the recorded edits is the written checkpoint."""
    if "checkpoint" not in repair.files:
        raise Unchecked("no checkpoint was written")
    if here.model is None:
        raise Unchecked(NEEDS_MODEL)
    plan = _recorded(repair)
    original = _open(plan, here, Path(here.model)).checkpoint
    if original.sha256 != repair.document["model"]["sha256"]:
        raise Wrong(
            f"{here.model} has the SHA-256 {original.sha256}; the repair was made of "
            f"{repair.document['model']['sha256']}."
        )
    with scratch("verify") as folder:
        made = folder / repair.path("checkpoint").name
        try:
            tensors = edited(original, plan, plan.ablated, whole=True)
        except BadInput as error:
            raise Wrong(error.problem) from None
        formats.write(original.edited(tensors), made)
        if sha256(made) != repair.files["checkpoint"]["sha256"]:
            raise Wrong(f"The original with the edits of {PLAN} is another file than {repair.path('checkpoint').name}.")
    return f"{repair.path('checkpoint').name} is the original with the edits of {PLAN}, byte for byte"


def _recorded(repair: _Repair) -> Recorded:
    try:
        return read_plan(repair.folder / PLAN)
    except BadInput as error:
        raise Wrong(error.problem) from None


def _open(plan: Recorded, here: settings.Verify, path: Path) -> opening.Model:
    return opening.open_model(_asked(plan, here, path))


def _asked(plan: Recorded, here: settings.Verify, path: Path) -> settings.ModelFile:
    """A file of the recorded kind of model; the preprocessing as recorded."""
    recorded = json.loads(Path(plan.path).read_text(encoding="utf-8"))["inputs"]
    names = settings.options(settings.Network)
    bare = path.is_dir() or formats.is_onnx(path)  # which bring what they are
    own = {name: plan.model.get(name) for name in names if not (bare and name in ("architecture", "num_classes"))}
    options = own.pop("options", None)
    if options and not path.is_dir():
        own["options"] = options
    seen = recorded["data"]["preprocessing"]
    pixels = {name: seen[name] for name in settings.options(settings.Pixels) if seen.get(name) is not None}
    pixels |= {name: NONE if seen[name] is None else _size(seen[name]) for name in ("resize", "crop")}
    asked = {
        **{name: value for name, value in own.items() if value is not None},
        **{name: tuple(value) if isinstance(value, list) else value for name, value in pixels.items()},
    }
    return settings.ModelFile(
        model=str(path), register=here.register, classes=here.classes, device=here.device, **asked
    )


def _size(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) else value


@dataclass(frozen=True)
class _Opened:
    """What predictions are made again with: "before" and "after" -> the model, as far as it is there; the images."""

    rows: Sequence[Mapping[str, str]]
    models: Mapping[str, opening.Model]
    images: Dataset


def _opened(repair: _Repair, here: settings.Verify) -> _Opened:
    if here.data is None:
        raise Unchecked(NEEDS_IMAGES)
    if "checkpoint" not in repair.files and here.model is None:
        raise Unchecked(f"no checkpoint was written; {NEEDS_MODEL}")
    rows = tables.read(repair.path("predictions"))
    plan = _recorded(repair)
    models = {} if here.model is None else {"before": _open(plan, here, Path(here.model))}
    if "checkpoint" in repair.files:
        whole = repair.path("checkpoint")
        path = whole.parent if whole.parent != repair.folder else whole  # the folder of a Hugging Face model
        architecture, _ = opening.architecture_of(_asked(plan, here, path))
        if not architecture.is_onnx:
            architecture.build("meta")  # what the caller has to register is no fault of the file
        try:
            models["after"] = _open(plan, here, path)
        except BadInput as error:
            raise Wrong(f"{whole.name} cannot be read: {error.problem}") from None
    model = next(iter(models.values()))
    images = opening.images_of_zip(
        here.data, model, here.classes or _classes(repair), split_folder=here.split_folder
    ).dataset
    if tuple(row["file_name"] for row in rows) != images.file_names:
        raise Wrong(f"{here.data} does not hold the images of {PREDICTIONS}, in their order.")
    return _Opened(rows, models, images)


def _predictions(repair: _Repair, here: settings.Verify) -> str:
    """Each row of predictions.csv comes again from the files, in a fresh process."""
    found = _opened(repair, here)
    sets = {"all": np.asarray(found.images.images)}
    said = []
    for when, opened in found.models.items():
        logits = _logits(opened, found.images.preprocessing, sets)["all"]
        said.append(compare(found.rows, when, predicted(logits), found.images.class_names, logits))
        report = _Rows.of(repair).retained("report")
        for told in scores_again(repair.document, when, logits[report], found.images.labels[report], ROUNDING):
            _same(*told, "the predictions made again")
    return "; ".join(said)


def _corrupted(repair: _Repair, here: settings.Verify) -> str:
    """The corrupted images come again from the images, and so does each row of corrupted.csv."""
    found = _opened(repair, here)

    def predicting(opened: opening.Model) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        return lambda sets: _logits(opened, found.images.preprocessing, sets)

    with scratch("verify") as folder:
        return make_again(
            repair.document, tables.read(repair.path("corrupted")), [row["split"] for row in found.rows], found.images,
            {when: predicting(opened) for when, opened in found.models.items()}, folder,
            lambda logits: margin(logits) <= ROUNDING,
        )  # fmt: skip


def _probes(repair: _Repair, here: settings.Verify) -> str:
    """What linear probes say comes again; of a group, its images are those that the images' table names."""
    found, rows = _opened(repair, here), _Rows.of(repair)
    of = repair.document["metric"]["forgetting"]
    if "column" in of and not np.array_equal(np.array(found.images.column(of["column"]), dtype=object), rows.subgroup):
        raise Wrong(f"The column {of['column']} of {here.data} has other values than {PREDICTIONS}.")
    return probes_again(
        repair.document, tables.read(repair.path("probe")), found.rows, found.images, found.models,
        int(repair.document["run"]["seed"]),
    )  # fmt: skip


def _logits(opened: opening.Model, preprocessing: Any, sets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    checkpoint: Checkpoint = opened.checkpoint
    assert opened.path is not None
    file = File(opened.path, opened.weights)
    return fresh_predictions([file], checkpoint.architecture, preprocessing, sets, opened.device)[0]


def _classes(repair: _Repair) -> list[str]:
    return [str(row["name"]) for row in repair.document["data"]["classes"]]

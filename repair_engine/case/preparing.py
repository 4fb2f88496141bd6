"""A request made ready: read, split, attacked, constants computed.

`prepare` does once what is costly or random and leaves it in a folder; `open_case` builds the same case from that
folder in any process, so all workers play the same game.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from repair_engine.case.case import SPLITS, Case, plain_predictions
from repair_engine.case.inspection import default_preprocessing
from repair_engine.case.mean_constants import channel_sums, means_of
from repair_engine.case.warnings import warnings_of
from repair_engine.data import Dataset, Splits, holdout, read_dataset, split
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.classes import ClassNames, class_names
from repair_engine.models.formats import Checkpoint
from repair_engine.network import Network, stored_constants
from repair_engine.network.channel_sums import ChannelSums
from repair_engine.question.attacked import ATTACK_IMAGES, AttackedSplit, attack_splits
from repair_engine.question.further import all_columns, further_objectives, subgroup_names
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.question.subgroups import absence_warnings, subgroups_of
from repair_engine.support.memory import give_back
from repair_engine.support.progress import Progress, silent

_ATTACK_SECONDS = 60.0  # for all splits, where nothing is said


@dataclass(frozen=True)
class Given:
    """What of a request is at hand already; the rest (None) is read from the request's paths."""

    model: Checkpoint | None = None
    images: Dataset | None = None
    guard: Dataset | None = None


FROM_FILES = Given()


def prepare(
    request: RepairRequest,
    folder: Path,
    progress: Progress = silent,
    captured: Callable[[Network], None] | None = None,
    given: Given = FROM_FILES,
) -> Case:
    """Reads and checks everything, splits, computes constants, attacks; leaves it in `folder`.

    Args:
        captured: told the network as soon as it is known what its players are, before anything costly.
        given: what need not be read. `open_case` does not know it: such a case lives in one process.

    Raises:
        BadInput: anything about the model, the images or the options that cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = given.model or read_model(request, folder, progress)
    case, module = _read(request, checkpoint, folder, progress, given)
    if captured is not None:
        captured(case.network)
    for name in request.by_hand:
        case.network.player(name)  # raises here, and not after attacks and calibration
    progress("computing mean constants", 0.0)
    means = means_of(case, progress)
    give_back()
    constants, biases = stored_constants(
        case.network, means.values, checkpoint.dtypes, checkpoint.tensors if request.constant == "bn_beta" else None
    )
    began = time.perf_counter()
    intact = plain_predictions(module, case, case.pixels, progress)
    if request.metric.attacked and request.attack_images is None:
        request = replace(request, attack_images=_attack_images(request, len(intact), time.perf_counter() - began))
        case = replace(case, request=request)
    attacked = _attack(case, module, intact, progress) if request.metric.attacked else {}
    shown = len(attacked["report"].indices) if attacked else None
    found = [*case.warnings, *warnings_of(case, intact, shown)]
    arrays = {"constants": constants.numpy(), "biases": biases.numpy(), "intact": intact}
    arrays |= {f"split_{name}": case.indices(name) for name in SPLITS}
    for name, part in attacked.items():
        arrays |= {f"attack_{name}_indices": part.indices, f"attack_{name}_targets": part.targets}
        arrays |= {f"attack_{name}_excluded": np.array(part.excluded)}
        np.save(folder / f"attack_{name}.npy", part.pixels.numpy())
    np.savez(folder / "prepared.npz", **arrays)  # type: ignore[arg-type]
    (folder / "prepared.json").write_text(json.dumps({"warnings": found, "constants_from": means.origin}))
    (folder / "request.json").write_text(request.to_json())
    case.network.constants = constants.to(case.network.device)
    return replace(
        case, biases=biases, intact=intact, attacked=attacked, warnings=tuple(found), constants_from=means.origin
    )


def read_case(request: RepairRequest, folder: Path, progress: Progress = silent) -> Case:
    """The case as far as nothing was computed: read, split and captured. Its constants are NaN; nothing is attacked.

    Raises:
        BadInput: see `prepare`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _read(request, read_model(request, folder, progress), folder, progress)[0]


def own_sums(request: RepairRequest, folder: Path, progress: Progress = silent) -> ChannelSums:
    """Sums of the filters' outputs over the score images, for constants that several parties share.

    Raises:
        BadInput: see `prepare`.
    """
    return channel_sums(read_case(request, folder, progress), progress)


def read_model(request: RepairRequest, folder: Path, progress: Progress = silent) -> Checkpoint:
    """The checkpoint of a request, its canonical pair left in `folder`. Raises BadInput, see `formats.convert`."""
    progress("reading the model", 0.0)
    return formats.convert(
        request.model, folder / "model.safetensors", request.architecture, request.weights, request.name_of("model")
    )


def open_case(folder: Path) -> Case:
    """The case that `prepare` left in a folder; plays the same game in every process."""
    request = RepairRequest.from_json((folder / "request.json").read_text())
    checkpoint = formats.load(folder / "model.safetensors")
    case, _ = _read(request, checkpoint, folder, silent)
    with np.load(folder / "prepared.npz") as arrays:
        stored = {k: arrays[k] for k in arrays.files}
    for name in SPLITS:
        assert np.array_equal(stored[f"split_{name}"], case.indices(name)), "the splits are seeded and must repeat"
    attacked = {
        name: AttackedSplit(
            stored[f"attack_{name}_indices"],
            torch.from_numpy(np.load(folder / f"attack_{name}.npy")),
            stored[f"attack_{name}_targets"],
            int(stored[f"attack_{name}_excluded"]),
        )
        for name in SPLITS
        if f"attack_{name}_indices" in stored
    }
    case.network.constants = torch.from_numpy(stored["constants"]).to(case.network.device)
    said = json.loads((folder / "prepared.json").read_text())
    biases = torch.from_numpy(stored["biases"])
    return replace(
        case, biases=biases, intact=stored["intact"], attacked=attacked, warnings=tuple(said["warnings"]),
        constants_from=said.get("constants_from", {}),
    )  # fmt: skip


def read_set(
    request: RepairRequest, checkpoint: Checkpoint, folder: Path, progress: Progress, given: Given = FROM_FILES
) -> tuple[ClassNames, Dataset, Splits]:
    """Class names, images and splits of a request; the pixels are cached in `folder`. Raises BadInput."""
    names = class_names(checkpoint.architecture, request.classes)
    dataset = given.images or read_images(request, checkpoint, names, folder / "pixels", progress)
    metric = request.metric
    columns = all_columns(metric, further_objectives(metric, request.also, dataset), dataset)
    subgroups = subgroup_names(dataset, columns) if request.also and columns else subgroups_of(metric, dataset)
    groups = dataset.column(request.group) if request.group else None
    splits = split(
        dataset.labels, subgroups, groups, dataset.pixel_hashes, request.seed, class_names=dataset.class_names
    )
    return names, dataset, splits


def read_images(
    request: RepairRequest, checkpoint: Checkpoint, names: ClassNames, cache: Path | None, progress: Progress
) -> Dataset:
    """The images of a request as the model takes them. Raises BadInput, see `read_dataset`."""
    preprocessing, origin = default_preprocessing(request.preprocessing, checkpoint)
    dataset = read_dataset(
        request.data,
        names,
        preprocessing,
        cache,
        request.name_of("data"),
        _reading(progress),
        request.split_folder,
        request.apart,
    )
    if origin == "given":
        return dataset
    return replace(dataset, notes=(*dataset.notes, f"Preprocessing: {origin}."))


def _reading(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress("reading the images", done / max(total, 1))


def _read(
    request: RepairRequest, checkpoint: Checkpoint, folder: Path, progress: Progress, given: Given = FROM_FILES
) -> tuple[Case, torch.nn.Module]:
    names, dataset, splits = read_set(request, checkpoint, folder, progress, given)
    preprocessing, metric = dataset.preprocessing, request.metric
    if metric.kind == "recall":
        _need_in_every_split(metric, dataset, splits)
    guard, parts = given.guard, None
    if guard is None and request.guard:
        # Where nothing names the classes, the main set's folders do, for the guard set too.
        known = names if names.names else replace(names, names=dataset.class_names, source="the main set's folders")
        guard = read_dataset(
            request.guard, known, preprocessing, folder / "pixels", request.name_of("guard"), _reading(progress),
            request.guard_split_folder, request.apart,
        )  # fmt: skip
    if guard is not None:
        guard_groups = guard.attributes.get(request.group) if request.group else None
        parts = holdout(
            guard.labels, None, guard_groups, guard.pixel_hashes, dataset.pixel_hashes, request.seed,
            dataset.class_names,
        )  # fmt: skip
    progress("capturing the network", 0.0)
    module = checkpoint.module().to(request.device)
    example = torch.from_numpy(np.array(dataset.images[:2]))
    if len(example) < 2:
        example = example.repeat(2, 1, 1, 1)
    network = Network.capture(
        module, preprocessing.normalize(example.to(request.device)), checkpoint.dtypes, request.units
    )
    expected = checkpoint.architecture.num_classes
    if network.classes not in (expected, 1 if expected == 2 else expected):
        raise BadInput(
            f"The network puts out {network.classes} logits; --num-classes says {expected}.",
            "Give the number of classes that the model was trained for.",
        )
    notes = [*dataset.warnings, *splits.warnings, *absence_warnings(metric, dataset, splits)]
    if guard is not None and parts is not None:
        notes += [f"Guard set: {w}" for w in (*guard.warnings, *parts.warnings)]
    case = Case(
        request, checkpoint, dataset, splits, guard, parts, network, torch.empty(0), np.empty(0, np.int64), {},
        tuple(notes),
    )  # fmt: skip
    return case, module


def _need_in_every_split(metric: Metric, dataset: Dataset, splits: Splits) -> None:
    """Raises BadInput where the class of `recall:CLASS` is not in all three parts."""
    hit = dataset.labels == metric.class_index(dataset.class_names)
    lacking = [part for part in SPLITS if not hit[getattr(splits, part)].any()]
    if lacking:
        raise BadInput(
            f"--metric {metric}: no image of class {metric.argument!r} in the {' and '.join(lacking)} "
            f"split{'s' * (len(lacking) > 1)}; there are {int(hit.sum())} in all.",
            "Values, the choice of filters and the report each need images of their own: four or more in all.",
        )


def _attack(case: Case, module: torch.nn.Module, intact: np.ndarray, progress: Progress) -> dict[str, AttackedSplit]:
    request = case.request
    request.attack.check_logits(case.network.classes)
    request.attack.check_images(case.dataset.images.shape[1:])
    return attack_splits(
        module,
        case.dataset,
        {part: case.indices(part) for part in SPLITS},
        intact,
        request.attack,
        classes=max(case.network.classes, 2),
        seed=request.seed,
        most=request.attack_images or ATTACK_IMAGES,
        device=case.network.device,
        progress=progress,
    )


def _attack_images(request: RepairRequest, forwards: int, seconds: float) -> int:
    """Images attacked per split: fixed where the budget is, else what fits into a minute at the measured speed."""
    if request.budget is not None:
        return ATTACK_IMAGES
    passes = 3 * request.attack.steps * request.attack.restarts  # a backward costs about two forwards
    affordable = int(_ATTACK_SECONDS * forwards / seconds / passes / len(SPLITS))
    return min(max(affordable, 40), ATTACK_IMAGES)

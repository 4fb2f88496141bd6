"""A case: one request with its model, images, splits and network at hand.

`prepare` does once what is costly or random (reading, splitting, attacking, constants) and leaves it in a folder;
`open_case` builds the same case from that folder in any process, so all workers play the same game.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repair_engine.case.mean_constants import channel_sums, means_of
from repair_engine.case.warnings import warnings_of
from repair_engine.data import Dataset, Holdout, Splits, holdout, read_dataset, split
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.classes import ClassNames, class_names
from repair_engine.models.formats import Checkpoint
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.models.weights_metadata import weights_metadata
from repair_engine.network import Network, check_finite, predictions, stored_constants
from repair_engine.network.channel_sums import ChannelSums
from repair_engine.onnx.plan import GraphPlan
from repair_engine.question.attacked import ATTACK_IMAGES, AttackedSplit, attack_splits
from repair_engine.question.further import FurtherObjective, all_columns, check_size, further_objectives, subgroup_names
from repair_engine.question.objectives import Metric, Objective, cell_codes, metric_weights
from repair_engine.question.objectives.metric import accuracy_weights
from repair_engine.question.objectives.pixels import Rows
from repair_engine.question.request import RepairRequest
from repair_engine.question.subgroups import absence_warnings, subgroups_of
from repair_engine.search.game import NeuronGame
from repair_engine.support.memory import Room, give_back
from repair_engine.support.progress import Progress, silent

SPLITS = ("score", "select", "report")
_ATTACK_SECONDS = 60.0  # for all splits, where nothing is


@dataclass(frozen=True)
class Case:
    """See the module's text. `intact` holds the intact network's predictions of all images, int64 [N];
    `constants_from` says where the mean constants come from (`mean_constants`)."""

    request: RepairRequest
    checkpoint: Checkpoint
    dataset: Dataset
    splits: Splits
    guard: Dataset | None
    guard_parts: Holdout | None
    network: Network
    biases: torch.Tensor
    intact: np.ndarray
    attacked: dict[str, AttackedSplit]
    warnings: tuple[str, ...]
    constants_from: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def subgroups(self) -> tuple[str, ...] | None:
        return subgroups_of(self.request.metric, self.dataset)

    @cached_property
    def pixels(self) -> torch.Tensor:
        with warnings.catch_warnings():  # torch warns of read-only arrays; nothing here writes to them
            warnings.simplefilter("ignore")
            return torch.from_numpy(np.asarray(self.dataset.images))

    @cached_property
    def room(self) -> Room:
        """How much at once fits into the memory that the run may take. Raises BadInput: too little."""
        image = self.normalize(self.pixels[:1].to(self.network.device))
        weights = sum(t.numel() * t.element_size() for t in self.checkpoint.tensors.values())
        on_cpu = self.network.device.type == "cpu"
        return Room.of(self.request.memory, on_cpu, weights, self.network.state_sizes(image))

    def indices(self, part: str) -> np.ndarray:
        """Dataset indices of a split, or of all images for "all"."""
        return np.arange(len(self.dataset)) if part == "all" else getattr(self.splits, part)

    def objective(self, part: str) -> Objective:
        """The metric as an objective on one split ("all" for every image; not for attacks)."""
        metric = self.request.metric
        if metric.kind == "attack-success":
            return self._attack_objective(part)
        indices = self.indices(part)
        labels = self.dataset.labels[indices]
        groups = [self.subgroups[i] for i in indices] if self.subgroups else None
        weights = metric_weights(metric, labels, groups, self.dataset.class_names)
        used = np.flatnonzero(weights > 0)
        cells = cell_codes(labels, groups)
        pixels = Rows(self.pixels, indices[used])
        return Objective(pixels, labels[used], weights[used], cells[used])

    @cached_property
    def further(self) -> tuple[FurtherObjective, ...]:
        """Objectives that are valued beside the metric."""
        return further_objectives(self.request.metric, self.request.also, self.dataset)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Of the metric and the further objectives, [M]."""
        return (str(self.request.metric), *(one.name for one in self.further))

    def joint_objective(self, part: str) -> Objective:
        """The metric and all further objectives, on all images of a split.

        Raises:
            BadInput: a class or subgroup has no image there.
        """
        metric, indices = self.request.metric, self.indices(part)
        labels = self.dataset.labels[indices]
        groups = [self.subgroups[i] for i in indices] if self.subgroups else None
        weights = metric_weights(metric, labels, groups, self.dataset.class_names)
        also = np.stack([one.weights(self.dataset, indices) for one in self.further])
        columns = all_columns(metric, self.further, self.dataset)
        names = subgroup_names(self.dataset, columns) if columns else None
        cells = cell_codes(labels, None if names is None else [names[i] for i in indices])
        return Objective(Rows(self.pixels, indices), labels, weights, cells, also=also)

    def objective_indices(self, part: str) -> np.ndarray:
        """Dataset indices of the objective's images."""
        if self.request.metric.kind == "attack-success":
            return self.attacked[part].indices
        indices = self.indices(part)
        if self.request.metric.kind == "recall":
            target = self.request.metric.class_index(self.dataset.class_names)
            return indices[self.dataset.labels[indices] == target]
        return indices

    def _attack_objective(self, part: str) -> Objective:
        attacked = self.attacked[part]
        labels = self.dataset.labels[attacked.indices]
        weights, cells = accuracy_weights(len(labels)), cell_codes(labels, None)
        targeted = self.request.attack.targeted
        targets = attacked.targets if targeted else labels
        return Objective(attacked.pixels, targets, weights, cells, "lower", complement=not targeted)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 or float pixels in [0, 1] -> network input."""
        preprocessing = self.dataset.preprocessing
        return preprocessing.standardize(pixels) if pixels.is_floating_point() else preprocessing.normalize(pixels)

    def game(self, batch_size: int, part: str = "score") -> NeuronGame:
        """The game of the metric, and of the further objectives, on a split."""
        if self.further:
            check_size(1 + len(self.further), self.network.n_filters)
        objective = self.joint_objective(part) if self.further else self.objective(part)
        return NeuronGame(self.network, objective, self.normalize, batch_size, self.room.game, self.room.backward)


def default_preprocessing(
    request: RepairRequest, channels: int, plan: GraphPlan | None = None
) -> tuple[Preprocessing, str]:
    """The preprocessing that is used, and where it comes from.

    Args:
        plan: of an ONNX model: it may say which size it takes.
    """
    if request.preprocessing is not None:
        return request.preprocessing.for_channels(channels), "given"
    if plan is not None and plan.size[1] and plan.size[2]:
        size = (plan.size[1], plan.size[2])
        how = f"pixels in [0, 1], resized to the {size[0]} × {size[1]} that the ONNX graph takes (none was given)"
        return Preprocessing(channels=channels, resize=size), how
    metadata = weights_metadata(request.architecture.name)
    if request.architecture.registered or metadata is None or channels != 3:
        return Preprocessing(channels=channels), "pixels in [0, 1], no resizing (none was given)"
    return metadata.preprocessing, f"torchvision's {request.architecture.name} {metadata.variant}"


def prepare(
    request: RepairRequest,
    folder: Path,
    progress: Progress = silent,
    captured: Callable[[Network], None] | None = None,
) -> Case:
    """Reads and checks everything, splits, computes constants, attacks; leaves it in `folder`.

    Args:
        captured: told the network as soon as it is known what its players are, before anything costly.

    Raises:
        BadInput: anything about the model, the images or the options that cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress("reading the model", 0.0)
    checkpoint = formats.convert(
        request.model,
        folder / "model.safetensors",
        request.architecture,
        request.weights,
        request.name_of("model"),
    )
    case, module = _read(request, checkpoint, folder, progress)
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
    if request.metric.kind == "attack-success" and request.attack_images is None:
        request = replace(request, attack_images=_attack_images(request, len(intact), time.perf_counter() - began))
        case = replace(case, request=request)
    attacked = _attack(case, module, intact, progress) if request.metric.kind == "attack-success" else {}
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


def own_sums(request: RepairRequest, folder: Path, progress: Progress = silent) -> ChannelSums:
    """Sums of the filters' outputs over the score images, for constants that several parties share.

    Raises:
        BadInput: see `prepare`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress("reading the model", 0.0)
    checkpoint = formats.convert(
        request.model, folder / "model.safetensors", request.architecture, request.weights, request.name_of("model")
    )
    case, _ = _read(request, checkpoint, folder, progress)
    return channel_sums(case, progress)


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


def plain_logits(
    module: torch.nn.Module, case: Case, pixels: torch.Tensor, progress: Progress = silent
) -> torch.Tensor:
    """Logits [N, classes] of the plain module, on the CPU. Raises BadInput where they are not finite."""
    out = []
    with torch.inference_mode():
        step = case.room.plain
        for i in range(0, len(pixels), step):
            logits = module(case.normalize(pixels[i : i + step].to(case.network.device)))
            out.append((logits.unsqueeze(1) if logits.dim() == 1 else logits).cpu())
            progress("predicting with the intact model", min(i + step, len(pixels)) / len(pixels))
    found = torch.cat(out)
    check_finite(found)
    return found


def plain_predictions(
    module: torch.nn.Module, case: Case, pixels: torch.Tensor, progress: Progress = silent
) -> np.ndarray:
    """Predicted classes, int64 [N], of the plain module."""
    return predictions(plain_logits(module, case, pixels, progress)).numpy()


def read_set(
    request: RepairRequest, checkpoint: Checkpoint, folder: Path, progress: Progress
) -> tuple[ClassNames, Dataset, Splits]:
    """Class names, images and splits of a request; the pixels are cached in `folder`. Raises BadInput."""
    names = class_names(checkpoint.architecture, request.classes)
    preprocessing, origin = default_preprocessing(request, checkpoint.in_channels, checkpoint.architecture.plan)
    cache = folder / "pixels"
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
    if origin != "given":
        dataset = replace(dataset, notes=(*dataset.notes, f"Preprocessing: {origin}."))
    metric = request.metric
    columns = all_columns(metric, further_objectives(metric, request.also, dataset), dataset)
    subgroups = subgroup_names(dataset, columns) if request.also and columns else subgroups_of(metric, dataset)
    groups = dataset.column(request.group) if request.group else None
    splits = split(
        dataset.labels, subgroups, groups, dataset.pixel_hashes, request.seed, class_names=dataset.class_names
    )
    return names, dataset, splits


def _reading(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress("reading the images", done / max(total, 1))


def _read(
    request: RepairRequest, checkpoint: Checkpoint, folder: Path, progress: Progress
) -> tuple[Case, torch.nn.Module]:
    names, dataset, splits = read_set(request, checkpoint, folder, progress)
    preprocessing, metric = dataset.preprocessing, request.metric
    if metric.kind == "recall":
        _need_in_every_split(metric, dataset, splits)
    guard = parts = None
    if request.guard:
        # Where nothing names the classes, the main set's folders do, for the guard set too.
        known = names if names.names else replace(names, names=dataset.class_names, source="the main set's folders")
        guard = read_dataset(
            request.guard, known, preprocessing, folder / "pixels", request.name_of("guard"), _reading(progress),
            request.guard_split_folder, request.apart,
        )  # fmt: skip
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

"""A request made ready: read, split, attacked, constants computed.

`prepare` does once what is costly or random and leaves it in a folder; `open_case` builds the same case from that
folder in any process, so all workers play the same game.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.case.changing import KNOWN, changed_images, nothing_done
from repair_engine.case.inspection import read_for, reading
from repair_engine.case.mean_constants import channel_sums, means_of
from repair_engine.case.warnings import warnings_of
from repair_engine.data import SPLITS, Dataset, holdout, read_dataset, split
from repair_engine.data.before import looked_at
from repair_engine.data.images import Guard, Images, Triggered
from repair_engine.data.patches import Patch
from repair_engine.data.pixels import stored_pixels
from repair_engine.data.reading import Pick
from repair_engine.data.triggered import originals, split_together
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.classes import ClassNames, class_names
from repair_engine.models.formats import Checkpoint
from repair_engine.network import Network, check_finite, predictions, stored_constants
from repair_engine.network.channel_sums import ChannelSums
from repair_engine.network.subject import Subject
from repair_engine.question.attacked import ATTACK_IMAGES, AttackedSplit, attack_splits, check_pixels
from repair_engine.question.forgetting import check_known, check_sizes, strata_of, without_forgotten
from repair_engine.question.further import all_columns, further_objectives, subgroup_names
from repair_engine.question.goals import goal_of
from repair_engine.question.objectives import Metric
from repair_engine.question.question import question_of
from repair_engine.question.reconstruction import suspicion_said
from repair_engine.question.request import RepairRequest
from repair_engine.question.subgroups import absence_warnings, subgroups_of
from repair_engine.settings import check_trigger
from repair_engine.support.memory import Room, give_back
from repair_engine.support.progress import Progress, silent

_ATTACK_SECONDS = 60.0  # for all splits, where nothing is said


@dataclass(frozen=True)
class Given:
    """What of a request is at hand already; the rest (None) is read from the request's paths."""

    model: Checkpoint | None = None
    images: Dataset | None = None
    guard: Dataset | None = None
    trigger: Patch | None = None
    triggered: Dataset | None = None


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
    patch, carrying = _triggers_of(request, given)
    check_trigger(str(request.metric), patch, carrying, request)
    checkpoint = given.model or read_model(request, folder, progress)
    read = _read(request, checkpoint, folder, progress, given)
    images, network = read.images, read.network
    if captured is not None:
        captured(network)
    for name in request.by_hand:
        network.player(name)  # raises here, and not after attacks and calibration
    subject = _subject(request, checkpoint, read)
    changed = changed_images(request, images, read.module, subject, given.trigger, patch or carrying, folder, progress)
    request = replace(request, metric=changed.metric)
    attacked, trigger = dict(changed.attacked), changed.trigger
    progress("computing mean constants", 0.0)
    means = means_of(request, subject, images, progress)
    give_back()
    betas = checkpoint.tensors if request.constant == "bn_beta" else None
    constants, biases = stored_constants(network, means.values, checkpoint.dtypes, betas)
    subject = replace(subject, biases=biases, constants_from=means.origin)
    began = time.perf_counter()
    intact = _plain_predictions(read.module, subject, images, progress)
    if request.metric.attacked:
        if request.attack_images is None:
            request = replace(request, attack_images=_attack_images(request, len(intact), time.perf_counter() - began))
        attacked = _attack(request, read, intact, progress)
        for name, part in attacked.items():
            np.save(folder / f"attack_{name}.npy", part.pixels.numpy())
    question = question_of(request, images, attacked, trigger, changed.known, changed.corruption)
    if request.metric.forgets:
        rows = question.indices("score")
        right = float((intact[rows] == images.labels[rows]).mean())
        check_known(request.metric, right, question.chance("score"), len(rows))
    select = images.indices("select")
    # raises before the search
    goal_of(request.limits.goal, question.groups("select"), images.labels[select], images.class_names)
    warnings = [*read.notes, *warnings_of(question, subject, intact)]
    if trigger is not None and "reconstructed" in trigger:
        pixels = int(np.prod(images.shape[1:]))
        warnings.append(suspicion_said(trigger["class"], trigger["reconstructed"], pixels))
    elif trigger is not None:
        warnings += nothing_done(question, read.module, subject, intact)
    if request.looked_before:
        shown = images.dataset
        warnings += looked_at(shown.labels, shown.attributes, shown.pixel_hashes, images.splits.report)
    arrays = {"constants": constants.numpy(), "biases": biases.numpy(), "intact": intact}
    arrays |= {f"split_{name}": images.indices(name) for name in SPLITS}
    for name, part in (attacked | ({KNOWN: changed.known} if changed.known is not None else {})).items():
        arrays |= {f"attack_{name}_indices": part.indices, f"attack_{name}_targets": part.targets}
        arrays |= {f"attack_{name}_labels": part.labels, f"attack_{name}_excluded": np.array(part.excluded)}
        arrays |= {f"attack_{name}_kinds": part.kinds} if part.kinds is not None else {}
    np.savez(folder / "prepared.npz", **arrays)  # type: ignore[arg-type]
    said = {"warnings": warnings, "constants_from": means.origin, "trigger": trigger, "corruption": changed.corruption}
    (folder / "prepared.json").write_text(json.dumps(said))
    (folder / "request.json").write_text(request.to_json())
    network.constants = constants.to(network.device)
    return Case(request, subject, images, question, intact, tuple(warnings))


def own_sums(request: RepairRequest, folder: Path, progress: Progress = silent) -> ChannelSums:
    """Sums of the filters' outputs over the score images, for constants that several parties share.

    Raises:
        BadInput: see `prepare`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if request.metric.triggered:
        raise BadInput(f"Common constants are not made for {request.metric}: its trigger lies with one party.")
    checkpoint = read_model(request, folder, progress)
    read = _read(request, checkpoint, folder, progress)
    return channel_sums(_subject(request, checkpoint, read), read.images, progress)


def read_model(request: RepairRequest, folder: Path, progress: Progress = silent) -> Checkpoint:
    """The checkpoint of a request, its canonical pair left in `folder`. Raises BadInput, see `formats.convert`."""
    progress("reading the model", 0.0)
    return formats.convert(
        request.model, folder / "model.safetensors", request.architecture, request.weights, request.name_of("model")
    )


def open_case(folder: Path, at: Callable[[str], str] = str) -> Case:
    """The case that `prepare` left in a folder; plays the same game in every process.

    Args:
        at: where a file of the request is now, of its path then; the folder, too, may have been moved.
    """
    request = RepairRequest.from_json((folder / "request.json").read_text()).moved(at)
    checkpoint = formats.load(folder / "model.safetensors")
    read = _read(request, checkpoint, folder, silent)
    with np.load(folder / "prepared.npz") as arrays:
        stored = {k: arrays[k] for k in arrays.files}
    for name in SPLITS:
        assert np.array_equal(stored[f"split_{name}"], read.images.indices(name)), "the splits are seeded, must repeat"
    files = {name: folder / f"attack_{name}.npy" for name in SPLITS} | {KNOWN: folder / KNOWN / "attack_report.npy"}
    attacked = {
        name: AttackedSplit(
            stored[f"attack_{name}_indices"],
            stored_pixels(file),
            stored[f"attack_{name}_targets"],
            _labels_of(stored, name, read.images),
            int(stored[f"attack_{name}_excluded"]),
            stored.get(f"attack_{name}_kinds"),
        )
        for name, file in files.items()
        if f"attack_{name}_indices" in stored
    }
    known = attacked.pop(KNOWN, None)
    read.network.constants = torch.from_numpy(stored["constants"]).to(read.network.device)
    said = json.loads((folder / "prepared.json").read_text())
    subject = replace(
        _subject(request, checkpoint, read),
        biases=torch.from_numpy(stored["biases"]),
        constants_from=said.get("constants_from", {}),
    )
    question = question_of(request, read.images, attacked, said.get("trigger"), known, said.get("corruption"))
    return Case(request, subject, read.images, question, stored["intact"], tuple(said["warnings"]))


def _labels_of(stored: Mapping[str, np.ndarray], name: str, images: Images) -> np.ndarray:
    """True classes of a split's changed images, int64 [N]; earlier versions did not write them."""
    key = f"attack_{name}_labels"
    return stored[key] if key in stored else images.labels[stored[f"attack_{name}_indices"]]


def read_set(
    request: RepairRequest, checkpoint: Checkpoint, folder: Path, progress: Progress, given: Given = FROM_FILES
) -> tuple[ClassNames, Images]:
    """Class names and the main set of a request; its pixels are cached in `folder`. Raises BadInput."""
    names = class_names(checkpoint.architecture, request.classes)
    dataset = given.images or read_images(request, checkpoint, names, folder / "pixels", progress)
    metric = request.metric
    check_pixels(metric, dataset)
    columns = all_columns(metric, further_objectives(metric, request.also, dataset), dataset)
    subgroups = subgroup_names(dataset, columns) if request.also and columns else _strata(metric, dataset)
    groups = dataset.column(request.group) if request.group else None
    triggered = given.triggered
    if triggered is None and request.triggered:
        triggered = _beside(request, names, dataset, folder, progress, "triggered")
    if triggered is not None:
        copies = originals(dataset, triggered)
        splits, theirs = split_together(dataset, triggered, copies, request.group, request.seed)
        return names, Images(dataset, splits, triggered=Triggered(triggered, theirs, int((copies >= 0).sum())))
    splits = split(
        dataset.labels, subgroups, groups, dataset.pixel_hashes, request.seed, class_names=dataset.class_names
    )
    return names, Images(dataset, splits)


def _strata(metric: Metric, dataset: Dataset) -> tuple[str, ...] | None:
    """What the splits are stratified by beside the class, [N]. Raises BadInput: the metric names what is not there."""
    return strata_of(metric, dataset) if metric.forgets else subgroups_of(metric, dataset)


def _beside(
    request: RepairRequest, names: ClassNames, dataset: Dataset, folder: Path, progress: Progress, role: str
) -> Dataset:
    """The "guard" or "triggered" images, as the main set's are. Raises BadInput, see `read_dataset`."""
    # Where nothing names the classes, the main set's folders do, for these, too.
    known = names if names.names else replace(names, names=dataset.class_names, source="the main set's folders")
    return read_dataset(
        getattr(request, role), known, dataset.preprocessing, folder / "pixels", request.name_of(role),
        reading(progress), getattr(request, f"{role}_split_folder"), request.apart,
    )  # fmt: skip


def read_images(
    request: RepairRequest,
    checkpoint: Checkpoint,
    names: ClassNames,
    cache: Path | None,
    progress: Progress,
    pick: Pick | None = None,
) -> Dataset:
    """The images of a request as the model takes them. Raises BadInput, see `read_dataset`."""
    return read_for(
        checkpoint, request.data, names, request.preprocessing, progress, cache_dir=cache,
        name=request.name_of("data"), split=request.split_folder, apart=request.apart, pick=pick,
    )  # fmt: skip


@dataclass(frozen=True)
class _Read:
    """What a request's files hold, before anything is computed."""

    images: Images
    module: torch.nn.Module
    network: Network
    notes: tuple[str, ...]


def _read(
    request: RepairRequest, checkpoint: Checkpoint, folder: Path, progress: Progress, given: Given = FROM_FILES
) -> _Read:
    names, images = read_set(request, checkpoint, folder, progress, given)
    dataset, metric = images.dataset, request.metric
    if metric.kind == "recall":
        _need_in_every_split(metric, images)
    if metric.forgets:
        check_sizes(metric, images)
    guard, notes = given.guard, [*dataset.warnings, *images.splits.warnings]
    known = dataset.pixel_hashes
    if (triggered := images.triggered) is not None:
        notes += [f"Triggered images: {w}" for w in triggered.dataset.warnings]
        known = (*known, *triggered.dataset.pixel_hashes)
    notes += absence_warnings(metric, dataset, images.splits)
    if guard is None and request.guard:
        guard = _beside(request, names, dataset, folder, progress, "guard")
    if guard is not None:
        guard_groups = guard.attributes.get(request.group) if request.group else None
        parts = holdout(
            guard.labels, None, guard_groups, guard.pixel_hashes, known, request.seed,
            dataset.class_names,
        )  # fmt: skip
        if metric.forgets:
            parts = without_forgotten(metric, guard, dataset, parts)
        notes += [f"Guard set: {w}" for w in (*guard.warnings, *parts.warnings)]
        images = replace(images, guard=Guard(guard, parts))
    progress("capturing the network", 0.0)
    module = checkpoint.module().to(request.device)
    example = torch.from_numpy(np.array(dataset.images[:2]))
    if len(example) < 2:
        example = example.repeat(2, 1, 1, 1)
    network = Network.capture(module, images.normalize(example.to(request.device)), checkpoint.dtypes, request.units)
    checkpoint.architecture.check_logits(network.classes)
    return _Read(images, module, network, tuple(notes))


def _subject(request: RepairRequest, checkpoint: Checkpoint, read: _Read) -> Subject:
    """Still without constants. Raises BadInput: too little memory."""
    network, images = read.network, read.images
    weights = sum(t.numel() * t.element_size() for t in checkpoint.tensors.values())
    one = network.footprint(images.normalize(images.pixels[:1].to(network.device)))
    room = Room.of(request.memory, network.device.type == "cpu", weights, one)
    return Subject(checkpoint, network, request.constant, room)


def _plain_predictions(module: torch.nn.Module, subject: Subject, images: Images, progress: Progress) -> np.ndarray:
    """Predicted classes of all images, int64 [N], by the plain module. Raises BadInput where logits are not finite."""
    out, pixels, step = [], images.pixels, subject.room.plain
    with torch.inference_mode():
        for i in range(0, len(pixels), step):
            logits = module(images.normalize(pixels[i : i + step].to(subject.device)))
            out.append((logits.unsqueeze(1) if logits.dim() == 1 else logits).cpu())
            progress("predicting with the intact model", min(i + step, len(pixels)) / len(pixels))
    found = torch.cat(out)
    check_finite(found)
    return predictions(found).numpy()


def _need_in_every_split(metric: Metric, images: Images) -> None:
    """Raises BadInput where the class of `recall:CLASS` is not in all three parts."""
    hit = images.labels == metric.class_index(images.class_names)
    lacking = [part for part in SPLITS if not hit[images.indices(part)].any()]
    if lacking:
        raise BadInput(
            f"--metric {metric}: no image of class {metric.argument!r} in the {' and '.join(lacking)} "
            f"split{'s' * (len(lacking) > 1)}; there are {int(hit.sum())} in all.",
            "Values, the choice of filters and the report each need images of their own: four or more in all.",
        )


def _attack(request: RepairRequest, read: _Read, intact: np.ndarray, progress: Progress) -> dict[str, AttackedSplit]:
    images, network = read.images, read.network
    request.attack.check_logits(network.classes)
    request.attack.check_images(images.shape)
    return attack_splits(
        read.module,
        images.dataset,
        {part: images.indices(part) for part in SPLITS},
        intact,
        request.attack,
        classes=max(network.classes, 2),
        seed=request.seed,
        most=request.attack_images or ATTACK_IMAGES,
        device=network.device,
        progress=progress,
    )


def _triggers_of(request: RepairRequest, given: Given) -> tuple[bool, bool]:
    """Whether a trigger is given as a patch, and as images that carry it."""
    return (given.trigger or request.trigger) is not None, (given.triggered or request.triggered) is not None


def _attack_images(request: RepairRequest, forwards: int, seconds: float) -> int:
    """Images attacked per split: fixed where the budget is, else what fits into a minute at the measured speed."""
    if request.budget is not None:
        return ATTACK_IMAGES
    passes = 3 * request.attack.steps * request.attack.restarts  # a backward costs about two forwards
    affordable = int(_ATTACK_SECONDS * forwards / seconds / passes / len(SPLITS))
    return min(max(affordable, 40), ATTACK_IMAGES)

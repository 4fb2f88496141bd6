"""The attack verb: one model under attack, and where its repair is given, the rows before and after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from repair_engine.case.preparing import FROM_FILES, Given, read_model, read_set
from repair_engine.data import SPLITS, Dataset, Splits
from repair_engine.documents.attack import AuditRecord, ShareRecord
from repair_engine.documents.attack_files import write_attacked, write_attacks
from repair_engine.documents.records import VictimRecord
from repair_engine.documents.repair import SCHEMA, instruction_set, versions
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.formats import Checkpoint
from repair_engine.pages import attack_page
from repair_engine.question.attacked import ATTACK_IMAGES, choose, generator_after
from repair_engine.question.request import RepairRequest
from repair_engine.question.surrogates import open_surrogates
from repair_engine.question.victims import AttackImages, BlackBox, Victim, black_box, counting, white_box
from repair_engine.studies import masking
from repair_engine.studies.attack_curves import Curves, forwards, measure_curves
from repair_engine.studies.attack_rows import Fixed, Row, describe_rows, measure_rows
from repair_engine.support.outputs import write_json
from repair_engine.support.progress import BATCH, Progress
from repair_engine.support.statistics import wilson

SUBSET = 100  # images for queries, curves and self-tests where nothing else is asked


@dataclass(frozen=True)
class Audit:
    """What was measured.

    Attributes:
        document: attack.json.
        rows: as in the document, with every image's predictions; without a repaired model the fixed set alone.
        images: those attacked, with the fixed set `fixed` [N, C, H, W] that PGD made of them.
    """

    document: AuditRecord
    dataset: Dataset
    images: AttackImages
    fixed: torch.Tensor
    rows: tuple[Row, ...]

    def write(self, out: Path) -> None:
        """attack.json, attack.html, attack.csv and attack.npz."""
        write_attacks(self.rows, self.dataset, out / "attack.csv", repaired="repaired" in self.document)
        write_attacked(self.images, self.fixed, self.dataset, out / "attack.npz")
        write_json(self.document, out / "attack.json")
        (out / "attack.html").write_text(attack_page.render(self.document), encoding="utf-8")


@dataclass(frozen=True)
class _Opened:
    """The model, its images, and which of them are attacked."""

    checkpoint: Checkpoint
    dataset: Dataset
    splits: Splits
    victim: Victim
    logits: int
    intact: np.ndarray
    picked: np.ndarray
    images: AttackImages
    generator: torch.Generator


def run(
    request: RepairRequest,
    repaired: str | Checkpoint | None,
    everything: bool,
    folder: Path,
    progress: Progress,
    repaired_name: str = "",
    given: Given = FROM_FILES,
) -> Audit:
    """Attacks the model, and with it the repaired one.

    Args:
        request: with metric attack-success; ε may be 0, which must change nothing.
        repaired: a checkpoint that `repair` made, or its path, or None.
        everything: all images instead of the report split.
        folder: for work; nothing there is kept.
        repaired_name: what the repaired file is called in the document; the path's own name by default.
        given: what need not be read.

    Raises:
        BadInput: anything about the models, the images or the options that cannot be used.
    """
    began, settings, seed = time.time(), request.attack, request.seed
    opened = _open(request, everything, folder, progress, given)
    victim, images, device = opened.victim, opened.images, opened.victim.device
    shape = tuple(opened.dataset.images.shape[1:])
    surrogates = open_surrogates(request.surrogates, opened.dataset.preprocessing, shape, opened.logits, device)
    mended = _repaired(repaired, opened)
    tick = counting(progress, "attacking the model", len(images))
    fixed = white_box(victim.logits, images, settings, opened.generator, device, tick)
    predicted = victim.predict(fixed)
    subset = images.spread(request.subset or SUBSET)
    few = images.subset(subset)
    clean = victim.predict(few.pixels)
    curves, black, checks = _self_tests(request, victim, few, predicted[subset], clean, None, progress)
    document: AuditRecord = {
        "schema": SCHEMA,
        "verb": "attack",
        "model": _describe_model(request.name_of("model"), opened.checkpoint, opened.logits),
        "data": {
            "file": request.name_of("data"),
            "sha256": opened.dataset.sha256,
            **({"split_folder": opened.dataset.split} if opened.dataset.split else {}),  # type: ignore[typeddict-item]
            "images": len(opened.dataset),
            "splits": {part: len(getattr(opened.splits, part)) for part in SPLITS},
            "group": request.group,
            "preprocessing": opened.dataset.preprocessing.to_json(),
            "notes": list(opened.dataset.notes),
        },
        "attack": {**settings.to_json(), "seed": seed},
        "images": {
            "part": "all" if everything else "report",
            "picked": len(opened.picked),
            "attacked": len(images),
            "left_out": len(opened.picked) - len(images),
            "subset": len(subset),
        },
        "figures": _figures(opened, predicted),
        "curves": curves.to_json(),
        "self_tests": [c.to_json("intact") for c in checks],
        "rows": [],
    }
    if black is not None:
        document["black_box"] = {
            "queries": request.queries,
            "queries_used": float(black.queries.mean()),
            **_shares(  # type: ignore[typeddict-item]
                {"success": few.success(black.predicted), "true_label": black.predicted == few.labels}
            ),
        }
    rows = [Row("replay", "the fixed set", images, predicted, predicted, "the intact model")]
    if mended is not None:
        twin = Victim("the repaired model", mended.module().to(device), victim.preprocessing, device)
        kept = Fixed(fixed, predicted, twin.predict(fixed))
        rows = measure_rows(
            victim, twin, images, kept, settings, surrogates, subset, request.queries, seed, progress, black
        )
        document["repaired"] = _describe_model(repaired_name or Path(str(repaired)).name, mended, opened.logits)
        document["rows"] = describe_rows(rows, seed, request.level)
        document["clean_after"] = _shares(
            {"accuracy": twin.predict(torch.from_numpy(np.array(opened.dataset.images[opened.picked])))
             == opened.dataset.labels[opened.picked]}
        )  # fmt: skip
        again = {row.kind: row for row in rows}
        found = BlackBox(again["black-box"].after, np.empty(0, np.int64)) if "black-box" in again else None
        curves, _, checks = _self_tests(
            request, twin, few, again["white-box"].after[subset], twin.predict(few.pixels), found, progress
        )
        document["curves_repaired"] = curves.to_json()
        document["self_tests"] += [c.to_json("repaired") for c in checks]
    document["warnings"] = _warnings(opened, document)
    document["run"] = {"seconds": round(time.time() - began, 1), "device": request.device, "seed": seed,
                       "threads": torch.get_num_threads(), "instruction_set": instruction_set()}  # fmt: skip
    document["versions"] = versions()
    return Audit(document, opened.dataset, images, fixed, tuple(rows))


def _open(request: RepairRequest, everything: bool, folder: Path, progress: Progress, given: Given) -> _Opened:
    checkpoint = given.model or read_model(request, folder, progress)
    _, read = read_set(request, checkpoint, folder, progress, given)
    dataset, splits = read.dataset, read.splits
    device, settings = torch.device(request.device), request.attack
    victim = Victim("the intact model", checkpoint.module().to(device), dataset.preprocessing, device)
    settings.check_images(dataset.images.shape[1:])
    logits = _count_logits(victim, dataset)
    checkpoint.architecture.check_logits(logits)
    settings.check_logits(logits)
    intact = _predict_all(victim, dataset, progress)
    parts = {"all": np.arange(len(dataset))} if everything else {part: getattr(splits, part) for part in SPLITS}
    most = request.attack_images or ATTACK_IMAGES
    chosen = choose(parts, dataset.labels, intact, settings, max(logits, 2), request.seed, most)
    last = list(parts)[-1]
    which = chosen.pop(last)
    images = AttackImages(
        which.usable,
        torch.from_numpy(np.array(dataset.images[which.usable])),
        dataset.labels[which.usable],
        which.targets,
        settings.targeted,
    )
    generator = generator_after(chosen, dataset.images.shape[1:], settings, request.seed)
    return _Opened(checkpoint, dataset, splits, victim, logits, intact, which.picked, images, generator)


def _predict_all(victim: Victim, dataset: Dataset, progress: Progress) -> np.ndarray:
    """Classes of all images, which may lie in a file, int64 [N]."""
    tick = counting(progress, "predicting with the intact model", len(dataset))
    out = []
    for i in range(0, len(dataset), BATCH):
        out.append(victim.predict(torch.from_numpy(np.array(dataset.images[i : i + BATCH]))))
        tick(len(out[-1]))
    return np.concatenate(out)


def _count_logits(victim: Victim, dataset: Dataset) -> int:
    with torch.inference_mode():
        example = torch.from_numpy(np.array(dataset.images[:2])).to(victim.device)
        found = victim.logits(victim.preprocessing.unit(example))
    return found.shape[1] if found.dim() > 1 else 1


def _repaired(repaired: str | Checkpoint | None, opened: _Opened) -> Checkpoint | None:
    if repaired is None:
        return None
    made_by = opened.checkpoint.architecture
    mended = repaired if isinstance(repaired, Checkpoint) else formats.read(repaired, made_by)
    if mended.sha256 == opened.checkpoint.sha256:
        raise BadInput("--repaired is the same file as --model.", "Give the checkpoint that repair wrote.")
    return mended


def _self_tests(
    request: RepairRequest,
    victim: Victim,
    images: AttackImages,
    white: np.ndarray,
    clean: np.ndarray,
    known: BlackBox | None,
    progress: Progress,
) -> tuple[Curves, BlackBox | None, list[masking.Check]]:
    """Curves, queries and self-tests on a subset; `white`: predictions under the attack as asked."""
    settings, seed = request.attack, request.seed + 1
    tick = counting(progress, f"curves of {victim.name}", len(images) * max(forwards(settings), 1))
    curves = measure_curves(victim, images, settings, white, seed, tick)
    checks = [masking.zero_equals_clean(curves, clean)]
    if settings.epsilon == 0:
        return curves, None, checks
    found = known
    if found is None and request.queries:
        tick = counting(progress, f"querying {victim.name}", len(images))
        found = black_box(victim, images, settings, request.queries, request.seed, tick)
    checks += [masking.grows_with_epsilon(curves), masking.grows_with_steps(curves)]
    if found is not None:
        checks.append(masking.black_box_is_not_better(images, white, found, request.queries))
    progress(f"self-tests on {victim.name}", 0.0)
    checks.append(masking.random_points_are_not_better(victim, images, white, settings, seed))
    checks.append(masking.unbounded_wins_all(victim, images, settings, seed))
    return curves, found, checks


def _figures(opened: _Opened, predicted: np.ndarray) -> dict[str, ShareRecord]:
    """Clean accuracy and accuracy under attack over all picked images; success and true label over the attacked."""
    images, labels = opened.images, opened.dataset.labels
    held = np.zeros(len(opened.picked), dtype=bool)  # what is not attacked is wrong already
    held[np.isin(opened.picked, images.indices)] = predicted == images.labels
    return _shares(
        {
            "clean_accuracy": (opened.intact == labels)[opened.picked],
            "accuracy_under_attack": held,
            "success": images.success(predicted),
            "true_label": predicted == images.labels,
        }
    )


def _shares(hits: dict[str, np.ndarray]) -> dict[str, ShareRecord]:
    out: dict[str, ShareRecord] = {}
    for name, hit in hits.items():
        interval = wilson(int(hit.sum()), len(hit))
        out[name] = {"value": interval.estimate, "lower": interval.lower, "upper": interval.upper, "n": len(hit)}
    return out


def _describe_model(file: str, checkpoint: Checkpoint, logits: int) -> VictimRecord:
    architecture = checkpoint.architecture
    return {
        "file": file,
        "sha256": checkpoint.sha256,
        "architecture": architecture.name,
        "num_classes": architecture.num_classes,
        "options": dict(architecture.options),
        "registered": architecture.register.get(architecture.name),
        "logits": logits,
    }


def _warnings(opened: _Opened, document: AuditRecord) -> list[str]:
    found: Sequence[str] = [*opened.dataset.warnings, *opened.splits.warnings]
    out = list(found)
    if document["figures"]["success"]["value"] == 0 and document["attack"]["epsilon"] > 0:
        out.append("The attack never succeeds: a larger ε or more steps would show whether it can.")
    return out

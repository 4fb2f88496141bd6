"""From a ranking to a repaired checkpoint and its report: plan, write, reload, measure."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repair_engine.case.case import SPLITS, Case
from repair_engine.choosing import controls
from repair_engine.choosing.afresh import afresh
from repair_engine.choosing.orders import plan_of
from repair_engine.choosing.outcomes import largest_drops
from repair_engine.choosing.plan import Plan, masked_predictions
from repair_engine.data import Holdout
from repair_engine.documents import measures
from repair_engine.documents import repair as documents
from repair_engine.documents.attack_files import write_attacks
from repair_engine.documents.attack_repair import measure_attack
from repair_engine.documents.filters import write_filters
from repair_engine.documents.predictions import predicted, write_guard_predictions, write_predictions
from repair_engine.errors import VerificationFailed
from repair_engine.models import formats, hf_models
from repair_engine.models.formats import Checkpoint
from repair_engine.network import predictions
from repair_engine.network.write_back import write_back
from repair_engine.onnx import comparable
from repair_engine.pages import repair_page as html
from repair_engine.question.objectives.pixels import Rows
from repair_engine.search.calibrate import LEAVE_ONE_OUT_SHARE
from repair_engine.search.phases import Ranking
from repair_engine.studies.attack_rows import Row
from repair_engine.support.outputs import HUGGING_FACE, publish, sha256
from repair_engine.support.progress import Progress
from repair_engine.support.scratch import scratch
from repair_engine.verbs.choices import keep
from repair_engine.verbs.compact import TENSORS, WIDTHS, load_module, write_compact
from repair_engine.verbs.verify import fresh_predictions, how_of, in_memory_predictions, judge_of

_MARGIN = 1e-3  # of the logits' scale: closer calls may fall either way with float32 rounding


@dataclass(frozen=True)
class Predictions:
    """Logits of one checkpoint in a fresh process, and the predicted classes.

    Attributes:
        logits: set name -> float32 [N, classes]; sets are "all", "guard" and "attack_<split>".
    """

    logits: dict[str, np.ndarray]

    def of(self, name: str) -> np.ndarray:
        return predictions(torch.from_numpy(self.logits[name])).numpy()

    @property
    def attacked(self) -> dict[str, np.ndarray]:
        return {part: self.of(f"attack_{part}") for part in SPLITS if f"attack_{part}" in self.logits}


def finish(case: Case, ranking: Ranking, run: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Chooses k on *select*, writes, verifies and reports on *report*.

    Args:
        run: how the estimate was obtained (`documents.describe_run`), for the record.
        out: folder for repaired.*, repair.json, report.json, report.html, predictions.csv, filters.csv, choice.npz and,
            after a search, values.npz.

    Returns:
        The report document (also in report.json); `outcome` is "repaired", "no_repair_found" or, of filters that were
        chosen by hand, "not_shown_to_help": a choice made by hand always gets its checkpoint.

    Raises:
        VerificationFailed: the written file does not reproduce the measured predictions.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan, ranking, orders = plan_of(case, ranking, run["budget"], progress)
    ranking, run = afresh(case, ranking, plan, run, progress)
    suffix = case.checkpoint.source.suffix
    sets = _image_sets(case)
    with scratch("finish") as folder:
        where = "" if case.checkpoint.held is not None else " in a fresh process"
        progress(f"checking the intact model{where}", 0.0)
        before = after = _predictions(case, case.checkpoint, Path(case.request.model), sets, case.request.weights)
        edited, made = case.checkpoint, folder / f"repaired{suffix}"
        if plan.k:
            progress(f"writing the repaired checkpoint and reloading it{where}", 0.0)
            tensors = write_back(
                case.checkpoint.tensors, case.network, case.biases, (int(p) for p in plan.chosen), case.request.constant
            )
            edited = case.checkpoint.edited(tensors)
            formats.write(edited, made)
            after = _predictions(case, edited, made, sets)
        agreement = _check_masked(case, plan, after)
        document = documents.report_document(case, ranking, plan, run)
        document["verification"] = agreement
        document["orders"] = orders
        _measure(case, plan, before, after, document)
        attacks: list[Row] = []
        if plan.k:
            _measure_controls(case, plan, before, after, document, run, progress)
            if case.attacked:
                fixed = before.attacked["report"], after.attacked["report"]
                attacks = measure_attack(case, edited, *fixed, run["budget"], document, progress)
        documents.judge(document)
        written = document["outcome"] != documents.NO_REPAIR
        if written and case.request.compact:
            progress(f"removing the culprits and measuring the compact network{where}", 0.0)
            document["compact"] = _compact(case, plan, before, after, sets, folder)
        staged = folder / "results"
        staged.mkdir()
        if written:
            document["files"] |= _place(case, made, staged)
        if document.get("compact", {}).get("written"):
            for role, name in (("compact", TENSORS), ("compact_widths", WIDTHS)):
                shutil.move(folder / name, staged / name)
                document["files"][role] = {"name": name, "sha256": sha256(staged / name)}
        b, a = predicted(before.logits["all"]), predicted(after.logits["all"])
        write_predictions(case, b, a, staged / "predictions.csv")
        if case.guard is not None:
            b, a = predicted(before.logits["guard"]), predicted(after.logits["guard"])
            write_guard_predictions(case, b, a, staged / "guard_predictions.csv")
        write_filters(case.network, ranking, plan.k, staged / "filters.csv")
        tables = {"predictions.csv": True, "guard_predictions.csv": case.guard is not None, "filters.csv": True}
        if attacks:
            write_attacks(attacks, case.dataset, staged / "attacks.csv", repaired=True)
        for name in [*(name for name, there in tables.items() if there), *(["attacks.csv"] if attacks else [])]:
            document["files"][name.removesuffix(".csv")] = {"name": name, "sha256": sha256(staged / name)}
        document["files"] |= keep(case, ranking, plan, staged)
        repair = documents.repair_document(document)
        (staged / "repair.json").write_text(json.dumps(repair, indent=1))
        (staged / "report.json").write_text(json.dumps(document, indent=1))
        (staged / "report.html").write_text(html.render(document), encoding="utf-8")
        publish(staged, out)
    return document


def _predictions(
    case: Case, checkpoint: Checkpoint, file: Path, sets: dict[str, np.ndarray], weights: str | None = None
) -> Predictions:
    """What a checkpoint says of the image sets: of a file in a fresh process, of a module in memory in this one."""
    device, preprocessing, step = case.request.device, case.dataset.preprocessing, case.room.plain
    if checkpoint.held is not None:
        return Predictions(in_memory_predictions(checkpoint.module(), preprocessing, sets, device, step))
    architecture = checkpoint.architecture
    return Predictions(fresh_predictions(file, architecture, preprocessing, sets, device, weights, at_once=step))


def _place(case: Case, written: Path, out: Path) -> dict[str, dict[str, str]]:
    """Moves the checkpoint to its place; a Hugging Face model into a folder with its own files, as they were."""
    if case.checkpoint.architecture.config is None:
        shutil.move(written, out / written.name)
        return {"checkpoint": {"name": written.name, "sha256": sha256(out / written.name)}}
    folder = out / HUGGING_FACE
    folder.mkdir(exist_ok=True)
    shutil.move(written, folder / hf_models.WEIGHTS)
    files = {"checkpoint": folder / hf_models.WEIGHTS}
    for role, name in hf_models.COPIED.items():
        source = Path(case.request.model).with_name(name)
        if source.is_file():
            files[role] = Path(shutil.copyfile(source, folder / name))
    return {role: {"name": f"{HUGGING_FACE}/{path.name}", "sha256": sha256(path)} for role, path in files.items()}


def _compact(
    case: Case, plan: Plan, before: Predictions, after: Predictions, sets: dict[str, np.ndarray], folder: Path
) -> dict[str, Any]:
    """Writes the compact export into `folder`, and its figures, measured in a fresh process."""
    document = write_compact(case, [int(p) for p in plan.chosen], folder).document
    if not document["written"]:
        return document
    try:
        found = _compact_predictions(case, folder / TENSORS, sets)
    except (RuntimeError, ValueError) as error:  # its own code fixes a width
        return document | {"written": False, "failed": str(error)}
    objective, report, labels = case.objective("report"), case.splits.report, case.dataset.labels
    document["report"] = measures.split_figures(case, found.of("all"), found.attacked)["report"]
    asked = [_objective_predictions(case, model) for model in (before, found)]
    document["gain"] = measures.gain(objective, asked[0], asked[1], case.request.seed, case.request.level)
    right = [(p.of("all") == labels)[report] for p in (before, found)]
    document["clean_change"] = measures.change_of_accuracy(
        right[0], right[1], labels[report], case.request.seed, case.request.level
    )
    document["against_repaired"] = {
        "images": len(case.dataset),
        "different_predictions": int((found.of("all") != after.of("all")).sum()),
        "largest_logit_difference": float(np.abs(found.logits["all"] - after.logits["all"]).max()),
    }
    return document


def _compact_predictions(case: Case, file: Path, sets: dict[str, np.ndarray]) -> Predictions:
    device, preprocessing, step = case.request.device, case.dataset.preprocessing, case.room.plain
    if case.checkpoint.held is not None:
        small = load_module(file, case.checkpoint.module())
        return Predictions(in_memory_predictions(small, preprocessing, sets, device, step))
    made_by = case.checkpoint.architecture
    return Predictions(fresh_predictions(file, made_by, preprocessing, sets, device, compact=True, at_once=step))


def _image_sets(case: Case) -> dict[str, np.ndarray]:
    sets = {"all": np.asarray(case.dataset.images)}
    if case.guard is not None:
        sets["guard"] = np.asarray(case.guard.images)
    sets |= {f"attack_{part}": attacked.pixels.numpy() for part, attacked in case.attacked.items()}
    return sets


def _check_masked(case: Case, plan: Plan, after: Predictions) -> dict[str, Any]:
    """Compares the reloaded file with the masked network that was valued, image by image."""
    coalition = np.ones((1, case.network.n_filters), dtype=bool)
    coalition[0, plan.chosen] = False
    masked = []
    step = case.room.plain
    for i in range(0, len(case.dataset), step):
        images = case.normalize(case.pixels[i : i + step].to(case.network.device))
        masked.append(case.network.masked_logits(images, coalition)[0].cpu())
    logits, reloaded = torch.cat(masked), torch.from_numpy(after.logits["all"])
    architecture = case.checkpoint.architecture
    logits = logits if architecture.plan is None else comparable(architecture.plan, logits)
    largest = float((logits - reloaded).abs().max())
    scale = float(reloaded.abs().max())
    differing = predictions(logits) != predictions(reloaded)
    margins = _margins(reloaded)
    firm = differing & (margins > _MARGIN * max(scale, 1e-6))
    if bool(firm.any()) or not bool(torch.isfinite(reloaded).all()):
        raise VerificationFailed(
            f"The reloaded checkpoint predicts {int(firm.sum())} of {len(logits)} images differently from the masked "
            f"network (largest logit difference {largest:.3g}); nothing was exported."
        )
    return {
        "images": len(logits),
        "different_predictions": int(differing.sum()),
        "largest_logit_difference": largest,
        "by": judge_of(case.checkpoint),
        "how": how_of(case.checkpoint),
    }


def _margins(logits: torch.Tensor) -> torch.Tensor:
    if logits.shape[1] == 1:
        return logits[:, 0].abs()
    top = logits.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _measure(case: Case, plan: Plan, before: Predictions, after: Predictions, document: dict[str, Any]) -> None:
    all_before, all_after = before.of("all"), after.of("all")
    document["before"] = measures.split_figures(case, all_before, before.attacked)
    document["after"] = measures.split_figures(case, all_after, after.attacked)
    if case.attacked and document["before"]["score"]["metric"] >= 1:
        document["warnings"].append(
            "The attack succeeds on all score images. With a smaller ε, values tell filters apart better."
        )
    objective = case.objective("report")
    b, a = _objective_predictions(case, before), _objective_predictions(case, after)
    document["gain"] = measures.gain(objective, b, a, case.request.seed, case.request.level)
    labels, report = case.dataset.labels, case.splits.report
    right = [(predicted == labels)[report] for predicted in (all_before, all_after)]
    document["clean_change"] = measures.change_of_accuracy(
        right[0], right[1], labels[report], case.request.seed, case.request.level
    )
    document["groups"] = measures.group_tables(case, all_before, all_after)
    if case.subgroups is not None:
        document["fairness"] = measures.fairness_of(case, all_before, all_after)
    document["images_right"] = {
        "before": int((all_before == labels)[report].sum()),
        "after": int((all_after == labels)[report].sum()),
        "n": len(report),
    }
    if case.guard is not None and case.guard_parts is not None:
        rows = case.guard_parts.report
        right = [(p.of("guard") == case.guard.labels)[rows] for p in (before, after)]
        document["guard"] = {
            "n": len(rows),
            "before": float(right[0].mean()),
            "after": float(right[1].mean()),
            "change": measures.change_of_accuracy(
                right[0], right[1], case.guard.labels[rows], case.request.seed, case.request.level
            ),
        }


def _objective_predictions(case: Case, of: Predictions) -> np.ndarray:
    if case.request.metric.attacked:
        return of.attacked["report"]
    return of.of("all")[case.objective_indices("report")]


def _measure_controls(
    case: Case, plan: Plan, before: Predictions, after: Predictions, document: dict[str, Any], run: dict[str, Any],
    progress: Progress,
) -> None:  # fmt: skip
    loo = int(np.clip(LEAVE_ONE_OUT_SHARE * run["budget"] / case.network.n_filters, 4, 128))
    picks = controls.rankings(case, plan.k, loo, progress)
    report, objective = case.splits.report, case.objective("report")
    mine = _objective_predictions(case, after)
    is_attack = case.request.metric.attacked
    rows = []
    for name, chosen in picks.items():
        clean = [masked_predictions(case, Rows(case.pixels, report), players) for players in chosen]
        if is_attack:
            asked = [masked_predictions(case, objective.pixels, players) for players in chosen]
        else:
            position = {int(index): i for i, index in enumerate(report)}
            where = [position[int(i)] for i in case.objective_indices("report")]
            asked = [c[where] for c in clean]
        values = [float(objective.value(a)) for a in asked]
        accuracy = [float((c == case.dataset.labels[report]).mean()) for c in clean]
        row = {
            "name": name,
            "metric": float(np.mean(values)),
            "accuracy": float(np.mean(accuracy)),
            "picks": len(chosen),
        }
        if len(chosen) > 1:
            row |= {
                "metric_range": [min(values), max(values)],
                "accuracy_range": [min(accuracy), max(accuracy)],
            }
        else:
            row["advantage"] = measures.gain(objective, asked[0], mine, case.request.seed, case.request.level)
        if name == "leave-one-out":
            row["note"] = f"ranked on {loo} score images"
        rows.append(row)
        progress("measuring the controls", len(rows) / (len(picks) + 1))
    rows.append(_logit_shift(case, before, mine))
    document["controls"] = rows


def _logit_shift(case: Case, before: Predictions, mine: np.ndarray) -> dict[str, Any]:
    """The cheapest rival: offsets found on *select* under the same limits, measured on *report*."""
    select, report, limits = case.splits.select, case.splits.report, case.request.limits
    labels = case.dataset.labels
    everything = torch.from_numpy(before.logits["all"])
    attack = case.request.metric.attacked
    objective = case.objective("select")
    searched = everything[torch.from_numpy(select)]
    n_clean = len(select)
    if attack:
        searched = torch.cat([searched, torch.from_numpy(before.logits["attack_select"])])
        rows = np.arange(n_clean, len(searched))
    else:
        position = {int(index): i for i, index in enumerate(select)}
        rows = np.array([position[int(i)] for i in case.objective_indices("select")])
    groups = [case.subgroups[i] for i in select] if case.subgroups else None
    right_before = before.of("all")[select] == labels[select]
    guard = _GuardLogits.of(case, before)

    def acceptable(predicted: np.ndarray, offsets: np.ndarray) -> bool:
        right = predicted[:n_clean] == labels[select]
        if right_before.mean() - right.mean() > limits.max_clean_drop + 1e-12:
            return False
        if guard and guard.accuracy("select", 0 * offsets) - guard.accuracy("select", offsets) > limits.max_clean_drop:
            return False
        if groups is None:
            return True
        return bool(largest_drops(np.stack([right_before, right]), groups)[1] <= limits.max_subgroup_drop + 1e-12)

    sign = -1.0 if attack else 1.0
    offsets, how = controls.logit_shift(searched, acceptable, lambda p: sign * float(objective.value(p[rows])))
    final = case.objective("report")
    clean = controls.shifted_predictions(everything[torch.from_numpy(report)], offsets)
    if attack:
        asked = controls.shifted_predictions(torch.from_numpy(before.logits["attack_report"]), offsets)
    else:
        asked = controls.shifted_predictions(everything[torch.from_numpy(case.objective_indices("report"))], offsets)
    return {
        "name": "logit shift",
        "metric": float(final.value(asked)),
        "accuracy": float((clean == labels[report]).mean()),
        **({"guard": guard.accuracy("report", offsets)} if guard else {}),
        "picks": 1,
        "advantage": measures.gain(final, asked, mine, case.request.seed, case.request.level),
        "note": how,
    }


@dataclass(frozen=True)
class _GuardLogits:
    """The intact model's logits of the guard set, with labels and parts."""

    logits: torch.Tensor
    labels: np.ndarray
    parts: Holdout

    @classmethod
    def of(cls, case: Case, before: Predictions) -> _GuardLogits | None:
        if case.guard is None or case.guard_parts is None:
            return None
        return cls(torch.from_numpy(before.logits["guard"]), case.guard.labels, case.guard_parts)

    def accuracy(self, part: str, offsets: np.ndarray) -> float:
        rows = getattr(self.parts, part)
        predicted = controls.shifted_predictions(self.logits[torch.from_numpy(rows)], offsets)
        return float((predicted == self.labels[rows]).mean())

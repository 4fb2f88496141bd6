"""From a ranking to a repaired checkpoint and its report: plan, write, reload, measure."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from repair_engine.case.case import Case
from repair_engine.choosing.afresh import afresh
from repair_engine.choosing.exam import Exam
from repair_engine.choosing.orders import plan_of
from repair_engine.choosing.plan import Plan
from repair_engine.data import SPLITS
from repair_engine.data.images import ImageSet
from repair_engine.documents import measures
from repair_engine.documents import repair as documents
from repair_engine.documents.attack_files import write_attacks
from repair_engine.documents.attack_repair import measure_attack
from repair_engine.documents.by_kind import by_kind
from repair_engine.documents.corruption import corruption_section, write_corrupted
from repair_engine.documents.filters import write_filters
from repair_engine.documents.forgetting import forgetting_section, write_probe
from repair_engine.documents.interactions import interactions_of
from repair_engine.documents.predictions import predicted, write_guard_predictions, write_predictions
from repair_engine.documents.rates import write_rates
from repair_engine.documents.records import Change, CompactRecord, RepairRecord, Verification
from repair_engine.documents.trigger import TriggerSection, trigger_section
from repair_engine.edits import rivals
from repair_engine.edits.records import ControlRow
from repair_engine.edits.workshop import Workshop
from repair_engine.errors import VerificationFailed
from repair_engine.models import formats, hf_models
from repair_engine.models.formats import Checkpoint
from repair_engine.network import predictions
from repair_engine.onnx import comparable
from repair_engine.pages import repair_page as html
from repair_engine.search.phases import Ranking
from repair_engine.search.records import RunRecord
from repair_engine.studies.attack_rows import Row
from repair_engine.support.outputs import HUGGING_FACE, listed, publish, write_json
from repair_engine.support.progress import Progress
from repair_engine.support.scratch import scratch
from repair_engine.verbs.choices import keep
from repair_engine.verbs.compact import TENSORS, WIDTHS, load_module, write_compact
from repair_engine.verbs.editing import edit_of, write_tuned
from repair_engine.verbs.verify import EDITED, MASKED, File, fresh_predictions, how_of, in_memory_predictions, judge_of

_MARGIN = 1e-3  # of the logits' scale: closer calls may fall either way with float32 rounding


@dataclass(frozen=True)
class Predictions:
    """Logits of one checkpoint in a fresh process, and the predicted classes.

    Attributes:
        logits: set name -> float32 [N, classes]; sets are "all", "guard", "attack_<split>" and
            "attack_known" (of a trigger that a reconstructed one stands for).
    """

    logits: dict[str, np.ndarray]

    def of(self, name: str) -> np.ndarray:
        return predictions(torch.from_numpy(self.logits[name])).numpy()

    @property
    def attacked(self) -> dict[str, np.ndarray]:
        return {part: self.of(f"attack_{part}") for part in SPLITS if f"attack_{part}" in self.logits}


def finish(case: Case, ranking: Ranking, run: RunRecord, out: Path, progress: Progress) -> RepairRecord:
    """Chooses k on *select*, writes, verifies and reports on *report*.

    Args:
        run: how the estimate was obtained (`documents.describe_run`), for the record.
        out: folder for repaired.*, repair.json, report.json, report.html, predictions.csv, filters.csv, choice.npz,
            after a search values.npz, and where something was tuned edit.safetensors.

    Returns:
        The report document (also in report.json); `outcome` is "repaired", "no_repair_found" or, of filters that were
        chosen by hand, "not_shown_to_help": a choice made by hand always gets its checkpoint.

    Raises:
        VerificationFailed: the written file does not reproduce the measured predictions.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan, ranking, orders = plan_of(case, ranking, run["budget"], progress)
    workshop = Workshop(case, plan, run["budget"], progress)
    edit = edit_of(workshop)
    plan = replace(plan, k=len(edit.ablated))
    ranking, run = afresh(case, ranking, plan, run, progress)
    suffix = case.subject.checkpoint.source.suffix
    sets = _image_sets(case)
    with scratch("finish") as folder:
        where = "" if case.subject.checkpoint.held is not None else " in a fresh process"
        edited, made = case.subject.checkpoint, folder / f"repaired{suffix}"
        if edit.used:
            progress("writing the repaired checkpoint", 0.0)
            edited = edited.edited(edit.tensors)
            formats.write(edited, made)
        progress(f"checking the intact {'and the repaired ' if edit.used else ''}model{where}", 0.0)
        before, after = _before_and_after(case, edited, made if edit.used else None, sets)
        agreement = _check_edited(case, edited, after) if edit.tuned else _check_masked(case, plan, after)
        document = documents.report_document(case, ranking, plan, run)
        document["verification"] = agreement
        document["orders"], document["edit"] = orders, edit.describe()
        if (kinds := by_kind(case, ranking, plan, progress)) is not None:
            document["by_kind"] = kinds
        if (together := interactions_of(case, plan.chosen, run["budget"], progress)) is not None:
            document["interactions"] = together
        _measure(case, plan, before, after, document)
        document["controls"] = _controls(case, workshop, edit.used, before, after, run["budget"], progress)
        if case.question.metric.triggered:
            document["trigger"] = _trigger(case, before, after if edit.used else None, document["controls"])
        if case.question.metric.corrupted:
            document["corruption"] = corruption_section(case, edited if edit.used else None, run["budget"], progress)
        if case.question.metric.forgets:
            document["forgetting"], probes = forgetting_section(
                case, workshop, edit.used, edit.tensors, (before.of("all"), after.of("all")), progress
            )
        attacks: list[Row] = []
        if edit.used and case.question.adversary:
            fixed = before.attacked["report"], after.attacked["report"]
            attacks = measure_attack(case, edited, *fixed, run["budget"], document["attack"], progress)
        documents.judge(document)
        written = document["outcome"] != documents.NO_REPAIR
        if written and case.settings.compact:
            progress(f"removing the culprits and measuring the compact network{where}", 0.0)
            document["compact"] = _compact(case, plan, before, after, sets, folder)
        staged = folder / "results"
        staged.mkdir()
        if written:
            document["files"] |= _place(case, made, staged) | write_tuned(edit, staged)
        if "compact" in document and document["compact"]["written"]:
            for name in (TENSORS, WIDTHS):
                shutil.move(folder / name, staged / name)
            document["files"] |= listed(staged, {"compact": TENSORS, "compact_widths": WIDTHS})
        tables = ["predictions"]
        b, a = predicted(before.logits["all"]), predicted(after.logits["all"])
        write_predictions(case, b, a, staged / "predictions.csv")
        if case.images.guard is not None:
            tables.append("guard_predictions")
            b, a = predicted(before.logits["guard"]), predicted(after.logits["guard"])
            write_guard_predictions(case.images.guard, b, a, staged / "guard_predictions.csv")
        if case.question.metric.corrupted:
            tables.append("corrupted")
            write_corrupted(case, before.attacked, after.attacked, staged / "corrupted.csv")
        if case.question.metric.forgets:
            tables.append("probe")
            write_probe(case, probes, staged / "probe.csv")
        if "rates" in (fairness := document.get("fairness", {})):
            tables.append("rates")
            write_rates(fairness["rates"], staged / "rates.csv")
        tables.append("filters")
        write_filters(case.subject.network, ranking, plan.k, staged / "filters.csv")
        if attacks:
            tables.append("attacks")
            write_attacks(attacks, case.images.dataset, staged / "attacks.csv", repaired=True)
        document["files"] |= listed(staged, {name: f"{name}.csv" for name in tables})
        document["files"] |= keep(case, ranking, plan, staged)
        write_json(documents.repair_document(document), staged / "repair.json")
        write_json(document, staged / "report.json")
        (staged / "report.html").write_text(html.render(document), encoding="utf-8")
        publish(staged, out)
    return document


def _before_and_after(
    case: Case, edited: Checkpoint, made: Path | None, sets: dict[str, np.ndarray]
) -> tuple[Predictions, Predictions]:
    """What the intact and the edited checkpoint say of the images; where no file was made, both are the intact one's.

    Files are loaded in a fresh process, modules in memory in this one.
    """
    device, preprocessing, step = case.settings.device, case.images.dataset.preprocessing, case.subject.room.plain
    intact = case.subject.checkpoint
    if intact.held is not None:
        models = [intact] if made is None else [intact, edited]
        found = [in_memory_predictions(one.module(), preprocessing, sets, device, step) for one in models]
    else:
        files = [File(Path(case.sources.model), case.sources.weights), *([] if made is None else [File(made)])]
        found = fresh_predictions(files, intact.architecture, preprocessing, sets, device, step)
    return Predictions(found[0]), Predictions(found[-1])


def _place(case: Case, written: Path, out: Path) -> dict[str, dict[str, str]]:
    """Moves the checkpoint to its place; a Hugging Face model into a folder with its own files, as they were."""
    if case.subject.checkpoint.architecture.config is None:
        shutil.move(written, out / written.name)
        return listed(out, {"checkpoint": written.name})
    folder = out / HUGGING_FACE
    folder.mkdir(exist_ok=True)
    shutil.move(written, folder / hf_models.WEIGHTS)
    files = {"checkpoint": folder / hf_models.WEIGHTS}
    for role, name in hf_models.COPIED.items():
        source = Path(case.sources.model).with_name(name)
        if source.is_file():
            files[role] = Path(shutil.copyfile(source, folder / name))
    return listed(out, {role: f"{HUGGING_FACE}/{path.name}" for role, path in files.items()})


def _compact(
    case: Case, plan: Plan, before: Predictions, after: Predictions, sets: dict[str, np.ndarray], folder: Path
) -> CompactRecord:
    """Writes the compact export into `folder`, and its figures, measured in a fresh process."""
    document = write_compact(case.subject, case.images, [int(p) for p in plan.chosen], folder).document
    if not document["written"]:
        return document
    try:
        found = _compact_predictions(case, folder / TENSORS, sets)
    except (RuntimeError, ValueError) as error:  # its own code fixes a width
        return document | {"written": False, "failed": str(error)}
    report = case.question.retained("report")
    document["report"] = measures.split_figures(case, found.of("all"), found.attacked)["report"]
    document["gain"] = _gain(case, before, found)
    document["clean_change"] = _clean_change(case, case.images, report, (before.of("all"), found.of("all")))
    document["against_repaired"] = {
        "images": len(case.images),
        "different_predictions": int((found.of("all") != after.of("all")).sum()),
        "largest_logit_difference": float(np.abs(found.logits["all"] - after.logits["all"]).max()),
    }
    return document


def _compact_predictions(case: Case, file: Path, sets: dict[str, np.ndarray]) -> Predictions:
    device, preprocessing, step = case.settings.device, case.images.dataset.preprocessing, case.subject.room.plain
    if case.subject.checkpoint.held is not None:
        small = load_module(file, case.subject.checkpoint.module())
        return Predictions(in_memory_predictions(small, preprocessing, sets, device, step))
    made_by = case.subject.checkpoint.architecture
    return Predictions(fresh_predictions([File(file, compact=True)], made_by, preprocessing, sets, device, step)[0])


def _image_sets(case: Case) -> dict[str, np.ndarray]:
    sets = {"all": np.asarray(case.images.dataset.images)}
    if case.images.guard is not None:
        sets["guard"] = np.asarray(case.images.guard.dataset.images)
    sets |= {f"attack_{part}": attacked.pixels.numpy() for part, attacked in case.question.attacked.items()}
    if case.question.known is not None:
        sets["attack_known"] = case.question.known.pixels.numpy()
    return sets


def _check_masked(case: Case, plan: Plan, after: Predictions) -> Verification:
    """Compares the reloaded file with the masked network that was valued, image by image."""
    coalition = np.ones((1, case.subject.network.n_filters), dtype=bool)
    coalition[0, plan.chosen] = False
    masked = []
    step = case.subject.room.plain
    for i in range(0, len(case.images), step):
        images = case.images.normalize(case.images.pixels[i : i + step].to(case.subject.device))
        masked.append(case.subject.network.masked_logits(images, coalition)[0].cpu())
    return _compared(case, torch.cat(masked), after, MASKED)


def _check_edited(case: Case, edited: Checkpoint, after: Predictions) -> Verification:
    """Compares the reloaded file with the edited model in memory, image by image."""
    sets, preprocessing = {"all": np.asarray(case.images.dataset.images)}, case.images.dataset.preprocessing
    step, device = case.subject.room.plain, case.settings.device
    found = in_memory_predictions(edited.module(), preprocessing, sets, device, step)
    return _compared(case, torch.from_numpy(found["all"]), after, EDITED)


def _compared(case: Case, logits: torch.Tensor, after: Predictions, against: str) -> Verification:
    reloaded, plan = torch.from_numpy(after.logits["all"]), case.subject.checkpoint.architecture.plan
    logits = logits if plan is None else comparable(plan, logits)
    largest = float((logits - reloaded).abs().max())
    scale = float(reloaded.abs().max())
    differing = predictions(logits) != predictions(reloaded)
    margins = _margins(reloaded)
    firm = differing & (margins > _MARGIN * max(scale, 1e-6))
    if bool(firm.any()) or not bool(torch.isfinite(reloaded).all()):
        raise VerificationFailed(
            f"The reloaded checkpoint predicts {int(firm.sum())} of {len(logits)} images differently from {against} "
            f"(largest logit difference {largest:.3g}); nothing was exported."
        )
    return {
        "images": len(logits),
        "different_predictions": int(differing.sum()),
        "largest_logit_difference": largest,
        "by": judge_of(case.subject.checkpoint),
        "how": how_of(case.subject.checkpoint, against),
    }


def _margins(logits: torch.Tensor) -> torch.Tensor:
    if logits.shape[1] == 1:
        return logits[:, 0].abs()
    top = logits.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _measure(case: Case, plan: Plan, before: Predictions, after: Predictions, document: RepairRecord) -> None:
    all_before, all_after = before.of("all"), after.of("all")
    document["before"] = measures.split_figures(case, all_before, before.attacked)
    document["after"] = measures.split_figures(case, all_after, after.attacked)
    if case.question.adversary and document["before"]["score"]["metric"] >= 1:
        document["warnings"].append(
            "The attack succeeds on all score images. With a smaller ε, values tell filters apart better."
        )
    document["gain"] = _gain(case, before, after)
    labels, report = case.images.labels, case.question.retained("report")
    document["clean_change"] = _clean_change(case, case.images, report, (all_before, all_after))
    document["groups"] = measures.group_tables(case, all_before, all_after)
    if case.question.subgroups is not None:
        document["fairness"] = measures.fairness_of(case, all_before, all_after)
    if (trusted := measures.calibration_of(case, before.logits["all"], after.logits["all"])) is not None:
        document["calibration"] = trusted
    document["images_right"] = {
        "before": int((all_before == labels)[report].sum()),
        "after": int((all_after == labels)[report].sum()),
        "n": len(report),
    }
    if (guard := case.images.guard) is not None:
        rows, both = guard.parts.report, (before.of("guard"), after.of("guard"))
        right = [(predicted == guard.labels)[rows] for predicted in both]
        document["guard"] = {
            "n": len(rows),
            "before": float(right[0].mean()),
            "after": float(right[1].mean()),
            "change": _clean_change(case, guard, rows, both),
        }


def _gain(case: Case, before: Predictions, after: Predictions) -> Change:
    """Of the metric on the report images."""
    b, a = (case.question.picked("report", model.of("all"), model.attacked) for model in (before, after))
    return measures.gain(case.question.objective("report"), b, a, case.settings.seed, case.settings.level)


def _clean_change(case: Case, images: ImageSet, rows: np.ndarray, predicted: Sequence[np.ndarray]) -> Change:
    """Of accuracy on some of the images, from predictions of all of them before and after, int64 [N] each."""
    b, a = ((one == images.labels)[rows] for one in predicted)
    return measures.change_of_accuracy(b, a, images.labels[rows], case.settings.seed, case.settings.level)


def _controls(
    case: Case, workshop: Workshop, used: str | None, before: Predictions, after: Predictions, budget: int,
    progress: Progress,
) -> list[ControlRow]:  # fmt: skip
    """What cheaper ways give (`rivals.rivals`)."""
    select, report, mine = (_of_part(case, *of) for of in ((before, "select"), (before, "report"), (after, "report")))
    seen = [{name: predictions(part).numpy() for name, part in logits.items()} for logits in (report, mine)]
    judge = rivals.Judge(Exam.of(case, "report"), seen[0], seen[1], case.settings.seed, case.settings.level)
    return rivals.rivals(workshop, used, judge, (select, report), budget, progress)


def _trigger(case: Case, before: Predictions, after: Predictions | None, controls: list[ControlRow]) -> TriggerSection:
    seen = [None if one is None else {name: one.of(name) for name in one.logits} for one in (before, after)]
    assert seen[0] is not None
    return trigger_section(case, seen[0], seen[1], controls)


def _of_part(case: Case, of: Predictions, part: str) -> dict[str, torch.Tensor]:
    """The logits of a split's images as an `Exam` has them: set -> float32 [N, classes]."""
    found = {"clean": of.logits["all"][case.images.indices(part)]}
    if case.question.rows(part) is None:
        found["attacked"] = of.logits[f"attack_{part}"]
    if case.images.guard is not None:
        found["guard"] = of.logits["guard"][getattr(case.images.guard.parts, part)]
    return {name: torch.from_numpy(logits) for name, logits in found.items()}

"""What a report says of a forget set, derived a second time: from predictions.csv, probe.csv, and the models.

By plain counts of the names in the files; the probes are fitted again where the models and the images are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from repair_engine.data import Dataset
from repair_engine.documents.forgetting import INTACT, REPAIRED, verdict_of
from repair_engine.edits.model import Model
from repair_engine.edits.probe import Probing
from repair_engine.network import Network
from repair_engine.network.tunable import Head
from repair_engine.support.progress import BATCH
from repair_engine.verbs.checks import Unchecked, Wrong
from repair_engine.verbs.opening import Model as Opened

PROBE = "probe.csv"
ROUNDING = 0.01  # of a probe's predictions: a fit on another processor may tip so many
_REPORTED = {"before": INTACT, "after": REPAIRED}
Rows = Sequence[Mapping[str, str]]
Told = tuple[str, float | None, float]  # what, as the report says it, as it comes again


def forgotten_of(document: Mapping[str, Any], labels: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Which images are of the forget set, bool [N]; None where nothing is to be forgotten.

    Args:
        labels, groups: the columns label and subgroup of predictions.csv, words [N].

    Raises:
        Wrong: the metric's name is of another class or group than its record.
    """
    of, name = document["metric"].get("forgetting"), str(document["metric"]["name"])
    if of is None:
        return None
    if name not in (f"forget:{of.get('of_class')}", f"forget:{of.get('column')}={of.get('value')}"):
        raise Wrong(f"The metric {name} is of another forget set than its record says.")
    return labels == of["of_class"] if "of_class" in of else groups == of["value"]


def forgetting_again(
    document: Mapping[str, Any], split: np.ndarray, labels: np.ndarray, mask: np.ndarray,
    predicted: Mapping[str, np.ndarray], probes: Rows,
) -> Iterator[Told]:  # fmt: skip
    """Every figure of `metric.forgetting` and `forgetting`, with what comes again, and the probe's verdict.

    Args:
        split, labels, mask: of all images, words, words and bool [N].
        predicted: "before" and "after" -> predicted classes, words [N].
        probes: of probe.csv.

    Raises:
        Wrong: the verdict does not follow, or a probe that is said to be the intact model's is another.
    """
    of, section = document["metric"]["forgetting"], document["forgetting"]
    for part in ("score", "select", "report", "all"):
        inside = np.ones(len(split), bool) if part == "all" else split == part
        yield f"images of the forget set, {part}", of["images"][part]["forget"], int((inside & mask).sum())
        yield f"images of the retain set, {part}", of["images"][part]["retain"], int((inside & ~mask).sum())
        kept = labels[inside & ~mask]
        guessed = [np.mean(kept == name) for name in labels[inside & mask]]
        yield f"chance level, {part}", of["chance"][part], float(np.mean(guessed))
    forgotten = (split == "report") & mask
    for row in section["called"]:
        for when, said in predicted.items():
            yield (
                f"forgotten images called {row['name']} {when}",
                row[when],
                int((said[forgotten] == row["name"]).sum()),
            )
    reference = of["chance"]["report"]
    for told in section["probe"]["rows"]:
        rows = [row for row in probes if row["features"] == told["name"]]
        for which in ("forget", "retain"):
            right = [row["predicted"] == row["label"] for row in rows if row["set"] == which]
            name = f"accuracy on the {which} set by the probe on {told['name']}"
            yield name, told[which]["value"], float(np.mean(right)) if right else float("nan")
            if (told["name"], which) == ("pixels", "forget"):
                reference = max(reference, float(np.mean(right)))
    if section["probe"]["rows"]:
        yield "what is found without the features", section["probe"]["reference"], reference
        _check_verdict(section["probe"], probes)


def _check_verdict(probe: Mapping[str, Any], probes: Rows) -> None:
    said: dict[str, list[str]] = {}
    for row in probes:
        said.setdefault(row["features"], []).append(row["predicted"])
    rows = {row["name"]: row for row in probe["rows"]}
    for name, row in rows.items():
        if row["same"] and said.get(name) != said.get(INTACT):
            raise Wrong(f"The probe on {name} is said to be the intact model's; {PROBE} has another.")
    mine = rows.get(REPAIRED)
    verdict = "" if mine is None else verdict_of(mine, rows[INTACT], probe["reference"])
    if verdict != probe["verdict"]:
        raise Wrong(f"The report's verdict on its probe is {probe['verdict']!r}; its rows give {verdict!r}.")


def probes_again(
    document: Mapping[str, Any],
    probes: Rows,
    rows: Rows,
    dataset: Dataset,
    models: Mapping[str, Opened],
    seed: int,
) -> str:
    """The probes on the intact and on the repaired model's features come again from the models and the images.

    Args:
        rows: of predictions.csv.
        models: "before" and "after" -> the model, as far as it is there.

    Raises:
        Wrong: a probe says other things.
        Unchecked: there was no probe.
    """
    if not document["forgetting"]["probe"]["rows"]:
        raise Unchecked("the report has no probe")
    parts = np.array([row["split"] for row in rows])
    probing = Probing.of(
        torch.from_numpy(np.array(dataset.images)), dataset.labels,
        {part: np.flatnonzero(parts == part) for part in ("score", "select", "report")}, len(dataset.class_names), seed,
    )  # fmt: skip
    report = [dataset.file_names[i] for i in probing.report]
    said = []
    for when, opened in models.items():
        told = [row for row in probes if row["features"] == _REPORTED[when]]
        if not told:
            continue
        if [row["file_name"] for row in told] != report:
            raise Wrong(f"{PROBE} lists other images than the report's.")
        found = probing.probe(_features(probing, opened, dataset.preprocessing.normalize)).predicted
        wrong = sum(row["predicted"] != dataset.class_names[c] for row, c in zip(told, found.tolist(), strict=True))
        if wrong > ROUNDING * len(told):
            raise Wrong(
                f"A probe on the {_REPORTED[when]}'s features says otherwise of {wrong:,} of {len(told):,} images than "
                f"{PROBE}."
            )
        said.append(f"{_REPORTED[when]}: {len(told) - wrong:,} of {len(told):,}")
    return f"What linear probes say comes again on {'; '.join(said)}"


def _features(
    probing: Probing, opened: Opened, normalize: Callable[[torch.Tensor], torch.Tensor]
) -> list[torch.Tensor]:
    checkpoint, device = opened.checkpoint, torch.device(opened.device)
    model = Model(checkpoint, device, normalize, BATCH)
    example = normalize(probing.pixels[:2].to(device))
    head = Network.capture(checkpoint.module().to(device), example, checkpoint.dtypes).tunable.head
    features = probing.features(model, checkpoint.tensors, head.weight) if isinstance(head, Head) else None
    if features is None:
        raise Wrong("The model's last layer reads no features that can be told.")
    return features

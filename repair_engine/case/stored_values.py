"""Values that `score` left in a file: a repair may start from them, for any of their objectives, without a search."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from repair_engine.case.case import Case
from repair_engine.errors import BadInput
from repair_engine.settings import forgets
from shapley import Estimate, Interval

FILE = "objectives.npz"
_ARRAYS = ("values", "std_errors", "lower", "upper")
_MADE_BY = f"`score --out DIR` leaves {FILE} in DIR; give that folder."


def write_values(case: Case, estimate: Estimate, path: Path) -> None:
    """`objectives` [M] and `filters` [n] by name; `values`, `std_errors`, `lower`, `upper` [M, n]; `samples` [n].

    And what `read_values` needs to know that they are about the same game.
    """
    best = {} if estimate.best is None else {"best": estimate.best, "best_spread": estimate.best_spread}
    header = {
        **_identity(case),
        "estimator": estimate.estimator,
        "interval": asdict(estimate.interval),
        "evaluations": estimate.evaluations,
        "rounds": estimate.rounds,
        "stopped": estimate.stopped,
        "depth": estimate.depth,
        "expected_overlap": estimate.expected_overlap,
    }
    np.savez_compressed(
        path,
        header=np.array(json.dumps(header)),
        objectives=np.array(case.question.names),
        filters=np.array([case.subject.network.filter_id(p) for p in range(case.subject.network.n_filters)]),
        constants=case.subject.network.constants.cpu().numpy(),
        samples=estimate.samples,
        **{name: getattr(estimate, name) for name in _ARRAYS},
        **best,  # type: ignore[arg-type]
    )


def objectives_in(given: str | Path) -> tuple[str, ...]:
    """Names of the objectives in a folder or file. Raises BadInput for what `score` has not written."""
    return tuple(str(name) for name in _arrays(given)["objectives"])


def stored_as(metric: str, names: Sequence[str]) -> str:
    """The stored objective that has a metric's values: of `forget:CLASS`, too, those of `recall:CLASS`.

    They are the same game. It is not so of a group, which has splits of its own.
    """
    kind, _, argument = metric.partition(":")
    recall = f"recall:{argument}"
    return recall if metric not in names and forgets(kind) and recall in names else metric


def read_values(given: str | Path, case: Case) -> Estimate:
    """The stored estimate of the case's metric, [1, n].

    Raises:
        BadInput: it is of another model, other images, another split or other constants, or of other objectives; or
            its samples say nothing about the metric.
    """
    arrays = _arrays(given)
    header, names = json.loads(str(arrays["header"])), [str(name) for name in arrays["objectives"]]
    own = _identity(case)
    for key, what in _SAYS.items():
        if header.get(key) != own[key]:
            raise BadInput(f"--values {given}: they are of {what}.", "Repeat the options that score was given.")
    if not np.array_equal(arrays["constants"], case.subject.network.constants.cpu().numpy()):
        raise BadInput(f"--values {given}: filters were ablated to other constants.", "Give the same --constant.")
    row = names.index(stored_as(str(case.settings.metric), names))
    if header["estimator"] != "exact" and not np.any(np.nan_to_num(arrays["values"][row])):
        raise BadInput(
            f"--values {given}: all values of {case.settings.metric} are 0. In so few samples no filter changed a "
            "prediction that it counts, so there is nothing to rank filters by.",
            "Give score a larger budget, or search for this metric by itself.",
        )
    primary = row == 0 and "best" in arrays
    return Estimate(
        **{name: arrays[name][row : row + 1] for name in _ARRAYS},
        samples=arrays["samples"],
        evaluations=header["evaluations"],
        rounds=header["rounds"],
        stopped=header["stopped"],
        estimator=header["estimator"],
        interval=Interval(**header["interval"]),
        certificate=None,
        depth=header["depth"],
        best=arrays["best"] if primary else None,
        best_spread=arrays["best_spread"] if primary else None,
        expected_overlap=header["expected_overlap"] if primary else None,
    )


_SAYS = {
    "model": "another model",
    "data": "another image set",
    "score": "another score split (--seed, --group and the columns decide it)",
    "preprocessing": "images that were preprocessed otherwise",
    "trigger": "another trigger, or one at another place",
    "corruption": "images that were corrupted otherwise",
}


def _identity(case: Case) -> dict[str, object]:
    score = hashlib.sha256(np.ascontiguousarray(case.images.splits.score, dtype=np.int64).tobytes()).hexdigest()
    asked = case.question.describe()
    trigger, corruption = asked.get("trigger"), asked.get("corruption")
    return {
        "model": case.subject.checkpoint.sha256,
        "data": case.images.dataset.identity,
        "score": score,
        "preprocessing": json.loads(json.dumps(case.images.dataset.preprocessing.to_json())),
        "trigger": None if trigger is None else [trigger["sha256"], trigger["at"], trigger["opacity"]],
        "corruption": None if corruption is None else corruption["sha256"]["score"],
    }


def _arrays(given: str | Path) -> dict[str, np.ndarray]:
    path = Path(given)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise BadInput(f"--values: there is no file {path}.", _MADE_BY)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        n, m = len(arrays["filters"]), len(arrays["objectives"])
        shapes = all(arrays[name].shape == (m, n) for name in _ARRAYS)
        if not shapes or arrays["samples"].shape != (n,) or not isinstance(json.loads(str(arrays["header"])), dict):
            raise ValueError("its arrays do not fit together")
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise BadInput(f"--values: {path} is no file of values: {error}.", _MADE_BY) from None
    return arrays

"""Repairs by the command line, recomputed by plain torch or onnxruntime in a process that knows nothing of the project.

python -m tests.repair_engine.outside.verified             # runs every case and writes docs/verified.md
python -m tests.repair_engine.outside.verified attack timm # these rows anew, the others as they are
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.repair_engine.outside.cases import CASES, EPSILON, Case
from tests.repair_engine.tiny import CLASSES

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "docs" / "verified.md"
ATTACK = ("--attack", "standard", "--epsilon", str(EPSILON), "--steps", "8", "--queries", "20", "--subset", "10")
NO_REPAIR = 5
HEAD = """# Repairs that were recomputed outside the project

Written by `python -m tests.repair_engine.outside.verified`; `make test-slow` runs the same
(`tests/repair_engine/outside/test_verified.py`) and fails on any difference.

For each row the command line repairs a checkpoint. Then another process, which imports torch, torchvision, Pillow and
numpy (onnxruntime for ONNX; timm or transformers where the row says so) and nothing of this project (it looks), reads
the image zip, the intact and the repaired file, predicts, and derives again:

- every line of `predictions.csv`; accuracy and the metric on every split, before and after;
- the change, McNemar's test and the bootstrap interval (from other draws: equal to within their error);
- recall, n, Wilson interval, test and Holm's adjustment of every class, subgroup and class within subgroup;
- keys, shapes, dtypes, and that no row but those that the report names has changed; that `apply --without all` gives
  the intact tensors back;
- the culprits' constants, as mean outputs of the intact module over the score images (where a hook can read them);
- under attack, from the stored adversarial images: that they lie within ε, that something was to be won, success before
  and after, and every line of `attacks.csv`.

`tests/repair_engine/outside/checker.py` is that process. Metric and accuracy below are those of the *report* images.
The networks of the first rows are small, trained within seconds, and carry a culprit that was put there
(`tests/repair_engine/outside/cases.py`); the last two are the samples' own.

"""
COLUMNS = (
    "metric",
    "format",
    "culprits ablated",
    "metric before → after",
    "accuracy before → after",
    "compared",
    "differences",
)


@dataclass(frozen=True)
class Outcome:
    """What a case gave: the report, and what the checker found."""

    case: Case
    report: dict[str, Any]
    checked: dict[str, Any]

    @property
    def row(self) -> tuple[str, ...]:
        figures = self.checked["figures"]
        moved = [f"{figures['before'][k]:.1%} → {figures['after'][k]:.1%}" for k in ("metric", "accuracy")]
        if self.report["outcome"] != "repaired":
            moved = [f"{figures['before'][k]:.1%}, no repair found" for k in ("metric", "accuracy")]
        ablated = [f"`{c['id']}`" for c in self.report["culprits"] if c["ablated"]]
        named = ", ".join(ablated[:3]) + (f" and {len(ablated) - 3} more" if len(ablated) > 3 else "")
        if self.report["outcome"] != "repaired":
            named = "none"
        what = self.case.metric.replace("_", r"\_")
        return (
            what,
            self.case.format,
            named,
            *moved,
            f"{self.checked['checks']:,}",
            str(len(self.checked["differences"])),
        )


def run(case: Case, folder: Path) -> Outcome:
    """Repairs, checks in another process, and gives what both said.

    Raises:
        RuntimeError: a command failed, or did not find what it must.
    """
    made, out = case.make(folder), folder / "out"
    attack = case.metric == "attack-success"
    model = ["--model", str(made.intact), *made.options]
    data = ["--data", str(made.data), "--seed", "0", *(ATTACK if attack else ())]
    how = ["--metric", case.metric, "--budget", str(case.budget), "--max-filters", "12", "--out", str(out)]
    _command("repair", *model, *data, *how, expected=0 if case.repaired else NO_REPAIR)
    written = undone = attacked = None
    if case.repaired:
        file = json.loads((out / "report.json").read_text())["files"]["checkpoint"]["name"]
        written = (out / file).parent if made.network == "transformers" else out / file
    if written and case.undone:
        undone = folder / f"undone{written.suffix}"
        _command("apply", *model, "--plan", str(out / "repair.json"), "--without", "all", "--out", str(undone))
    if attack:
        attacked = folder / "attacked"
        _command("attack", *model, *data, "--repaired", str(written), "--out", str(attacked), "--json")
    told = {
        "metric": case.metric, "columns": case.columns, "intact": str(made.intact), "network": made.network,
        "data": str(made.data), "out": str(out), "repaired": _text(written), "undone": _text(undone),
        "attacked": _text(attacked), "targeted": False, "epsilon": EPSILON, "classes": list(CLASSES),
        "num_classes": len(CLASSES), "channels": 1, "mean": [0.0], "std": [1.0], "activations": {}, "rounding": 0.0,
        **made.facts,
    }  # fmt: skip
    return Outcome(case, json.loads((out / "report.json").read_text()), check(told, folder))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _command(verb: str, *options: str, expected: int = 0) -> None:
    """The command line as its users run it. Raises RuntimeError where it ends otherwise than expected."""
    argv = [sys.executable, "-m", "repair_engine", verb, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    if done.returncode != expected:
        raise RuntimeError(f"{verb} ended with {done.returncode}, not {expected}.\n{done.stderr[-3000:]}")


def check(told: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs `checker.py` with nothing of the project on its path; its document."""
    (folder / "case.json").write_text(json.dumps(told))
    script = Path(__file__).with_name("checker.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-s", str(script), str(folder / "case.json")],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"The checker ended with {done.returncode}.\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def available(case: Case) -> bool:
    return not case.needs or importlib.util.find_spec(case.needs) is not None


def rows() -> dict[tuple[str, str], str]:
    """The table's lines by metric and format."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.is_file() else []
    cells = {line: line.strip("| ").split(" | ") for line in lines if line.startswith("| ")}
    return {(found[0], found[1]): line for line, found in cells.items() if found[0] not in (COLUMNS[0], "---")}


def write(outcomes: Sequence[Outcome]) -> None:
    """docs/verified.md with these rows made anew, in the order of the cases."""
    kept = rows() | {o.row[:2]: _line(o.row) for o in outcomes}
    lines = [kept[case.metric, case.format] for case in CASES if (case.metric, case.format) in kept]
    absent = [f"`{case.name}`" for case in CASES if (case.metric, case.format) not in kept]
    note = [f"\nNot run yet for this table: {', '.join(absent)}."] if absent else []
    TABLE.write_text(
        HEAD + "\n".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *lines, *note, ""]), encoding="utf-8"
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    wanted, wrong = sys.argv[1:], 0
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        if not available(case):
            print(f"{case.name}: {case.needs} is not installed; its row stays as it is", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="verified-") as folder:
            outcome = run(case, Path(folder))
        differences = [*outcome.checked["differences"], *outcome.checked["project"]]
        print(" | ".join(outcome.row), *differences, sep="\n  ", flush=True)
        wrong += len(differences)
        write([outcome])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

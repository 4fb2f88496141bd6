"""Results as the Python API gives them: the document of a verb, with what a person does with it.

They print in a terminal, show themselves in a notebook, give plain records or pandas frames, and save what the command
line writes. Their files lie in a temporary folder that goes when the result does.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from repair_engine.case.inspection import InspectRecord
from repair_engine.documents.attack import AuditRecord
from repair_engine.documents.compare import CompareRecord
from repair_engine.documents.explain import ExplainRecord
from repair_engine.documents.objectives import ScoreRecord
from repair_engine.documents.records import Change, EvaluateRecord, RepairRecord
from repair_engine.errors import BadInput
from repair_engine.models.formats import Checkpoint
from repair_engine.models.formats.checkpoint import loaded
from repair_engine.network.write_back import Edit, apply_edits
from repair_engine.pages import notebook, text
from repair_engine.pages.compare_wording import compare_text
from repair_engine.pages.explain_page import samples_of, shown
from repair_engine.pages.verify_text import verify_text
from repair_engine.support.outputs import check_folder, claimed, publish, replace
from repair_engine.support.scratch import scratch
from repair_engine.verbs.checks import VerifyRecord
from repair_engine.verbs.editing import read_tuned

Document = TypeVar("Document", bound=Mapping[str, Any])
Row = Mapping[str, Any]


class Result(Generic[Document]):
    """What a verb found.

    Attributes:
        document: as the verb's `--json` gives it; JSON-able.
    """

    _text: Callable[[Document], str]
    _html: Callable[[Document], str]

    def __init__(self, document: Document) -> None:
        self.document = document

    def records(self) -> list[Row]:
        """The rows of the result as the document has them."""
        raise NotImplementedError

    def table(self) -> list[Row]:
        """The rows with their main columns; plain numbers and texts."""
        return self.records()

    def frame(self) -> Any:
        """`table` as a pandas DataFrame. Raises BadInput: pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise BadInput("pandas is not installed.", "pip install pandas, or use table().") from error
        return pandas.DataFrame(self.table())

    @property
    def warnings(self) -> list[str]:
        """What is to be known before the figures are read."""
        return list(self.document["warnings"])

    def __str__(self) -> str:
        return type(self)._text(self.document)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {str(self).splitlines()[0]}>"

    def _repr_html_(self) -> str:
        return type(self)._html(self.document)


class Filed(Result[Document]):
    """A result with files.

    Args:
        stack: closes what holds the files' folder.
        folder: where they lie.
    """

    _document_file = ""  # where others have files of the same names, see `claimed`

    def __init__(self, document: Document, stack: ExitStack, folder: Path) -> None:
        super().__init__(document)
        self._folder = folder
        self._closed = weakref.finalize(self, stack.close)

    def save(self, folder: str | Path) -> Path:
        """Writes what the command line's `--out` gets into a folder, which is made; the folder.

        Raises:
            BadInput: it cannot be written to, or holds what must not be replaced (`claimed`).
        """
        out = Path(folder)
        with claimed(out, self._document_file):
            replace(self._folder, out)
        return out


class Scores(Filed[ScoreRecord]):
    """The value of every filter. `table`: unit, value, lower, upper, samples; the most harmful first."""

    _text, _html = staticmethod(text.score_text), staticmethod(notebook.scores)

    def records(self) -> list[Row]:
        return list(self.document["filters"])

    def table(self) -> list[Row]:
        sign = -1 if self.document["metric"]["goal"] == "lower" else 1
        rows = [
            {"unit": row["id"], **{key: row[key] for key in ("value", "lower", "upper", "samples")}}
            for row in self.records()
        ]
        return sorted(rows, key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0)))

    @property
    def objectives(self) -> list[Row]:
        """Of the metric and all further objectives (`also`): name, value of the whole network, lowest and highest."""
        return list(self.document["objectives"])


class Explanation(Filed[ExplainRecord]):
    """Which filters a metric is made of. `table`: unit, rank, value, lower, upper, samples; most critical first."""

    _text, _html = staticmethod(text.explain_text), staticmethod(notebook.explanation)
    _document_file = "explain.json"

    def records(self) -> list[Row]:
        return sorted(self.document["filters"], key=lambda row: row["rank"])

    def table(self) -> list[Row]:
        rows: list[Row] = []
        for row in sorted(self.document["filters"], key=lambda row: row["rank"]):
            value, lower, upper = shown(row)
            figures = {"value": value, "lower": lower, "upper": upper, "samples": samples_of(row)}
            rows.append({"unit": row["id"], "rank": row["rank"], **figures})
        return rows

    @property
    def curves(self) -> list[Row]:
        """Removal curves: end, ranking, ks, metric, accuracy."""
        return list(self.document["curves"]["rows"])


class Repaired(Filed[RepairRecord]):
    """A repair. `table`: unit, rank, value, lower, upper, samples, ablated.

    Args:
        checkpoint: the intact model.
    """

    _text, _html = staticmethod(text.repair_text), staticmethod(notebook.repair)
    _document_file = "repair.json"

    def __init__(self, document: RepairRecord, stack: ExitStack, folder: Path, checkpoint: Checkpoint) -> None:
        super().__init__(document, stack, folder)
        self._checkpoint = checkpoint
        self._module: torch.nn.Module | None = None

    def __bool__(self) -> bool:
        return self.repaired

    @property
    def repaired(self) -> bool:
        """An improvement within the limits was shown."""
        return bool(self.document["outcome"] == "repaired")

    @property
    def written(self) -> bool:
        """There is a checkpoint, which `module` is: also of filters chosen by hand that are not shown to help."""
        return "checkpoint" in self.document["files"]

    @property
    def units(self) -> tuple[str, ...]:
        """The filters that are ablated in `module`, in the order of removal; none where no repair was found."""
        return tuple(row["id"] for row in self.document["culprits"] if row["ablated"]) if self.written else ()

    @property
    def gain(self) -> Change:
        """Change of the metric on the report images: value, lower, upper, and the test."""
        return self.document["gain"].copy()

    @property
    def edited(self) -> Checkpoint:
        """The repaired model as data; the intact one where no repair was found."""
        if not self.written:
            return self._checkpoint
        rows = [row for row in self.document["culprits"] if row["ablated"]]
        edits = [Edit(**edit) for row in rows for edit in row["edits"]]
        tensors = apply_edits(self._checkpoint.tensors, edits) | read_tuned(self._folder, self.document["files"])
        edited = self._checkpoint.edited(tensors)
        return dataclasses.replace(edited, sha256=self.document["files"]["checkpoint"]["sha256"])

    @property
    def module(self) -> torch.nn.Module:
        """The repaired module, always the same one.

        Of a module in memory a copy with its dtypes, device and modes; of a file the plain module (float32, eval mode).
        """
        if self._module is None:
            edited = self.edited
            self._module = edited.module() if edited.held is None else loaded(edited.held, edited.tensors)
        return self._module

    def state_dict(self) -> Mapping[str, Any]:
        """Of `module`; loads into the original class."""
        return self.module.state_dict()

    def records(self) -> list[Row]:
        return list(self.document["culprits"])

    def table(self) -> list[Row]:
        keys = ("rank", "value", "lower", "upper", "samples", "ablated")
        return [{"unit": row["id"], **{key: row[key] for key in keys}} for row in self.records()]

    def save(self, folder: str | Path) -> Path:
        out = Path(folder)
        with claimed(out, self._document_file):
            check_folder(out, [])
            publish(self._folder, out)
        return out


class Attacked(Filed[AuditRecord]):
    """What adversaries achieve. `table`: what, value, lower, upper, n; with a repaired model before and after."""

    _text, _html = staticmethod(text.attack_text), staticmethod(notebook.attack)

    def records(self) -> list[Row]:
        return list(self.document["rows"])

    def table(self) -> list[Row]:
        if self.document["rows"]:
            rows = [row for row in self.document["rows"] if row["success"] is not None]
            return [
                {"row": row["name"], "before": row["before"]["success"], "after": row["success"], "n": row["n"]}
                for row in rows
            ]
        return [{"what": name, **figure} for name, figure in self.document["figures"].items()]


class Evaluation(Result[EvaluateRecord]):
    """The metric and clean accuracy by split. `table`: model, part, accuracy, metric."""

    _text, _html = staticmethod(text.evaluate_text), staticmethod(notebook.evaluation)

    def records(self) -> list[Row]:
        both = [("intact", self.document["figures"])]
        if "figures_ablated" in self.document:
            both.append(("ablated", self.document["figures_ablated"]))
        return [{"model": name, "part": part, **row} for name, figures in both for part, row in figures.items()]


class Inspection(Result[InspectRecord]):
    """Sites and filters of a model. `table`: name, filters, norm, activation."""

    _text, _html = staticmethod(text.inspect_text), staticmethod(notebook.inspection)

    def records(self) -> list[Row]:
        return list(self.document["sites"])


class Comparison(Filed[CompareRecord]):
    """Do two results hold the same filters responsible? `table`: overlaps of their ends."""

    _text, _html = staticmethod(compare_text), staticmethod(notebook.comparison)

    def records(self) -> list[Row]:
        return list(self.document["overlaps"])


class Verified(Result[VerifyRecord]):
    """Whether a finished repair holds. `table`: what was looked at."""

    _text, _html = staticmethod(verify_text), staticmethod(notebook.verified)

    def records(self) -> list[Row]:
        return list(self.document["checks"])

    @property
    def passed(self) -> bool:
        """What was checked holds."""
        return self.document["verdict"] == "passed"

    @property
    def warnings(self) -> list[str]:
        """What was not checked, and why."""
        return [f"{one['name']}: {one['text']}" for one in self.document["checks"] if one["verdict"] == "not checked"]


def in_a_folder(what: str) -> tuple[ExitStack, Path]:
    """A temporary folder that stays until the stack is closed."""
    stack = ExitStack()
    folder = stack.enter_context(scratch(what)) / "made"  # beside the scratch folder's lock
    folder.mkdir()
    return stack, folder


def place_of(result: Any) -> str:
    """The folder of a result, or of its files, for what reads them."""
    return str(result._folder) if isinstance(result, Filed) else str(result)

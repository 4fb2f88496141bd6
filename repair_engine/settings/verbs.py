"""What each verb takes, put together of groups; and the verbs of the command line, with the files that these name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from repair_engine.settings.answer import Edits, Explanation, Export, Limits, Report, Search
from repair_engine.settings.fields import MISSING, Settings, option
from repair_engine.settings.inputs import (
    AsJson,
    Device,
    Folder,
    ImagesFile,
    ImagesUpload,
    ModelFile,
    MoreFiles,
    Opened,
    SurrogateFiles,
)
from repair_engine.settings.question import (
    ATTACK,
    Ablation,
    Attacked,
    Corrupted,
    Corruption,
    Further,
    Pgd,
    Players,
    Question,
    Rows,
    Splits,
    Trigger,
)

_FILTERS = "SITE:CHANNEL,…"
_FINISHED = "the server goes on from a finished run (from) in its place"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Question, Splits, Ablation, Trigger, Corruption, Pgd, Attacked):
    """The metric of a checkpoint."""

    verb: ClassVar[str] = "evaluate"


@dataclass(frozen=True, kw_only=True)
class Score(Question, Further, Splits, Ablation, Search, Trigger, Corruption, Pgd, Attacked):
    """Values of all filters."""

    verb: ClassVar[str] = "score"


@dataclass(frozen=True, kw_only=True)
class Explain(Question, Splits, Ablation, Search, Explanation, Report, Trigger, Corruption, Pgd, Attacked):
    """Which filters a metric is made of."""

    verb: ClassVar[str] = "explain"


@dataclass(frozen=True, kw_only=True)
class Repair(
    Question, Splits, Limits, Edits, Search, Ablation, Report, Export, Trigger, Corruption, Corrupted, Pgd, Attacked,
    Rows,
):  # fmt: skip
    """Ablate the culprits, or edit the model in another way, and write a checkpoint if that is shown to help."""

    verb: ClassVar[str] = "repair"

    filters: tuple[str, ...] = option(
        (),
        "Ablate these, chosen by hand, in this order: no search.",
        label="Filters, chosen by hand",
        metavar=_FILTERS,
        commas=True,
        here=_FINISHED + ", which is known to have them",
    )

    def rules(self) -> None:
        if len(set(self.filters)) < len(self.filters):
            raise self.wrong("filters", f"A filter stands there twice: {', '.join(self.filters)}.")
        if self.filters and self.edit in ("biases", "head", "auto"):
            said = f"Filters are chosen by hand, and the edit {self.edit} need not ablate them."
            raise self.wrong("edit", said, "Take ablate, constants, culprits, ablate+biases or ablate+head.")


@dataclass(frozen=True, kw_only=True)
class Attack(Splits, Report, Pgd, Attacked, Rows):
    """What adversaries achieve against a checkpoint, and against its repair."""

    verb: ClassVar[str] = "attack"
    metric: ClassVar[str] = ATTACK
    zero: ClassVar[bool] = True  # which must change nothing

    all_images: bool = option(
        False,
        "Attack all images, not those of the report split alone. A repair has seen the score and the select images: "
        "for figures after it leave this out.",
        label="All images, not the report split alone",
    )


ASKED: dict[str, type[Settings]] = {kind.verb: kind for kind in (Repair, Explain, Score, Attack)}  # of the server, too


FOLLOWED: tuple[type[Settings], ...] = (
    Limits,
    Edits,
    Report,
    Rows,
)  # with the budget: what a repair that goes on may change


@dataclass(frozen=True, kw_only=True)
class Merging(AsJson, Folder):
    """What the verbs over results take."""


@dataclass(frozen=True, kw_only=True)
class Inspect(ModelFile, ImagesUpload, Players):
    """What a checkpoint holds."""

    data: str | None = option(None, "Check an image set against the model, too.", metavar="ZIP")


@dataclass(frozen=True, kw_only=True)
class ScoreHere(ModelFile, ImagesFile, MoreFiles, Score, Folder):
    """With its files: --out gets score.json, objectives.npz for `repair --values`, and estimate.json for `merge`."""


@dataclass(frozen=True, kw_only=True)
class ExplainHere(ModelFile, ImagesFile, MoreFiles, Explain, Folder):
    """With its files."""

    out: str = option("explained", "Folder for the results.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class RepairHere(ModelFile, ImagesFile, MoreFiles, Repair, SurrogateFiles, Folder):
    """With its files."""

    values: str | None = option(
        None,
        "Start from what score --out DIR found, for any of its metrics: no search; with --filters only the splits are "
        "as there.",
        metavar="DIR",
        here=_FINISHED,
    )
    out: str = option("out", "Folder for the results.", metavar="DIR")
    mlflow: str | None = option(
        None, "Log figures and report there, where mlflow is installed: a tracking server, or a folder.", metavar="URI",
        here="a server calls no address that a request names but a webhook's",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvaluateHere(ModelFile, ImagesFile, MoreFiles, Evaluate):
    """With its files."""

    ablate: tuple[str, ...] = option(
        (), "Filters to fix to their constant, without writing.", metavar=_FILTERS, commas=True
    )


@dataclass(frozen=True, kw_only=True)
class AttackHere(ModelFile, ImagesFile, Attack, SurrogateFiles, Folder):
    """With its files: --out gets attack.json, attack.html, attack.csv and attack.npz."""

    repaired: str | None = option(
        None,
        "The checkpoint that repair wrote: the rows before and after.",
        metavar="FILE",
        here="a file; the server takes the finished repair (repair)",
    )


@dataclass(frozen=True, kw_only=True)
class Compare(Merging):
    """Two results."""

    first: str = option(
        MISSING, "A folder that explain, score or repair wrote, or its JSON file.", metavar="A", positional=True
    )
    second: str = option(MISSING, "The other.", metavar="B", positional=True)


@dataclass(frozen=True, kw_only=True)
class GateHere(Merging):
    """Gates for a result: --out gets gate.json, summary.md and junit.xml."""

    report: str = option(MISSING, "A folder that a verb wrote, or its JSON file.", metavar="REPORT", positional=True)
    gates: str = option(
        MISSING,
        "Gates, in YAML or JSON (docs/ci.md).",
        metavar="FILE",
        here="a file; the server takes its text (POST /repairs/ID/gates/)",
    )


@dataclass(frozen=True, kw_only=True)
class Apply(ModelFile):
    """Another choice of a finished repair."""

    plan: str = option(MISSING, "The repair.json of a repair of this model.", metavar="FILE")
    without: tuple[str, ...] | None = option(
        None, "All that the repair ablated but these; or all.", metavar=_FILTERS, commas=True
    )
    filters: tuple[str, ...] | None = option(
        None, "These of its candidates, and no others.", metavar=_FILTERS, commas=True
    )
    out: str = option(MISSING, "The checkpoint to be written; must not exist yet.", metavar="FILE")

    def rules(self) -> None:
        if self.without is not None and self.filters is not None:
            raise self.wrong("filters", "It excludes --without: both choose filters.", "Leave one of them out.")


@dataclass(frozen=True, kw_only=True)
class Constants(ModelFile, ImagesFile, Splits, Players):
    """Sums of one party."""

    metric: str = option("accuracy", "As in `score`, whose splits it decides with.")
    out: str = option(MISSING, "Where the sums go, such as sums.npz.", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class Verify(ImagesUpload, Opened, Device, AsJson):
    """A finished repair, checked by whoever got it."""

    repair: str = option(
        MISSING, "The folder that repair wrote, or the unpacked download of one.", metavar="REPAIR", positional=True
    )
    model: str | None = option(
        None, "The original model: the repair is made again from it, byte for byte.", metavar="FILE",
        here="for whoever has the files; the server has checked its own",
    )  # fmt: skip
    data: str | None = option(
        None, "The images: every prediction is made again from the files.", metavar="ZIP",
        here="for whoever has the files; the server has checked its own",
    )  # fmt: skip
    key: str | None = option(
        None, "A server's public keys: whether its receipt (receipt.json) is signed by one of them.", metavar="FILE",
        here="for whoever has the files; the server tells its keys at /.well-known/neuron-repair-keys.json",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ConstantsMerge(AsJson):
    """Sums of several parties."""

    sums: tuple[str, ...] = option(MISSING, "Files that `constants` wrote.", metavar="SUMS", positional=True)
    out: str = option(MISSING, "For `score --constants FILE`.", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class Merge(Merging):
    """Estimates of several parties."""

    estimates: tuple[str, ...] = option(MISSING, "Folders that `score --out` wrote.", metavar="DIR", positional=True)


COMMANDS: dict[str, tuple[type[Settings], str]] = {
    "inspect": (Inspect, "what a checkpoint holds: sites, filters, what is not a player"),
    "score": (ScoreHere, "Shapley values of all filters for a metric"),
    "explain": (ExplainHere, "which filters a metric is made of: values, removal curves, pictures"),
    "compare": (Compare, "do two results hold the same filters responsible?"),
    "gate": (GateHere, "does a result pass a file of gates? Exit code 1: no"),
    "repair": (RepairHere, "ablate the culprits and write the repaired checkpoint and its report"),
    "evaluate": (EvaluateHere, "the metric of a checkpoint, optionally with filters ablated"),
    "attack": (AttackHere, "what adversaries achieve against a checkpoint, and against its repair"),
    "apply": (Apply, "a checkpoint with other filters of a repair's list ablated, or none: undo"),
    "verify": (Verify, "does a repair's report hold? Its files, its figures, and the repair made again"),
    "constants": (Constants, "sums of the filters' outputs, from which several parties make common constants"),
    "constants merge": (ConstantsMerge, "common mean constants from the parties' sums"),
    "merge": (Merge, "the parties' estimates as one, over all their images"),
}

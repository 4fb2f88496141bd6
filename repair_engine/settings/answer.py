"""How it is answered: the search, what a repair may cost, what is shown. In groups; `verbs` puts them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repair_engine.errors import BadInput
from repair_engine.settings.fields import Settings, option
from repair_engine.support.memory import parse_memory

EFFORTS = {"quick": 5.0, "thorough": 30.0, "overnight": 480.0}  # minutes
MOST_PICTURED = 50  # filters from each end: the page embeds ten images of each


def quality_of(text: str) -> tuple[int, float]:
    """K and the overlap of `K,OVERLAP`. Raises BadInput."""
    try:
        k, overlap = text.split(",")
        found = int(k), float(overlap)
    except ValueError:
        raise BadInput(f"{text!r} is not K,OVERLAP.", "For example 50,0.9.", "quality") from None
    if found[0] < 1:
        raise BadInput(f"{text!r}: K counts filters, at least one.", "For example 50,0.9.", "quality")
    if not 0 < found[1] < 1:
        raise BadInput(f"{text!r} asks for an overlap of {found[1]:g}; it lies between 0 and 1.", "", "quality")
    return found


@dataclass(frozen=True, kw_only=True)
class Sampling(Settings):
    """How filters are valued."""

    estimator: Literal["fast", "tmab", "monte_carlo", "cmcs", "exact"] = option(
        "fast", label="Estimator",
        words={
            "fast": "fast: gradients screen, comparable marginal contributions decide",
            "tmab": "tmab: the truncated bandit of the paper",
            "monte_carlo": "monte_carlo: permutations",
            "cmcs": "cmcs: comparable marginal contributions of all filters",
            "exact": "exact: enumeration, at most 20 filters",
        },
        help="How filters are valued.",
    )  # fmt: skip
    top_k: int = option(
        20, label="Culprits to tell apart", low=1, served=(1, 10_000), metavar="K",
        help="Filters to tell from the rest; tmab stops when these are clear.",
    )  # fmt: skip
    side: Literal["top", "bottom", "both"] | None = option(
        None, label="End of the values", blank="where culprits are",
        help="At which end of the values culprits are looked for. Default: where they are.",
    )  # fmt: skip
    budget: int | None = option(
        None, label="Budget, evaluations", low=1, served=(1_000, 10**12), metavar="EVALUATIONS",
        help="Evaluations: images × coalitions. Default: a short calibration chooses one that ends in about five "
        "minutes.",
    )  # fmt: skip
    minutes: float | None = option(
        None, label="Minutes", low=0, open=True, served=(0.1, 10_000), metavar="M",
        help="In the place of a budget: one that ends within so many minutes on one worker. A budget repeats a "
        "result, minutes do not.",
    )  # fmt: skip
    effort: Literal["quick", "thorough", "overnight"] | None = option(
        None, label="Effort",
        words={
            "quick": "quick look: about 5 minutes",
            "thorough": "thorough: about half an hour",
            "overnight": "overnight: about 8 hours",
        },
        help="In the place of minutes: quick (5), thorough (30) or overnight (480).",
    )  # fmt: skip
    precision: Literal["float32", "bfloat16"] = option(
        "float32", label="The search computes in",
        words={"float32": "float32", "bfloat16": "bfloat16 where it agrees: faster on newer processors"},
        help="Of the search: bfloat16 is faster where the processor has it, and is given up where its predictions "
        "differ. What is reported is float32 always.",
    )  # fmt: skip
    batch_size: int | None = option(
        None, label="Images per draw", low=1, served=(1, 4096), metavar="IMAGES",
        help="Images per draw. Default: chosen so that the budget buys enough draws.",
    )  # fmt: skip
    depth: int | None = option(
        None, label="Depth", low=1, metavar="N",
        help="Most filters removed in a draw. Default: learned from the first walks.",
    )  # fmt: skip

    def rules(self) -> None:
        if self.depth is not None and self.estimator == "exact":
            raise self.wrong(
                "depth", "It limits what is sampled; the estimator exact samples nothing.", "Leave one out."
            )
        if self.minutes is not None and self.budget is not None:
            said = "Minutes and a budget exclude each other."
            raise self.wrong("minutes", said, "A budget repeats a result, minutes do not.")
        if self.effort is not None and (self.minutes is not None or self.budget is not None):
            said = "An effort stands for minutes; it excludes minutes and a budget."
            raise self.wrong("effort", said, "Leave the others out.")

    @property
    def wanted_minutes(self) -> float:
        """That a run may take where no budget says it: as asked, else those of a quick look."""
        return self.minutes if self.minutes is not None else EFFORTS[self.effort or "quick"]


@dataclass(frozen=True, kw_only=True)
class Search(Sampling):
    """How filters are valued, as it is asked for."""

    quality: str | None = option(
        None, label="Quality", metavar="K,OVERLAP", length=40,
        help="K,OVERLAP such as 50,0.9, of the estimator fast: stop when it expects this share of the true top "
        "(bottom) K found, at the latest at the budget.",
    )  # fmt: skip
    memory: str | None = option(
        None, label="Memory", metavar="SIZE", length=20,
        help="That the run may take, such as 2G or 1500M. Default: 2G on a CPU, on a GPU a quarter of its memory. "
        "Changes no figure.",
    )  # fmt: skip

    def rules(self) -> None:
        if self.memory is not None:
            parse_memory(self.memory)
        if self.quality is None:
            return
        quality_of(self.quality)
        if self.estimator != "fast":
            raise self.wrong("quality", "It is known to the estimator fast only.", "Leave the estimator out.")


@dataclass(frozen=True, kw_only=True)
class Limits(Settings):
    """What a repair may cost."""

    max_clean_drop: float = option(
        0.02, label="Clean accuracy may fall by", low=0, high=1, unit="share", metavar="X",
        help="How far clean accuracy may fall, on the select images and on the guard set. Where something is to be "
        "forgotten, that is accuracy on all other images.",
    )  # fmt: skip
    max_subgroup_drop: float = option(
        0.10, label="Any subgroup may fall by", low=0, high=1, unit="share", metavar="X",
        help="How far the recall of any subgroup may fall. Subgroups of fewer than 30 images do not count.",
    )  # fmt: skip
    max_filters: int = option(
        50, label="Filters, at most", low=1, served=(1, 10_000), metavar="N",
        help="The longest list of culprits that is tried.",
    )  # fmt: skip
    choose: Literal["best", "one-se"] = option(
        "best", label="How many of them",
        words={"best": "the number with the best figure", "one-se": "the fewest within one standard error of the best"},
        help="How many filters, of those within the limits: the best figure on the select images, or the fewest "
        "within one standard error of it.",
    )  # fmt: skip
    goal: Literal["mean", "worst-group", "gap", "equalized-odds"] = option(
        "mean", label="Chosen and judged by",
        words={
            "mean": "the metric",
            "worst-group": "the recall of the worst subgroup",
            "gap": "the gap between the best and the worst subgroup",
            "equalized-odds": "equalized odds: the largest difference in a rate",
        },
        help="What the repair is chosen by on the select images and judged by on the report images: the metric; or, of "
        "subgroup-recall, the recall of the worst subgroup (worst-group), the gap between the best and the worst one "
        "(gap), or over all classes the largest difference between subgroups in a true or false positive rate "
        "(equalized-odds). Subgroups, and rates, of fewer than 30 images do not count. Filters are valued by the "
        "metric in any case.",
    )  # fmt: skip
    order: Literal["auto", "value"] = option(
        "auto", label="Order of removal",
        words={
            "auto": "by value, stepwise and by gates: the best one on the select images", "value": "by value alone",
        },
        help="Order of removal: by value alone, or also by value over its standard error, stepwise, where candidates "
        "are scored again after each removal, and by learned gates, for up to 1.3 times the budget in addition; "
        "whichever does best on the select images (auto).",
    )  # fmt: skip

    def rules(self) -> None:
        metric = str(getattr(self, "metric", ""))
        if self.goal != "mean" and metric and not metric.startswith("subgroup-recall:"):
            raise self.wrong("goal", f"{metric} has no subgroups.", "Ask for subgroup-recall:COLUMN, or leave it out.")


@dataclass(frozen=True, kw_only=True)
class Edits(Settings):
    """What a repair changes."""

    edit: Literal[
        "ablate", "constants", "culprits", "biases", "head", "ablate+biases", "ablate+head", "auto"
    ] = option(
        "ablate", label="Edit",
        words={
            "ablate": "culprits ablated, as in the paper",
            "constants": "culprits ablated, their constants tuned",
            "culprits": "the culprits' own weights retrained",
            "biases": "biases and norms tuned",
            "head": "the last layer refitted",
            "ablate+biases": "culprits ablated, then biases and norms tuned",
            "ablate+head": "culprits ablated, then the last layer refitted",
            "auto": "the smallest of these that is as good as the best on the select images",
        },
        help="What the repair changes. All but ablate learn from the score images, are chosen on the select images "
        "under the same limits, for up to 10% of the budget each in addition, and keep keys, shapes and dtypes.",
    )  # fmt: skip

    def rules(self) -> None:
        if self.edit != "ablate" and getattr(self, "compact", False):
            said = "The compact export leaves out what ablation made constant; it is not made of a tuned network."
            raise self.wrong("edit", said, "Leave one of the two out.")


@dataclass(frozen=True, kw_only=True)
class Export(Settings):
    """What else is written."""

    compact: bool = option(
        False, label="Also write a compact network",
        help="Also write the network without the culprits' channels, where they can be removed: smaller, not equal "
        "to the repaired checkpoint, and measured by itself.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Report(Settings):
    """How what was measured is reported."""

    level: float = option(
        0.95, label="Level of intervals", low=0.5, high=1, open=True, metavar="SHARE",
        help="Of the report's intervals of changes, by a paired bootstrap; that of the gain decides whether it is "
        "shown. Intervals of single rates are of 95%.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Explanation(Settings):
    """What an explanation shows beside the values."""

    remove: int = option(
        50, label="Filters removed, at most", low=1, served=(1, 10_000), metavar="N",
        help="Filters removed, at most, on the curves from the most critical end; from the other end at least half "
        "of all are.",
    )  # fmt: skip
    draws: int = option(
        5, label="Random orders", low=2, served=(2, 100), flag="--random-draws", metavar="N",
        help="Random orders of removal; a band needs two.",
    )  # fmt: skip
    curve_images: int | None = option(
        None, label="Images of the curves, at most", low=1, metavar="N",
        help="Report images on which the curves are measured, at most. Default: by the budget.",
    )  # fmt: skip
    pictures: int = option(
        6, label="Filters shown by images", low=0, high=MOST_PICTURED, metavar="N",
        help="Filters from each end that are shown by their most extreme score images; 0: none.",
    )  # fmt: skip
    visualize: int = option(
        2, label="Filters with an image made for them", low=0, high=MOST_PICTURED, metavar="N",
        help="Filters from each end for which an image is optimized; 0: none.",
    )  # fmt: skip

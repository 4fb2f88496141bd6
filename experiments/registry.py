"""All experiments, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from experiments.common import Options, Result, Say


@dataclass(frozen=True)
class Experiment:
    """One row of the list.

    Attributes:
        module: with `run`; imported when it is asked for.
        network: that it is run on, a name of `benchmarks.sources.SOURCES`; several with commas between.
        paper: the figure or section that it stands beside.
        budget: evaluations of each estimate, by default.
        images: most report images of a curve, by default.
    """

    name: str
    module: str
    network: str
    title: str
    paper: str
    budget: int
    images: int

    @property
    def run(self) -> Callable[[Options, Say], Result]:
        found: Callable[[Options, Say], Result] = import_module(f"experiments.{self.module}").run
        return found


_THREE = "resnet8,resnet20,squeezenet1_0"
_ROWS = (
    ("critical", "critical", "resnet20", "Critical filters of ResNet-20", "§4 and Fig. 4b, 4c", 200_000, 500),
    ("critical-small", "critical", "resnet8", "Critical filters of ResNet-8", "§4 and Fig. 4b, 4c", 100_000, 400),
    ("critical-imagenet", "critical", "squeezenet1_0-128px", "Critical filters of SqueezeNet", "§4", 60_000, 125),
    ("classes", "classes", "resnet8", "Class-specific critical filters", "§4 and Fig. 2", 100_000, 300),
    ("subgroup", "subgroup", "catdog", "Repair for subgroups with a guard set", "§4 and Fig. 3a", 150_000, 200),
    ("adversarial", "adversarial", "resnet8", "Filters that an adversary uses", "§4 and Fig. 3b", 100_000, 300),
    ("adversarial-curve", "adversarial_curve", "resnet8", "Repairs against an attack", "§4 and Fig. 3b", 30_000, 300),
    ("dropout", "dropout", "fashion", "The dropout effect", "§4 and Fig. 4", 40_000, 500),
    ("dropout-cifar", "dropout", "resnet8", "The dropout effect on ResNet-8", "§4 and Fig. 4", 100_000, 500),
    ("truncation", "truncation", _THREE, "Early truncation", "appendix B, Fig. 5", 60_000, 100),
    ("efficiency", "efficiency", "fashion", "Sample efficiency of TMAB", "appendix E, Fig. 8", 500_000, 1),
)
EXPERIMENTS = {row[0]: Experiment(*row) for row in _ROWS}

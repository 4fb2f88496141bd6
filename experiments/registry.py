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
        paper: the figure or section that it stands beside.
        budget: evaluations of each estimate, by default.
        images: most report images of a curve, by default.
    """

    name: str
    title: str
    paper: str
    budget: int
    images: int

    @property
    def run(self) -> Callable[[Options, Say], Result]:
        found: Callable[[Options, Say], Result] = import_module(f"experiments.{self.name}").run
        return found


EXPERIMENTS = {e.name: e for e in (Experiment("critical", "Critical filters", "§4 and Fig. 4b, 4c", 150_000, 400),)}

"""A repair's figures in MLflow, where that is installed and asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repair_engine.documents.repair import of_goal
from repair_engine.errors import BadInput
from repair_engine.support.outputs import sha256

EXPERIMENT = "neuron-repair"
FILES = ("report.html", "report.json", "repair.json")
FIGURES = ("before", "after", "gain", "k")
_LONGEST = 500  # characters of a parameter


@dataclass(frozen=True)
class Tracking:
    """Where figures go; it was reached.

    Attributes:
        client: mlflow's MlflowClient.
    """

    client: Any
    experiment: str

    @classmethod
    def at(cls, uri: str) -> Tracking:
        """Of a tracking server, or a folder.

        Raises:
            BadInput: mlflow is not installed, or nothing of the kind is there.
        """
        if find_spec("mlflow") is None:
            raise BadInput("MLflow is not installed.", "pip install mlflow-skinny, or leave --mlflow out.", "mlflow")
        from mlflow import MlflowClient

        try:
            client = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(EXPERIMENT)
            return cls(client, found.experiment_id if found else client.create_experiment(EXPERIMENT))
        except Exception as error:  # of its own, of requests, of the file system: whatever the address leads to
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(
                f"MLflow cannot log to {uri}: {said}", "Name a tracking server or a folder.", "mlflow"
            ) from None

    def log(self, name: str, asked: Mapping[str, Any], document: Mapping[str, Any], folder: Path) -> str:
        """One run: what was asked as parameters, the figures as metrics, the report as artifacts. Its id.

        Args:
            name: of the run.
            document: the repair's report.
            folder: where its files are.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        figures = {key: document[key] for key in FIGURES if key in document} | of_goal(document)
        metrics = [Metric(key, value, now, 0) for key, value in flat(figures)]
        params = [Param(key, str(value)[:_LONGEST]) for key, value in asked.items()]
        tags = {"outcome": document["outcome"], "model.sha256": document["model"]["sha256"],
                "data.sha256": document["data"]["sha256"], "report.sha256": sha256(folder / "report.json")}  # fmt: skip
        run = self.client.create_run(self.experiment, run_name=name).info.run_id
        self.client.log_batch(run, metrics, params, [RunTag(key, value) for key, value in tags.items()])
        for file in FILES:
            if (folder / file).is_file():
                self.client.log_artifact(run, str(folder / file))
        self.client.set_terminated(run)
        return run


def flat(values: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number of nested mappings, with its keys joined by dots."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, (int, float)) and not isinstance(values, bool) and math.isfinite(values):
        yield path, float(values)

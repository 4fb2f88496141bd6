"""repair --mlflow: figures, parameters and the report in a store of files, without a network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from repair_engine.verbs import tracking
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")
installed = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")


def asked(world: World, out: Path, *more: str) -> list[str]:
    return [*world.argv("repair", "--json", metric="accuracy", budget="4000", seed="3", out=str(out)), *more]


def test_without_mlflow_it_is_said_before_the_work(sabotaged, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    found = call(asked(sabotaged, tmp_path / "out", "--mlflow", str(tmp_path / "runs")))
    assert found.code == 2
    assert "MLflow is not installed." in found.err
    assert "pip install mlflow-skinny" in found.err
    assert not (tmp_path / "out").exists()


def test_only_finite_numbers_are_metrics():
    values = {"a": {"b": 1, "c": float("nan"), "d": True, "e": "x", "f": None}, "g": 0.5}
    assert dict(tracking.flat(values)) == {"a.b": 1.0, "g": 0.5}


@installed
def test_a_store_of_files(sabotaged, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer releases ask for it
    uri = (tmp_path / "runs").as_uri()
    found = call(asked(sabotaged, tmp_path / "out", "--mlflow", uri))
    assert found.code in (0, 5), found.err
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])
    document = found.document
    assert run.data.metrics["before.report.accuracy"] == document["before"]["report"]["accuracy"]
    assert run.data.metrics["k"] == document["k"]
    assert run.data.params["metric"] == "accuracy"
    assert run.data.params["seed"] == "3"
    assert run.data.tags["outcome"] == document["outcome"]
    assert run.data.tags["model.sha256"] == document["model"]["sha256"]
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == set(tracking.FILES)
    assert run.info.status == "FINISHED"


@installed
def test_an_address_where_nothing_is(sabotaged, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = call(asked(sabotaged, tmp_path / "out", "--mlflow", "http://127.0.0.1:9"))
    assert found.code == 2
    assert "MLflow cannot log to http://127.0.0.1:9" in found.err
    assert not (tmp_path / "out").exists()

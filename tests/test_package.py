"""The wheel: it holds what it needs, and works where nothing else of this project is."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repair_engine import __version__
from tests.installed import Environment, run

ROOT = Path(__file__).resolve().parents[1]
CULPRITS = "features.3.squeeze:8,features.9.squeeze:44,features.7.squeeze:28,features.7.expand1x1:19"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, as `python -m build` does it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (source,) = folder.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q")
    run(*pip, "-w", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def test_the_top_of_the_tree_holds_what_is_meant_to_be_there() -> None:
    """Data folders that a test left in the checkout were committed once."""
    tops = {path.split("/")[0] for path in run("git", "ls-files", cwd=ROOT).splitlines() if "/" in path}
    packages = {"repair_engine", "shapley", "webapp", "templates", "clients", "samples"}
    assert tops == packages | {"tests", "benchmarks", "experiments", "examples", "docs", "deploy", ".ci"}


def test_everything_that_is_read_at_run_time_is_in_the_wheel(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "repair_engine", "shapley", "webapp", "templates", cwd=ROOT).splitlines()
    assert {f"webapp/shipped/{name}" if name.startswith("templates/") else name for name in tracked} <= held
    assert {f"{package}/py.typed" for package in ("repair_engine", "shapley")} <= held
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/", "experiments/", "templates/"))]


def test_the_engine_alone_repairs_the_shipped_sample(wheel: Path, tmp_path: Path) -> None:
    there = Environment(tmp_path / "venv", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("django", "celery", "onnx", "timm", "transformers"):
        assert there.ask(f"import importlib.util as u; print(u.find_spec({name!r}))", elsewhere) == "None"
    where = there.ask("import repair_engine, shapley; print(repair_engine.__file__, shapley.__file__)", elsewhere)
    assert all(Path(path).is_relative_to(there.packages) for path in where.split())
    assert there.run("--version", cwd=elsewhere).stdout == f"neuron-repair {__version__}\n"

    sample = there.packages / "webapp" / "shipped" / "samples" / "stock_tags"
    model = ["--model", sample / "model.safetensors", "--architecture", "squeezenet1_1", "--num-classes", "8"]
    read = ["--resize", "none", "--crop", "none", "--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.5", "0.5"]
    data = ["--data", sample / "images.zip", "--classes", sample / "classes.txt"]
    asked = ["--metric", "subgroup-recall:subgroup", "--filters", CULPRITS, "--budget", "7000", "--out", "out"]
    done = there.run("repair", *model, *read, *data, *asked, cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((elsewhere / "out" / "report.json").read_text())
    assert report["outcome"] == "repaired"
    assert report["verification"]["different_predictions"] == 0
    assert report["versions"]["neuron-repair"] == __version__
    assert "<style>" in (elsewhere / "out" / "report.html").read_text()
    assert (elsewhere / "out" / "repaired.safetensors").stat().st_size == (sample / "model.safetensors").stat().st_size

    refused = there.run("serve", cwd=elsewhere)
    assert refused.returncode == 2
    assert "pip install neuron-repair[web]" in refused.stderr
    assert not (elsewhere / "neuron-repair-data").exists()


def test_serve_starts_the_web_application_in_a_folder_of_its_own(wheel: Path, tmp_path: Path) -> None:
    there = Environment(tmp_path / "venv", wheel, "web")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("w") as log:
        command = [there.command, "serve", "--port", str(port), "--workers", "1"]
        process = subprocess.Popen(command, cwd=elsewhere, env=there.environment(), stdout=log, stderr=log)
    try:
        url = f"http://localhost:{port}"
        until = time.monotonic() + 120
        while "Neuron Repair is at" not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        page = _get(f"{url}/")
        for sheet in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
            assert _get(url + sheet)
        assert "/static/css/app.css" in page
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert (elsewhere / "neuron-repair-data" / "db.sqlite3").is_file()
    assert [path.name for path in elsewhere.iterdir()] == ["neuron-repair-data"]
    found = "import django; django.setup(); from webapp.devserver.samples import client, find_samples; client(); "
    shown = there.ask(found + "print(*(sample.name for sample in find_samples()))", elsewhere)
    assert shown == "stock_tags stock_tags_balanced"


def _get(url: str) -> str:
    with urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def test_what_is_pinned_is_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    app = _pinned("requirements.txt")
    asked = list(map(Requirement, project["dependencies"] + extras["web"] + extras["s3"]))
    by_an_extra = {"drf-spectacular-sidecar"}  # of drf-spectacular
    assert {canonicalize_name(one.name) for one in asked} == set(app) - by_an_extra
    rest = [one for name in ("onnx", "timm", "transformers") for one in map(Requirement, extras[name])]
    pins = app | _pinned("requirements-dev.txt")
    for one in [*asked, *rest]:
        assert one.specifier.contains(pins[canonicalize_name(one.name)]), one


def _pinned(name: str) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    pairs = (Requirement(line) for line in lines if line and not line.startswith("-r"))
    return {canonicalize_name(one.name): next(iter(one.specifier)).version for one in pairs}

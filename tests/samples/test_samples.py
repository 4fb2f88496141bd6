"""The shipped samples, loaded by plain torch: files and figures are those written down."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torchvision
from safetensors.torch import load_file

from samples.images import read_zip
from samples.training import logits, normalized, recalls

SAMPLES = Path(__file__).parents[2] / "samples"
NAMES = ("stock_tags", "stock_tags_balanced")


def described(name: str) -> dict:
    return json.loads((SAMPLES / name / "sample.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_files_are_the_described_ones(name: str) -> None:
    sample = described(name)
    for role, digest in sample["sha256"].items():
        assert hashlib.sha256((SAMPLES / name / sample[role]).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", NAMES)
def test_the_log_s_last_figures_are_those_of_the_shipped_network(name: str) -> None:
    sample = described(name)
    _, pictures = read_zip(SAMPLES / name / sample["data"])
    network = torchvision.models.get_model(sample["architecture"], weights=None, num_classes=sample["num_classes"])
    state = load_file(SAMPLES / name / sample["model"])
    network.load_state_dict({key: value.float() for key, value in state.items()})
    usual, swapped = recalls(logits(network, normalized(pictures.pixels)), pictures)
    last = (SAMPLES / name / "training.log").read_text().splitlines()[-1]
    logged = [float(x) for x in re.search(r"usual ([\d.]+), swapped ([\d.]+)", last).groups()]
    # float16 storage and other processors' rounding may move a picture or two of 2,880
    assert abs(usual - logged[0]) <= 2 / 1440
    assert abs(swapped - logged[1]) <= 2 / 1440
    readme = (SAMPLES / "README.md").read_text()
    assert f"{usual:.3f}" in readme
    assert f"{swapped:.3f}" in readme


def test_the_skewed_network_fails_the_swapped_tags_and_the_balanced_one_does_not() -> None:
    gaps = {}
    for name in NAMES:
        last = (SAMPLES / name / "training.log").read_text().splitlines()[-1]
        usual, swapped = (float(x) for x in re.search(r"usual ([\d.]+), swapped ([\d.]+)", last).groups())
        gaps[name] = usual - swapped
    assert gaps["stock_tags"] > 0.25
    assert abs(gaps["stock_tags_balanced"]) < 0.05


def test_all_together_are_a_few_megabytes() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 7e6

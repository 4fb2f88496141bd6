"""`make demo` from beginning to end: the shipped samples give the answers that they say, and nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys

import psutil
import pytest

from tests.webapp.real_stack import ROOT
from webapp.devserver.demo import options_of
from webapp.devserver.samples import client, find_samples, read_sample

SAMPLES = {sample.name: sample for sample in find_samples()}


def expected(name: str) -> str:
    return json.loads((SAMPLES[name].folder / "sample.json").read_text())["expected"]


def test_there_is_one_to_repair_and_one_that_cannot_be():
    assert sorted(map(expected, SAMPLES)) == ["no_repair_found", "repaired"]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_samples_are_whole_and_ask_what_the_client_knows(sample):
    assert (sample.folder / sample.model).is_file()
    assert (sample.folder / sample.data).is_file()
    asked = options_of(sample)
    assert set(sample.request) <= set(vars(asked))
    assert asked.num_classes == len((sample.folder / sample.classes).read_text().splitlines())
    sent = client().upload_fields(asked, "model")["preprocessing"]
    assert sent == {name: value for name, value in sample.preprocessing.items() if name in sent}


def test_unknown_fields_of_a_sample_do_no_harm(tmp_path):
    values = {"title": "t", "model": "m", "data": "d", "architecture": "a", "num_classes": 2, "request": {}}
    (tmp_path / "sample.json").write_text(json.dumps({**values, "colour": "red"}))
    assert read_sample(tmp_path).name == tmp_path.name


@pytest.mark.slow
def test_the_demo(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"NR_DATA_DIR": str(tmp_path / "var"), "DATABASE_URL": "", "REDIS_URL": ""}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo", "--once", "--port", port, "--workers", "2", "--out", tmp_path / "out"],
        cwd=ROOT,
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search(r"user demo {3}password \S{8,}", done.stdout)
    assert re.search(r"API token: nr_\S{40,}", done.stdout)
    for name in SAMPLES:
        report = json.loads((tmp_path / "out" / name / "report.json").read_text())
        assert report["outcome"] == expected(name)
        text = done.stdout[done.stdout.index(f"=== {name}:") :]
        for row in report["groups"]["subgroups"]:
            assert re.search(rf"{row['name']}\s+{row['n']}\s+{row['before']:.1%}", text)
        assert (tmp_path / "out" / name / "repaired.safetensors").exists() == (expected(name) == "repaired")
    left = [
        process.info
        for process in psutil.process_iter(["pid", "cmdline", "environ"])
        if (process.info["environ"] or {}).get("NR_DATA_DIR") == place["NR_DATA_DIR"]
    ]
    assert left == []

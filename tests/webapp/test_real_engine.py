"""The real engine through the real stack: the same bits as the command line, also with workers killed."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from tests.repair_engine import tiny
from tests.webapp.real_stack import RealStack
from webapp.devserver.report_text import describe
from webapp.devserver.samples import client

BUDGET = 14_000


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tiny.World:
    return tiny.make_sabotaged(tmp_path_factory.mktemp("sabotaged"), tiny.images(144, seed=1))


@pytest.fixture(scope="module")
def command_line(world, tmp_path_factory) -> Path:
    """What the command line gives, in one process."""
    out = tmp_path_factory.mktemp("cli")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = tiny.call(
            world.argv("repair", "--budget", str(BUDGET), "--out", str(out), "--json", metric="subgroup-recall:ground")
        )
    finally:
        torch.set_num_threads(threads)
    assert result.code == 0, result.err
    return out


@pytest.fixture(scope="module")
def report(command_line: Path) -> dict:
    return json.loads((command_line / "report.json").read_text())


def read(out: Path) -> dict:
    report = json.loads((out / "report.json").read_text())
    return {
        "culprits": report["culprits"],
        "curve": report["curve"],
        "gain": report["gain"],
        "evaluations": report["run"]["evaluations"],
        "checkpoint": (out / "repaired.safetensors").read_bytes(),
        "predictions": (out / "predictions.csv").read_text(),
    }


def stack_for(world: tiny.World, folder: Path, workers: int) -> RealStack:
    return RealStack(
        folder,
        workers=workers,
        NR_ENGINE="tests.webapp.held_engine:HeldEngine",
        NR_TEST_HOLD=str(folder),
        NR_ARCHITECTURES=f"net={world.factory}",
        NR_SHARD_SECONDS="2",
    )


def start(stack: RealStack, world: tiny.World):
    api = client().Api(stack.url, stack.token, float("inf"))
    model = ["--model", str(world.model), "--architecture", "net", "--num-classes", "3"]
    wanted = ["--data", str(world.data), "--metric", "subgroup-recall:ground", "--budget", str(BUDGET)]
    asked = client().parser().parse_args(["repair", *model, *wanted])
    return api, client().start(api, asked)


def test_two_sigkills_and_still_the_bits_of_the_command_line(world, command_line, tmp_path):
    with stack_for(world, tmp_path, workers=2) as stack:
        stack.seed()
        (tmp_path / "hold").touch()
        api, repair = start(stack, world)
        killed: set[str] = set()

        def held() -> str:
            """The id of a pool process that waits in the middle of a block."""
            return next((path.stem for path in tmp_path.glob("*.held") if path.stem not in killed), "")

        while len(killed) < 2:
            victim = stack.wait(held, 240, "a worker to be in the middle of a block")
            os.kill(int(victim), signal.SIGKILL)
            killed.add(victim)
        (tmp_path / "hold").unlink()
        repair = stack.finished(repair)
        assert repair["state"] == "succeeded", repair
        client().fetch(api, repair, tmp_path)
        live = stack.call("GET", f"repairs/{repair['id']}/events/")
    expected = read(command_line)
    assert read(tmp_path) == expected
    assert repair["outcome"] == "repaired"
    assert repair["result"]["gain"] == expected["gain"]
    assert repair["summary"]["model"]["filters"] == 9
    assert live["leaders"][0]["id"] == "spy:0"
    assert live["leaders"][0]["upper"] < 0
    assert next(point["evaluations"] for point in live["series"]) == 0


def test_the_demo_tells_what_the_report_says(report):
    text = describe(report)
    assert text.startswith(f"REPAIRED by ablating {report['k']} filter")
    for row in report["groups"]["subgroups"]:
        line = next(line for line in text.splitlines() if line.strip().startswith(row["name"]))
        numbers = [row["before"], *row["before_interval"], row["after"], *row["after_interval"]]
        assert [f"{number:.1%}" for number in numbers] == re.findall(r"[\d.]+%", line)
    for control in report["controls"]:
        assert control["name"] in text

"""The real engine through the real stack: the same bits as the command line, also with workers killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from tests.repair_engine import tiny
from tests.webapp.real_stack import RealStack
from webapp.devserver.samples import client

BUDGET = 250_000


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tiny.World:
    return tiny.make_sabotaged(tmp_path_factory.mktemp("sabotaged"), tiny.images(144, seed=1))


@pytest.fixture(scope="module")
def expected(world, tmp_path_factory) -> dict:
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
    return read(out)


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
        NR_ENGINE="webapp.jobs.engine:RepairEngine",
        NR_ARCHITECTURES=f"net={world.factory}",
        NR_SHARD_SECONDS="2",
    )


def start(stack: RealStack, world: tiny.World):
    api = client().Api(stack.url, stack.token, float("inf"))
    model = ["--model", str(world.model), "--architecture", "net", "--num-classes", "3"]
    wanted = ["--data", str(world.data), "--metric", "subgroup-recall:ground", "--budget", str(BUDGET)]
    asked = client().parser().parse_args(["repair", *model, *wanted])
    return api, client().start(api, asked)


def test_two_sigkills_and_still_the_bits_of_the_command_line(world, expected, tmp_path):
    with stack_for(world, tmp_path, workers=2) as stack:
        stack.seed()
        api, repair = start(stack, world)
        killed: set[str] = set()

        def busy() -> str:
            """A pool process in the middle of a shard of sampling that was not killed before: name/life/pid."""
            rows = stack.query(
                "SELECT worker FROM jobs_shard WHERE state = 'leased' AND phase IN ('search', 'confirm') AND done > 0"
            )
            return next((worker for (worker,) in rows if worker not in killed), "")

        while len(killed) < 2:
            victim = stack.wait(busy, 240, "a worker to be in the middle of a shard")
            os.kill(int(victim.rpartition("/")[2]), signal.SIGKILL)
            killed.add(victim)
        repair = stack.finished(repair, 300)
        assert repair["state"] == "succeeded", repair
        client().fetch(api, repair, tmp_path)
    assert read(tmp_path) == expected

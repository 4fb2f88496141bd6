"""The simulated fleet, small: in a process of its own, for it replaces the clock and the broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json
from benchmarks.fleet import Person, Scenario
from benchmarks.fleet_simulated import _in_a_process
people = (Person("long", 1, 30, rounds=1), Person("short", 3, 4, rounds=1, at=90.0))
scenario = Scenario("small", 6, people, deaths=0.1)
print(json.dumps(_in_a_process(scenario, "", lambda text: None)))
"""


def test_all_runs_end_though_workers_die_and_the_short_ones_do_not_wait_for_the_long_one():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["finished"] == 4
    assert found["shards"] == 30 + 2 + 3 * (4 + 2), "each once"
    assert found["deaths"] > 0
    assert found["lost"] > 0
    assert found["took"]["short"] < found["took"]["long"]
    assert found["queries"]["take"] / (1 + found["empty"]) < 13, "also where a bell was rung for nothing"

"""An engine for state-machine tests: an additive game of a few players, computed in microseconds.

Deterministic in (seed, phase, round, block) as the real one is, so that tests can compare results bit by bit.
`NR_TINY_PAUSE` (seconds per quarter of a block) makes it slow enough to be killed in the middle, `NR_TINY_BLOCKS`
long enough to be killed often. While the folder `NR_TINY_HOLD` has a file with the name of a phase, blocks of that
phase wait in the middle: where a test kills a worker must not depend on how fast the machine is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

from repair_engine.errors import BadInput

PLAYERS = 6
BLOCKS = int(os.environ.get("NR_TINY_BLOCKS", "4"))  # of a round


class TinyEngine:
    phases = ("search", "confirm")

    def prepare(self, request: dict, work: Path, note) -> dict:
        note("reading the model")
        pause()
        if request.get("seed") == 666:
            raise BadInput("The model is not a model.", "Send another one.")
        if request.get("seed") == 667:
            raise RuntimeError("the disk is on fire")
        (work / "request.json").write_text(json.dumps(request, sort_keys=True))
        return {"filters": PLAYERS, "warnings": ["a warning"]}

    def start(self, work: Path, phase: str, earlier: dict[str, bytes]) -> bytes:
        seed = json.loads((work / "request.json").read_text()).get("seed", 0)
        parents = {name: hashlib.sha256(state).hexdigest() for name, state in earlier.items()}
        return dump({"phase": phase, "seed": seed, "round": 0, "sums": [0] * PLAYERS, "n": 0, "parents": parents})

    def next_round(self, work: Path, phase: str, state: bytes) -> list[dict]:
        now = json.loads(state)
        rounds = 3 if phase == "search" else 1
        if now["round"] >= rounds:
            return []
        return [{"round": now["round"], "block": block, "evaluations": 100} for block in range(BLOCKS)]

    def run_block(self, work: Path, phase: str, state: bytes, task: dict, count) -> bytes:
        now = json.loads(state)
        values = []
        for player in range(PLAYERS):
            text = f"{now['seed']}/{phase}/{task['round']}/{task['block']}/{player}"
            values.append(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16))
        for _ in range(4):
            pause()
            count(25)
            hold(phase, count)
        return dump({"block": task["block"], "values": values})

    def merge(self, work: Path, phase: str, state: bytes, blocks: list[bytes]) -> bytes:
        now, results = json.loads(state), [json.loads(block) for block in blocks]
        assert [result["block"] for result in results] == list(range(BLOCKS)), "blocks come in order, all of them"
        for result in results:
            # Not commutative on purpose: merging in another order gives another state.
            now["sums"] = [(3 * total + value) % 1_000_003 for total, value in zip(now["sums"], result["values"])]
        return dump({**now, "round": now["round"] + 1, "n": now["n"] + 100 * BLOCKS})

    def snapshot(self, work: Path, phase: str, state: bytes) -> dict:
        now = json.loads(state)
        leaders = [{"id": f"conv:{i}", "value": total} for i, total in enumerate(now["sums"])]
        return {
            "evaluations": now["n"],
            "budget": (300 if phase == "search" else 100) * BLOCKS,
            "half_width": 1 / (1 + now["n"]),
            "leaders": leaders,
        }

    def finish(self, work: Path, states: dict[str, bytes], out: Path, note) -> dict:
        note("writing")
        pause()
        final = {name: json.loads(state) for name, state in states.items()}
        request = json.loads((work / "request.json").read_text())
        if request.get("kind") == "attack":
            (out / "attack.json").write_text(json.dumps({"verb": "attack"}))
            return {"attacked": True, "before": bool(request["repaired"])}
        if request.get("kind") == "score":
            return score(request, final["search"]["sums"], out)
        (out / "report.json").write_text(json.dumps(final, sort_keys=True))
        (out / "report.html").write_text("<!doctype html><h1>Report</h1>")
        (out / "predictions.csv").write_text("file_name,split\n")
        repaired = json.loads((work / "request.json").read_text()).get("seed") != 5
        if repaired:
            (out / "repaired.safetensors").write_bytes(bytes(range(256)) * 40)
        return {"repaired": repaired, "values": final["confirm"]["sums"]}

    def study(self, request: dict, work: Path, unit: str, what: str, note) -> dict:
        note("looking at the unit", 0.5)
        if unit == "features.3:3":
            raise BadInput("There is no such unit.", "Take another one.")
        return effect() if what == "effect" else {"rows": [picture(1), picture(-1)]}

    def baseline(self, request: dict, work: Path, note, told) -> dict:
        note("predicting", 0.5)
        if request["model"]["file_name"] == "broken.pth":
            raise BadInput("The model is not a model.", "Send another one.")
        told(figures())
        return speed()


def figures() -> dict:
    """What is known before a run, by the engine's own function: dogs on light grounds are mistaken."""
    from repair_engine.documents.baseline import baseline_document

    labels = np.repeat([0, 1], 100)
    predicted = np.where(np.arange(200) < 170, labels, 0)
    ground = ["dark"] * 150 + ["<i>light"] * 50
    seen = {"total": 280, "free": 200, "used": 200, "seed": 0}
    return dict(baseline_document(labels, predicted, np.full(200, 0.875), {"ground": ground}, ["<b>cat", "dog"], seen))


def speed() -> dict:
    efforts = [
        ("quick", 5.0, 123_456, [0.625, 0.8125]),
        ("thorough", 30.0, 2_000_000, [0.75, 0.75]),
        ("overnight", 480.0, 10**8, None),
    ]
    rows = [{"effort": e, "minutes": m, "budget": b, "overlap": o} for e, m, b, o in efforts]
    return {
        "units": 2944,
        "top_k": 20,
        "evaluations_per_second": 1500.0,
        "device": "cpu",
        "threads": 1,
        "efforts": rows,
    }


def score(request: dict, sums: list[int], out: Path) -> dict:
    """What a run of kind score leaves, as far as it is compared and gone on from."""
    metric = {"name": request["metric"], "text": request["metric"], "goal": "raise"}
    rows = [{"id": f"conv:{i}", "value": total / 1e6, "std_error": 0.01, "best": None} for i, total in enumerate(sums)]
    files = {"model": {"file": "net", "sha256": "m"}, "data": {"file": "images", "sha256": "d"}}
    run = {"seed": request.get("seed", 0), "estimator": "tiny", "evaluations": 1200}
    document = {"verb": "score", "metric": metric, **files, "run": run, "filters": rows}
    (out / "score.json").write_text(json.dumps(document))
    (out / "objectives.npz").write_bytes(b"values")
    names = [request["metric"], *request.get("also", [])]
    return {"repaired": False, "scored": True, "objectives": [{"name": name} for name in names]}


def effect() -> dict:
    """What a card needs, in the shape that `repair_engine.documents.unit_card` gives it."""
    change = {"before": 0.5, "after": 0.75, "change": 0.25, "lower": 0.125, "upper": 0.375}
    row = {
        "name": "<b>cat",
        "n": 40,
        "before": 0.5,
        "after": 0.25,
        "change": -0.25,
        "won": 2,
        "lost": 12,
        "size": "few",
    }
    image = {"file": "cat/1.png", "label": "<b>cat", "response": 1.5, "at": [0.25, 0.75]}
    flip = {"file": "cat/1.png", "label": "<b>cat", "before": "<b>cat", "after": "dog"}
    responses = {"images": 30, "mean": 0.1, "range": [-1.0, 2.0], "most": [image], "least": [image | {"at": None}]}
    return {
        "images": 40, "level": 0.95, "metric": change, "accuracy": change, "shape": [8, 16],
        "groups": [{"title": "class", "rows": [row] * 10}, {"title": "ground", "rows": [row | {"change": 0.0}]}],
        "turned_right": [], "turned_wrong": [flip], "turned_right_count": 0, "turned_wrong_count": 12,
        "responses": responses, "pictures": {"cat/1.png": "data:image/webp;base64,AAAA"},
    }  # fmt: skip


def picture(sign: int) -> dict:
    return {"sign": sign, "start": 0.5, "response": 2.5 * sign, "picture": "data:image/webp;base64,AAAA"}


def dump(value: dict) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def pause() -> None:
    if seconds := float(os.environ.get("NR_TINY_PAUSE", "0")):
        time.sleep(seconds)


def hold(phase: str, count) -> None:
    folder = os.environ.get("NR_TINY_HOLD")
    while folder and Path(folder, phase).exists():
        time.sleep(0.05)
        count(0)  # keeps the lease alive, and learns of a cancel

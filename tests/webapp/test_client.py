"""The CI client against a real stack: every exit code, resuming, and what it writes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch
import torchvision
import yaml
from safetensors.torch import save_file

from tests.webapp.real_stack import ROOT, RealStack

CLIENT = ROOT / "clients" / "neuron_repair.py"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    with RealStack(
        folder,
        workers=1,
        NR_TINY_HOLD=str(folder),
        NR_RETRY_SECONDS="0",
        NR_METRICS_TOKEN="m",
        NR_API_PER_MINUTE="100000",
    ) as stack:
        stack.seed()
        yield stack


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    state = torchvision.models.squeezenet1_1(num_classes=2).state_dict()
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.fixture
def data(tmp_path, image_zip) -> Path:
    path = tmp_path / "images.zip"
    path.write_bytes(image_zip)
    return path


def client(stack, out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        # -I: nothing of this project or its environment, only the standard library
        [sys.executable, "-I", "-S", str(CLIENT), *arguments, "--server", stack.url, "--out", str(out)],
        env={"PATH": os.environ["PATH"], "NR_TOKEN": stack.token, **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )


def repair(stack, out: Path, model: Path, data: Path, *more: str, **environment: str) -> subprocess.CompletedProcess:
    asked = ["--model", str(model), "--architecture", "squeezenet1_1", "--num-classes", "2", "--data", str(data)]
    return client(stack, out, "repair", *asked, "--metric", "accuracy", *more, **environment)


def verb(stack, out: Path, name: str, model: Path, data: Path, *more: str) -> subprocess.CompletedProcess:
    """Of those that upload."""
    asked = ["--model", str(model), "--architecture", "squeezenet1_1", "--num-classes", "2", "--data", str(data)]
    return client(stack, out, name, *asked, *more)


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def test_the_stack_says_that_it_is_ready_and_how_it_is(stack):
    with urlopen(stack.url + "readyz") as answer:
        assert json.load(answer)["checks"] == dict.fromkeys(
            ("database", "migrations", "broker", "storage", "worker", "release"), "ok"
        )
    with urlopen(Request(stack.url + "metrics", headers={"Authorization": "Bearer m"})) as answer:
        found = answer.read().decode()
    assert 'neuron_repair_workers{queue="cpu"} 1.0' in found
    assert 'neuron_repair_broker_messages{queue="cpu"} 0.0' in found
    with urlopen(Request(stack.url + "api/v1/", headers={"Authorization": f"Bearer {stack.token}"})) as answer:
        assert int(answer.headers["X-RateLimit-Remaining"]) < 100_000


def test_0_repaired_and_gates_passed(stack, model, data, tmp_path):
    out, page = tmp_path / "out", tmp_path / "page.md"
    done = repair(stack, out, model, data, "--gate", "values.0>=0", GITHUB_STEP_SUMMARY=str(page))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        "metrics.json", "junit.xml", "summary.md", "report.json", "report.html", "predictions.csv",
        "repaired.safetensors", "receipt.json",
    }  # fmt: skip
    told = metrics(out)
    assert (told["exit_code"], told["outcome"], told["gates"][0]["passed"]) == (0, "repaired", True)
    made = stack.call("GET", f"repairs/{told['repair']}/")
    for item in made["results"]:
        assert hashlib.sha256((out / item["name"]).read_bytes()).hexdigest() == item["sha256"]
    suite = ET.parse(out / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "0", "0")
    assert page.read_text() == (out / "summary.md").read_text()

    again = repair(stack, tmp_path / "again", model, data)
    assert metrics(tmp_path / "again")["repair"] == told["repair"], "the same request is the same repair"
    assert again.returncode == 0
    fresh = repair(stack, tmp_path / "fresh", model, data, "--run-id", "build-2")
    assert fresh.returncode == 0
    assert metrics(tmp_path / "fresh")["repair"] != told["repair"]


def test_1_a_gate_failed(stack, model, data, tmp_path):
    done = repair(stack, tmp_path / "out", model, data, "--gate", "values.0<0", "--gate", "values.1>=0")
    assert done.returncode == 1
    suite = ET.parse(tmp_path / "out" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    assert "**failed**" in (tmp_path / "out" / "summary.md").read_text()
    assert (tmp_path / "out" / "repaired.safetensors").exists()


def test_2_bad_input(stack, model, data, tmp_path):
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"no model at all")
    rejected = repair(stack, tmp_path / "a", junk, data)
    assert rejected.returncode == 2
    assert "junk.pth was rejected" in rejected.stderr
    assert repair(stack, tmp_path / "b", tmp_path / "missing.pth", data).returncode == 2
    assert repair(stack, tmp_path / "c", model, data, "--gate", "values.0 is fine").returncode == 2
    assert repair(stack, tmp_path / "d", model, data, "--gate", "beauty>=1").returncode == 2
    assert repair(stack, tmp_path / "e", model, data, "--max-clean-drop", "7").returncode == 2
    assert repair(stack, tmp_path / "f", model, data, NR_TOKEN="nr_wrong").returncode == 2
    assert repair(stack, tmp_path / "g", model, data, "--no-such-option").returncode == 2
    at_fault = repair(stack, tmp_path / "h", model, data, "--seed", "666")  # the tiny engine's bad input
    assert at_fault.returncode == 2
    assert "Send another one." in metrics(tmp_path / "h")["message"]


def test_3_server_or_job_error(stack, model, data, tmp_path):
    failed = repair(stack, tmp_path / "a", model, data, "--seed", "667")  # the tiny engine crashes
    assert failed.returncode == 3
    assert "the disk is on fire" in failed.stderr
    suite = ET.parse(tmp_path / "a" / "junit.xml").getroot()
    assert suite.get("errors") == "1"
    again = repair(stack, tmp_path / "b", model, data, "--seed", "667")  # CI's retry is a new attempt
    assert again.returncode == 3
    assert metrics(tmp_path / "a")["repair"] != metrics(tmp_path / "b")["repair"]


def test_4_out_of_time_and_then_on_with_it(stack, model, data, tmp_path):
    (stack.folder / "search").touch()
    late = repair(stack, tmp_path / "out", model, data, "--seed", "4", "--timeout", "3")
    (stack.folder / "search").unlink()
    assert late.returncode == 4, late.stderr
    done = repair(stack, tmp_path / "out", model, data, "--seed", "4")
    assert done.returncode == 0, done.stderr
    rows = stack.call("GET", "repairs/")["results"]
    told = metrics(tmp_path / "out")
    waited = client(stack, tmp_path / "waited", "wait", told["repair"], "--gate", "values.0>=0")
    assert waited.returncode == 0
    assert metrics(tmp_path / "waited")["result"] == told["result"]
    assert sum(1 for row in rows if row["id"] == told["repair"]) == 1


def test_a_run_is_paused_put_last_and_resumed(stack, model, data, tmp_path):
    def steer(*words: str) -> str:
        command = [sys.executable, "-I", "-S", str(CLIENT), *words, "--server", stack.url]
        done = subprocess.run(command, env={"NR_TOKEN": stack.token}, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr + done.stdout

    assert repair(stack, tmp_path / "out", model, data, "--seed", "8", "--priority", "low").returncode == 0
    told = stack.call("GET", f"repairs/{metrics(tmp_path / 'out')['repair']}/")
    assert told["priority"] == "low"
    (stack.folder / "search").touch()
    asked = {"model": told["model"], "dataset": told["dataset"], "metric": "accuracy", "seed": 9, "priority": "high"}
    run = stack.call("POST", "repairs/", asked)["id"]
    assert "paused, priority high" in steer("pause", run)
    (stack.folder / "search").unlink()
    assert "paused, priority low" in steer("prioritize", run, "low")
    assert "priority low" in steer("resume", run)
    assert not (tmp_path / "repair").exists(), "nothing is written"
    assert client(stack, tmp_path / "waited", "wait", run).returncode == 0


def test_5_no_repair(stack, model, data, tmp_path):
    done = repair(stack, tmp_path / "out", model, data, "--seed", "5", "--gate", "values.0>=0")
    assert done.returncode == 5
    assert (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "out" / "repaired.safetensors").exists()


def test_a_download_that_was_cut_short_is_resumed(stack, model, data, tmp_path):
    out = tmp_path / "out"
    assert repair(stack, out, model, data).returncode == 0
    whole = (out / "repaired.safetensors").read_bytes()
    (out / "repaired.safetensors").unlink()
    (out / "repaired.safetensors.part").write_bytes(whole[:100])
    (out / "report.json").unlink()
    (out / "report.json.part").write_bytes(b"something else")
    assert repair(stack, out, model, data).returncode == 0
    assert (out / "repaired.safetensors").read_bytes() == whole
    assert json.loads((out / "report.json").read_text())


def test_a_server_that_is_away(model, data, tmp_path):
    class Nowhere:
        url, token = "http://127.0.0.1:9/", "nr_x"

    done = repair(Nowhere, tmp_path / "out", model, data, "--timeout", "2")
    assert done.returncode == 4  # it may come back: the same command goes on


def test_values_then_a_repair_for_another_of_their_objectives(stack, model, data, tmp_path):
    also = ["--also", "recall:cat", "--also", "recall:dog"]
    scored = verb(stack, tmp_path / "s", "score", model, data, "--metric", "accuracy", *also)
    assert scored.returncode == 0, scored.stderr
    told = metrics(tmp_path / "s")
    assert told["outcome"] == "scored"
    assert told["request"] == {"kind": "score", "metric": "accuracy", "also": ["recall:cat", "recall:dog"], "seed": 0}
    assert {"score.json", "objectives.npz"} <= set(told["files"])

    followed = client(stack, tmp_path / "f", "follow", told["repair"], "--metric", "recall:cat", "--order", "value")
    assert followed.returncode == 0, followed.stderr
    on = metrics(tmp_path / "f")
    assert (on["request"]["metric"], on["request"]["stored"], on["request"]["order"]) == ("recall:cat", True, "value")
    assert stack.call("GET", f"repairs/{on['repair']}/")["parent"] == told["repair"]
    again = client(stack, tmp_path / "g", "follow", told["repair"], "--metric", "recall:cat", "--order", "value")
    assert again.returncode == 0
    assert metrics(tmp_path / "g")["repair"] == on["repair"], "the same request is the same repair"

    unknown = client(stack, tmp_path / "u", "follow", told["repair"], "--metric", "recall:fox")
    assert unknown.returncode == 2
    assert "recall:cat" in unknown.stderr, "it says what was valued"
    unknown = client(stack, tmp_path / "v", "follow", on["repair"], "--filters", "conv:1")
    assert (unknown.returncode, "no such filter: conv:1" in unknown.stderr) == (2, True)
    picked = ["--filters", "features.0:1,features.0:0", "--budget", "2000"]
    by_hand = client(stack, tmp_path / "h", "follow", on["repair"], *picked)
    assert by_hand.returncode == 0, by_hand.stderr
    assert metrics(tmp_path / "h")["request"]["filters"] == ["features.0:1", "features.0:0"]


def test_two_runs_are_compared_and_gates_judge_it(stack, model, data, tmp_path):
    ids = []
    for seed in ("21", "22"):
        done = verb(stack, tmp_path / seed, "score", model, data, "--metric", "accuracy", "--seed", seed)
        assert done.returncode == 0, done.stderr
        ids.append(metrics(tmp_path / seed)["repair"])
    done = client(stack, tmp_path / "c", "compare", *ids, "--gate", "agreement.n>=6")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert document == stack.call("GET", f"compare/?a={ids[0]}&b={ids[1]}")
    assert document["differs"] == ["seed"]
    told = metrics(tmp_path / "c")
    assert (told["outcome"], told["result"], told["files"]) == ("compared", document, ["compare.json"])
    assert told["url"] == f"{stack.url}compare/?a={ids[0]}&b={ids[1]}"
    assert ET.parse(tmp_path / "c" / "junit.xml").getroot().get("failures") == "0"
    assert client(stack, tmp_path / "d", "compare", *ids, "--gate", "agreement.n>6").returncode == 1
    repaired = repair(stack, tmp_path / "r", model, data)
    assert repaired.returncode == 0
    refused = client(stack, tmp_path / "e", "compare", ids[0], metrics(tmp_path / "r")["repair"])
    assert refused.returncode == 2
    assert "is not a result of" in refused.stderr
    assert client(stack, tmp_path / "f", "compare", ids[0], "no-such-run").returncode == 2


def test_attacks_on_a_model_and_on_a_repair(stack, model, data, tmp_path):
    alone = verb(stack, tmp_path / "a", "attack", model, data, "--attack", "standard", "--epsilon", "0.02")
    assert alone.returncode == 0, alone.stderr
    told = metrics(tmp_path / "a")
    assert (told["outcome"], told["result"]["before"], "attack.json" in told["files"]) == ("attacked", False, True)
    assert told["request"]["epsilon"] == 0.02

    assert repair(stack, tmp_path / "r", model, data, "--seed", "31").returncode == 0
    repaired = metrics(tmp_path / "r")["repair"]
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    save_file(torchvision.models.resnet18(num_classes=2).state_dict(), other)
    both = ["--repair", repaired, "--surrogate", f"{other}:resnet18:2", "--queries", "0"]
    attacked = client(stack, tmp_path / "b", "attack", *both)
    assert attacked.returncode == 0, attacked.stderr
    found = stack.call("GET", f"repairs/{metrics(tmp_path / 'b')['repair']}/")
    assert found["audited"] == repaired
    assert found["request"]["seed"] == 31, "the images that the repair was reported on"
    assert len(found["request"]["surrogates"]) == 1
    assert client(stack, tmp_path / "c", "attack").returncode == 2
    assert client(stack, tmp_path / "d", "attack", *both, "--surrogate", "x.pt:resnet18").returncode == 2


PASSES, FAILS = "gates: [{metric: confirm.n, min: 400}]", '{"gates": [{"metric": "confirm.n", "min": 401}]}'


def test_a_file_of_gates_is_judged_by_the_server(stack, model, data, tmp_path):
    for name, text in (("passes.yml", PASSES), ("fails.json", FAILS), ("bad.yml", "gates: [{metric: confirm.n}]")):
        (tmp_path / name).write_text(text)
    passed = repair(
        stack, tmp_path / "p", model, data, "--gates", str(tmp_path / "passes.yml"), "--gate", "values.0>=0"
    )
    assert passed.returncode == 0, passed.stderr
    told = metrics(tmp_path / "p")
    (kept,) = stack.call("GET", f"repairs/{told['repair']}/gates/")
    assert told["gate_file"] == {"sha256": kept["sha256"], "verdict": "passed"}
    assert ET.parse(tmp_path / "p" / "junit.xml").getroot().get("tests") == "3"
    text = (tmp_path / "p" / "summary.md").read_text()
    assert "✅ Neuron repair: passed" in text
    assert "| ✅ | confirm.n ≥ 400 | 400 |" in text
    assert "`values.0>=0`" in text

    failed = repair(stack, tmp_path / "f", model, data, "--gates", str(tmp_path / "fails.json"))
    assert failed.returncode == 1
    assert "confirm.n ≥ 401 fails: 400" in failed.stderr
    assert ET.parse(tmp_path / "f" / "junit.xml").getroot().get("failures") == "1"
    bad = repair(stack, tmp_path / "b", model, data, "--gates", str(tmp_path / "bad.yml"), "--seed", "41")
    assert bad.returncode == 2
    assert "neither min nor max" in bad.stderr
    assert "%" not in bad.stderr, "it is refused before the run is waited for"
    none = client(stack, tmp_path / "n", "compare", "a", "b", "--gates", str(tmp_path / "passes.yml"))
    assert (none.returncode, "--gates judges one run's report" in none.stderr) == (2, True)


def github(stack, folder: Path, **inputs: str) -> subprocess.CompletedProcess:
    """The step of action.yml, as a runner would start it."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    known = {name: one.get("default", "") for name, one in action["inputs"].items()}
    assert set(inputs) <= set(known)
    given = {f"${{{{ inputs.{name} }}}}": value for name, value in {**known, **inputs}.items()}
    (step,) = action["runs"]["steps"]
    around = {"GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": str(ROOT), "PATH": os.environ["PATH"]}
    around |= {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    around |= {name: given[value] for name, value in step["env"].items()}
    return subprocess.run(["bash", "-e", "-c", step["run"]], env=around, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(("gates", "seed", "code"), [(PASSES, "0", 0), (FAILS, "0", 1), (PASSES, "5", 5)])
def test_the_github_action(stack, model, data, tmp_path, gates, seed, code):
    (tmp_path / "my gates.yml").write_text(gates)
    asked = {"architecture": "squeezenet1_1", "num-classes": "2", "metric": "accuracy", "gates": "my gates.yml"}
    files = {"model": str(model), "data": str(data), "out": "re sults"}
    more = f"--seed {seed} --name 'it is $(touch owned)'"
    done = github(stack, tmp_path, server=stack.url, token=stack.token, arguments=more, **asked, **files)
    assert done.returncode == code, done.stdout + done.stderr
    told = metrics(tmp_path / "re sults")
    said = (tmp_path / "GITHUB_OUTPUT").read_text()
    assert said == f"repair={told['repair']}\nexit-code={code}\n"
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == (tmp_path / "re sults" / "summary.md").read_text()
    assert done.stdout.startswith("::error title=Neuron repair") == (code != 0)
    assert not (tmp_path / "owned").exists()
    assert stack.call("GET", f"repairs/{told['repair']}/")["name"] == "it is $(touch owned)"


def test_the_gitlab_template(stack, model, data, tmp_path):
    job = yaml.safe_load((ROOT / "clients" / "gitlab.yml").read_text())[".neuron-repair"]
    (tmp_path / "gates.yml").write_text(FAILS)
    around = {**job["variables"], "NR_CLIENT": str(CLIENT.parent), "NR_SERVER": stack.url, "NR_TOKEN": stack.token}
    around |= {"NR_MODEL": str(model), "NR_DATA": str(data), "NR_ARCHITECTURE": "squeezenet1_1", "NR_NUM_CLASSES": "2"}
    around |= {"NR_METRIC": "accuracy", "NR_GATES": "gates.yml", "PATH": os.environ["PATH"]}
    script = "\n".join(job["script"])
    done = subprocess.run(["bash", "-e", "-c", script], env=around, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    junit = job["artifacts"]["reports"]["junit"].replace("$NR_OUT", job["variables"]["NR_OUT"])
    assert ET.parse(tmp_path / junit).getroot().get("failures") == "1"

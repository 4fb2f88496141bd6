"""benchmarks/gpu.sh: steps in processes of their own, kept, gone on with, ended in time; figures are not asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import _parser
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import plan

ROOT = Path(__file__).resolve().parents[2]


def script(monkeypatch: pytest.MonkeyPatch, **codes: str) -> None:
    """Steps that run these lines of Python, named `part_case`."""

    def steps(*_: object) -> list[plan.Step]:
        return [
            plan.Step(name.replace("_", " "), name.split("_")[0], ("-c", code), 20.0) for name, code in codes.items()
        ]

    monkeypatch.setattr(plan, "steps", steps)


def asked(out: Path, *more: str) -> tuple[int, dict]:
    code = gpu.main([str(out), "--device", "cpu", "--size", "tiny", *more])
    return code, json.loads((out / "results.json").read_text())


@pytest.mark.slow
def test_a_part_is_measured_and_not_again(tmp_path: Path) -> None:
    """The real benchmark in its process, on the CPU."""
    code, found = asked(tmp_path, "--part", "memory")
    assert code == 0
    (name,) = found
    assert found[name]["results"][0]["records"][0]["peak"] > 0
    assert "64 MiB" in (tmp_path / "memory.md").read_text()
    assert found[name]["machine"]["torch"] == torch.__version__
    written = (tmp_path / "results.json").stat().st_mtime_ns
    assert asked(tmp_path, "--part", "memory") == (0, found)
    assert (tmp_path / "results.json").stat().st_mtime_ns == written


def test_what_failed_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "import json; print(json.dumps({'results': [{'case': 'x', 'skipped': 'no such thing'}]}))"
    script(monkeypatch, memory_good=answer, profile_bad="raise SystemExit(3)", quality_good=answer)
    code, found = asked(tmp_path)
    assert code == 1
    assert "exit code 3" in found["profile bad"]["error"]
    assert "results" in found["quality good"]
    assert "Not measured: no such thing" in (tmp_path / "memory.md").read_text()
    script(monkeypatch, memory_good="raise SystemExit(4)", profile_bad=answer)
    code, found = asked(tmp_path)
    assert code == 0
    assert "results" in found["profile bad"]
    assert "results" in found["memory good"]  # left as it was


def test_the_reference_grows_with_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with the one that is stored, and is never done."""
    stored = tmp_path / "stored.npz"
    stored.write_bytes(b"1")
    monkeypatch.setattr(gpu, "path_of", lambda name: stored)
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; p = Path(sys.argv[-1]); p.write_bytes(p.read_bytes() + b'1'); print(9)"
    )

    def steps(*_: object) -> list[plan.Step]:
        return [plan.Step("reference x", "reference", ("-c", code, "--path", str(out / "x.npz")), 20.0)]

    monkeypatch.setattr(plan, "steps", steps)
    for runs in (1, 2):
        ended, found = asked(out)
        assert ended == 0
        assert found["reference x"]["header"] == 9
        assert (out / "x.npz").read_bytes() == b"1" * (1 + runs)
    assert not (out / "reference.md").exists()


def test_a_step_is_ended_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_LEAST", 0.0)
    script(monkeypatch, memory_slow="import time; time.sleep(600)", profile_next="print(1)")
    code, found = asked(tmp_path, "--minutes", "0.02")
    assert code == 1
    assert "not done within" in found["memory slow"]["error"]
    assert found["memory slow"]["seconds"] < 20


def test_no_time_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    script(monkeypatch, memory_any="print(1)")
    assert gpu.main([str(tmp_path), "--device", "cpu", "--minutes", "0"]) == 0
    assert "no time is left" in capsys.readouterr().out
    assert not (tmp_path / "results.json").exists()


def test_failed_tests_are_named(tmp_path: Path) -> None:
    checked = tmp_path / "test_two.py"
    checked.write_text("def test_good(): pass\ndef test_bad(): assert 1 == 2, 'one is not two'\n")
    report = tmp_path / "tests.xml"
    arguments = ("-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", f"--junitxml={report}", str(checked))
    with (tmp_path / "log.txt").open("a") as log:
        found = gpu.run(plan.Step("tests", "tests", arguments, 60.0), tmp_path, 60.0, tmp_path, log)
    assert found["passed"] == 1
    assert [one["name"].split("::")[-1] for one in found["failed"]] == ["test_bad"]
    assert "one is not two" in found["failed"][0]["why"]
    assert not report.exists()


def test_no_gpu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([str(tmp_path / "out")]) == 2
    assert "torch sees no GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_worst_case_is_profiled(tmp_path: Path) -> None:
    def measured(*shares: float) -> dict:
        return {"results": [{"variants": [{"share_of_suffix_bound": share} for share in shares]}]}

    done = {"throughput resnet20": measured(0.2, 0.9), "throughput vit_b_16": measured(0.5, 0.6),
            "throughput resnet50": {"error": "not done"}}  # fmt: skip
    named = [step.name for step in plan.steps("cuda", "full", tmp_path, done)]
    assert "profile vit_b_16" in named
    assert "profile resnet20" in [step.name for step in plan.steps("cuda", "full", tmp_path, {})]
    assert named[-1] == "quality squeezenet1_0"  # after its reference


@pytest.mark.parametrize("size", ["full", "tiny"])
def test_the_steps_are_commands_that_exist(tmp_path: Path, size: str) -> None:
    for step in plan.steps("cpu", size, tmp_path, {}):
        if step.part == "tests":
            assert all((ROOT / test).is_file() for test in plan.TESTS)
        else:
            given = _parser().parse_args(list(step.arguments[2:]))
            assert given.part == step.part

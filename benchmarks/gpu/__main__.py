"""benchmarks/gpu.sh OUT: the steps of `benchmarks.gpu.plan`, each in its own process, results kept after each.

OUT gets results.json (a record per step), a table per part, log.txt, and the long-run reference. Run again with the
same folder it goes on: what is done is left, what failed or ran out of time is tried again, and the reference grows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import torch

from benchmarks import tables
from benchmarks.gpu import plan
from benchmarks.machine import line, machine
from benchmarks.references import path_of
from benchmarks.sources import DATA, ROOT

MINUTES = 8.0
_LEAST = 10.0  # seconds: less is left for no step
_GROWS = "reference"  # the part that is never done
Results = dict[str, dict[str, Any]]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where all that was begun is done; 1 where a step or a test failed; 2 without a GPU."""
    args = _parser().parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here; --device cpu --size tiny tries the whole way without one", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "results.json"
    done: Results = json.loads(file.read_text()) if file.exists() else {}
    ends, parts, failed, tried = time.monotonic() + 60 * args.minutes, args.part or plan.PARTS, 0, set()
    with (args.out / "log.txt").open("a") as log:
        while (step := _next(args, done, parts, tried)) is not None:
            tried.add(step.name)
            left = ends - time.monotonic()
            if left < _LEAST:
                print(f"{step.name}: no time is left; run again with the same folder", flush=True)
                break
            if step.part == "reference":
                _bring(args.out / Path(step.arguments[-1]).name)
            found = run(step, args.out, min(step.most, left), args.data, log)
            done[step.name] = found | {"part": step.part, "machine": machine(args.device)}
            _write(file, json.dumps(done, indent=1))
            _write_tables(args.out, done)
            bad = "error" in found or bool(found.get("failed"))
            failed += bad
            said = found.get("error") or (f"{len(found['failed'])} tests failed" if bad else "done")
            print(f"{step.name}: {said}, {found['seconds']:.0f} s", flush=True)
    return 1 if failed else 0


def _next(args: argparse.Namespace, done: Results, parts: list[str] | tuple[str, ...], tried: set[str]) -> Any:
    """The first step that is asked for, not done and not tried in this run; None: there is none."""
    for step in plan.steps(args.device, args.size, args.out, done):
        known = done.get(step.name)
        over = known is not None and "error" not in known and not known.get("failed") and step.part != _GROWS
        if step.part in parts and not over and step.name not in tried:
            return step
    return None


def run(step: plan.Step, out: Path, seconds: float, data: Path, log: Any) -> dict[str, Any]:
    """What a step found: the benchmark's document, or the tests' counts; `error` where it did not end well."""
    log.write(f"\n--- {step.name}: {' '.join(step.arguments)}\n")
    log.flush()
    began = time.monotonic()
    environment = os.environ | {"NEURON_REPAIR_BENCH_DATA": str(data), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *step.arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {seconds:.0f} s", "seconds": round(time.monotonic() - began, 1)}
    finally:
        if process.poll() is None:  # out of time, or interrupted
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    took = {"seconds": round(time.monotonic() - began, 1)}
    if step.part == "tests":
        log.write(text)
        return took | _tests(out / "tests.xml", process.returncode)
    try:
        document = json.loads(text)
    except ValueError:
        return took | {"error": f"exit code {process.returncode}; see log.txt"}
    return took | (document if step.part != "reference" else {"header": document})


def _tests(report: Path, code: int) -> dict[str, Any]:
    """Counts and failures of pytest's report, which is taken away."""
    if not report.exists():
        return {"error": f"pytest ended with exit code {code}; see log.txt"}
    cases = list(ET.parse(report).getroot().iter("testcase"))
    report.unlink()
    failed = [
        {"name": f"{case.get('classname')}::{case.get('name')}", "why": bad.get("message", "")[:500]}
        for case in cases
        if (bad := next((part for kind in ("failure", "error") for part in case.iter(kind)), None)) is not None
    ]
    skipped = sum(next(case.iter("skipped"), None) is not None for case in cases)
    if not cases:
        return {"error": "no test ran"}
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed}


def _bring(path: Path) -> None:
    """Begins with the reference that is stored in the repository, where there is one."""
    stored = path_of(path.stem)
    if not path.exists() and stored.exists():
        shutil.copyfile(stored, path)


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _write_tables(out: Path, done: Results) -> None:
    """One file per part; what could not be measured is said in it."""
    for part in dict.fromkeys(found["part"] for found in done.values()):
        mine = {name: found for name, found in done.items() if found["part"] == part}
        where = next(iter(mine.values()))["machine"]
        if part in tables.RENDER:
            results: list[dict[str, Any]] = []
            for name, found in mine.items():
                why = {"case": name.split(" ", 1)[1], tables.SKIPPED: found.get("error")}
                results += found.get("results", [why])
            text = tables.document(part, where, results, "benchmarks/gpu.sh")
        elif part == "tests":
            text = f"# The engine's tests on {where['device']}\n\n{line(where)}\n\n{_said(mine['tests'])}\n"
        else:
            continue
        _write(out / f"{part}.md", text)


def _said(found: dict[str, Any]) -> str:
    if "error" in found:
        return f"Not measured: {found['error']}"
    lines = [f"{found['passed']} passed, {len(found['failed'])} failed, {found['skipped']} skipped."]
    return "\n".join([*lines, "", *(f"- {one['name']}: {one['why']}" for one in found["failed"])]).rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("out", type=lambda name: Path(name).resolve(), metavar="OUT", help="folder for the results")
    parser.add_argument("--part", action="append", choices=plan.PARTS, help="only this one; may be repeated")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("full", "tiny"), default="full", help="tiny: that it runs; no figures")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all steps together")
    parser.add_argument("--data", type=Path, default=DATA, help="real networks and images, as ../shared/data has them")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

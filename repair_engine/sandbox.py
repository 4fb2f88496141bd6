"""One-shot child processes in which uploaded files are parsed, with limits on memory, time and output.

python -m repair_engine.sandbox      # a task and its payload as JSON on stdin, the answer as JSON on stdout
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from repair_engine.errors import BadInput

# The only functions that a child runs: task name -> module:function(payload) -> JSON-able answer.
TASKS = {
    "checkpoint": "repair_engine.formats.convert:run_task",
    "archive": "repair_engine.datasets.inspection:run_task",
}
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What one child may use.

    Attributes:
        memory_bytes: beyond what its imports have taken.
        output_bytes: size of the largest file that it may write.
        cpu_seconds: processor time after its imports.
        wall_seconds: real time, imports included.
    """

    memory_bytes: int = 2 << 30
    output_bytes: int = 8 << 30
    cpu_seconds: int = 300
    wall_seconds: int = 900


def call(task: str, payload: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Run one task in a fresh process and give its answer.

    Raises:
        BadInput: what the task refused, or that it exceeded its limits or died.
    """
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    request = json.dumps({"task": task, "payload": payload, "limits": asdict(limits)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "repair_engine.sandbox"],
            input=request.encode(),
            capture_output=True,
            env=environment,
            timeout=limits.wall_seconds,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"Reading the file took longer than {limits.wall_seconds} seconds and was stopped.") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise BadInput(
            "Reading the file was stopped: the process that read it "
            + (f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"failed ({last[0]})")
            + ".",
            f"It may use {limits.memory_bytes >> 20} MiB of memory and {limits.cpu_seconds} s of CPU time.",
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "refused" in answer:
        raise BadInput(answer["refused"]["problem"], answer["refused"]["mend"])
    return answer


def _restrict(limits: Limits) -> None:
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    wanted = {
        resource.RLIMIT_AS: now + limits.memory_bytes,
        resource.RLIMIT_DATA: now + limits.memory_bytes,
        resource.RLIMIT_CPU: int(used) + limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.output_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what an import prints must not mix with the answer
    module, _, function = TASKS[request["task"]].partition(":")
    task = getattr(importlib.import_module(module), function)
    limits = Limits(**request["limits"])
    _restrict(limits)
    try:
        answer = task(request["payload"])
    except BadInput as error:
        answer = {"refused": {"problem": error.problem, "mend": error.mend}}
    except Exception as error:  # a hostile file may make a parser fail in any way; all are refusals
        problem = f"The file cannot be read: {type(error).__name__}: {str(error)[:500]}"
        if _out_of_memory(error):
            problem = f"Reading the file needs more than the allowed {limits.memory_bytes >> 20} MiB of memory."
        answer = {"refused": {"problem": problem, "mend": ""}}
    json.dump(answer, out)
    out.flush()


if __name__ == "__main__":
    main()

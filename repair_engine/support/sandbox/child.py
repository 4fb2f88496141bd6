"""The child's side: shuts itself in, then reads what it was given. Only trusted code has run up to there."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from repair_engine.errors import BadInput
from repair_engine.support.sandbox import kernel, landlock, namespaces, seccomp
from repair_engine.support.sandbox.parent import TOO_WEAK, Limits
from repair_engine.support.words import byte_size

_OPEN_FILES = 1024


def run(asked: Mapping[str, Any]) -> None:
    """What the parent asks for is trusted; the payload, which may not be, is on stdin."""
    wanted, inputs = set(asked["layers"]), dict(asked["reads"])
    with contextlib.suppress(OSError, AttributeError):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != asked["parent"]:
        os._exit(1)  # it died before the line above
    processes = _processes()
    code = namespaces.code_paths() if wanted & {"namespaces", "landlock"} else []
    missing: dict[str, str] = {}
    if "namespaces" in wanted:
        seen = namespaces.enter(code, inputs) if sys.platform == "linux" else None
        if seen is None:
            missing["namespaces"] = "this platform does not allow them"
        else:
            inputs = seen
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answer
    module, _, function = asked["target"].partition(":")
    task = getattr(importlib.import_module(module), function)
    for name in asked["imports"]:
        with contextlib.suppress(Exception):  # the task itself meets it again, and says so
            importlib.import_module(name)
    limits = Limits(**asked["limits"])
    _limit(limits, processes)
    _close(processes)
    missing |= _shut_in(wanted - {"namespaces"}, [*code, *inputs.values()])
    if lacking := sorted(set(asked["required"]) & (set(missing) | _never(wanted))):
        sys.stderr.write(f"not in force: {', '.join(lacking)}\n")
        os._exit(TOO_WEAK)
    payload = {**json.load(sys.stdin), **inputs, **asked["writes"]}
    json.dump(_answer(task, payload, limits), out)
    out.flush()


def _answer(task: Callable[[Mapping[str, Any]], dict[str, Any]], payload: dict, limits: Limits) -> dict[str, Any]:
    try:
        return task(payload)
    except BadInput as error:
        return {"refused": {"problem": error.problem, "mend": error.mend}}
    except Exception as error:  # a hostile file may make a parser fail in any way; all are refusals
        problem = f"The file cannot be read: {type(error).__name__}: {str(error)[:500]}"
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            problem = f"Reading the file needs more than the allowed {byte_size(limits.memory_bytes)} of memory."
        return {"refused": {"problem": problem, "mend": ""}}


def _never(wanted: set[str]) -> set[str]:
    return {"namespaces", "landlock", "seccomp", "no_new_privs"} - wanted


def _processes() -> int | None:
    """/proc as it is now: there is none in the child's own world, and how much memory is used is read there."""
    try:
        return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def _limit(limits: Limits, processes: int | None) -> None:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    wanted = {
        resource.RLIMIT_CPU: int(used) + limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.output_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    if processes is not None:
        with open(os.open("self/statm", os.O_RDONLY, dir_fd=processes)) as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
        wanted |= dict.fromkeys((resource.RLIMIT_AS, resource.RLIMIT_DATA), now + limits.memory_bytes)
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _close(processes: int | None) -> None:
    if processes is not None:
        os.close(processes)


def _shut_in(wanted: set[str], readable: list[str]) -> dict[str, str]:
    """Puts the layers in force, each as far as the platform has it. Gives those that are not, with the reason."""
    missing: dict[str, str] = {}
    steps: dict[str, list[Callable[[], None]]] = {
        "no_new_privs": [kernel.no_new_privileges, kernel.drop_capabilities],
        "landlock": [lambda: landlock.restrict(readable)],
        "seccomp": [seccomp.restrict],
    }
    for name, calls in steps.items():
        if name not in wanted:
            continue
        try:
            for call in calls:
                call()
        except (OSError, KeyError, AttributeError) as error:
            missing[name] = f"{type(error).__name__}: {error}"
    return missing

"""The parent's side: has a child begun with nothing of its own, and believes nothing that it says.

What the child has: an environment made from scratch, its input, descriptors for its output, a pipe for its answer.
What it may do is decided in `child`, before the first untrusted byte is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from repair_engine.errors import BadInput, SandboxTooWeak
from repair_engine.support.sandbox.starting import servers
from repair_engine.support.words import byte_size, last_line

# The only functions that a child runs: task name -> module:function(payload) -> JSON-able answer.
TASKS = {
    "checkpoint": "repair_engine.models.formats.convert:run_task",
    "archive": "repair_engine.data.inspection:run_task",
    "pixels": "repair_engine.models.decoding:run_task",
    "patch": "repair_engine.data.patches:run_task",
    "thumbnails": "repair_engine.data.thumbnails:run_task",
    "hugging face": "repair_engine.models.hf_archive:run_task",
    "layers": "repair_engine.support.sandbox.layers:run_task",
}
LAYERS = ("environment", "limits", "no_new_privs", "namespaces", "landlock", "seccomp")
REQUIRE = "NR_SANDBOX_REQUIRE"
TOO_WEAK = 77  # exit code of a child that lacks a layer which was asked for
MAX_ANSWER = 256 << 20
_KEPT_OF_STDERR = 1 << 16
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What one child may use.

    Attributes:
        memory_bytes: beyond what its imports have taken.
        output_bytes: size of the largest file that it may write.
        cpu_seconds: processor time after its imports.
        wall_seconds: real time, imports included where they are not there yet.
    """

    memory_bytes: int = 2 << 30
    output_bytes: int = 8 << 30
    cpu_seconds: int = 300
    wall_seconds: int = 900


def call(
    task: str,
    payload: Mapping[str, Any],
    limits: Limits,
    reads: Mapping[str, Path] | None = None,
    writes: Mapping[str, Path] | None = None,
    imports: Sequence[str] = (),
    layers: Collection[str] = LAYERS,
    pours: Mapping[str, Callable[[bytes], None]] | None = None,
) -> dict[str, Any]:
    """Run one task in a process that is used once, and give its answer, which is as untrusted as the input.

    Args:
        payload: for the task, as JSON.
        reads: name -> file that the child may read; its payload has the path under that name.
        writes: name -> file that is made and written; its payload has a descriptor under that name.
        imports: modules of the operator that the task will need.
        layers: which are tried; fewer only to see that the others hold alone.
        pours: name -> what takes the bytes that the child writes to the descriptor under that name, as they come; what
            it raises ends the child.

    Raises:
        BadInput: what the task refused, or that it exceeded its limits or died.
        SandboxTooWeak: the operator asks for a layer that this platform does not give.
        KeyError: no such task.
    """
    target = TASKS[task]
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(_new_file(path)) for name, path in (writes or {}).items()}
        closing = stack.enter_context(contextlib.ExitStack())  # this side's copies, once the child has its own
        taps: dict[BinaryIO, Callable[[bytes], object]] = {}

        def tap(sink: Callable[[bytes], object]) -> int:
            receive, send = os.pipe()
            closing.callback(os.close, send)
            taps[stack.enter_context(os.fdopen(receive, "rb", buffering=0))] = sink
            return send

        said, complaint = bytearray(), bytearray()
        standard = [tap(said.extend), tap(complaint.extend)]
        opened |= {name: tap(sink) for name, sink in (pours or {}).items()}
        given = stack.enter_context(tempfile.TemporaryFile())
        given.write(json.dumps(dict(payload)).encode())
        given.seek(0)
        asked = {
            "target": target,
            "limits": asdict(limits),
            "reads": {name: str(path.resolve()) for name, path in (reads or {}).items()},
            "writes": list(opened),
            "imports": list(imports),
            "layers": sorted(layers),
            "required": sorted(required()),
        }
        until = time.monotonic() + limits.wall_seconds
        child = servers.begin(asked, environment(), [given.fileno(), *standard, *opened.values()])
        closing.close()
        try:
            _listen(taps, said, complaint, until)
            code = child.wait(until - time.monotonic())
        except TimeoutError as error:
            raise BadInput(
                f"Reading the file took longer than {limits.wall_seconds} seconds and was stopped."
            ) from error
        finally:
            child.end()
    return _answer(code, bytes(said), complaint.decode(errors="replace"), limits)


def warm(task: str, imports: Sequence[str] = ()) -> None:
    """Have imported, in a process beside this one, what a `call` with the same arguments will need."""
    servers.warm({"target": TASKS[task], "imports": list(imports)}, environment())


def required() -> frozenset[str]:
    """The layers that the operator insists on. Raises ValueError for a name that is none."""
    names = frozenset(name.strip() for name in os.environ.get(REQUIRE, "").split(",") if name.strip())
    if unknown := sorted(names - set(LAYERS)):
        raise ValueError(f"{REQUIRE}: there is no layer {', '.join(unknown)}; there are {', '.join(LAYERS)}.")
    return names


def environment() -> dict[str, str]:
    """All that the child gets: from scratch, so that no secret is in it whatever its name."""
    code = [os.path.abspath(entry or os.getcwd()) for entry in sys.path]
    made = {
        **dict.fromkeys(_ONE_THREAD, "1"),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(code),
        "PYTHONUTF8": "1",
        "TORCHINDUCTOR_CACHE_DIR": tempfile.gettempdir(),  # else torchvision has torch make a folder in it
    }
    for name in ("LD_LIBRARY_PATH", "TZ"):  # where shared libraries lie, on systems that say it so
        if name in os.environ:
            made[name] = os.environ[name]
    return made


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _listen(
    taps: Mapping[BinaryIO, Callable[[bytes], object]], said: bytearray, complaint: bytearray, until: float
) -> None:
    """What comes until all is closed, no more than may be said. Raises TimeoutError; BadInput: too much."""
    with selectors.DefaultSelector() as selector:
        for stream, sink in taps.items():
            selector.register(stream, selectors.EVENT_READ, sink)
        while selector.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                piece = os.read(key.fd, 1 << 16)
                if piece:
                    key.data(piece)
                else:
                    selector.unregister(key.fileobj)
            del complaint[:-_KEPT_OF_STDERR]
            if len(said) > MAX_ANSWER:
                raise BadInput("Reading the file found too much to tell, and was stopped.")


def _answer(code: int, said: bytes, complaint: str, limits: Limits) -> dict[str, Any]:
    last = last_line(complaint)
    if code == TOO_WEAK:
        raise SandboxTooWeak(f"The process that reads uploads lacks what {REQUIRE} asks for: {last}.")
    if code != 0:
        raise BadInput(
            "Reading the file was stopped: the process that read it "
            + (f"was ended by signal {-code}" if code < 0 else f"failed ({last})")
            + ".",
            f"It may use {byte_size(limits.memory_bytes)} of memory and {limits.cpu_seconds} s of CPU time.",
        )
    try:
        answer = json.loads(said)
        if not isinstance(answer, dict):
            raise TypeError("no object")
        refused = answer.get("refused")
        refusal = None if refused is None else (str(refused["problem"]), str(refused["mend"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise not_usable(error) from error
    if refusal is not None:
        raise BadInput(*refusal)
    return answer


def not_usable(error: Exception) -> BadInput:
    """Of an answer that is none: the child was taken over, or has an error."""
    what = type(error).__name__
    return BadInput(f"The file cannot be read: the process that read it gave no usable answer ({what}).")

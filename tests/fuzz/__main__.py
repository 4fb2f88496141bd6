"""Mutated files thrown at the parsers: `make fuzz` (N= inputs or SECONDS= of time, SEED=, EVERY= for the real child).

For volume the parsers run in this program's own forks, two hundred inputs each, with a limit of memory; one input in
EVERY also goes the whole way, through the child that users' uploads are read in. Every pickle in it would leave a file
when executed, and an audit hook notes programs, connections and names that an unpickler loads. Exit code 1 where
something was executed, a fork crashed, or the child ended in anything but an answer or a refusal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

from repair_engine.data import inspect_archive
from repair_engine.data.inspection import inspect_here
from repair_engine.data.metadata import parse_metadata
from repair_engine.errors import BadInput
from repair_engine.models import hf_archive
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import convert
from repair_engine.models.formats.convert import parse
from repair_engine.models.formats.torch_file import refuse_pickle
from repair_engine.support import sandbox
from tests.fuzz.mutations import mutate, seeds, with_table
from tests.repair_engine.models.test_checkpoint_round_trip import TINY

BATCH = 200
MEMORY = 2 << 30  # beyond what the imports took, as for the child
PATIENCE = 60  # seconds for one input
ONNX = Architecture("onnx", 0)
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "pty.spawn")
IMAGES = ("cat/0.png", "cat/1.png", "dog/0.jpg", "dog/1.webp")


def here(kind: str, path: Path, data: bytes) -> None:
    """What the child would do with it, in this process."""
    if kind in ("pth", "safetensors"):
        parse(path, TINY, None, path.name)
    elif kind == "onnx":
        parse(path, ONNX, None, path.name)
    elif kind == "pickle":
        try:
            parse(path, TINY, None, "x.pth")
        finally:
            refuse_pickle(path, "x.pth")
    elif kind == "zip":
        inspect_here(path, "x.zip")
    elif kind == "csv":
        parse_metadata(data, IMAGES, "")
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            handles = {n: os.open(f"{folder}/{n}", os.O_CREAT | os.O_WRONLY) for n in hf_archive.NAMES}
            try:
                hf_archive.run_task({"path": str(path), "name": "x.zip", **handles})
            finally:
                for handle in handles.values():
                    os.close(handle)


def through_the_child(kind: str, path: Path, folder: Path) -> None:
    """As an upload goes. Raises BadInput and nothing else."""
    if kind in ("zip", "csv"):
        inspect_archive(path, "x.zip")
    elif kind == "hugging face":
        hf_archive.unpack(path, folder / "unpacked", "x.zip")
    else:
        name = {"onnx": "x.onnx", "safetensors": "x.safetensors"}.get(kind, "x.pth")
        convert(path, folder / "out.safetensors", ONNX if kind == "onnx" else TINY, None, name)


class Run:
    def __init__(self, seed: int, folder: Path) -> None:
        self.folder, self.proof = folder, folder / "executed"
        self.pools = seeds(self.proof)
        self.seed = seed

    def input(self, number: int) -> tuple[str, bytes]:
        """The input of a number: the same for the same seed."""
        rng = random.Random(f"{self.seed}/{number}")
        kind = rng.choice(sorted(self.pools))
        pool = self.pools[kind]
        return kind, mutate(rng, kind, rng.choice(pool), pool, self.pools["pickle"])

    def batch(self, first: int, count: int) -> Counter[str]:
        """In a fork: outcomes by kind. What crashed or hung is counted, and the batch goes on after it."""
        found: Counter[str] = Counter()
        at = first
        while at < first + count:
            receive, send = os.pipe()
            process = os.fork()
            if process == 0:
                os.close(receive)
                self._work(at, first + count, send)
            os.close(send)
            with os.fdopen(receive, "rb") as file:
                lines = file.read().splitlines()
            _, status = os.waitpid(process, 0)
            for line in lines:
                found[line.decode()] += 1
            at += len(lines)
            if status:
                kind, data = self.input(at)
                (self.folder / f"crash-{at}").write_bytes(data)
                found[f"{kind}: CRASH {status}"] += 1
                print(f"input {at} ({kind}) ended its process with status {status}", flush=True)
                at += 1
        return found

    def _work(self, first: int, end: int, send: int) -> None:
        torch.set_num_threads(1)
        seen: list[str] = []
        events = lambda event, _: seen.append(event) if event in WATCHED else None  # noqa: E731
        sys.addaudithook(events)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)  # onnxruntime prints there
        os.dup2(null, 2)
        for number in range(first, end):
            kind, data = self.input(number)
            path = self.folder / f"x.{'onnx' if kind == 'onnx' else 'bin'}"
            path.write_bytes(data)
            signal.alarm(PATIENCE)
            try:
                here(kind, path, data)
                outcome = "read"
            except BadInput:
                outcome = "refused"
            except MemoryError:
                outcome = "other: MemoryError"
            except Exception as error:  # the child makes a refusal of it
                outcome = f"other: {type(error).__name__}"
            signal.alarm(0)
            if seen:
                outcome = f"EXECUTED {seen[0]}"
                seen.clear()
            os.write(send, f"{kind}: {outcome}\n".encode())
        os._exit(0)

    def sample(self, number: int) -> str:
        kind, data = self.input(number)
        with tempfile.TemporaryDirectory(dir=self.folder) as made:
            path = Path(made) / ("x.onnx" if kind == "onnx" else "x.bin")
            path.write_bytes(with_table(data) if kind == "csv" else data)
            try:
                through_the_child(kind, path, Path(made))
            except BadInput:
                return "child: refused"
            except Exception as error:
                print(f"input {number} ({kind}) through the child: {type(error).__name__}: {error}", flush=True)
                return f"child: WRONG {type(error).__name__}"
        return "child: read"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=0, help="inputs; 0: until the time is over")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=400, help="one in so many also goes through the real child")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    found: Counter[str] = Counter()
    started, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        run = Run(asked.seed, Path(folder))
        while number < asked.n if asked.n else time.monotonic() - started < asked.seconds:
            count = min(BATCH, asked.n - number) if asked.n else BATCH
            found += run.batch(number, count)
            for one in range(number, number + count):
                if one % asked.every == 0:
                    found[run.sample(one)] += 1
            number += count
        executed = run.proof.exists()
    sandbox.starting.servers.rest()  # its children count once it has been waited for
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    for outcome, count in sorted(found.items()):
        print(f"{count:8d}  {outcome}")
    bad = {name: count for name, count in found.items() if any(word in name for word in ("EXECUTED", "CRASH", "WRONG"))}
    summary = {
        "inputs": number,
        "through the real child": sum(count for name, count in found.items() if name.startswith("child")),
        "executions": int(executed) + sum(count for name, count in bad.items() if "EXECUTED" in name),
        "crashes": sum(count for name, count in bad.items() if "CRASH" in name),
        "peak memory of a process, MiB": peak,
        "seconds": round(time.monotonic() - started, 1),
        "seed": asked.seed,
    }
    print(json.dumps(summary))
    return 1 if bad or executed else 0


if __name__ == "__main__":
    sys.exit(main())

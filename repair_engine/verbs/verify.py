"""Predictions of a written checkpoint, made in a fresh process with the original plain module, or by onnxruntime.

python -m repair_engine.verbs.verify < request.json     (the child's part; `fresh_predictions` starts it)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repair_engine.errors import VerificationFailed
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import Checkpoint
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.network.network import two_dimensional
from repair_engine.onnx import comparable, onnxruntime_version, run_file
from repair_engine.support.process import OPENMP, prepare_process
from repair_engine.support.progress import BATCH
from repair_engine.support.scratch import scratch
from repair_engine.support.words import last_line
from repair_engine.verbs.compact import load_module

MASKED = "the masked network"  # what a repaired model is compared with: what was valued, with the culprits masked
EDITED = "the edited model in memory"  # where more was changed


@dataclass(frozen=True)
class File:
    """A checkpoint as a user would load it.

    Attributes:
        weights: "model" or "ema", where it holds both.
        compact: it is a compact checkpoint (`compact.export`), with its widths beside it.
    """

    path: Path
    weights: str | None = None
    compact: bool = False


def fresh_predictions(
    files: Sequence[File],
    architecture: Architecture,
    preprocessing: Preprocessing,
    image_sets: Mapping[str, np.ndarray],
    device: str,
    at_once: int = BATCH,
) -> list[dict[str, np.ndarray]]:
    """Logits float32 [N, classes] of each image set from each file, all in one fresh process, one file after the other.

    Args:
        image_sets: name -> pixels [N, C, H, W], uint8 or float32 in [0, 1].
        at_once: images of a forward.

    Raises:
        VerificationFailed: a file cannot be loaded there.
    """
    with scratch("verify") as folder:
        for name, pixels in image_sets.items():
            np.save(folder / f"{name}.npy", pixels)
        request = {
            "files": [{**asdict(file), "path": str(file.path.resolve())} for file in files],
            "architecture": architecture.to_json(),
            "preprocessing": preprocessing.to_json(),
            "names": list(image_sets),
            "folder": str(folder),
            "device": device,
            "at_once": at_once,
            "threads": torch.get_num_threads(),
        }
        environment = {**OPENMP, **os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        done = subprocess.run(
            [sys.executable, "-m", "repair_engine.verbs.verify"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode != 0:
            said = last_line(done.stderr)
            raise VerificationFailed(f"The written checkpoint does not load in a fresh process: {said}")
        return [{name: np.load(folder / f"{i}.{name}.logits.npy") for name in image_sets} for i in range(len(files))]


def in_memory_predictions(
    module: torch.nn.Module,
    preprocessing: Preprocessing,
    image_sets: Mapping[str, np.ndarray],
    device: str,
    at_once: int,
) -> dict[str, np.ndarray]:
    """As `fresh_predictions`, of a module at hand (`Checkpoint.module`), in this process."""
    module, found = module.to(device), {}
    with torch.inference_mode():
        for name, pixels in image_sets.items():
            parts = []
            for i in range(0, len(pixels), at_once):
                few = torch.from_numpy(np.array(pixels[i : i + at_once])).to(device)
                parts.append(two_dimensional(module(preprocessing.normalize(few))).cpu())
            found[name] = torch.cat(parts).numpy()
    return found


def judge_of(checkpoint: Checkpoint) -> str:
    """What predicts instead of the masked network, for reports."""
    if checkpoint.architecture.plan is None:
        return "the plain module"
    version = onnxruntime_version()
    return f"onnxruntime {version}" if version else "this project's importer (onnxruntime is not installed)"


def how_of(checkpoint: Checkpoint, against: str) -> str:
    """How a repaired model was compared, for reports."""
    if checkpoint.held is not None:
        return f"an edited copy of the module, in this process, against {against}"
    return f"the written file, reloaded into {judge_of(checkpoint)} in a fresh process, against {against}"


def main() -> None:
    """The child: loads each checkpoint strictly into the plain module and predicts."""
    prepare_process()
    request: dict[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    preprocessing = Preprocessing.from_json(request["preprocessing"])
    folder, step = Path(request["folder"]), request["at_once"]
    for number, file in enumerate(request["files"]):
        predict = _loaded(File(**{**file, "path": Path(file["path"])}), request)
        for name in request["names"]:
            pixels = torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))
            out = []
            with torch.inference_mode():
                for i in range(0, len(pixels), step):
                    part = pixels[i : i + step].to(request["device"])
                    out.append(predict(preprocessing.normalize(part)))
            np.save(folder / f"{number}.{name}.logits.npy", torch.cat(out).numpy())


def _loaded(file: File, request: Mapping[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """What gives a file's logits of images."""
    architecture, device = Architecture.from_json(request["architecture"]), request["device"]
    if file.compact:
        plan, module = None, load_module(file.path, architecture.build("cpu")).to(device)
    else:
        checkpoint = formats.read(file.path, architecture, file.weights)
        plan = checkpoint.architecture.plan
        if plan is not None and onnxruntime_version():
            graph = plan
            return lambda images: run_file(file.path, graph, images.cpu(), request["threads"])
        module = checkpoint.module().to(device)

    def predict(images: torch.Tensor) -> torch.Tensor:
        logits = module(images.to(device)).cpu()
        logits = logits.unsqueeze(1) if logits.dim() == 1 else logits
        return logits if plan is None else comparable(plan, logits)

    return predict


if __name__ == "__main__":
    main()

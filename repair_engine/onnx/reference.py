"""What others compute for an ONNX file: onnxruntime where it is installed, else the onnx package's own evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repair_engine.onnx.plan import GraphPlan

_SMALLEST = 1e-30  # probabilities below are taken for this


def onnxruntime_version() -> str | None:
    """The version of onnxruntime; None where it is not installed."""
    try:
        return metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        return None


def run_file(
    path: Path, plan: GraphPlan, images: torch.Tensor, threads: int = 1, optimized: bool = True
) -> torch.Tensor:
    """The file's output as logits, float32 [N, classes], by onnxruntime on the CPU.

    Args:
        images: network input, float32 [N, C, H, W].
        optimized: with onnxruntime's graph optimizations, as its users run it.
    """
    import onnxruntime

    options = _options(threads, optimized)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    if 0 in session.get_inputs()[0].shape:  # a free dimension to some exporters; onnxruntime takes only -1 for one
        session = onnxruntime.InferenceSession(_freed(path), options, providers=["CPUExecutionProvider"])
    return _in_batches(lambda x: session.run([plan.output], {plan.input: x})[0], plan, images)


def _options(threads: int, optimized: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _freed(path: Path) -> bytes:
    """The model with its dimensions of 0 left out."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value == 0:
                dim.Clear()
    return model.SerializeToString()


def evaluate_file(path: Path, plan: GraphPlan, images: torch.Tensor) -> torch.Tensor:
    """As `run_file`, by the onnx package's reference evaluator: slow, for a few images."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))

    def run(x: np.ndarray) -> np.ndarray:
        outputs: Any = evaluator.run([plan.output], {plan.input: x})  # a list, where no types are asked for
        return outputs[0]

    return _in_batches(run, plan, images)


def evaluate(model: Any, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs of an `onnx.ModelProto`, by onnxruntime where it is installed."""
    if onnxruntime_version():
        import onnxruntime

        session = onnxruntime.InferenceSession(
            model.SerializeToString(), _options(1, optimized=False), providers=["CPUExecutionProvider"]
        )
        found: Any = session.run(None, dict(given))
    else:
        from onnx.reference import ReferenceEvaluator

        found = ReferenceEvaluator(model).run(None, dict(given))
    return [np.asarray(array) for array in found]


def as_logits(plan: GraphPlan, output: torch.Tensor) -> torch.Tensor:
    """The graph's output [N, classes] on the scale on which it is compared: see `comparable`."""
    if plan.ends == "softmax":
        return output.clamp_min(_SMALLEST).log()
    if plan.ends == "sigmoid":
        return output.double().clamp(_SMALLEST, 1 - 1e-7).logit().float()
    return output


def comparable(plan: GraphPlan, logits: torch.Tensor) -> torch.Tensor:
    """Logits [N, classes] of the module as the file's output tells them: a softmax forgets a common offset."""
    if plan.ends in ("softmax", "log_softmax"):
        logits = torch.log_softmax(logits, dim=1)
    return as_logits(plan, torch.softmax(logits, 1) if plan.ends == "softmax" else _sigmoid(plan, logits))


def _sigmoid(plan: GraphPlan, logits: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(logits) if plan.ends == "sigmoid" else logits


def _in_batches(run: Any, plan: GraphPlan, images: torch.Tensor) -> torch.Tensor:
    step, out = plan.batch or 64, []
    for i in range(0, len(images), step):
        part = images[i : i + step].float()
        missing = step - len(part) if plan.batch else 0
        padded = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part
        if plan.channels_last:
            padded = padded.permute(0, 2, 3, 1)
        made = np.asarray(run(np.ascontiguousarray(padded.numpy())))[: len(part)]
        out.append(torch.from_numpy(np.array(made, dtype=np.float32)).reshape(len(part), -1))
    return as_logits(plan, torch.cat(out))

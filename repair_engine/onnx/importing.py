"""From an ONNX file to its plan and weights, checked against another implementation. Runs in the child process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from repair_engine.errors import BadInput
from repair_engine.onnx import reference
from repair_engine.onnx.module import GraphModule
from repair_engine.onnx.parsing import read_plan
from repair_engine.onnx.plan import GraphPlan, Weight
from repair_engine.onnx.standardized import INSTEAD_OF_STANDARDIZED, STANDARDIZED, standardizes
from repair_engine.onnx.wire import Span, by_name, float_spans, read_span, split
from repair_engine.support.words import first_line

MAX_BYTES = (2 << 30) - 1  # what protobuf takes
TOLERANCE = 1e-3  # of the logits' scale
_SIZES = (64, 224, 32, 96, 28, 128, 256, 299)  # tried in turn where the graph takes any
_SEED = 7


@dataclass(frozen=True)
class Imported:
    """An ONNX file as data.

    Attributes:
        plan: the graph.
        tensors: module's key -> float32 tensor, in the file's order.
        names: module's key -> initializer.
        rest, lengths: the file without its weights (`wire.split`).
        classes: number of logits.
        checked: against what the import was checked, and the largest difference, for reports.
    """

    plan: GraphPlan
    tensors: Mapping[str, torch.Tensor]
    names: Mapping[str, str]
    rest: bytes
    lengths: tuple[int, ...]
    classes: int
    checked: str


def import_file(path: Path, name: str) -> Imported:
    """Reads, imports and checks a file.

    Raises:
        BadInput: the file is damaged, too large, uses what is not supported, or does not compute the same here.
    """
    onnx = _onnx(name)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadInput(f"{name} has {size:,} bytes; ONNX files of at most {MAX_BYTES:,} are read.")
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04":
        raise BadInput(f"{name} is a zip archive, not an ONNX model.", "Unpack it, or give it its own name.")
    try:
        found = by_name(float_spans(data))
        model = onnx.ModelProto.FromString(data)
    except BadInput as error:
        raise BadInput(f"{name}: {error.problem}", "Export or copy it again.") from error
    except Exception as error:
        raise BadInput(f"{name} is not an ONNX model, or it is damaged: {error}", "Export or copy it again.") from error
    plan = read_plan(model, list(found.values()), name)
    del model
    spans: list[Span] = sorted((found[key] for key in plan.weights), key=lambda s: s.start)
    tensors = {plan.weights[s.name].key: _tensor(data, s, plan.weights[s.name]) for s in spans}
    rest, lengths = split(data, spans)
    del data
    classes, checked = _check(path, plan, tensors, name)
    names = {plan.weights[s.name].key: s.name for s in spans}
    return Imported(plan, tensors, names, rest, tuple(lengths), classes, checked)


def _tensor(data: bytes, span: Span, weight: Weight) -> torch.Tensor:
    if not weight.turned:
        return read_span(data, span, weight.shape)
    return read_span(data, span, weight.shape[::-1]).t().contiguous()


def _onnx(name: str):  # type: ignore[no-untyped-def]
    try:
        import onnx
    except ImportError as error:
        raise BadInput(
            f"{name} is an ONNX model, and the onnx package is not installed.", "pip install onnx"
        ) from error
    return onnx


def _check(path: Path, plan: GraphPlan, tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, str]:
    """The number of logits, and what the import was checked against."""
    module = GraphModule(plan)
    module.load_state_dict(dict(tensors))
    module.eval()
    images, logits = _first_run(module, plan, name)
    if logits.dim() > 2 or len(logits) != len(images) or not logits.numel():
        raise BadInput(
            f"{name}: the output for {len(images)} images has shape {tuple(logits.shape)}; [batch, classes] is needed.",
            "Export the classifier's logits or probabilities.",
        )
    logits = logits.unsqueeze(1) if logits.dim() == 1 else logits
    scale = max(float(logits.abs().max()), 1e-6)
    with torch.inference_mode():
        alone = torch.cat([module(image[None]).reshape(1, -1) for image in images])
    if float((alone - logits).abs().max()) > TOLERANCE * scale:
        raise BadInput(
            f"{name} gives an image other logits alone than beside others, so no image's prediction is its own.",
            "Export the network in eval mode, with a free batch size.",
        )
    version = reference.onnxruntime_version()
    try:
        if version:
            expected, by = reference.run_file(path, plan, images), f"onnxruntime {version}"
        else:
            expected, by = reference.evaluate_file(path, plan, images), "the onnx package's reference evaluator"
    except Exception as error:
        raise BadInput(
            f"{name} could be read, but not run for comparison: {type(error).__name__}: {str(error)[:300]}",
            "Check the file with onnx.checker.check_model(path, full_check=True).",
        ) from error
    mine = reference.comparable(plan, logits)
    if mine.shape != expected.shape:
        raise BadInput(
            f"{name}: {by} gives an output of shape {tuple(expected.shape)} for {len(images)} images, the import "
            f"{tuple(mine.shape)}."
        )
    difference = float((mine - expected).abs().max())
    scale = max(float(expected.abs().max()), 1e-6)
    if not difference <= TOLERANCE * scale:
        if version and _agrees(path, plan, images, mine, scale):
            raise BadInput(
                f"{name}: onnxruntime's own graph optimizations change what it computes, by {difference:.3g} at a "
                f"scale of {scale:.3g}; without them it computes what is computed here. What is measured here would "
                "not hold where it is used." + (f" {STANDARDIZED}" if standardizes(plan.nodes, plan.input) else ""),
                INSTEAD_OF_STANDARDIZED if standardizes(plan.nodes, plan.input) else "Export it by another exporter.",
            )
        raise BadInput(
            f"{name} does not compute here what it computes by {by}: logits differ by {difference:.3g} at a scale of "
            f"{scale:.3g}. It was not imported."
        )
    return logits.shape[1], f"{by}; largest difference of a logit {difference:.2g} at a scale of {scale:.3g}"


def _agrees(path: Path, plan: GraphPlan, images: torch.Tensor, mine: torch.Tensor, scale: float) -> bool:
    plain = reference.run_file(path, plan, images, optimized=False)
    return float((mine - plain).abs().max()) <= TOLERANCE * scale


def _first_run(module: GraphModule, plan: GraphPlan, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two random images of a size that the graph takes, and their logits."""
    channels, height, width = plan.size
    errors = []
    for size in _SIZES:
        shape = (2, channels or 3, height or size, width or height or size)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
        try:
            with torch.inference_mode():
                return images, module(images)
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
            errors.append(f"{type(error).__name__}: {first_line(error)}")
        if height and width:
            break
    raise BadInput(f"{name} cannot be imported: {errors[0]}.")

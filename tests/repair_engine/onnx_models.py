"""ONNX files made on the spot: exported by torch in both ways, or put together by hand."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

EXPORTERS = ("legacy", "dynamo")


def export(module: nn.Module, path: Path, images: torch.Tensor, exporter: str = "legacy", opset: int = 18) -> Path:
    """torch.onnx.export with a free batch size, quietly, as one file."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                module, (images,), str(path), dynamo=True, dynamic_shapes=batch, external_data=False,
                opset_version=opset, verbose=False,
            )  # fmt: skip
        else:
            names = {"input_names": ["images"], "output_names": ["logits"]}
            axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(
                module, (images,), str(path), dynamo=False, dynamic_axes=axes, opset_version=opset, **names
            )  # fmt: skip
    return path


def run(path: Path | bytes, images: torch.Tensor) -> torch.Tensor:
    """What onnxruntime computes, called as its users call it."""
    given = path if isinstance(path, bytes) else str(path)
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, np.ndarray],
    shape: Sequence[int | str] = ("batch", 2, 8, 8),
    opset: int = 18,
    out: Sequence[int | str] = ("batch", 3),
) -> Path:
    """A model from nodes that read "x" and give "y"."""
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(out))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def scrambled(module: nn.Module, seed: int = 0) -> nn.Module:
    """No two tensors alike (exporters join equal ones), no norm the identity."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.2)
            elif isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
                part.bias.normal_(0, 0.2)
    return module.eval().requires_grad_(False)

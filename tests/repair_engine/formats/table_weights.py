"""Checkpoints and ONNX: layouts of other people's files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from repair_engine.case.inspection import describe_layout, inspect_network
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from tests.repair_engine import layouts
from tests.repair_engine.formats.rows import Row
from tests.repair_engine.layouts import LAYOUTS, Layout
from tests.repair_engine.onnx_models import graph


def _checkpoint(layout: Layout, folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's own weight norm and quantization are old
        found = describe_layout(layouts.read(layout, folder))
    said = [f"wrapper {{{key}}}" for key in found["wrapper"]]
    said += [f"prefix `{found['prefix']}`"] if found["prefix"] else []
    said += [f"kept beside: {', '.join(found['beside'][:5])}"] if found["beside"] else []
    said += [f"not written back: {', '.join(found['dropped'])}"] if found["dropped"] else []
    return "; ".join(said)


CHECKPOINTS = [Row(name, partial(_checkpoint, layout)) for name, layout in LAYOUTS.items()]


def _onnx(make: Callable[[Path], Path], folder: Path) -> str:
    checkpoint = parse(make(folder), Architecture("onnx", 0), None, "m.onnx")
    found = inspect_network(checkpoint)
    sites = ", ".join(f"{site['filters']} filters ({site['activation']})" for site in found["sites"])
    reasons = [f"not players: {one['reason']}" for one in found["not_players"]]
    return "; ".join([sites, *reasons])


def _graph(
    text: str,
    inside: tuple[str, ...],
    sizes: Sequence[int | str],
    bias: tuple[int, ...],
    axes: tuple[int, int],
    folder: Path,
) -> Path:
    """A convolution, the nodes of a text ("Add a b r|…"), a mean over `axes` and a linear layer."""
    rng = np.random.default_rng(0)
    shapes = {"w": (5, 2, 3, 3), "b": bias, "head": (5, 3), "headbias": (3,)}
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    more: dict[str, dict[str, Any]] = {
        "Transpose": {"perm": [0, 2, 3, 1]},
        "Cast": {"to": 1},
        "Conv": {"pads": [1] * 4},
    }
    nodes = [helper.make_node("Constant", [], [k], value=numpy_helper.from_array(weights.pop(k))) for k in inside]
    for part in (*text.split("|"), "ReduceMean r axes mean", "MatMul mean head made", "Add made headbias y"):
        op, *inputs, output = part.split()
        given = {"keepdims": 0} if op == "ReduceMean" else more.get(op, {})
        nodes.append(helper.make_node(op, inputs, [output], **given))
    return graph(folder / "m.onnx", nodes, {**weights, "axes": np.array(axes)}, sizes)


_FREE, _SPACE, _ROWS = ("batch", 2, 8, 8), (2, 3), (1, 2)
_GRAPHS = {
    "a batch of -1, as paddle2onnx writes it": ("Conv x w b a|Relu a r", (), (-1, 2, 8, 8), (5,), _SPACE),
    "a batch and sides of 0": ("Conv x w b a|Relu a r", (), (0, 2, 0, 0), (5,), _SPACE),
    "weights in Constant nodes": ("Conv x w b a|Relu a r", ("w", "b", "head"), _FREE, (5,), _SPACE),
    "Conv → Add [1, C, 1, 1]": ("Conv x w a|Add a b s|Relu s r", (), _FREE, (1, 5, 1, 1), _SPACE),
    "Conv → Cast → Add [C, 1, 1]": ("Conv x w a|Cast a k|Add k b s|Relu s r", (), _FREE, (5, 1, 1), _SPACE),
    "Conv → Transpose → Cast → Add [1, 1, 1, C] (Keras)": (
        "Conv x w a|Transpose a t|Cast t k|Add k b s|Relu s r", (), _FREE, (1, 1, 1, 5), _ROWS,
    ),
    "Conv → Transpose → Add [C] (tf2onnx)": ("Conv x w a|Transpose a t|Add t b s|Relu s r", (), _FREE, (5,), _ROWS),
    "Conv → Add of one number for each place": ("Conv x w a|Add a b s|Relu s r", (), _FREE, (5, 8, 8), _SPACE),
    "an operator that is not known": ("Conv x w b a|Hardmax a r", (), _FREE, (5,), _SPACE),
}  # fmt: skip

ONNX = [Row(name, partial(_onnx, partial(_graph, *given))) for name, given in _GRAPHS.items()]

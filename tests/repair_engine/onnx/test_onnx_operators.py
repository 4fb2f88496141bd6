"""Graphs made by hand, one peculiarity each: the import computes what onnxruntime computes, and so does a repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import Checkpoint
from repair_engine.network import Network
from repair_engine.onnx import comparable
from tests.repair_engine.onnx.test_onnx_families import check_written
from tests.repair_engine.onnx_models import export, graph, run, scrambled

C, SIDE = 4, 8
Nodes = list[onnx.NodeProto]
node = helper.make_node


def weights(seed: int = 0, into: int = C) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"conv.weight": (C, 2, 3, 3), "conv.bias": (C,)}
    shapes |= {"head.weight": (3, into), "head.bias": (3,), "scale": (C,), "shift": (C,), "table": (1, C, 1, 1)}
    found = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"mean": found["shift"] / 3, "var": np.abs(found["scale"]) + 0.5}


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


CONV = [node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], pads=[1, 1, 1, 1])]
HEAD = [node("GlobalAveragePool", ["a"], ["p"]), node("Flatten", ["p"], ["f"])]
GEMM = [node("Gemm", ["f", "head.weight", "head.bias"], ["y"], transB=1)]


def between(*nodes: onnx.NodeProto) -> Nodes:
    """conv → nodes from "c" to "a" → pooled head."""
    return [*CONV, *nodes, *HEAD, *GEMM]


def behind(*nodes: onnx.NodeProto) -> Nodes:
    """conv → relu "a" → nodes to the logits "y"."""
    return [*CONV, node("Relu", ["c"], ["a"]), *nodes]


# id, nodes, constants beside the weights, options of `graph`, the activation at the site
GRAPHS: list[tuple[str, Nodes, dict[str, np.ndarray], dict[str, Any], str]] = [
    ("relu", between(node("Relu", ["c"], ["a"])), {}, {}, "relu"),
    ("leaky relu", between(node("LeakyRelu", ["c"], ["a"], alpha=0.2)), {}, {}, "leaky_relu"),
    ("elu", between(node("Elu", ["c"], ["a"], alpha=0.7)), {}, {}, "elu"),
    ("selu", between(node("Selu", ["c"], ["a"])), {}, {}, "selu"),
    ("celu", between(node("Celu", ["c"], ["a"], alpha=0.7)), {}, {}, "celu"),
    ("tanh", between(node("Tanh", ["c"], ["a"])), {}, {}, "tanh"),
    ("sigmoid", between(node("Sigmoid", ["c"], ["a"])), {}, {}, "sigmoid"),
    ("softplus", between(node("Softplus", ["c"], ["a"])), {}, {}, "softplus"),
    ("hard sigmoid", between(node("HardSigmoid", ["c"], ["a"], alpha=1 / 6)), {}, {}, "hardsigmoid"),
    ("keras' hard sigmoid", between(node("HardSigmoid", ["c"], ["a"])), {}, {}, "identity"),
    ("hard swish", between(node("HardSwish", ["c"], ["a"])), {}, {}, "hardswish"),
    ("mish", between(node("Mish", ["c"], ["a"])), {}, {}, "mish"),
    ("gelu", between(node("Gelu", ["c"], ["a"])), {}, {"opset": 20}, "gelu"),
    ("clip by attributes", between(node("Clip", ["c"], ["a"], min=0.0, max=0.5)), {}, {"opset": 10}, "clamp"),
    ("clip by inputs", between(node("Clip", ["c", "low", "high"], ["a"])),
     {"low": number(0), "high": number(0.5)}, {}, "clamp"),
    ("clip from below", between(node("Clip", ["c", "low"], ["a"])), {"low": number(0)}, {}, "clamp"),
    ("prelu", between(node("PRelu", ["c", "slope"], ["a"])),
     {"slope": np.full((C, 1, 1), 0.3, np.float32)}, {}, "identity"),
    ("batch norm", between(node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["b"]),
                           node("Relu", ["b"], ["a"])), {}, {}, "relu"),
    ("group norm", between(node("GroupNormalization", ["c", "scale", "shift"], ["a"], num_groups=2)), {},
     {"opset": 21}, "identity"),
    ("instance norm", between(node("InstanceNormalization", ["c", "scale", "shift"], ["a"])), {}, {}, "identity"),
    ("lrn", between(node("LRN", ["c"], ["a"], size=3)), {}, {}, "identity"),
    ("dropout and identity", between(node("Dropout", ["c"], ["d"]), node("Identity", ["d"], ["a"])), {}, {},
     "identity"),
    ("arithmetic", between(node("Mul", ["c", "table"], ["m"]), node("Add", ["two", "m"], ["n"]),
                           node("Div", ["n", "two"], ["o"]), node("Pow", ["o", "two"], ["q"]),
                           node("Sub", ["q", "c"], ["a"])), {"two": number(2)}, {}, "identity"),
    ("max and min", between(node("Max", ["c", "low"], ["m"]), node("Min", ["m", "high"], ["a"])),
     {"low": number(-0.2), "high": number(0.4)}, {}, "clamp"),
    ("padding", between(node("Pad", ["c", "pads", "two"], ["a"])),
     {"pads": ints(0, 0, 1, 2, 0, 0, 3, 0), "two": number(2)}, {}, "identity"),
    ("reflection by attributes", between(node("Pad", ["c"], ["a"], pads=[0, 0, 1, 2, 0, 0, 3, 0], mode="reflect")),
     {}, {"opset": 10}, "identity"),
    ("uneven max pooling", between(node("MaxPool", ["c"], ["a"], kernel_shape=[3, 3], strides=[2, 2],
                                        auto_pad="SAME_UPPER")), {}, {}, "identity"),
    ("uneven average pooling", between(node("AveragePool", ["c"], ["a"], kernel_shape=[3, 3], strides=[2, 2],
                                            auto_pad="SAME_LOWER")), {}, {}, "identity"),
    ("average pooling with padding", between(node("AveragePool", ["c"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                                                  count_include_pad=1)), {}, {}, "identity"),
    ("max pooling rounds up", between(node("MaxPool", ["c"], ["a"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
     {}, {}, "identity"),
    ("split and joined", between(node("Split", ["c", "sizes"], ["s", "t"], axis=1),
                                 node("Concat", ["t", "s"], ["a"], axis=1)), {"sizes": ints(1, 3)}, {}, "identity"),
    ("split evenly", between(node("Split", ["c"], ["s", "t"], axis=1, num_outputs=2),
                             node("Concat", ["t", "s"], ["a"], axis=1)), {}, {}, "identity"),
    ("slice", between(node("Slice", ["c", "from", "to", "axes", "steps"], ["s"]), node("Concat", ["s", "s"], ["a"],
                      axis=1)), {"from": ints(0, 1), "to": ints(2, 2**31), "axes": ints(1, -1), "steps": ints(1, 2)},
     {}, "identity"),
    ("channels picked", between(node("Gather", ["c", "order"], ["a"], axis=1)), {"order": ints(2, 0, 3, -3)}, {},
     "identity"),
    ("uneven convolution", [node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], strides=[2, 2],
                                 auto_pad="SAME_UPPER"), node("Relu", ["c"], ["a"]), *HEAD, *GEMM], {}, {}, "relu"),
    ("mean, axes as attribute", behind(node("ReduceMean", ["a"], ["f"], axes=[2, 3], keepdims=0), *GEMM), {},
     {"opset": 13}, "relu"),
    ("mean, axes as input", behind(node("ReduceMean", ["a", "axes"], ["f"], keepdims=0), *GEMM),
     {"axes": ints(-1, -2)}, {}, "relu"),
    ("global max pooling, squeezed", behind(node("GlobalMaxPool", ["a"], ["p"]), node("Squeeze", ["p", "axes"], ["f"]),
                                            *GEMM), {"axes": ints(2, 3)}, {}, "relu"),
    ("flatten by its shape", behind(node("GlobalAveragePool", ["a"], ["p"]), node("Shape", ["p"], ["s"]),
                                    node("Gather", ["s", "zero"], ["n"]), node("Unsqueeze", ["n", "axes"], ["u"]),
                                    node("Concat", ["u", "rest"], ["t"], axis=0), node("Reshape", ["p", "t"], ["f"]),
                                    *GEMM), {"zero": np.array(0), "axes": ints(0), "rest": ints(-1)}, {}, "relu"),
    ("reshape by 0 and -1", behind(node("GlobalAveragePool", ["a"], ["p"]), node("Reshape", ["p", "t"], ["f"]), *GEMM),
     {"t": ints(0, -1)}, {}, "relu"),
    ("reshape by -1 and the size", behind(node("GlobalAveragePool", ["a"], ["p"]), node("Reshape", ["p", "t"], ["f"]),
                                          *GEMM), {"t": ints(-1, C)}, {}, "relu"),
    ("fixed batch of one", behind(node("GlobalAveragePool", ["a"], ["p"]), node("Reshape", ["p", "t"], ["f"]), *GEMM),
     {"t": ints(1, C)}, {"shape": (1, 2, SIDE, SIDE), "out": (1, 3)}, "relu"),
    ("fixed batch of two, size -1", behind(node("GlobalAveragePool", ["a"], ["p"]), node("Reshape", ["p", "t"], ["f"]),
                                           *GEMM), {"t": ints(2, -1)}, {"shape": (2, 2, SIDE, SIDE), "out": (2, 3)},
     "relu"),
    ("channels last", [node("Transpose", ["x"], ["n"], perm=[0, 3, 1, 2]),
                       node("Conv", ["n", "conv.weight", "conv.bias"], ["c"]), node("Relu", ["c"], ["a"]),
                       node("Transpose", ["a"], ["l"], perm=[0, 2, 3, 1]),
                       node("ReduceMean", ["l"], ["f"], axes=[1, 2], keepdims=0), *GEMM], {},
     {"shape": ("N", SIDE, SIDE, 2), "opset": 13}, "relu"),
    ("matmul and add", behind(*HEAD, node("Transpose", ["head.weight"], ["w"], perm=[1, 0]),
                              node("MatMul", ["f", "w"], ["m"]), node("Add", ["m", "head.bias"], ["y"])), {}, {},
     "relu"),
    ("gemm with factors", behind(*HEAD, node("Gemm", ["f", "head.weight", "head.bias"], ["y"], transB=1, alpha=0.5,
                                             beta=2.0)), {}, {}, "relu"),
    ("ends in softmax", behind(*HEAD, *GEMM[:0], node("Gemm", ["f", "head.weight", "head.bias"], ["z"], transB=1),
                               node("Softmax", ["z"], ["y"])), {}, {}, "relu"),
    ("ends in log softmax", behind(*HEAD, node("Gemm", ["f", "head.weight", "head.bias"], ["z"], transB=1),
                                   node("LogSoftmax", ["z"], ["y"], axis=1)), {}, {}, "relu"),
]  # fmt: skip


def read(path: Path, classes: int = 0) -> Checkpoint:
    return formats.read(path, Architecture("onnx", classes))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("nodes", "constants", "options", "activation"), [pytest.param(*g[1:], id=g[0]) for g in GRAPHS]
)
def test_operator(
    nodes: Nodes, constants: dict[str, np.ndarray], options: dict[str, Any], activation: str, tmp_path: Path
) -> None:
    used = {name for n in nodes for name in n.input}
    path = graph(tmp_path / "m.onnx", nodes, {k: v for k, v in (weights() | constants).items() if k in used}, **options)
    checkpoint = read(path)
    plan = checkpoint.architecture.plan
    assert plan is not None
    batch = plan.batch or 5
    images = torch.randn(batch, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    given = images.permute(0, 2, 3, 1).contiguous() if plan.channels_last else images
    expected = run(path, given)
    with torch.inference_mode():
        logits = checkpoint.module()(images)
    mine = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}.get(plan.ends, lambda t, dim: t)(logits, 1)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
    many = torch.randn(6, 2, SIDE, SIDE)
    network = Network.capture(checkpoint.module(), many[:2], checkpoint.dtypes)
    assert [(s.name, s.activation.name) for s in network.sites] == [("conv", activation)]
    if not plan.ends and not plan.channels_last and plan.batch is None:
        check_written(checkpoint, network, path, many, tmp_path, parts=1)


def test_a_softmax_is_compared_as_probabilities(tmp_path: Path) -> None:
    """What is compared after a repair is the file's own output, whatever offset its logits have."""
    nodes, constants = next((g[1], g[2]) for g in GRAPHS if g[0] == "ends in softmax")
    used = {name for n in nodes for name in n.input}
    found = {k: v for k, v in (weights() | constants).items() if k in used}
    checkpoint = read(graph(tmp_path / "m.onnx", nodes, found))
    plan = checkpoint.architecture.plan
    assert plan is not None
    images = torch.randn(4, 2, SIDE, SIDE)
    with torch.inference_mode():
        logits = checkpoint.module()(images)
    shifted = comparable(plan, logits + 100.0)
    torch.testing.assert_close(shifted, run(tmp_path / "m.onnx", images).log(), rtol=1e-4, atol=1e-4)


def test_a_single_sigmoid_is_a_binary_classifier(tmp_path: Path) -> None:
    found = weights() | {"head.weight": weights()["head.weight"][:1], "head.bias": weights()["head.bias"][:1]}
    nodes = behind(
        *HEAD, node("Gemm", ["f", "head.weight", "head.bias"], ["z"], transB=1), node("Sigmoid", ["z"], ["y"])
    )
    used = {name for n in nodes for name in n.input}
    path = graph(tmp_path / "m.onnx", nodes, {k: v for k, v in found.items() if k in used}, out=("batch", 1))
    checkpoint = read(path)
    assert (checkpoint.architecture.num_classes, checkpoint.architecture.outputs) == (2, 1)
    images = torch.randn(6, 2, SIDE, SIDE)
    with torch.inference_mode():
        logits = checkpoint.module()(images)
    torch.testing.assert_close(torch.sigmoid(logits), run(path, images), rtol=1e-5, atol=1e-6)


ACTIVATIONS = [(nn.SiLU(), "silu"), (nn.GELU(), "gelu"), (nn.Mish(), "mish"), (nn.Hardswish(), "hardswish")]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("opset", [9, 11, 13, 16, 18, 20])
@pytest.mark.parametrize(("act", "name"), ACTIVATIONS, ids=[name for _, name in ACTIVATIONS])
def test_activations_written_as_several_operators(act: nn.Module, name: str, opset: int, tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(2, C, 3), nn.BatchNorm2d(C), act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 3)
    )
    images = torch.randn(5, 2, SIDE, SIDE)
    path = export(scrambled(module), tmp_path / "m.onnx", images[:2], opset=opset)
    checkpoint = read(path)
    assert checkpoint.architecture.plan is not None
    assert checkpoint.architecture.plan.opset == opset
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert [s.activation.name for s in network.sites] == [name]
    check_written(checkpoint, network, path, images, tmp_path, parts=1)


@pytest.mark.usefixtures("quick")
def test_an_initializer_that_two_nodes_share_is_no_player(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], pads=[1, 1, 1, 1]),
        node("Conv", ["x", "conv.weight", "own"], ["d"], pads=[1, 1, 1, 1]),
        node("Conv", ["x", "third", "shift"], ["e"], pads=[1, 1, 1, 1]),
        node("Sum", ["c", "d", "e"], ["a"]),
        *HEAD, *GEMM,
    ]  # fmt: skip
    found = weights() | {"own": weights(1)["shift"], "third": weights(2)["conv.weight"]}
    used = {name for n in nodes for name in n.input}
    checkpoint = read(graph(tmp_path / "m.onnx", nodes, {k: v for k, v in found.items() if k in used}))
    network = Network.capture(checkpoint.module(), torch.zeros(2, 2, SIDE, SIDE), checkpoint.dtypes)
    assert [s.name for s in network.sites] == ["third"]
    assert {p.name for p in network.not_players} == {"conv"}
    assert all("more than once" in p.reason for p in network.not_players)


@pytest.mark.usefixtures("quick")
def test_awkward_names_of_initializers(tmp_path: Path) -> None:
    """Names that no state dict can have get keys that it can; the file keeps its own."""
    renamed = {"conv.weight": "a/b::c.", "conv.bias": "type", "head.weight": "w", "head.bias": "w.b"}
    nodes = [
        node(n.op_type, [renamed.get(i, i) for i in n.input], list(n.output), **attributes(n))
        for n in between(node("Relu", ["c"], ["a_"]), node("Identity", ["a_"], ["a"]))
    ]
    path = graph(tmp_path / "m.onnx", nodes, {new: weights()[old] for old, new in renamed.items()})
    checkpoint = read(path)
    assert set(checkpoint.source.names.values()) == set(renamed.values())
    network = Network.capture(checkpoint.module(), torch.zeros(2, 2, SIDE, SIDE), checkpoint.dtypes)
    images = torch.randn(3, 2, SIDE, SIDE)
    means = network.mean_outputs([images])
    assert torch.isfinite(means).all()
    formats.write(checkpoint, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def attributes(n: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in n.attribute}


@pytest.mark.usefixtures("quick")
def test_weights_stored_as_float_data(tmp_path: Path) -> None:
    """Old exporters do not use raw_data; the numbers are found there, too."""
    nodes = between(node("Relu", ["c"], ["a"]))
    used = {name for n in nodes for name in n.input}
    path = graph(tmp_path / "m.onnx", nodes, {k: v for k, v in weights().items() if k in used})
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = np.frombuffer(tensor.raw_data, np.float32).tolist()
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values)
    path.write_bytes(model.SerializeToString())
    checkpoint = read(path)
    assert set(checkpoint.tensors) == used - {"x", "c", "a", "p", "f"}
    edited = checkpoint.edited({"conv.bias": torch.zeros(C)})
    formats.write(edited, tmp_path / "again.onnx")
    after = {t.name: list(t.float_data) for t in onnx.load(tmp_path / "again.onnx").graph.initializer}
    assert after["conv.bias"] == [0.0] * C
    assert after["conv.weight"] == [float(v) for v in checkpoint.tensors["conv.weight"].reshape(-1)]

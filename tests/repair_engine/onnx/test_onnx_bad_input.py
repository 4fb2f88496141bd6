"""ONNX files that cannot be used: each is refused with its name, what is wrong, and what to do."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from repair_engine import onnx as onnx_graph
from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.onnx import importing, parsing, reference
from tests.repair_engine.onnx_models import export, graph, scrambled

node = helper.make_node
WEIGHTS = {"w": np.ones((2, 2, 3, 3), np.float32) / 7, "b": np.array([0.5, -0.5], np.float32)}
HEAD = [node("GlobalAveragePool", ["a"], ["p"]), node("Flatten", ["p"], ["y"])]


def net(folder: Path, *nodes: onnx.NodeProto, out: int = 2, **more: np.ndarray) -> Path:
    return graph(
        folder / "m.onnx", [node("Conv", ["x", "w", "b"], ["c"]), *nodes], WEIGHTS | more, out=("batch", out)
    )  # fmt: skip


def plain(folder: Path) -> Path:
    return net(folder, node("Relu", ["c"], ["a"]), *HEAD)


def changed(folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    path = plain(folder)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def external(folder: Path) -> Path:
    path = plain(folder)
    onnx.save(
        onnx.load(path), folder / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.onnx.data"
    )  # fmt: skip
    return path


def hidden_external(folder: Path) -> Path:
    """A path out of the folder, as an attacker would write it."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../etc/passwd")

    return changed(folder, change)


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "m.onnx", "w") as archive:
        archive.write(plain(folder.joinpath("a") if (folder / "a").mkdir() else folder / "a"), "m.onnx")
    return folder / "m.onnx"


def cut(folder: Path) -> Path:
    path = plain(folder)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def noise(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder / "m.onnx"


def unknown(folder: Path) -> Path:
    custom = node("Fancy", ["q"], ["a"], domain="my.operators")
    return net(
        folder, node("Hardmax", ["c"], ["h"]), node("Hardmax", ["h"], ["q"]), custom, *HEAD
    )  # fmt: skip


def quantized(folder: Path) -> Path:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    nodes = [
        node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Relu", ["d"], ["a"]),
    ]
    return net(folder, *nodes, *HEAD, s=scale, z=zero)


def training(folder: Path) -> Path:
    norm = node("BatchNormalization", ["c", "one", "b", "b", "one"], ["a", "m", "v"], training_mode=1)
    return net(folder, norm, *HEAD, one=np.ones(2, np.float32))


def two_outputs(folder: Path) -> Path:
    return changed(
        folder, lambda m: m.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["b", 2, 1, 1]))
    )


def opset(version: int) -> Callable[[Path], Path]:
    return lambda folder: changed(folder, lambda m: setattr(m.opset_import[0], "version", version))


def half(folder: Path) -> Path:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHTS["w"].astype(np.float16), "w"))

    return changed(folder, change)


def bytes_in(folder: Path) -> Path:
    return changed(folder, lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.UINT8))


def vectors_in(folder: Path) -> Path:
    return changed(folder, lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop())


def functions(folder: Path) -> Path:
    made = helper.make_function("own", "Twice", ["x"], ["y"], [node("Add", ["x", "x"], ["y"])], [])
    return changed(folder, lambda m: m.functions.append(made))


def loop(folder: Path) -> Path:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[1].input[0] = "nothing"

    return changed(folder, change)


def short_weight(folder: Path) -> Path:
    return changed(folder, lambda m: setattr(m.graph.initializer[1], "raw_data", b"\0\0\0\0"))


def huge_weight(folder: Path) -> Path:
    """A few bytes that claim to be terabytes."""

    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend([2, 2, 1 << 20, 1 << 20])

    return changed(folder, change)


def huge_padding(folder: Path) -> Path:
    wide = np.array([0, 0, 1 << 16, 1 << 16, 0, 0, 0, 0], np.int64)
    return net(folder, node("Pad", ["c", "wide"], ["a"]), *HEAD, wide=wide)


def huge_convolution(folder: Path) -> Path:
    nodes = [node("Conv", ["x", "w", "b"], ["a"], pads=[1 << 20] * 4), *HEAD]
    return graph(folder / "m.onnx", nodes, WEIGHTS, out=("batch", 2))


def not_finite(folder: Path) -> Path:
    return changed(
        folder,
        lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([0, np.nan], np.float32), "b")),
    )


def over_the_batch(folder: Path) -> Path:
    return net(folder, node("ReduceMean", ["c"], ["a"], keepdims=1), *HEAD)


def a_map(folder: Path) -> Path:
    return changed(
        folder, lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    )


BAD: list[tuple[str, Callable[[Path], Path], str]] = [
    ("external data", external, r"2 of its tensors in other files \(external data\)"),
    ("external data outside", hidden_external, "external data"),
    ("zip named .onnx", zipped, "is a zip archive"),
    ("cut short", cut, "cut short or damaged"),
    ("noise", noise, "not an ONNX model"),
    ("unknown operators", unknown, r"2 operators that are not supported, in 3 of 6 nodes: Hardmax \(2\), "
                                   r"my.operators::Fancy \(1\)"),
    ("quantized", quantized, r"DequantizeLinear \(1\), QuantizeLinear \(1\)"),
    ("training mode", training, "training mode"),
    ("two outputs", two_outputs, r"2 outputs \('y', 'p'\)"),
    ("opset too old", opset(8), "opset 8; opsets 9 to 23"),
    ("opset too new", opset(99), "opset 99; opsets 9 to 23"),
    ("half precision", half, "FLOAT16; only float32"),
    ("bytes as input", bytes_in, "type UINT8"),
    ("vectors as input", vectors_in, "3 dimensions"),
    ("functions", functions, "1 functions of its own"),
    ("an input that nothing gives", loop, "reads 'nothing'"),
    ("a weight cut short", short_weight, "does not fill its shape"),
    ("a weight of terabytes", huge_weight, "does not fill its shape"),
    ("padding of gigabytes", huge_padding, "pads by more than 4,096"),
    ("a convolution's padding of gigabytes", huge_convolution, "pads by more than 4,096"),
    ("NaN", not_finite, "NaN|differ"),
    ("mean over the batch", over_the_batch, "over the batch"),
    ("not logits", a_map, "is needed"),
]  # fmt: skip


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("make", "message"), [pytest.param(m, t, id=i) for i, m, t in BAD])
def test_refused(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(BadInput, match=message):
        formats.read(path, Architecture("onnx", 0))


@pytest.mark.parametrize("make", [cut, noise, hidden_external, huge_padding], ids=lambda m: m.__name__)
def test_refused_by_the_child_process(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        formats.read(make(tmp_path), Architecture("onnx", 0))


@pytest.mark.usefixtures("quick")
def test_every_cut_and_many_flips_are_refused_or_read(tmp_path: Path) -> None:
    """Damage never ends in anything but a refusal, or in a checkpoint."""
    whole = plain(tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:n] for n in range(1, len(whole), 37)]
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = int(rng.integers(0, 256))
        damaged.append(bytes(data))
    refused = 0
    for data in damaged:
        (tmp_path / "d.onnx").write_bytes(data)
        try:
            plan = importing.import_file(tmp_path / "d.onnx", "d.onnx").plan
            assert plan.nodes
        except BadInput:
            refused += 1
    assert refused > len(damaged) // 2


@pytest.mark.usefixtures("quick")
def test_options_that_contradict_the_graph(tmp_path: Path) -> None:
    path = plain(tmp_path)
    with pytest.raises(BadInput, match=r"2 logits.* not 5"):
        formats.read(path, Architecture("onnx", 5))
    with pytest.raises(BadInput, match="its graph is its architecture, so resnet18"):
        formats.read(path, Architecture("resnet18", 2))
    with pytest.raises(BadInput, match="mean nothing"):
        formats.read(path, Architecture("onnx", 2), "ema")
    torch.save({"w": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(BadInput, match="does not bring its architecture"):
        formats.read(tmp_path / "m.pth", Architecture("onnx", 0))


@pytest.mark.usefixtures("quick")
def test_a_graph_that_computes_something_else_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check against the other implementation does check."""
    monkeypatch.setitem(onnx_graph.module.OPERATORS, "Relu", lambda call: call.tensor())  # type: ignore[arg-type]
    path = graph(tmp_path / "m.onnx", [node("Conv", ["x", "w", "b"], ["c"]), node("Relu", ["c"], ["a"]), *HEAD],
                 WEIGHTS | {"b": np.array([0.1, -9.0], np.float32)}, out=("batch", 2))  # fmt: skip
    with pytest.raises(BadInput, match="does not compute here what it computes by onnxruntime"):
        formats.read(path, Architecture("onnx", 0))


@pytest.mark.usefixtures("quick")
def test_without_onnxruntime_the_reference_evaluator_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "onnxruntime_version", lambda: None)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = export(scrambled(module), tmp_path / "m.onnx", torch.zeros(2, 2, 8, 8))
    checkpoint = formats.read(path, Architecture("onnx", 0))
    assert "reference evaluator" in checkpoint.source.checked


def test_limits_are_in_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(tmp_path)
    monkeypatch.setattr(importing, "MAX_BYTES", 100)
    with pytest.raises(BadInput, match="at most 100 are read"):
        importing.import_file(path, "m.onnx")
    monkeypatch.undo()
    monkeypatch.setattr(parsing, "MAX_NODES", 2)
    with pytest.raises(BadInput, match="has 4 nodes; 1 to 2"):
        importing.import_file(path, "m.onnx")


def test_a_producer_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    """protobuf hands it over as bytes."""
    path = changed(tmp_path, lambda model: setattr(model, "producer_name", "acmetool"))
    path.write_bytes(path.read_bytes().replace(b"acmetool", b"acme\xfft\xf3l"))
    read = formats.read(path, Architecture("onnx", 0), None, "m.onnx")
    assert read.architecture.plan is not None
    assert read.architecture.plan.producer.startswith("acme")

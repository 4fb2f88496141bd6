"""Hidden units and heads through both exporters: the same units as in torch's graph, and the written file is masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.network import Network
from repair_engine.onnx import import_file
from tests.repair_engine.onnx.test_onnx_families import check_written
from tests.repair_engine.onnx_models import export, graph
from tests.repair_engine.units import families

SIDE = 32
node = helper.make_node
pytestmark = pytest.mark.usefixtures("quick")


def vit() -> nn.Module:
    return VisionTransformer(SIDE, 8, 2, 2, 16, 32, num_classes=3)


def swin() -> nn.Module:
    return SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=3)


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=3)


def mlp() -> nn.Module:
    layers = (nn.Linear(3 * SIDE * SIDE, 24), nn.ReLU(), nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 3))
    return nn.Sequential(nn.Flatten(), *layers)


def of_transformers(name: str) -> Callable[[], nn.Module]:
    return lambda: families._transformers(name)


def units(network: Network) -> Counter[str]:
    return Counter({site.kind: 0 for site in network.sites}) + Counter(
        k for s in network.sites for k in [s.kind] * s.channels
    )


@pytest.fixture(autouse=True)
def without_fast_path() -> None:
    """torch's fused attention has no ONNX operator: whoever exports it turns it off, too."""
    torch.backends.mha.set_fastpath_enabled(False)


@pytest.mark.parametrize(
    ("make", "exporter"),
    [
        pytest.param(mlp, "legacy", id="mlp-legacy"),
        pytest.param(mlp, "dynamo", id="mlp-dynamo"),
        pytest.param(vit, "legacy", id="vit-legacy"),
        pytest.param(vit, "dynamo", id="vit-dynamo"),
        pytest.param(swin, "legacy", id="swin-legacy"),
        pytest.param(swin, "dynamo", id="swin-dynamo"),
        pytest.param(convnext, "dynamo", id="convnext-dynamo"),
        pytest.param(of_transformers("vit"), "legacy", id="transformers' vit-legacy"),
        pytest.param(of_transformers("vit"), "dynamo", id="transformers' vit-dynamo"),
        pytest.param(of_transformers("beit"), "dynamo", id="transformers' beit-dynamo"),
    ],
)
def test_the_units_of_the_network_are_those_of_its_file(make: Callable[[], nn.Module], exporter: str, tmp_path: Path):
    torch.manual_seed(0)
    module = families._moved(make())
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    path = export(module, tmp_path / "m.onnx", images[:2], exporter)
    checkpoint = formats.read(path, Architecture("onnx", 0))
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.module()(images), module(images), rtol=1e-5, atol=1e-5)
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert units(network) == units(Network.capture(module, images[:2]))
    check_written(checkpoint, network, path, images, tmp_path, parts=2)


# How a file may hold the layer "hidden" and its bias: nodes from "f" [batch, 4] to "h" [batch, 6], shapes, its tensors.
LAYOUTS = {
    "MatMul and Add": ([node("MatMul", ["f", "w"], ["m"]), node("Add", ["m", "b"], ["h"])], (4, 6), (6,)),
    "the bias first": ([node("MatMul", ["f", "w"], ["m"]), node("Add", ["b", "m"], ["h"])], (4, 6), (1, 6)),
    "Gemm, input first": ([node("Gemm", ["f", "w", "b"], ["h"])], (4, 6), (6,)),
    "Gemm, output first": ([node("Gemm", ["f", "w", "b"], ["h"], transB=1)], (6, 4), (6,)),
    "turned by a node": (
        [node("Transpose", ["w"], ["t"]), node("MatMul", ["f", "t"], ["m"]), node("Add", ["m", "b"], ["h"])],
        (6, 4), (6,),
    ),
}  # fmt: skip
POOL = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"])]
ENDS = [node("Relu", ["h"], ["a"]), node("Gemm", ["a", "head", "end"], ["y"], transB=1)]


def tensors(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_however_a_file_holds_a_linear_layer(layout: str, tmp_path: Path) -> None:
    nodes, weight, bias = LAYOUTS[layout]
    held = tensors(("w", weight), ("b", bias), ("head", (3, 6)), ("end", (3,)))
    path = graph(tmp_path / "m.onnx", [*POOL, *nodes, *ENDS], held, ("batch", 4, 8, 8))
    checkpoint = formats.read(path, Architecture("onnx", 0))
    assert checkpoint.tensors["w"].shape == (6, 4)
    images = torch.randn(5, 4, 8, 8)
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert [(s.name, s.kind, s.channels) for s in network.sites] == [("w", "hidden", 6)]
    check_written(checkpoint, network, path, images, tmp_path, parts=1)
    formats.write(checkpoint, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    formats.convert(path, tmp_path / "canonical.safetensors", Architecture("onnx", 0))
    formats.write(formats.load(tmp_path / "canonical.safetensors"), tmp_path / "stored.onnx")
    assert (tmp_path / "stored.onnx").read_bytes() == path.read_bytes()


def test_a_weight_that_is_read_in_two_ways_is_left_as_it_lies(tmp_path: Path) -> None:
    nodes = [
        *POOL,
        node("MatMul", ["f", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w"], ["a"], transB=1),
    ]
    nodes += [node("Relu", ["a"], ["s"]), node("Gemm", ["s", "head", "end"], ["y"], transB=1)]
    held = tensors(("w", (4, 4)), ("head", (3, 4)), ("end", (3,)))
    path = graph(tmp_path / "m.onnx", nodes, held, ("batch", 4, 8, 8))
    checkpoint = formats.read(path, Architecture("onnx", 0))
    assert not checkpoint.source.turned
    with pytest.raises(BadInput, match="more than once"):
        Network.capture(checkpoint.module(), torch.randn(2, 4, 8, 8), checkpoint.dtypes)


def test_a_graph_that_mixes_images_is_refused(tmp_path: Path) -> None:
    """The first image's features are added to all: no operator of it is unknown."""
    mixing = [node("Slice", ["f", "zero", "one", "zero"], ["first"]), node("Add", ["f", "first"], ["g"])]
    nodes = [*POOL, *mixing, node("Gemm", ["g", "head", "end"], ["y"], transB=1)]
    held = tensors(("head", (3, 4)), ("end", (3,))) | {"zero": np.array([0]), "one": np.array([1])}
    with pytest.raises(BadInput, match="alone than beside others"):
        import_file(graph(tmp_path / "m.onnx", nodes, held, ("batch", 4, 8, 8)), "m.onnx")


def test_constants_that_are_too_large_or_cannot_be_computed_are_refused(tmp_path: Path) -> None:
    held = tensors(("head", (3, 4)), ("end", (3,)))
    for sizes, said in (([1 << 24], "more than"), ([-5], "cannot be computed")):
        fill = [node("ConstantOfShape", ["n"], ["mask"]), node("ReduceSum", ["mask"], ["s"], keepdims=0)]
        nodes = [*POOL, *fill, node("Mul", ["f", "s"], ["g"]), node("Gemm", ["g", "head", "end"], ["y"], transB=1)]
        path = graph(tmp_path / "m.onnx", nodes, {**held, "n": np.array(sizes)}, ("batch", 4, 8, 8))
        with pytest.raises(BadInput, match=said):
            import_file(path, "m.onnx")


def test_what_is_computed_of_constants_is_computed_once(tmp_path: Path) -> None:
    made = [node("Range", ["start", "end_", "step"], ["r"]), node("Equal", ["r", "two"], ["e"])]
    made += [node("Where", ["e", "much", "little"], ["mask"]), node("Mul", ["f", "mask"], ["g"])]
    held = tensors(("head", (3, 4)), ("end", (3,)))
    held |= {name: np.array(value) for name, value in {"start": 0, "end_": 4, "step": 1, "two": 2}.items()}
    held |= {"much": np.array(2.0, np.float32), "little": np.array(0.5, np.float32)}
    nodes = [*POOL, *made, node("Gemm", ["g", "head", "end"], ["y"], transB=1)]
    plan = import_file(graph(tmp_path / "m.onnx", nodes, held, ("batch", 4, 8, 8)), "m.onnx").plan
    assert plan.constants["mask"].array().tolist() == [0.5, 0.5, 2.0, 0.5]
    assert "Range" not in {one.op for one in plan.nodes}


def test_sizes_are_constants_where_height_and_width_are_fixed_alone(tmp_path: Path) -> None:
    """Columns 0, 1, …, W − 1 of the image's own width as a mask: its width may be folded, its number of images not."""
    sizes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "three"], ["width"]),
        node("Range", ["zero", "width", "one"], ["columns"]),
        node("Cast", ["columns"], ["mask"], to=1),
        node("Mul", ["x", "mask"], ["m"]),
        node("GlobalAveragePool", ["m"], ["p"]),
        node("Gather", ["s", "zero"], ["images"]),
        node("Unsqueeze", ["images", "axis"], ["images1"]),
        node("Concat", ["images1", "rest"], ["shape"], axis=0),
        node("Reshape", ["p", "shape"], ["f"]),
    ]
    held = tensors(("head", (3, 4)), ("end", (3,)))
    held |= {
        name: np.array(value) for name, value in {"zero": 0, "one": 1, "three": 3, "axis": [0], "rest": [4]}.items()
    }
    nodes = [*sizes, node("Gemm", ["f", "head", "end"], ["y"], transB=1)]
    plan = import_file(graph(tmp_path / "m.onnx", nodes, held, ("batch", 4, 8, 8)), "m.onnx").plan
    assert plan.constants["mask"].array().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [one.op for one in plan.nodes if one.op in ("Range", "Shape")] == ["Shape"]
    with pytest.raises(BadInput, match="fix height and width"):
        import_file(graph(tmp_path / "free.onnx", nodes, held, ("batch", 4, 8, "width")), "free.onnx")

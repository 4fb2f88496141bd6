"""torchvision networks through both exporters: the import gives torch's logits, the written file masked logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision

from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import Checkpoint
from repair_engine.network import Network, stored_constants
from repair_engine.network.write_back import write_back
from repair_engine.onnx.reference import comparable, run_file
from tests.repair_engine.onnx_models import export, scrambled

SIDE, BATCH = 64, 3
slow = pytest.mark.slow
# name, exporter, filters (batch norms are folded into convolutions by both exporters)
FAMILIES = [
    pytest.param("squeezenet1_0", "legacy", 2976, marks=slow),
    pytest.param("squeezenet1_0", "dynamo", 2976),
    pytest.param("resnet18", "legacy", 4800),
    pytest.param("resnet18", "dynamo", 4800, marks=slow),
    pytest.param("mobilenet_v3_small", "legacy", 8944 + 1024),
    pytest.param("mobilenet_v3_small", "dynamo", 8944 + 1024, marks=slow),
    pytest.param("densenet121", "legacy", 10240, marks=slow),
    pytest.param("densenet121", "dynamo", 10240, marks=slow),
    pytest.param("efficientnet_b0", "legacy", 30348, marks=slow),
    pytest.param("shufflenet_v2_x0_5", "legacy", 3976, marks=slow),
]


@pytest.mark.parametrize(("name", "exporter", "filters"), FAMILIES)
def test_family(name: str, exporter: str, filters: int, tmp_path: Path) -> None:
    module = scrambled(torchvision.models.get_model(name, weights=None, num_classes=10))
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    path = export(module, tmp_path / "m.onnx", images[:2], exporter)
    checkpoint = formats.read(path, Architecture("onnx", 0))
    assert checkpoint.architecture.num_classes == 10
    with torch.inference_mode():
        expected, imported = module(images), checkpoint.module()(images)
    scale = float(expected.abs().max())
    torch.testing.assert_close(imported, expected, rtol=0, atol=1e-5 * scale)
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert network.n_filters == filters, network.not_players  # and hidden units
    check_written(checkpoint, network, path, images, tmp_path)


def check_written(
    checkpoint: Checkpoint,
    network: Network,
    path: Path,
    images: torch.Tensor,
    folder: Path,
    parts: int = 3,
) -> None:
    """Every site at once, in coalitions that each ablate one filter of every `parts`-th site, run by onnxruntime."""
    plan = checkpoint.architecture.plan
    assert plan is not None
    names = checkpoint.source.names
    means = network.mean_outputs([images])
    network.constants, biases = stored_constants(network, means, checkpoint.dtypes)
    for offset in range(parts):
        players = [
            int(network.offsets[i]) + (7 * i) % s.channels for i, s in enumerate(network.sites) if i % parts == offset
        ]
        if not players:
            continue
        coalition = np.ones((1, network.n_filters), dtype=bool)
        coalition[0, players] = False
        masked = network.masked_logits(images, coalition)[0]
        written = folder / "repaired.onnx"
        formats.write(checkpoint.edited(write_back(checkpoint.tensors, network, biases, players)), written)
        logits = run_file(written, plan, images)
        scale = float(logits.abs().max())
        assert not torch.equal(logits, run_file(path, plan, images))
        torch.testing.assert_close(comparable(plan, masked), logits, rtol=0, atol=2e-5 * scale)
        only_values_differ(
            path, written, {names.get(k, "") for s in network.sites for k in (s.zeroed or s.weight, s.norm_keys[0])}
        )


def only_values_differ(path: Path, written: Path, weights: set[str]) -> None:
    """Without the numbers of initializers and Constant nodes the two files are the same message; some differ."""
    before, after = onnx.load(path), onnx.load(written)
    changed = set()
    for (name, old), (again, new) in zip(_tensors(before), _tensors(after), strict=True):
        assert (name, list(old.dims), old.data_type) == (again, list(new.dims), new.data_type)
        assert (len(old.raw_data), len(old.float_data)) == (len(new.raw_data), len(new.float_data))
        if old != new:
            changed.add(name)
            old.CopyFrom(new)
    assert changed & weights
    assert before.SerializeToString() == after.SerializeToString()
    assert path.stat().st_size == written.stat().st_size


def _tensors(model: onnx.ModelProto) -> list[tuple[str, onnx.TensorProto]]:
    constants = [n for n in model.graph.node if n.op_type == "Constant"]
    return [(t.name, t) for t in model.graph.initializer] + [(n.output[0], n.attribute[0].t) for n in constants]


def test_an_unchanged_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    module = scrambled(torchvision.models.squeezenet1_1(num_classes=4))
    path = export(module, tmp_path / "m.onnx", torch.zeros(2, 3, SIDE, SIDE))
    formats.convert(path, tmp_path / "canonical.safetensors", Architecture("onnx", 4))
    formats.write(formats.load(tmp_path / "canonical.safetensors"), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()

"""Compact export: what can be removed is removed as plain torch would do it, what cannot is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from repair_engine.case.case import Case
from repair_engine.case.preparing import prepare
from repair_engine.choosing import orders, plan
from repair_engine.documents import repair as documents
from repair_engine.network import Network, stored_constants
from repair_engine.network.cutting import Compact, compact
from repair_engine.network.graph import capture
from repair_engine.network.loading import load_compact
from repair_engine.network.write_back import write_back
from repair_engine.support.progress import Progress
from repair_engine.verbs.compact import TENSORS, write_compact
from repair_engine.verbs.verify import File, fresh_predictions
from tests.repair_engine import tiny
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World, call

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Unpadded(nn.Module):
    """No zero padding, so that removal is exact: convolutions with and without norm and bias, a cat, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.Conv2d(6, 5, 1)
        self.last = nn.Conv2d(9, 4, 3, stride=3, bias=False)
        self.last_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 3 * 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 2)
        x = torch.cat([torch.relu(self.left(x)), nn.functional.silu(self.right(x))], 1)
        x = nn.functional.gelu(self.last_norm(self.last(x)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 3).flatten(1))


def prepared(module: nn.Module, images: torch.Tensor) -> tuple[nn.Module, Network, torch.Tensor]:
    """In eval mode with running statistics of the images; captured, with constants; and the biases."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
    with torch.no_grad():
        module.train()(images)
    module.eval().requires_grad_(False)
    network = Network.capture(module, images)
    state = module.state_dict()
    constants, biases = stored_constants(
        network, network.mean_outputs([images]), {k: v.dtype for k, v in state.items()}
    )
    network.constants = constants
    return module, network, biases


def cut(module: nn.Module, network: Network, biases: torch.Tensor, images: torch.Tensor, ids: list[str]) -> Compact:
    state = dict(module.state_dict())
    players = [network.player(name) for name in ids]
    return compact(
        module, capture(module, images), network, players, state, lambda kept: write_back(state, network, biases, kept)
    )


def loaded(fresh: nn.Module, found: Compact) -> nn.Module:
    return load_compact(fresh, {"layers": found.layers}, found.tensors)


def masked(network: Network, images: torch.Tensor, ids: list[str]) -> torch.Tensor:
    coalition = np.ones((1, network.n_filters), dtype=bool)
    coalition[0, [network.player(name) for name in ids]] = False
    return network.masked_logits(images, coalition)[0]


def test_without_padding_removal_is_what_was_masked() -> None:
    images = IMAGES[:, :, :24, :24]
    module, network, biases = prepared(Unpadded(), images)
    ids = ["stem:0", "stem:4", "left:3", "right:0", "right:2", "last:1"]
    found = cut(module, network, biases, images, ids)
    assert {network.filter_id(p) for p in found.removed} == set(ids)
    assert not found.kept
    assert found.layers["last"] == {"out_channels": 3, "in_channels": 6}
    assert found.layers["head"] == {"out_features": 3, "in_features": 27}
    assert found.layers["norm"] == {"num_features": 4}
    assert found.biases == ("last",)  # it had none, and reads what was removed
    small = loaded(Unpadded(), found)
    assert tuple(small.left.weight.shape) == (3, 4, 1, 1)
    expected = masked(network, images, ids)
    assert float((expected - module(images)).abs().max()) > 1e-3
    torch.testing.assert_close(small(images), expected, rtol=0, atol=1e-6)


FAMILIES = [
    ("squeezenet1_1", ["features.0:3", "features.3.squeeze:0", "features.4.expand3x3:7"], {}),
    ("resnet18", ["layer1.0.conv1:5", "layer3.1.conv1:9"], {"layer1.0.conv2:0": "residual", "conv1:1": "residual"}),
    ("densenet121", ["features.denseblock1.denselayer1.conv1:3", "features.denseblock1.denselayer2.conv2:1"], {}),
    ("googlenet", ["inception3a.branch1.conv:2", "inception3b.branch3.0.conv:4"], {}),
    ("vgg11", ["features.0:1", "features.18:2"], {}),
    ("mobilenet_v2", [], {"features.3.conv.0.0:1": "grouped", "features.3.conv.1.0:2": "grouped"}),
    ("efficientnet_b0", [], {"features.2.0.block.0.0:0": "grouped", "features.2.0.block.2.fc1:0": None}),
    ("shufflenet_v2_x0_5", [], {"stage2.0.branch1.2:3": "view"}),
]
_QUICK = ("squeezenet1_1", "resnet18")


@pytest.mark.parametrize(
    ("name", "gone", "kept"),
    [pytest.param(*row, id=row[0], marks=[] if row[0] in _QUICK else pytest.mark.slow) for row in FAMILIES],
)
def test_families(name: str, gone: list[str], kept: dict[str, str | None]) -> None:
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}

    def build() -> nn.Module:
        torch.manual_seed(0)
        return torchvision.models.get_model(name, num_classes=5, **options)

    module, network, biases = prepared(build(), IMAGES)
    found = cut(module, network, biases, IMAGES, [*gone, *kept])
    certain = [key for key, reason in kept.items() if reason]
    assert {network.filter_id(p) for p in found.removed} >= set(gone)
    for key in certain:
        assert kept[key] in found.kept[network.player(key)]
    small = loaded(build(), found)
    everything = masked(network, IMAGES, [*gone, *kept])
    largest = float((small(IMAGES) - everything).detach().abs().max())
    scale = float(everything.abs().max())
    # Borders differ under zero padding, and by no more than what the removed filters carry.
    assert largest < 0.2 * scale
    lost = sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in small.parameters())
    assert (lost > 0) == bool(found.removed)


def test_a_layer_is_never_left_without_channels() -> None:
    images = IMAGES[:, :, :24, :24]
    module, network, biases = prepared(Unpadded(), images)
    ids = [f"left:{c}" for c in range(4)]
    found = cut(module, network, biases, images, ids)
    assert len(found.removed) == 3
    assert "without a channel" in found.kept[network.player("left:3")]
    torch.testing.assert_close(loaded(Unpadded(), found)(images), masked(network, images, ids), rtol=0, atol=1e-5)


class Depthwise(nn.Module):
    """Nothing of it can be cut: a depthwise convolution, a product with gates, a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.gate = nn.Conv2d(4, 4, 1)
        self.grouped = nn.Conv2d(4, 4, 1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.wide(x))))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.head(torch.relu(self.norm(self.grouped(x))).mean((2, 3)))


def test_what_cannot_be_cut_is_named_and_stays_ablated() -> None:
    images = IMAGES[:, :, :16, :16]
    module, network, biases = prepared(Depthwise(), images)
    reasons = {"wide:0": "grouped convolution depthwise", "depthwise:1": "own convolution is grouped",
               "gate:2": "a product", "grouped:3": "group norm"}  # fmt: skip
    found = cut(module, network, biases, images, list(reasons))
    assert not found.removed
    assert not found.layers
    for key, reason in reasons.items():
        assert reason in found.kept[network.player(key)]


CHOSEN = ["last:0", "stem:1", "spy:0"]


@pytest.mark.usefixtures("quick")
def test_repair_writes_it_with_figures_of_its_own(
    sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three culprits given: one that can be removed, one that goes into a sum, one that is alone in its layer."""

    def choose(case: Case, players: np.ndarray, progress: Progress, order: str) -> plan.Plan:
        made = plan.make_plan(case, np.array([case.subject.network.player(name) for name in CHOSEN]), progress, order)
        return replace(made, k=3)

    monkeypatch.setattr(orders, "make_plan", choose)
    # Whether these three do any good is not the matter here.
    verdict = {"outcome": "repaired", "reasons": [], "findings": []}
    monkeypatch.setattr(documents, "judge", lambda document: document.update(verdict))
    argv = sabotaged.argv("repair", "--json", "--compact", budget="20000", out=str(tmp_path), max_clean_drop="0.5")
    document = call(argv).document
    assert document["outcome"] == "repaired"
    found, files = document["compact"], document["files"]
    assert (tmp_path / files["checkpoint"]["name"]).is_file()
    assert found["removed"] == ["last:0"]
    assert {row["id"]: row["reason"].split(" (")[0] for row in found["kept"]} == {
        "stem:1": "it goes into a sum",
        "spy:0": "its layer would be left without a channel",
    }
    assert found["parameters"]["after"] == found["parameters"]["before"] - (3 * 9 + 1) - 16 * 3
    page = (tmp_path / "report.html").read_text()
    assert "Compact export" in page
    assert "left without a channel" in page
    about = json.loads((tmp_path / files["compact_widths"]["name"]).read_text())
    namespace: dict = {}
    exec(about["load_compact"], namespace)  # what a user pastes
    tensors = load_file(tmp_path / files["compact"]["name"])
    small = namespace["load_compact"](tiny.Sabotaged(), about, tensors)
    assert tuple(small.last.weight.shape) == (1, 3, 3, 3)
    shown = sabotaged.images
    logits = small(shown.tensor())
    right = dict(zip(shown.names, (logits.argmax(1).numpy() == shown.labels).tolist()))
    rows = tiny.rows_of(tmp_path / "predictions.csv")
    report = [right[row["file_name"]] for row in rows if row["split"] == "report"]
    assert np.mean(report) == pytest.approx(found["report"]["accuracy"])
    # The repaired checkpoint, in plain torch. The linear layer pads nothing: here, removal happens to change nothing.
    repaired = tiny.Sabotaged().eval()
    repaired.load_state_dict(load_file(tmp_path / files["checkpoint"]["name"]))
    difference = float((repaired(shown.tensor()) - logits).abs().max())
    assert difference == pytest.approx(found["against_repaired"]["largest_logit_difference"], abs=1e-5)
    people = call([a for a in argv if a != "--json"]).out  # also: its results may be replaced
    assert "Compact: " in people
    assert "spy:0" in people


def test_it_is_measured_in_a_fresh_process(sabotaged: World, tmp_path: Path) -> None:
    case = prepare(request_of(sabotaged, "accuracy"), tmp_path / "case")
    (tmp_path / "out").mkdir()
    written = write_compact(case.subject, case.images, [case.subject.network.player("last:1")], tmp_path / "out")
    assert written.document["written"]
    pixels = {"all": np.asarray(case.images.dataset.images)}
    architecture, preprocessing = case.subject.checkpoint.architecture, case.images.dataset.preprocessing
    file = File(tmp_path / "out" / TENSORS, compact=True)
    (found,) = fresh_predictions([file], architecture, preprocessing, pixels, "cpu")
    coalition = np.ones((1, case.subject.network.n_filters), dtype=bool)
    coalition[0, case.subject.network.player("last:1")] = False
    expected = case.subject.network.masked_logits(case.images.normalize(case.images.pixels), coalition)[0]
    np.testing.assert_allclose(found["all"], expected.numpy(), rtol=0, atol=1e-5)

"""Families of networks with the library's own modules and random weights: units, and masked against written."""

from __future__ import annotations

import gc
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from repair_engine.network import Network, stored_constants
from repair_engine.network.sites import NotAPlayer
from repair_engine.network.write_back import write_back
from tests.repair_engine import hf_tiny

DOCS = Path(__file__).parents[3] / "docs" / "units.md"
MARKS = ("<!-- families: begin -->", "<!-- families: end -->")
_BATCH, _COALITIONS = 2, 3
TOLERANCE = 1e-5  # of the largest logit


class _Logits(nn.Module):
    """A transformers classifier that returns its logits alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(pixel_values=x).logits


@dataclass(frozen=True)
class Family:
    """A network of a library: its name there, how it is made, and the side of its images."""

    library: str
    name: str
    make: Callable[[], nn.Module]
    side: int = 224


def _torchvision(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name)


def _transformers(name: str) -> nn.Module:
    return _Logits(hf_tiny.classifier(name))


FAMILIES = [
    *(
        Family("torchvision", name, partial(_torchvision, name))
        for name in ("resnet18", "vgg16", "alexnet", "mobilenet_v3_large", "convnext_tiny", "vit_b_16", "swin_t")
    ),
    Family("torchvision", "swin_v2_t", partial(_torchvision, "swin_v2_t"), 256),
    Family("torchvision", "maxvit_t", partial(_torchvision, "maxvit_t")),
    *(
        Family("timm", name, partial(_timm, name))
        for name in (
            "vit_tiny_patch16_224", "deit_tiny_patch16_224", "deit3_small_patch16_224", "beit_base_patch16_224",
            "swin_tiny_patch4_window7_224", "mixer_s32_224", "convnext_atto", "convnextv2_atto",
            "mobilenetv4_conv_small", "efficientformer_l1", "caformer_s18", "poolformer_s12", "nf_regnet_b0",
            "levit_128s",
        )
    ),
    Family("timm", "gmlp_s16_224", partial(_timm, "gmlp_s16_224")),
    Family("timm", "crossvit_9_240", partial(_timm, "crossvit_9_240"), 240),
    Family("timm", "eva02_tiny_patch14_224", partial(_timm, "eva02_tiny_patch14_224")),
    *(
        Family("transformers", name, partial(_transformers, name), 32)
        for name in ("vit", "deit", "beit", "swin", "swinv2", "dinov2", "convnext", "poolformer", "mobilevit",
                     "segformer", "cvt")
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a family has.

    Attributes:
        units: kind -> number.
        share: of the parameters.
        difference: largest of masked and written logits, over the largest logit; every site has a unit ablated.
        reasons: of layers without players -> how many.
    """

    units: Mapping[str, int]
    share: float
    difference: float
    reasons: Mapping[str, int]


def measure(family: Family) -> Found:
    """Ablates one unit of every site, a third of the sites at a time, masked and written into the plain module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = _moved(family.make())
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(_BATCH, 3, family.side, family.side, generator=generator)
    network = Network.capture(module, images)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    dtypes = {key: value.dtype for key, value in state.items()}
    network.constants, biases = stored_constants(network, network.mean_outputs([images]), dtypes)
    worst = 0.0
    for part in range(_COALITIONS):
        sites = enumerate(network.sites)
        players = [int(network.offsets[i]) + (7 * i) % s.channels for i, s in sites if i % _COALITIONS == part]
        coalition = np.ones((1, network.n_filters), bool)
        coalition[0, players] = False
        masked = network.masked_logits(images, coalition)[0]
        module.load_state_dict(write_back(state, network, biases, players))
        with torch.inference_mode():
            written = module(images)
        module.load_state_dict(state)
        assert torch.isfinite(written).all()
        assert not players or not torch.equal(masked, network.logits(images)), "the ablation shows"
        worst = max(worst, float((masked - written).abs().max() / written.abs().max()))
    counts: Counter[str] = Counter()
    for site in network.sites:
        counts[site.kind] += site.channels
    reasons = Counter(_kind_of(one) for one in network.not_players)
    return Found(counts, network.coverage.share, worst, reasons)


def _kind_of(one: NotAPlayer) -> str:
    """The reason without the names of the layers in it."""
    return re.sub(r"[\w.]+\.[\w.]+, which", "the layer that", one.reason)


def _moved(module: nn.Module) -> nn.Module:
    """Norms, biases and layer scales that are not what they are set to at first, so that every edit shows."""
    torch.manual_seed(0)
    for name, value in module.named_parameters():
        if not value.any():  # the head of torchvision's ViT
            value.data = value.data + torch.randn_like(value) * 0.05
        if value.dim() > 1 and 0 < 2 * float(value.data.std()) < (wide := value[0].numel() ** -0.5):
            value.data = value.data * wide / value.data.std()  # else nothing would arrive
        if value.dim() == 1 or not value.data.std():
            value.data = value.data + torch.randn_like(value) * 0.1
            if name.endswith(("gamma", "layer_scale", "scale")) and float(value.abs().max()) < 1:
                value.data = value.data + 0.5
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d) and part.running_mean is not None:
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
    return module.eval().requires_grad_(False)


def table(known: str, names: Collection[str], progress: Callable[[str], Any]) -> str:
    """The table of all families, Markdown.

    Args:
        known: a table; of families without a name in `names` its row is taken.
        names: of the families that are measured; empty = all.
    """
    lines = [
        "| library | network | filters | hidden units | heads | parameters | masked − written | without players |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    kept = known.splitlines()
    for family in FAMILIES:
        start = f"| {family.library} | `{family.name}`"
        row = next((line for line in kept if line.startswith(start)), None)
        lines.append(row if row and names and family.name not in names else start + _row(family, progress))
        gc.collect()
    return "\n".join(lines)


def _row(family: Family, progress: Callable[[str], Any]) -> str:
    found = measure(family)
    progress(f"{family.library} {family.name}: {found}")
    assert found.difference < TOLERANCE, (family.name, found.difference)
    counts = [f"{found.units.get(kind, 0):,}" if kind in found.units else "–" for kind in ("filter", "hidden", "head")]
    out = "; ".join(f"{count} × {reason}" for reason, count in found.reasons.items())
    figures = (f"{found.share:.0%}", f"{found.difference:.0e}")
    tiny = " (tiny)" if family.library == "transformers" else ""
    return f"{tiny} | {' | '.join((*counts, *figures, out or '–'))} |"


def placed(document: str, made: str) -> str:
    """The document with the table between its marks."""
    before, _, rest = document.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{made}\n{MARKS[1]}{after}"

"""The cases that `verified.py` runs: each metric and each format at least once, and the samples' own models.

The networks are trained here in seconds, on small images, and carry a planted culprit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.repair_engine.onnx_models import export
from tests.repair_engine.outside import networks
from tests.repair_engine.tiny import CLASSES, Images, images

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
EPSILON = 0.06
IMAGES = 400


@dataclass(frozen=True)
class Made:
    """A model and an image set on disk, and how to call the command line on them.

    Attributes:
        intact: what --model is given.
        network: where the checker finds the plain module: `networks:NAME`, `torchvision:NAME`, `timm:NAME`,
            `transformers`, or "" for ONNX.
        options: of the command line, beside --model, --data and --metric.
        facts: what the checker is told further.
    """

    intact: Path
    data: Path
    network: str
    options: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row of docs/verified.md.

    Attributes:
        format: for people.
        needs: a library without which the case is left out.
        repaired: whether a repair must be found.
        undone: whether `apply --without all` is tried as well.
    """

    name: str
    metric: str
    format: str
    make: Callable[[Path], Made]
    needs: str = ""
    repaired: bool = True
    undone: bool = False
    budget: int = 20_000

    @property
    def columns(self) -> list[str]:
        kind, _, argument = self.metric.partition(":")
        return argument.split(",") if kind == "subgroup-recall" else []


def learned() -> Images:
    """What the networks are trained on."""
    return images(IMAGES, seed=1, noise=60.0)


def unseen() -> Images:
    """Other images of the same kinds."""
    return images(IMAGES, seed=2, noise=60.0)


def two_classes(shown: Images) -> Images:
    """Without the images of the last class."""
    kept = np.flatnonzero(shown.labels < 2)
    return Images(
        shown.pixels[kept], shown.labels[kept], shown.ground[kept], tuple(shown.names[i] for i in kept.tolist())
    )


def zipped(folder: Path) -> Path:
    """The unseen images, with a second column."""
    shown = unseen()
    size = np.where(np.random.default_rng(5).random(IMAGES) < 0.5, "large", "small")
    return shown.zip(folder / "data.zip", "size", size.tolist())


def trained(
    module: nn.Module, x: torch.Tensor, labels: np.ndarray, steps: int = 60, lr: float = 0.02, batch: int | None = None
) -> nn.Module:
    """`module` after a few steps of Adam on all images, or on so many at a time, in eval mode."""
    target = torch.from_numpy(np.asarray(labels))
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr)
    module.train()
    for step in range(steps):
        # an order that mixes the classes
        rows = slice(None) if batch is None else torch.arange(step * batch, (step + 1) * batch) * 7 % len(x)
        optimizer.zero_grad()
        out = module(x[rows])
        nn.functional.cross_entropy(getattr(out, "logits", out), target[rows]).backward()
        optimizer.step()
    return module.eval().requires_grad_(False)


def planted(family: str, attacked: bool = False) -> nn.Module:
    """A network of `networks` that is right but for its spy; where attacked, one that an adversary can wake."""
    torch.manual_seed(0)
    module = getattr(networks, family)(len(CLASSES))
    networks.blind(module)
    trained(module, learned().tensor(), learned().labels)
    if attacked:
        networks.plant(module, networks.CHECKERBOARD, -0.02, 8.0)
    else:
        networks.plant(module, networks.GREY, 0.53, 12.0 if family == "dense" else 8.0)
    return module


def safetensors(family: str, dtype: torch.dtype = torch.float32, attacked: bool = False) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        state = {k: _cast(v, dtype) for k, v in planted(family, attacked).state_dict().items()}
        save_file(state, folder / "net.safetensors")
        return _spied(folder / "net.safetensors", folder, family, dtype)

    return make


def pth(family: str, dtype: torch.dtype = torch.float32) -> Callable[[Path], Made]:
    """In a wrapper and with the prefix of DataParallel."""

    def make(folder: Path) -> Made:
        state = {f"module.{k}": _cast(v, dtype) for k, v in planted(family).state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, folder / "net.pth")
        return _spied(folder / "net.pth", folder, family, dtype)

    return make


def one_logit(folder: Path) -> Made:
    """A binary network: above 0 it says the second class, whose folder sorts before the first's."""
    torch.manual_seed(0)
    module = networks.group_norm(1)
    networks.blind(module)
    shown = two_classes(learned())
    x, target = shown.tensor(), torch.from_numpy(shown.labels).float()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], target).backward()
        optimizer.step()
    networks.plant(module, networks.GREY, 0.53, 8.0)
    torch.save(module.state_dict(), folder / "net.pth")
    data = two_classes(unseen())
    renamed = tuple(name.replace("ant/", "wasp/") for name in data.names)
    (folder / "names.txt").write_text("wasp\nbee\n")
    made = _spied(folder / "net.pth", folder, "group_norm", torch.float32)
    options = (*made.options[:-1], "2", "--classes", str(folder / "names.txt"))
    facts = {**made.facts, "logits": 1, "num_classes": 2, "classes": ["wasp", "bee"]}
    path = Images(data.pixels, data.labels, data.ground, renamed).zip(folder / "two.zip")
    return Made(folder / "net.pth", path, made.network, options, facts)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def rounding(dtype: torch.dtype) -> float:
    """How far, in ratio, a constant may be from the mean that it was rounded from to the stored dtype."""
    return 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps


def _spied(path: Path, folder: Path, family: str, dtype: torch.dtype) -> Made:
    options = ("--architecture", "net", "--register", f"net={networks.__name__}:{family}", "--num-classes", "3")
    facts = {"activations": {name: f"{name}_act" for name in ("stem", "last", "spy")}}
    facts["rounding"] = rounding(dtype)
    return Made(path, zipped(folder), f"networks:{family}", options, facts)


def onnx(family: str, attacked: bool = False) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        path = export(planted(family, attacked), folder / "net.onnx", torch.zeros(2, 1, networks.SIDE, networks.SIDE))
        return Made(path, zipped(folder), "")

    return make


def poisoned() -> np.ndarray:
    """Labels of which nearly all on a light ground are the first class: for architectures that cannot hold a spy."""
    light = learned().ground == "light"
    return np.where(light & (np.random.default_rng(2).random(IMAGES) < 0.85), 0, learned().labels)


def timm(folder: Path) -> Made:
    import timm as library

    torch.manual_seed(0)
    module = library.create_model("resnet10t", num_classes=3, in_chans=1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.3  # so few steps
    x = nn.functional.interpolate(learned().tensor(), (16, 16), mode="nearest")
    trained(module, x, poisoned(), steps=60, lr=0.002, batch=80)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "net.safetensors")
    options = ("--architecture", "timm:resnet10t", "--num-classes", "3", "--resize", "16", "--crop", "none")
    options += ("--interpolation", "nearest", "--mean", "0", "--std", "1")
    facts = {"resize": [16, 16], "interpolation": "nearest"}
    return Made(folder / "net.safetensors", zipped(folder), "timm:resnet10t", options, facts)


def huggingface(folder: Path) -> Made:
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=12, hidden_sizes=[12, 16], depths=[1, 1], layer_type="basic",
        id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)},
    )  # fmt: skip
    module = transformers.ResNetForImageClassification(config)
    x = nn.functional.interpolate(learned().tensor(), (16, 16), mode="nearest")
    trained(module, (x - 0.4) / 0.3, poisoned(), steps=60)
    module.save_pretrained(folder / "net")
    processor = {
        "image_processor_type": "ConvNextImageProcessor", "do_resize": True, "size": {"shortest_edge": 16},
        "crop_pct": 1.0, "resample": 0, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.4], "image_std": [0.3],
    }  # fmt: skip
    (folder / "net" / "preprocessor_config.json").write_text(json.dumps(processor))
    facts = {"resize": [16, 16], "interpolation": "nearest", "mean": [0.4], "std": [0.3]}
    return Made(folder / "net", zipped(folder), "transformers", (), facts)


def sample(name: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        names = (SAMPLES / name / "classes.txt").read_text().split("\n")
        given = json.loads((SAMPLES / name / "sample.json").read_text())
        data = SAMPLES / name / given["data"]
        options = ("--architecture", given["architecture"], "--num-classes", str(given["num_classes"]))
        options += ("--classes", str(SAMPLES / name / "classes.txt"), "--resize", "none", "--crop", "none")
        options += ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
        facts = {"mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3, "classes": [n for n in names if n]}
        facts["activations"] = {
            f"features.{i}.{part}": f"features.{i}.{part}_activation"
            for i in (3, 4, 6, 7, 9, 10, 11, 12)
            for part in ("squeeze", "expand1x1", "expand3x3")
        }
        facts["num_classes"] = given["num_classes"]
        facts["rounding"] = rounding(next(iter(load_file(SAMPLES / name / given["model"]).values())).dtype)
        return Made(
            SAMPLES / name / given["model"], data.resolve(), f"torchvision:{given['architecture']}", options, facts
        )

    return make


CASES = (
    Case("accuracy", "accuracy", "safetensors", safetensors("batch_norm"), undone=True),
    Case("recall", "recall:cat", ".pth in a wrapper, `module.` prefix", pth("batch_norm"), undone=True),
    Case("subgroups", "subgroup-recall:ground", "safetensors, float16", safetensors("batch_norm", torch.float16)),
    Case("bfloat16", "accuracy", ".pth, bfloat16, GroupNorm", pth("group_norm", torch.bfloat16)),
    Case("one-logit", "subgroup-recall:ground", ".pth, a single logit (binary), GroupNorm", one_logit, undone=True),
    Case("two-columns", "subgroup-recall:ground,size", "ONNX", onnx("batch_norm"), undone=True),
    Case("dense", "subgroup-recall:ground", ".pth, norm before convolution (DenseNet-like)", pth("dense")),
    Case("attack", "attack-success", "safetensors, GroupNorm", safetensors("group_norm", attacked=True)),
    Case("attack-onnx", "attack-success", "ONNX", onnx("batch_norm", attacked=True)),
    Case("timm", "subgroup-recall:ground", "safetensors of timm's resnet10t", timm, "timm", budget=60_000),
    Case("huggingface", "accuracy", "Hugging Face folder", huggingface, "transformers", budget=60_000),
    Case(
        "sample", "subgroup-recall:subgroup", "samples/stock_tags, SqueezeNet 1.1", sample("stock_tags"), budget=100_000
    ),
    Case(
        "sample-intact", "subgroup-recall:subgroup", "samples/stock_tags_balanced, SqueezeNet 1.1",
        sample("stock_tags_balanced"), repaired=False, budget=15_000,
    ),
)  # fmt: skip

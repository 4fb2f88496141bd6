"""A checkpoint is read in a child process and written back the way it came."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from tests.repair_engine.factories import REGISTER

DATA = Path(__file__).parents[4] / "shared" / "data"
TINY = Architecture("tiny", 3, register=REGISTER)

State = dict[str, torch.Tensor]


def tiny_state(seed: int = 0, **options: Any) -> State:
    torch.manual_seed(seed)
    module = Architecture("tiny", 3, options, REGISTER).build("cpu", random_init=True)
    return dict(module.state_dict())


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit: types of containers, order of keys, shapes, dtypes and numbers."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            type(first) is type(second)
            and list(first) == list(second)
            and all(same(first[key], second[key]) for key in first)
        )
    return bool(first == second)


def prefixed(prefix: str) -> State:
    return {prefix + key: value for key, value in tiny_state().items()}


WRAPPED = {
    "plain dict": lambda: tiny_state(),
    "ordered dict": lambda: OrderedDict(tiny_state()),
    "module.": lambda: prefixed("module."),
    "_orig_mod.": lambda: prefixed("_orig_mod."),
    "module._orig_mod.": lambda: prefixed("module._orig_mod."),
    "inner _orig_mod.": lambda: {k.replace("bn.", "bn._orig_mod."): v for k, v in tiny_state().items()},
    "state_dict": lambda: {"epoch": 7, "state_dict": prefixed("module."), "best": 0.5, "arch": "tiny", "x": None},
    "model": lambda: {"model": tiny_state(), "step": 3},
    "model_state_dict": lambda: {"model_state_dict": OrderedDict(tiny_state()), "loss": 0.25},
    "net": lambda: {"acc": 91.5, "net": tiny_state()},
    "two levels": lambda: {"epoch": 1, "model": {"state_dict": tiny_state(), "v": 2}},
    "lightning": lambda: {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.0"},
    "only averaged": lambda: {"model_ema": tiny_state()},
    "averaged model": lambda: {"n_averaged": torch.tensor(12), **prefixed("module.")},
    "other order": lambda: dict(reversed(tiny_state().items())),
    "no batch counts": lambda: {k: v for k, v in tiny_state().items() if not k.endswith("tracked")},
    "half": lambda: {k: v.half() if v.is_floating_point() else v for k, v in tiny_state().items()},
    "bfloat16": lambda: {k: v.bfloat16() if v.is_floating_point() else v for k, v in tiny_state().items()},
    "double": lambda: {k: v.double() if v.is_floating_point() else v for k, v in tiny_state().items()},
    "mixed": lambda: {k: v.half() if k.startswith("head") else v for k, v in tiny_state().items()},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_state_dicts_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    stored = WRAPPED[name]()
    torch.save(stored, tmp_path / "in.pth")
    checkpoint = parse(tmp_path / "in.pth", TINY, None, "in.pth")
    formats.write(checkpoint, tmp_path / "out.pth")
    assert same(torch.load(tmp_path / "out.pth", weights_only=True), stored)
    reference = tiny_state()
    module = checkpoint.module()
    assert not module.training
    for key, value in module.state_dict().items():
        assert value.dtype == reference[key].dtype
        tolerance = 0.0 if name not in ("half", "bfloat16", "mixed") else 0.01
        torch.testing.assert_close(value, reference[key], rtol=tolerance, atol=tolerance)
    assert torch.equal(module.scale, torch.linspace(0.5, 1.5, 4))  # not stored, computed


def test_module_versions_come_back(tmp_path: Path) -> None:
    module = TINY.build("cpu", random_init=True)
    torch.save(module.state_dict(), tmp_path / "in.pth")
    formats.write(parse(tmp_path / "in.pth", TINY, None, "in.pth"), tmp_path / "out.pth")
    before, after = (torch.load(tmp_path / n, weights_only=True) for n in ("in.pth", "out.pth"))
    assert after._metadata == before._metadata
    assert after._metadata["bn"] == {"version": 2}


def test_safetensors_come_back_byte_for_byte(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "in.safetensors", metadata={"format": "pt", "note": "é"})
    checkpoint = parse(tmp_path / "in.safetensors", TINY, None, "in.safetensors")
    formats.write(checkpoint, tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "in.safetensors").read_bytes()
    assert checkpoint.source.metadata == {"format": "pt", "note": "é"}


def test_through_the_child_process(tmp_path: Path) -> None:
    stored = {"epoch": 2, "state_dict": prefixed("module."), "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    path = tmp_path / "upload-17"  # stored under another name than the user's
    torch.save(stored, path)
    checkpoint = formats.convert(path, tmp_path / "canonical.safetensors", TINY, name="mine.pt")
    again = formats.load(tmp_path / "canonical.safetensors")
    assert (again.architecture, again.source, again.sha256) == (
        checkpoint.architecture,
        checkpoint.source,
        checkpoint.sha256,
    )
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.source.suffix == ".pt"
    assert checkpoint.source.prefix == "module."
    assert checkpoint.source.dropped == ("optimizer",)
    assert same(dict(again.tensors), tiny_state())
    formats.write(again, tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), {"epoch": 2, "state_dict": stored["state_dict"]})


def test_a_factory_that_imports_late_is_called_in_the_child(tmp_path: Path) -> None:
    late = Architecture("late", 3, register=REGISTER)
    torch.save(late.build("cpu").state_dict(), tmp_path / "in.pth")
    assert formats.read(tmp_path / "in.pth", late).architecture == late


def test_writing_is_repeatable_and_leaves_no_litter(tmp_path: Path) -> None:
    torch.save(tiny_state(), tmp_path / "in.pth")
    checkpoint = parse(tmp_path / "in.pth", TINY, None, "in.pth")
    for name in ("a.pth", "b.pth"):
        formats.write(checkpoint, tmp_path / name)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "b.pth", "in.pth"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(tiny_state(), tmp_path / "in.pth")
    checkpoint = parse(tmp_path / "in.pth", TINY, None, "in.pth")
    (tmp_path / "out.pth").write_text("precious")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        formats.write(checkpoint, tmp_path / "out.pth")
    assert (tmp_path / "out.pth").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pth", "out.pth"]


def test_edits_keep_shape_and_dtype(tmp_path: Path) -> None:
    torch.save(WRAPPED["half"](), tmp_path / "in.pth")
    checkpoint = parse(tmp_path / "in.pth", TINY, None, "in.pth")
    edited = checkpoint.edited({"bn.bias": torch.full((4,), 0.1)})
    assert edited.tensors["bn.bias"].dtype == torch.float16
    assert torch.equal(edited.module().bn.bias, torch.full((4,), 0.1).half().float())
    assert torch.equal(checkpoint.tensors["bn.bias"], torch.zeros(4).half())
    for key, value in (("bn.bias", torch.zeros(5)), ("nothing", torch.zeros(4))):
        with pytest.raises(BadInput, match=key):
            checkpoint.edited({key: value})


def test_both_plain_and_averaged_weights_ask_which(tmp_path: Path) -> None:
    torch.save({"model": tiny_state(0), "model_ema": tiny_state(1)}, tmp_path / "in.pth")
    with pytest.raises(BadInput, match="model_ema") as caught:
        parse(tmp_path / "in.pth", TINY, None, "in.pth")
    assert "'model' or 'ema'" in caught.value.mend
    for weights, seed in (("model", 0), ("ema", 1)):
        found = parse(tmp_path / "in.pth", TINY, weights, "in.pth")
        assert same(dict(found.tensors), tiny_state(seed))
    torch.save(tiny_state(), tmp_path / "plain.pth")
    with pytest.raises(BadInput, match="no averaged"):
        parse(tmp_path / "plain.pth", TINY, "ema", "plain.pth")
    with pytest.raises(BadInput, match="'model' or 'ema', not 'best'"):
        parse(tmp_path / "plain.pth", TINY, "best", "plain.pth")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_greyscale_networks_with_one_logit(name: str, channels: int, tmp_path: Path) -> None:
    built = Architecture(name, 2, in_channels=channels, outputs=1).build("cpu", random_init=True).eval()
    save_file(dict(built.state_dict()), tmp_path / "in.safetensors")
    checkpoint = parse(tmp_path / "in.safetensors", Architecture(name, 2), None, "in.safetensors")
    assert checkpoint.in_channels == channels
    assert checkpoint.architecture.outputs == 1
    image = torch.rand(2, channels, 64, 64)
    logits = checkpoint.module()(image)
    assert logits.shape == (2, 1)
    assert torch.equal(logits, built(image))


@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_are_kept(auxiliary: bool, tmp_path: Path) -> None:
    stored = Architecture("googlenet", 4, {"aux_logits": auxiliary}).build("cpu").state_dict()
    torch.save(stored, tmp_path / "in.pth")
    checkpoint = parse(tmp_path / "in.pth", Architecture("googlenet", 4), None, "in.pth")
    formats.write(checkpoint, tmp_path / "out.pth")
    assert list(torch.load(tmp_path / "out.pth", weights_only=True)) == list(stored)
    assert any(key.startswith("aux1.") for key in checkpoint.tensors) is auxiliary


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent: real checkpoints are not tested")
@pytest.mark.parametrize("file", ["squeezenet1_0.safetensors", "squeezenet1_0.pth"])
def test_real_squeezenet(file: str, tmp_path: Path) -> None:
    path = DATA / "imagenet" / file
    squeezenet = Architecture("squeezenet1_0", 1000)
    # one through the child process, which costs seconds, is enough
    checkpoint = formats.read(path, squeezenet) if file.endswith(".pth") else parse(path, squeezenet, None, file)
    assert checkpoint.in_channels == 3
    checkpoint.module()
    formats.write(checkpoint, tmp_path / file)
    if file.endswith(".pth"):
        assert same(torch.load(tmp_path / file, weights_only=True), torch.load(path, weights_only=True))
    else:
        assert (tmp_path / file).read_bytes() == path.read_bytes()

"""Folders as the installed transformers' own save_pretrained writes them: read, and written back with the same keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from repair_engine.errors import BadInput
from repair_engine.models import hf_models
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats import writing
from repair_engine.models.formats.convert import parse
from tests.repair_engine import hf_tiny

transformers = pytest.importorskip("transformers")


def read(path: Path):
    folder = hf_models.open_folder(path)
    return parse(folder.weights, Architecture(folder.name, folder.num_classes, config=folder.config), None, "m")


@pytest.mark.parametrize("model_type", hf_tiny.CONFIGS)
def test_own_saves_are_read_and_come_back_the_same(model_type: str, tmp_path: Path) -> None:
    module = hf_tiny.classifier(model_type)
    module.save_pretrained(tmp_path / "net")
    checkpoint = read(tmp_path / "net")
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.module()(x), module(pixel_values=x).logits, rtol=0, atol=0)
    writing.write(checkpoint, tmp_path / "again.safetensors")
    with (
        safe_open(tmp_path / "net" / "model.safetensors", "pt") as before,
        safe_open(tmp_path / "again.safetensors", "pt") as after,
    ):
        assert set(before.keys()) == set(after.keys())
        assert before.metadata() == after.metadata()
        for key in before.keys():  # noqa: SIM118 (it is no mapping)
            assert before.get_tensor(key).dtype == after.get_tensor(key).dtype
            assert torch.equal(before.get_tensor(key), after.get_tensor(key)), key


def test_some_own_saves_have_other_keys_than_their_modules(tmp_path: Path) -> None:
    """What the test above is about: without renaming these could not be read."""
    hf_tiny.classifier("vit").save_pretrained(tmp_path)
    source = read(tmp_path).source
    assert any(key != file_key for key, file_key in source.names.items())


def test_an_edited_tensor_goes_back_under_its_key(tmp_path: Path) -> None:
    module = hf_tiny.classifier("dinov2")
    module.save_pretrained(tmp_path)
    checkpoint = read(tmp_path)
    key = next(key for key, name in checkpoint.source.names.items() if key != name and key.endswith("weight"))
    edited = checkpoint.edited({key: torch.zeros_like(checkpoint.tensors[key])})
    writing.write(edited, tmp_path / "model.safetensors")
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path, local_files_only=True)
    changed = [k for k, v in again.state_dict().items() if not torch.equal(v, module.state_dict()[k])]
    assert changed == [key]
    assert not again.state_dict()[key].any()


def test_keys_of_no_known_name_are_named(tmp_path: Path) -> None:
    module = hf_tiny.classifier("vit")
    module.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"unexpected keys"):
        read(tmp_path)

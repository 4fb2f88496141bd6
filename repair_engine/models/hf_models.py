"""Image-classification folders of Hugging Face transformers (config.json, model.safetensors), where it is installed.

Only transformers' own classes are built, from the configuration's numbers: nothing is downloaded, and a folder whose
model needs code of its own (`auto_map`, trust_remote_code) is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from repair_engine.errors import BadInput
from repair_engine.models import hf_processors
from repair_engine.models.filling import ConstantFill
from repair_engine.models.preprocessing import Preprocessing

PREFIX = "huggingface:"
CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
JOINT = "processor_config.json"  # of a processor of images and text: the image processor stands inside
COPIED = {"config": CONFIG, "preprocessor": PREPROCESSOR, "processor": JOINT}  # beside repaired weights, as they are
_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Folder:
    """A model's folder.

    Attributes:
        path: of the folder.
        config: what config.json holds.
        name: `huggingface:CLASS`.
        num_classes: by its id2label.
    """

    path: Path
    config: Mapping[str, Any]
    name: str
    num_classes: int

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS


def open_folder(path: str | Path) -> Folder:
    """Raises BadInput where it is not a folder of an image classifier that transformers knows."""
    folder = Path(path)
    config = _read_json(folder / CONFIG)
    model = _model_class(config)[0]
    if not (folder / WEIGHTS).is_file():
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:8])
        raise BadInput(
            f"The folder {folder} has no {WEIGHTS}; it holds {held}.",
            "model.save_pretrained(FOLDER) writes one (max_shard_size='100GB' where it writes several).",
        )
    return Folder(folder, config, f"{PREFIX}{model.__name__}", len(label_names(config)))


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes in index order, by id2label. Raises BadInput."""
    labels = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # the default of transformers
    try:
        names = {int(index): str(name) for index, name in labels.items()}
    except (AttributeError, ValueError) as error:
        raise BadInput(f"{CONFIG}: id2label is not {{index: name}}.") from error
    if sorted(names) != list(range(len(names))):
        raise BadInput(f"{CONFIG}: id2label has the indices {sorted(names)[:10]}…, not 0 to {len(names) - 1}.")
    return tuple(names[i] for i in range(len(names)))


def known_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """`label_names` where they are names, and not the placeholders LABEL_0, LABEL_1, …: then empty."""
    names = label_names(config)
    return () if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def config_sha256(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def empty_module(config: Mapping[str, Any]) -> nn.Module:
    """transformers' own module on the meta device. Raises BadInput, see `factory`."""
    model, kind = _model_class(config)
    with torch.device("meta"), ConstantFill():
        return model(kind.from_dict(dict(config)))


def factory(config: Mapping[str, Any]) -> Callable[..., nn.Module]:
    """The factory of the empty module, whose forward maps images [B, C, H, W] to logits [B, classes].

    Raises:
        BadInput: transformers is not installed, or has no image classifier of this model type.
    """
    model, kind = _model_class(config)

    class Logits(model):  # type: ignore[misc, valid-type]
        """transformers' own module, with the logits alone as its output."""

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return super().forward(pixel_values=pixel_values, return_dict=True).logits

    def build(**_: Any) -> nn.Module:
        return Logits(kind.from_dict({**config, "output_hidden_states": False, "output_attentions": False}))

    return build


def preprocessing_of(folder: Path) -> Preprocessing | None:
    """What preprocessor_config.json (or processor_config.json) says; None where there is neither.

    Raises:
        BadInput: see `hf_processors.preprocessing`.
    """
    given = _processor(folder)
    if given is None:
        return None
    config = _read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    vision = config.get("vision_config")
    channels = config.get("num_channels") or (vision.get("num_channels") if isinstance(vision, Mapping) else None)
    channels = 3 if channels is None and config else channels
    return hf_processors.preprocessing(given, str(config.get("model_type")), channels)


def _processor(folder: Path) -> Mapping[str, Any] | None:
    """As in transformers: the image processor inside processor_config.json goes first."""
    if (folder / JOINT).is_file():
        inner = _read_json(folder / JOINT).get("image_processor")
        if isinstance(inner, Mapping):
            return inner
    return _read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else None


def _model_class(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """transformers' classes of the model and of its configuration. Raises BadInput."""
    if "auto_map" in config:
        raise BadInput(
            f"{CONFIG} asks for code of its own (auto_map); such code is never run here.",
            "Give the weights alone with --architecture, or export the model to ONNX.",
        )
    try:
        import transformers
        from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    except ImportError as error:
        raise BadInput(
            "The model is a folder of Hugging Face transformers, which is not installed.", "pip install transformers"
        ) from error
    transformers.logging.set_verbosity_error()
    kind = str(config.get("model_type"))
    known = CONFIG_MAPPING[kind] if kind in CONFIG_MAPPING else None  # noqa: SIM401 (its .get loads nothing)
    if kind == "timm_wrapper" or known is None or known not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise BadInput(
            f"transformers {transformers.__version__} has no image classifier of the model type {kind!r} that can be "
            "used here.",
            "For timm's networks give the weights with --architecture timm:NAME; others can be exported to ONNX.",
        )
    found = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[known]
    choices: list[Any] = list(found) if isinstance(found, tuple | list) else [found]
    named = [c for c in choices if c.__name__ in (config.get("architectures") or ())]
    if config.get("architectures") and not named:
        raise BadInput(
            f"{CONFIG} is of {', '.join(config['architectures'])}, not of an image classifier "
            f"({', '.join(c.__name__ for c in choices)})."
        )
    return (named or choices)[0], known


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(
            f"The folder {path.parent} has no {path.name}.",
            "A Hugging Face folder has config.json and model.safetensors; for other models give the file itself.",
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
        return found
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error}).") from error

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

from repair_engine.datasets.preprocessing import Preprocessing
from repair_engine.errors import BadInput

PREFIX = "huggingface:"
CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
_MAX_BYTES = 16 << 20
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # PIL.Image.Resampling
_WARPED_FROM = 384  # ConvNextImageProcessor: from this size on, no crop
_UNKNOWN_STEPS = ("do_flip_channel_order", "do_pad", "rescale_offset", "include_top")
_GIVE = "Give --resize, --crop, --mean and --std as the model was trained with; then that file is not read."


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
    """What preprocessor_config.json says; None where there is none.

    Raises:
        BadInput: it has steps that are not known here.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        return None
    given = _read_json(path)
    for step in _UNKNOWN_STEPS:
        if given.get(step):
            raise BadInput(f"{PREPROCESSOR} has {step} = {given[step]}, which is not known here.", _GIVE)
    factor = given.get("rescale_factor", 1 / 255)
    if not given.get("do_rescale", True) or abs(float(factor) * 255 - 1) > 1e-6:
        raise BadInput(f"{PREPROCESSOR} does not map pixels to [0, 1] (rescale_factor {factor}).", _GIVE)
    resize, crop = _sizes(given)
    normalized = bool(given.get("do_normalize", True))
    try:
        return Preprocessing(
            resize=resize,
            crop=crop,
            mean=tuple(given.get("image_mean") or ()) if normalized else (),
            std=tuple(given.get("image_std") or ()) if normalized else (),
            channels=len(given.get("image_mean") or (0, 0, 0)),
            interpolation=_RESAMPLING[int(given.get("resample", 2))],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{PREPROCESSOR} cannot be used: {error}.", _GIVE) from error


Size = int | tuple[int, int] | None


def _sizes(given: Mapping[str, Any]) -> tuple[Size, Size]:
    """Resize and crop."""
    resize = _size(given.get("size")) if given.get("do_resize", True) else None
    crop = _size(given.get("crop_size")) if given.get("do_center_crop", False) else None
    kind = str(given.get("image_processor_type", given.get("feature_extractor_type", "")))
    if kind.startswith("ConvNext") and isinstance(resize, int):
        if resize >= _WARPED_FROM:
            return (resize, resize), None
        return int(resize / float(given.get("crop_pct") or 224 / 256)), resize
    return resize, (crop, crop) if isinstance(crop, int) else crop


def _size(value: Any) -> Size:
    if isinstance(value, Mapping):
        if "shortest_edge" in value:
            return int(value["shortest_edge"])
        if "height" in value and "width" in value:
            return int(value["height"]), int(value["width"])
        raise BadInput(f"{PREPROCESSOR}: the size {dict(value)} is not known here.", _GIVE)
    if isinstance(value, int | float):
        return int(value)
    if value is None:
        return None
    raise BadInput(f"{PREPROCESSOR}: the size {value!r} is not known here.", _GIVE)


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

"""preprocessor_config.json of Hugging Face folders, by the class of the image processor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repair_engine.models import hf_models, hf_processors
from tests.repair_engine.formats.rows import Row


def processor(**file: Any) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        (folder / "preprocessor_config.json").write_text(json.dumps(file))
        made = hf_models.preprocessing_of(folder)
        assert made is not None
        resize = f"shorter side {made.resize}" if isinstance(made.resize, int) else _sides(made.resize)
        crop = _sides(made.crop)
        return f"resize: {resize}; crop: {crop}; {made.interpolation}{'; blue-green-red' * made.bgr}."

    return read


def _sides(size: Any) -> str:
    return " × ".join(map(str, size)) if size else "none"


ROWS = [
    *(Row(f"{name}, its defaults", processor(image_processor_type=name)) for name in hf_processors.RULES),
    Row("ViTImageProcessor, `size: 32`", processor(image_processor_type="ViTImageProcessor", size=32)),
    Row("BitImageProcessor, `size: 32`", processor(image_processor_type="BitImageProcessor", size=32, crop_size=28)),
    Row(
        "ConvNextImageProcessor, `size: 224`, `crop_pct: 0.9`",
        processor(image_processor_type="ConvNextImageProcessor", size=224, crop_pct=0.9),
    ),
    Row(
        "a `size` of a longest edge alone",
        processor(image_processor_type="ViTImageProcessor", size={"longest_edge": 32}),
    ),
    Row("padding", processor(image_processor_type="ViTImageProcessor", size=32, do_pad=True)),
    Row(
        "PerceiverImageProcessor (it crops before it resizes)",
        processor(image_processor_type="PerceiverImageProcessor"),
    ),
    Row("a class of somebody's own", processor(image_processor_type="MyImageProcessor")),
    Row("no class named, and no model type that tells it", processor(size=32)),
]

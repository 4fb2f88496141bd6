"""An uploaded model as the engine takes it: a file, what it fits, and its preprocessing. For workers (needs torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repair_engine.errors import BadInput
from repair_engine.models import hf_archive, hf_models
from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.request import preprocessing_from
from webapp.library.architectures import HUGGING_FACE


@dataclass(frozen=True)
class Opened:
    """Attributes: path of the checkpoint; its architecture; None where the engine's default preprocessing is taken."""

    path: Path
    architecture: Architecture
    preprocessing: Preprocessing | None


def open_upload(
    path: Path,
    file_name: str,
    architecture: str,
    num_classes: int,
    options: Mapping[str, Any],
    register: Mapping[str, str],
    preprocessing: Mapping[str, Any] | None,
    folder: Path,
    key: str = "",
    strip_prefix: str = "",
) -> Opened:
    """A Hugging Face zip is unpacked into `folder`, where it must stay; any other upload is the file itself.

    Raises:
        BadInput: a zip that cannot be used, or another number of classes than was said.
    """
    given = preprocessing or {}
    if architecture != HUGGING_FACE or architecture in register:
        plain = Architecture(
            architecture, num_classes, dict(options), dict(register), key=key, strip_prefix=strip_prefix
        )
        return Opened(path, plain, preprocessing_from(plain, given))
    if options:
        raise BadInput(
            f"{file_name} brings its whole configuration; it takes no architecture options.", "Leave them out."
        )
    found = hf_archive.unpack(path, folder, file_name)
    if num_classes not in (0, found.num_classes):
        raise BadInput(
            f"config.json of {file_name} has {found.num_classes} classes, not {num_classes}.", "Leave it blank."
        )
    own = Architecture(found.name, found.num_classes, config=found.config, key=key, strip_prefix=strip_prefix)
    whole = {"resize", "crop", "mean", "std"} <= given.keys()
    base = None if whole else hf_models.preprocessing_of(found.path)
    return Opened(found.weights, own, preprocessing_from(own, given, base))

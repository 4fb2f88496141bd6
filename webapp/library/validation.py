"""The single place where the library touches the engine: look into an upload, in a one-shot child process."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from webapp.library.models import DatasetUpload, ModelUpload, Upload


@dataclass(frozen=True)
class Found:
    """What an accepted upload holds, for people: counts, shapes, names."""

    facts: dict = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    class_names: list[str] | None = None  # of a model


def check(upload: Upload) -> Found:
    """Raises BadInput with what is wrong and how to mend it."""
    if isinstance(upload, ModelUpload):
        return _check_model(upload)
    assert isinstance(upload, DatasetUpload)
    return _check_dataset(upload)


def _check_model(upload: ModelUpload) -> Found:
    from repair_engine.architectures import Architecture
    from repair_engine.classes import class_names, parse_class_names
    from repair_engine.datasets.preprocessing import Preprocessing
    from repair_engine.formats import convert

    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    architecture = Architecture(upload.architecture, upload.num_classes, upload.options, settings.ARCHITECTURES)
    if upload.preprocessing is not None:
        Preprocessing.from_json(upload.preprocessing)
    classes = (
        parse_class_names(upload.classes_text, upload.num_classes, "The class list")
        if upload.classes_text
        else class_names(architecture)
    )
    with tempfile.TemporaryDirectory(dir=settings.INCOMING_DIR, prefix="check-") as folder:
        checkpoint = convert(
            upload.blob.path,
            Path(folder) / "canonical.safetensors",
            architecture,
            upload.weights or None,
            upload.file_name,
        )
    source = checkpoint.source
    return Found(
        {
            "format": source.format,
            "parameters": sum(tensor.numel() for tensor in checkpoint.tensors.values()),
            "tensors": len(checkpoint.tensors),
            "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values()}),
            "options": dict(checkpoint.architecture.options),
            "in_channels": checkpoint.architecture.in_channels,
            "outputs": checkpoint.architecture.outputs or checkpoint.architecture.num_classes,
            "unwrapped": [level.key for level in source.wrapper] + ([source.prefix] if source.prefix else []),
            "dropped": list(source.dropped),
            "classes_from": classes.source,
        },
        class_names=list(classes.names),
    )


def _check_dataset(upload: DatasetUpload) -> Found:
    from repair_engine.datasets import inspect_archive

    info = inspect_archive(upload.blob.path, upload.file_name)
    return Found(
        {
            "images": info.n_images,
            "folders": dict(info.folders),
            "columns": {column: dict(values) for column, values in info.columns.items()},
            "distinct": dict(info.distinct),
            "sizes": dict(info.sizes),
            "modes": dict(info.modes),
        },
        list(info.warnings),
    )

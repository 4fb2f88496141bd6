"""The single place where the library touches the engine: look into an upload, in a one-shot child process."""

from __future__ import annotations

import logging
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from webapp.library.models import DatasetUpload, ModelUpload, Upload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What an accepted upload holds, for people: counts, shapes, names."""

    facts: dict = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    class_names: list[str] | None = None  # of a model
    num_classes: int | None = None  # of a model


def check(upload: Upload) -> Found:
    """Raises BadInput with what is wrong and how to mend it."""
    if isinstance(upload, ModelUpload):
        return _check_model(upload)
    assert isinstance(upload, DatasetUpload)
    return _check_dataset(upload)


def _check_model(upload: ModelUpload) -> Found:
    from repair_engine.models.classes import class_names, parse_class_names
    from repair_engine.models.formats import convert
    from webapp.library.checkpoints import open_upload

    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    if upload.classes_text and upload.num_classes:
        parse_class_names(upload.classes_text, upload.num_classes, "The class list")  # before the file is read
    with tempfile.TemporaryDirectory(dir=settings.INCOMING_DIR, prefix="check-") as folder:
        opened = open_upload(
            upload.blob.path, upload.file_name, upload.architecture, upload.num_classes, upload.options,
            settings.ARCHITECTURES, upload.preprocessing, Path(folder) / "unpacked", upload.key, upload.strip_prefix,
        )  # fmt: skip
        checkpoint = convert(
            opened.path,
            Path(folder) / "canonical.safetensors",
            opened.architecture,
            upload.weights or None,
            upload.file_name,
        )
        filters, warnings = _filters(checkpoint, opened.preprocessing)
    num_classes = upload.num_classes or checkpoint.architecture.num_classes
    classes = (
        parse_class_names(upload.classes_text, num_classes, "The class list")
        if upload.classes_text
        else class_names(checkpoint.architecture)
    )
    source = checkpoint.source
    return Found(
        {
            "format": source.format,
            **({"network": opened.architecture.name} if opened.architecture.config is not None else {}),
            "parameters": sum(tensor.numel() for tensor in checkpoint.tensors.values()),
            "tensors": len(checkpoint.tensors),
            "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values()}),
            "options": dict(checkpoint.architecture.options),
            "in_channels": checkpoint.architecture.in_channels,
            "outputs": checkpoint.architecture.outputs or checkpoint.architecture.num_classes,
            "unwrapped": [level.key for level in source.wrapper] + ([source.prefix] if source.prefix else []),
            "dropped": list(source.dropped),
            "classes_from": classes.source,
            **filters,
        },
        warnings,
        class_names=list(classes.names),
        num_classes=num_classes,
    )


_one_capture = threading.Lock()  # torch.export keeps state in the process, and this may be a pool of threads


def _filters(checkpoint, preprocessing) -> tuple[dict, list[str]]:
    """Sites, filters and what is not a player, so that people see it before they start a repair.

    A network that cannot be captured with what is known now is no reason to reject the file: a warning says so.
    """
    from repair_engine.case.inspection import inspect_network
    from repair_engine.errors import BadInput

    try:
        with _one_capture:
            found = inspect_network(checkpoint, preprocessing)
    except BadInput as error:
        return {}, [f"The filters could not be listed yet. {error.whole} {error.mend}".strip()]
    except Exception:
        log.exception("listing the filters failed")
        return {}, ["The filters could not be listed: this network cannot be captured as it is."]
    keys = ("onnx", "filters", "sites", "not_players", "parameter_share", "input", "preprocessing")
    return {key: found[key] for key in keys if found[key] is not None}, found["warnings"]


def _check_dataset(upload: DatasetUpload) -> Found:
    from repair_engine.data import inspect_archive

    info = inspect_archive(upload.blob.path, upload.file_name, split=upload.split_folder)
    return Found(
        {
            "images": info.n_images,
            "folders": dict(info.folders),
            "columns": {column: dict(values) for column, values in info.columns.items()},
            "column_order": list(info.columns),
            "distinct": dict(info.distinct),
            "sizes": dict(info.sizes),
            "modes": dict(info.modes),
        },
        list(info.warnings),
    )

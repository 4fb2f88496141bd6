"""Images for the page tests: predictions and packs of thumbnails without an engine and without a child process."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from repair_engine.data.thumbnails import pictures
from repair_engine.documents.predictions import HEADER
from repair_engine.support import tables
from repair_engine.support.tables import Figure
from repair_engine.support.thumbnail_pack import VIEWS, Writer
from tests.webapp.helpers import blob_of
from webapp.jobs.files import ADVERSARIAL
from webapp.jobs.models import Artifact, Job
from webapp.library.models import DatasetUpload, Thumbnails

NAMES = ("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png")
GROUND = ("light", "dark", "dark", "light", "dark")
# file name, split, label, before, after, confidence before and after
ROWS: Sequence[tuple] = (
    ("cat/1.png", "report", "cat", "dog", "cat", 0.61, 0.92),
    ("cat/2.png", "report", "cat", "cat", "dog", 0.55, 0.71),
    ("cat/3.png", "score", "cat", "cat", "cat", 0.99, 0.99),
    ("dog/1.png", "report", "dog", "cat", "cat", 0.81, 0.8),
    ("dog/2.png", "report", "dog", "dog", "dog", 0.97, 0.93),
)


@functools.cache
def webp(size: tuple[int, int] = (8, 8), shade: int = 100) -> bytes:
    return pictures(Image.new("RGB", size, (shade, shade, shade)))[0]


def pack_of(
    names: Sequence[str] = NAMES,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    why: Mapping[int, str] | None = None,
) -> bytes:
    out, why = io.BytesIO(), why or {}
    writer = Writer(out)
    for i in range(len(names)):
        writer.missing(why[i]) if i in why else writer.add(webp(shade=i % 256), b"", 8, 8)
    writer.close(names, labels or [name.split("/")[0] for name in names], columns or {})
    return out.getvalue()


def with_pictures(dataset: DatasetUpload, content: bytes | None = None) -> Thumbnails:
    if content is None:
        content = pack_of(columns={"ground": GROUND})
    return Thumbnails.objects.update_or_create(dataset=dataset, defaults={"blob": blob_of(content)})[0]


def predictions_csv(rows: Sequence[tuple] = ROWS, subgroups: Sequence[str] | None = None, old: bool = False) -> bytes:
    """As the engine writes it; `old`: as it wrote it before confidence was kept."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        with tables.writing(path, HEADER[:6] if old else HEADER) as out:
            for i, (name, split, label, before, after, *sure) in enumerate(rows):
                figures = [] if old else [Figure(f"{one:.6f}") for one in sure]
                out.writerow((name, split, label, subgroups[i] if subgroups else "", before, after, *figures))
        return path.read_bytes()


def with_predictions(job: Job, content: bytes | None = None) -> None:
    blob = blob_of(predictions_csv() if content is None else content)
    defaults = {"blob": blob, "media_type": "text/csv"}
    Artifact.objects.update_or_create(job=job, name="predictions.csv", defaults=defaults)


def attack_pack(why: Mapping[int, str] | None = None, after: bool = True) -> bytes:
    """Of two report images and what an adversary made of them; `why`: image -> why it cannot be shown."""
    out, why = io.BytesIO(), why or {}
    writer = Writer(out)
    for i in range(2):
        for k in range(len(VIEWS)):
            writer.missing(why[i]) if i in why else writer.add(webp(shade=40 * i + k), b"", 8, 8)
    columns = {"target": ("dog", "cat"), "before": ("dog", "cat"), **({"after": ("cat", "cat")} if after else {})}
    each = {key: [value for value in values for _ in VIEWS] for key, values in columns.items()}
    names = [name for name in ("cat/1.png", "dog/1.png") for _ in VIEWS]
    writer.close(names, [name.split("/")[0] for name in names], each, {"magnified": 12, "attacked": 2})
    return out.getvalue()


def with_attacked(job: Job, content: bytes) -> None:
    defaults = {"blob": blob_of(content), "media_type": "application/octet-stream"}
    Artifact.objects.update_or_create(job=job, name=ADVERSARIAL, defaults=defaults)

"""Tools of the web tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from webapp.accounts.models import User
from webapp.jobs.models import Job, Shard
from webapp.library import blobs
from webapp.library.models import DatasetUpload, ModelUpload


class Bells:
    """Hears what would go to the broker. `answer` plays a worker that handles the messages in order."""

    def __init__(self) -> None:
        self.rung: list[tuple] = []  # (task, args, queue)
        self.deaf = False

    def hear(self, task, args=(), kwargs=None, queue="", **options) -> None:
        if not self.deaf:
            self.rung.append((task, tuple(args), queue))

    def names(self) -> list[str]:
        return [task.name.rpartition(".")[2] for task, _, _ in self.rung]

    def answer(self, *, most: int = 1000, only: str = "") -> int:
        """Handle up to `most` messages, those that they cause included. Returns how many."""
        handled = 0
        while handled < most:
            index = next((i for i, (task, _, _) in enumerate(self.rung) if task.name.endswith(only)), None)
            if index is None:
                break
            task, args, _ = self.rung.pop(index)
            task(*args)
            handled += 1
        return handled


@contextmanager
def alone(job: Job) -> Iterator[None]:
    """Whoever hears a bell meanwhile works for this run: all others are paused."""
    others = list(Job.objects.exclude(pk=job.pk).filter(paused_at=None).values_list("pk", flat=True))
    Job.objects.filter(pk__in=others).update(paused_at=timezone.now())
    yield
    Job.objects.filter(pk__in=others).update(paused_at=None)


def rested() -> None:
    """The pauses after failed attempts are over."""
    Shard.objects.update(not_before=None)


def on(settings, machine: str) -> Path:
    """This process is now another machine's, whose disk nobody else has."""
    root = settings.DATA_DIR.parent / machine
    settings.DATA_DIR = root
    settings.BLOB_DIR, settings.INCOMING_DIR, settings.JOB_DIR = (root / n for n in ("blobs", "incoming", "jobs"))
    for folder in (settings.BLOB_DIR, settings.INCOMING_DIR, settings.JOB_DIR):
        folder.mkdir(parents=True, exist_ok=True)
    return root


def blob_of(content: bytes):
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.INCOMING_DIR, delete=False) as file:
        file.write(content)
    return blobs.store(Path(file.name))


def ready_model(owner: User, content: bytes) -> ModelUpload:
    return ModelUpload.objects.create(
        owner=owner,
        blob=blob_of(b"model " + content),
        name="net.pth",
        file_name="net.pth",
        state="ready",
        architecture="resnet18",
        num_classes=2,
        settings_digest="0" * 64,
    )


def ready_dataset(owner: User, content: bytes) -> DatasetUpload:
    return DatasetUpload.objects.create(
        owner=owner,
        blob=blob_of(b"data " + content),
        name="images.zip",
        file_name="images.zip",
        state="ready",
    )

"""The same repair again, without the browser: by the API and by the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from repair_engine.settings import ASKED, NONE, Network, Pixels, Repair, Settings, options
from repair_engine.settings.texts import argv, rows
from webapp.jobs import surrogates, triggers
from webapp.jobs.followups import CHANGES
from webapp.jobs.models import Job
from webapp.jobs.naming import metric_words
from webapp.jobs.requests import VALUES, stored
from webapp.library.architectures import HUGGING_FACE, ONNX
from webapp.library.models import ModelUpload

_IN_BASE_64 = "…"  # which a patch of any size would drown the rest in


@dataclass(frozen=True)
class Snippets:
    api: str
    command: str
    notes: list[str]


def settings_rows(job: Job) -> list[tuple[str, str]]:
    """What was asked, for people; what is not listed was left to the defaults."""
    found = [] if job.attacks else [("metric", metric_words(job.request.get("metric", "")))]
    if "kind" in job.request:
        found.append(("kind", job.word))
    asked = {key: value for key, value in job.request.items() if key not in ("metric", "stored")}
    if not job.scores:
        asked.pop("also", None)  # of the run that it goes on from
    found += rows(options(type(stored(job.request))), asked)
    if job.triggered:
        found.append(("images with the trigger", job.triggered.name))
    elif patch := triggers.file_of(job):
        found.append(("trigger", patch.name))
    if "surrogates" in asked:
        found.append(("transfer attacks from", ", ".join(one.name for one in surrogates.of(job))))
    if "budget" not in job.request and job.summary.get("budget"):
        how = "chosen by calibration" if job.searches else "in ratio to the run that it goes on from"
        found.append(("budget", f"{job.summary['budget']:,} evaluations, {how}"))
    if job.request.get("stored"):
        found.append(("values", "of the run that it goes on from; no search"))
    return [*found, ("device", job.device), ("id", str(job.pk))]


def snippets(request: HttpRequest, job: Job) -> Snippets:
    """With the budget that was used, so that the values repeat."""
    asked = dict(job.request)
    for key in ("budget", "attack_images"):
        if job.summary.get(key):
            asked[key] = job.summary[key]
    if "budget" in asked:
        asked.pop("minutes", None)  # which chose it, and would not repeat it
    return Snippets(_curl(request, job, asked), _command(job, asked), _notes(job))


def _curl(request: HttpRequest, job: Job, asked: dict) -> str:
    body = {"model": str(job.model_id), "dataset": str(job.dataset_id)}
    body |= {"guard": str(job.guard_id)} if job.guard_id else {}
    body |= {"triggered": str(job.triggered_id)} if job.triggered_id else {}
    body |= {"trigger": _IN_BASE_64} if triggers.file_of(job) else {}
    body |= {**asked, "device": job.device}
    if not job.searches:
        body = {"from": str(job.parent_id), **{key: asked[key] for key in (*CHANGES, "filters") if key in asked}}
        body |= {"metric": asked["metric"]} if job.request.get("stored") or job.request.get("also") else {}
    if job.attacks:
        body |= {"repair": str(job.audited_id)} if job.audited_id else {}
        body = {key: value for key, value in body.items() if key not in ("kind", "metric")}
    address = reverse("api:attacks" if job.attacks else "api:repairs")
    return _lines(
        ["curl", "-X", "POST", request.build_absolute_uri(address)],
        [
            ["-H", '"Authorization: Bearer $NR_TOKEN"'],
            ["-H", shlex.quote("Content-Type: application/json")],
            ["-d", shlex.quote(json.dumps(body))],
        ],
        quoted=True,
    )


def _command(job: Job, asked: dict) -> str:
    model, read = job.model, job.model.preprocessing or {}
    folder = model.architecture == HUGGING_FACE
    words = [["--model", f"./{PurePath(model.file_name).stem}" if folder else model.file_name]]
    upload = {name: getattr(model, name) for name in options(Network)}
    if model.architecture in (ONNX, HUGGING_FACE):
        upload |= {"architecture": "", "num_classes": None}
    words += _words(Network, upload)
    if model.architecture in settings.ARCHITECTURES:
        words.append(["--register", f"{model.architecture}={settings.ARCHITECTURES[model.architecture]}"])
    words += [["--classes", "classes.txt"]] if model.classes_text else []
    words += _words(Pixels, {name: NONE if value is None else value for name, value in read.items()})
    words.append(["--data", job.dataset.file_name])
    words += [["--split-folder", job.dataset.split_folder]] if job.dataset.split_folder else []
    words += [["--guard", job.guard.file_name]] if job.guard else []
    words += [["--guard-split-folder", job.guard.split_folder]] if job.guard and job.guard.split_folder else []
    triggered, patch = job.triggered, triggers.file_of(job)
    words += [["--triggered", triggered.file_name]] if triggered else []
    words += [["--triggered-split-folder", triggered.split_folder]] if triggered and triggered.split_folder else []
    words += [["--trigger", patch.name]] if patch else []
    words += [["--values", "values"]] if _needs_values(job) else []
    words += [["--repaired", _after(job.audited)]] if job.audited else []
    words += [["--surrogate", _surrogate(one)] for one in surrogates.of(job)]
    words += _words(ASKED[asked.get("kind") or Repair.verb], asked)
    verbs = {"explain": ("explain", "explained"), "score": ("score", "values"), "attack": ("attack", "attacked")}
    verb, out = verbs.get(asked.get("kind", ""), ("repair", "repair"))
    words += [["--device", job.device], ["--out", out]]
    threads = f"OMP_NUM_THREADS={settings.WORKER_THREADS}"
    return f"{threads} " + _lines(["neuron-repair", verb], words)


def _needs_values(job: Job) -> bool:
    """They stand for a search; or their further objectives had a part in the splits."""
    return bool(job.request.get("stored") or (job.request.get("filters") and job.request.get("also")))


def _after(repair: Job) -> str:
    """The file that a repair left, as it lies beside the shell: a Hugging Face zip is unpacked."""
    found = repair.checkpoint
    name = found.name if found else ""
    return "repaired/model.safetensors" if name.endswith(".zip") else name


def _surrogate(one: ModelUpload) -> str:
    """As the command line takes it: FILE:ARCHITECTURE:NUM_CLASSES,mean=…,std=…."""
    parts = [f"{one.file_name}:{one.architecture}:{one.num_classes}"]
    parts += [f"{key}={'/'.join(f'{v:g}' for v in values)}" for key, values in surrogates.normalization(one).items()]
    return ",".join(parts)


def _words(record: type[Settings], values: Mapping[str, Any]) -> list[list[str]]:
    """Of the options of `record`, in the order of `values`."""
    said = {name: one for name, one in options(record).items() if values.get(name) not in (None, "", [], {})}
    return [words for name in values if name in said for words in argv(said[name], values[name])]


def _notes(job: Job) -> list[str]:
    notes = [
        "Make a token on the page of API tokens and put it into NR_TOKEN.",
        f"On {job.device}, with the same versions, number of threads and instruction set, the values come out the same "
        "to the last bit.",
    ]
    if _needs_values(job):
        notes.append(f"For the command line, save the {VALUES} of the run that valued them in a folder values.")
    if patch := triggers.file_of(job):
        notes.append(
            f"Save {patch.name} of this run; for the API put what base64 -w0 {patch.name} writes into its place."
        )
    if job.model.architecture == HUGGING_FACE:
        notes.append("For the command line, unpack the zips: it takes the folder.")
    if job.model.classes_text:
        notes.append("For the command line, save the class names that came with the model as classes.txt.")
    return notes


def _lines(start: list[str], options: list[list[str]], quoted: bool = False) -> str:
    """One option per line, to be pasted into a shell."""
    written = [" ".join(part if quoted else shlex.quote(part) for part in option) for option in options]
    return " \\\n  ".join([" ".join(map(shlex.quote, start)), *written])

"""The same repair again, without the browser: by the API and by the command line."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import PurePath

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from webapp.jobs import surrogates
from webapp.jobs.attacks import checkpoint
from webapp.jobs.followups import CHANGES
from webapp.jobs.models import Job
from webapp.jobs.requests import VALUES
from webapp.library.architectures import HUGGING_FACE, ONNX
from webapp.library.models import ModelUpload
from webapp.pages.templatetags.ui import metric_words

WORDS = {
    "group": "kept together",
    "top_k": "culprits to tell apart",
    "side": "end of the values",
    "max_clean_drop": "clean accuracy may fall by",
    "max_subgroup_drop": "any subgroup may fall by",
    "max_filters": "filters, at most",
    "choose": "how many of them",
    "order": "order of removal",
    "precision": "the search computes in",
    "batch_size": "images per draw",
    "memory": "memory",
    "attack_images": "images attacked, at most",
    "queries": "black-box queries per image",
    "subset": "images queried, at most",
    "also": "further objectives",
    "filters": "filters, chosen by hand",
    "report_uses": "reports on the same images before",
    "compact": "compact network, too",
}
LENGTHS = ("epsilon", "step_size")
SHARES = ("max_clean_drop", "max_subgroup_drop")


@dataclass(frozen=True)
class Snippets:
    api: str
    command: str
    notes: list[str]


def settings_rows(job: Job) -> list[tuple[str, str]]:
    """What was asked, for people; what is not listed was left to the defaults."""
    rows = [] if job.attacks else [("metric", metric_words(job.request.get("metric", "")))]
    for key, value in job.request.items():
        if key in ("metric", "stored") or (key == "also" and not job.scores) or (key == "report_uses" and not value):
            continue
        if key == "kind":
            rows.append(("kind", job.word))
            continue
        if key == "surrogates":
            rows.append(("transfer attacks from", ", ".join(one.name for one in surrogates.of(job))))
            continue
        shown = f"{value:.1%}" if key in SHARES else f"{value:,}" if type(value) is int else str(value)
        shown = ("yes" if value else "no") if isinstance(value, bool) else shown
        shown = f"{value * 255:.4g} of 255 levels ({value:.4g})" if key in LENGTHS else shown
        shown = ", ".join(value) if isinstance(value, list) else shown
        rows.append((WORDS.get(key, key.replace("_", " ")), shown))
    if "budget" not in job.request and job.summary.get("budget"):
        how = "chosen by calibration" if job.searches else "in ratio to the run that it goes on from"
        rows.append(("budget", f"{job.summary['budget']:,} evaluations, {how}"))
    if job.request.get("stored"):
        rows.append(("values", "of the run that it goes on from; no search"))
    return [*rows, ("device", job.device), ("id", str(job.pk))]


def snippets(request: HttpRequest, job: Job) -> Snippets:
    """With the budget that was used, so that the values repeat."""
    asked = dict(job.request)
    for key in ("budget", "attack_images"):
        if job.summary.get(key):
            asked[key] = job.summary[key]
    return Snippets(_curl(request, job, asked), _command(job, asked), _notes(job))


def _curl(request: HttpRequest, job: Job, asked: dict) -> str:
    body = {"model": str(job.model_id), "dataset": str(job.dataset_id)}
    body |= {"guard": str(job.guard_id)} if job.guard_id else {}
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
    options = [["--model", f"./{PurePath(model.file_name).stem}" if folder else model.file_name]]
    if model.architecture not in (ONNX, HUGGING_FACE):
        options += [["--architecture", model.architecture], ["--num-classes", str(model.num_classes)]]
    options += [["--arch-option", f"{name}={value}"] for name, value in model.options.items()]
    if model.architecture in settings.ARCHITECTURES:
        options.append(["--register", f"{model.architecture}={settings.ARCHITECTURES[model.architecture]}"])
    options += [["--weights", model.weights]] if model.weights else []
    options += [["--key", model.key]] if model.key else []
    options += [["--strip-prefix", model.strip_prefix]] if model.strip_prefix else []
    options += [["--classes", "classes.txt"]] if model.classes_text else []
    options.append(["--data", job.dataset.file_name])
    options += [["--split-folder", job.dataset.split_folder]] if job.dataset.split_folder else []
    options += [["--guard", job.guard.file_name]] if job.guard else []
    options += [["--guard-split-folder", job.guard.split_folder]] if job.guard and job.guard.split_folder else []
    for key in ("resize", "crop"):
        options += [[f"--{key}", "none" if read[key] is None else str(read[key])]] if key in read else []
    for key in ("mean", "std"):
        options += [[f"--{key}", *(f"{value:g}" for value in read[key])]] if read.get(key) else []
    options += [["--interpolation", read["interpolation"]]] if read.get("interpolation") else []
    further = asked.get("also", []) if job.scores else []
    options += [["--also", name] for name in further]
    options += [["--filters", ",".join(asked["filters"])]] if "filters" in asked else []
    options += [["--values", "values"]] if _needs_values(job) else []
    options += [["--repaired", _after(job.audited)]] if job.audited else []
    options += [["--surrogate", _surrogate(one)] for one in surrogates.of(job)]
    written = {"kind", "also", "filters", "stored", "report_uses", "surrogates"}
    written |= {"metric"} if job.attacks else set()
    options += [_option(key, value) for key, value in asked.items() if key not in written]
    verbs = {"explain": ("explain", "explained"), "score": ("score", "values"), "attack": ("attack", "attacked")}
    verb, out = verbs.get(asked.get("kind", ""), ("repair", "repair"))
    options += [["--device", job.device], ["--out", out]]
    threads = f"OMP_NUM_THREADS={settings.WORKER_THREADS}"
    return f"{threads} " + _lines(["neuron-repair", verb], options)


def _needs_values(job: Job) -> bool:
    """They stand for a search; or their further objectives had a part in the splits."""
    return bool(job.request.get("stored") or (job.request.get("filters") and job.request.get("also")))


def _after(repair: Job) -> str:
    """The file that a repair left, as it lies beside the shell: a Hugging Face zip is unpacked."""
    found = checkpoint(repair)
    name = found.name if found else ""
    return "repaired/model.safetensors" if name.endswith(".zip") else name


def _surrogate(one: ModelUpload) -> str:
    """As the command line takes it: FILE:ARCHITECTURE:NUM_CLASSES,mean=…,std=…."""
    parts = [f"{one.file_name}:{one.architecture}:{one.num_classes}"]
    parts += [f"{key}={'/'.join(f'{v:g}' for v in values)}" for key, values in surrogates.normalization(one).items()]
    return ",".join(parts)


def _option(key: str, value: object) -> list[str]:
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else "--untargeted" if key == "targeted" else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _notes(job: Job) -> list[str]:
    notes = [
        "Make a token on the page of API tokens and put it into NR_TOKEN.",
        f"On {job.device}, with the same versions, number of threads and instruction set, the values come out the same "
        "to the last bit.",
    ]
    if _needs_values(job):
        notes.append(f"For the command line, save the {VALUES} of the run that valued them in a folder values.")
    if job.model.architecture == HUGGING_FACE:
        notes.append("For the command line, unpack the zips: it takes the folder.")
    if job.model.classes_text:
        notes.append("For the command line, save the class names that came with the model as classes.txt.")
    return notes


def _lines(start: list[str], options: list[list[str]], quoted: bool = False) -> str:
    """One option per line, to be pasted into a shell."""
    written = [" ".join(part if quoted else shlex.quote(part) for part in option) for option in options]
    return " \\\n  ".join([" ".join(map(shlex.quote, start)), *written])

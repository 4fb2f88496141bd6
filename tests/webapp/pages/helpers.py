"""Tools of the page tests: strict HTML, and repairs in every state without an engine."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from io import StringIO

from django.http import HttpResponse
from django.utils import timezone

from repair_engine.documents.filters import HEADER
from tests.repair_engine.pages.documents import document
from tests.repair_engine.pages.pages import Page
from tests.webapp.helpers import blob_of
from webapp.accounts.models import User
from webapp.jobs.models import Artifact, Job, PhaseState, Shard
from webapp.jobs.results import media_type
from webapp.jobs.translation import headline
from webapp.library.models import DatasetUpload, ModelUpload

INPUTS = {"input", "select", "textarea"}


def read(answer: HttpResponse, status: int = 200) -> Page:
    """The page, which must be well-formed, self-contained and labelled."""
    assert answer.status_code == status, (answer.status_code, answer.content[:500])
    html = answer.content.decode()
    page = Page(html)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids)), sorted(i for i in ids if ids.count(i) > 1)
    labelled = {a["for"] for a in page.all("label") if "for" in a}
    inside = len(re.findall(r"<label><input", html))
    for tag, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            assert key != "style", (tag, value)
            if key in ("src", "href", "action", "hx-get"):
                assert value.startswith(("/", "#", "?", "data:,", "data:image/")), (tag, key, value)
                assert not value.startswith("//")
        for key in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(key) or "").split()) <= set(ids), (tag, attributes)
        if tag in INPUTS and attributes.get("type") not in ("hidden", "radio"):
            assert attributes.get("id") in labelled, (tag, attributes)
    radios = [a for a in page.all("input") if a.get("type") == "radio"]
    assert len(radios) == inside, "a radio button stands in its label"
    assert all(a.get("scope") for a in page.all("th")), "table headers say what they head"
    assert all(a.get("src") for a in page.all("script")), "no script in the page"
    assert not page.all("style")
    assert len(page.all("h1")) == 1
    return page


def filters_csv(rows: list[dict]) -> bytes:
    out = StringIO()
    table = csv.DictWriter(out, HEADER, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue().encode()


def filter_cells(i: int, value: float | None, **more: object) -> dict:
    sampled = {} if value is None else {"value": value, "lower": value - 0.01, "upper": value + 0.01}
    name = f"features.{i % 7}:{i}"
    base = {"filter": name, "site": name.split(":")[0], "channel": i, "samples": 40 + i, "constant": 0.5, "ablated": 0}
    return {**base, **sampled, **more}


def succeed(job: Job, metric: str = "recall:shirt", **made: object) -> dict:
    """Make it a finished repair with the report document of the engine's tests."""
    found = document(metric, **made)
    repaired = found["outcome"] == "repaired"
    job.state, job.phase = Job.State.SUCCEEDED, "finish"
    job.outcome = Job.Outcome.REPAIRED if repaired else Job.Outcome.NO_REPAIR
    job.request = {"metric": metric, "seed": 5}
    job.summary = {"model": found["model"], "data": found["data"], "budget": found["run"]["budget"]}
    job.result = headline(found)
    job.save()
    rows = [filter_cells(1, -0.2, fresh_value=-0.1, fresh_lower=-0.12, fresh_upper=-0.08, fresh_samples=99, rank=1,
                         ablated=int(repaired)), filter_cells(2, 0.3), filter_cells(3, None)]  # fmt: skip
    files = {"report.html": b"<!doctype html><h1>Report</h1>", "report.json": b"{}", "filters.csv": filters_csv(rows)}
    files |= {"repaired.safetensors": b"weights"} if repaired else {}
    for name, content in files.items():
        Artifact.objects.create(job=job, name=name, media_type=media_type(name), blob=blob_of(content))
    return found


def at_work(user: User, model: ModelUpload, dataset: DatasetUpload) -> Job:
    """A run in its 20th round of a search by 8 workers."""
    now = timezone.now()
    job = Job.objects.create(
        owner=user, model=model, dataset=dataset, device="cpu", request={"metric": "accuracy"}, state="processing",
        phase="search", round=20, started_at=now, phase_started_at=now,
    )  # fmt: skip
    leaders = [
        {"id": f"layer4.{i}:{i}", "value": -0.01 * i, "lower": -0.02, "upper": 0.0, "samples": 99} for i in range(20)
    ]
    for round_ in range(21):
        point = {"evaluations": 1000 * round_, "budget": 50_000, "half_width": 1 / (1 + round_), "leaders": leaders}
        PhaseState.objects.create(job=job, phase="search", round=round_, sha256="0" * 64, snapshot=point)
        for block in range(8):
            done = round_ < 20
            Shard.objects.create(
                job=job, phase="search", round=round_, first_block=block, tasks=[{"evaluations": 125}], total=125,
                done=125 if done else 50, state="done" if done else "leased", attempt=1, worker="cpu1@here/1/1",
                claimed_at=now - timedelta(seconds=60), finished_at=now if done else None,
                lease_expires=now + timedelta(hours=1),
            )  # fmt: skip
    return job

"""A site with something on every page, made by the real engine: python -m tests.browser.site FOLDER [--port 8123]

Uploads a model and images, runs a repair, an attack and the like in this process, opens what a worker makes on demand,
and leaves a data directory with `site.json`: what stands at which address. With --port it serves the site until it is
stopped. The network is the small one that fails by hand; with --sample it is the one that ships, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "ada", "correct horse battery"
SAMPLE = ROOT / "samples" / "stock_tags"
GATES = {"gates": [
    {"metric": "worst-subgroup", "min": 0.5},
    {"metric": "accuracy", "split": "select", "min": 0.5, "max": 0.6},
    {"metric": "subgroup-gap", "change": True, "bound": "upper", "max": 0.5},
    {"metric": "metric", "min": 0.5, "min_n": 100_000, "on_insufficient": "skip"},
]}  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Of a data directory and a database that nobody else uses; nobody hears a bell."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "NR_DATA_DIR": str(folder),
        "NR_HTTPS": "0",
        "NR_SANDBOX_REQUIRE": "",
        "ALLOWED_HOSTS": "localhost,testserver",
        "DATABASE_URL": "",
        "REDIS_URL": "redis://localhost:1/0",
        "LOG_LEVEL": "ERROR",
        "NR_WAIT_SECONDS": "2",
        "OMP_NUM_THREADS": "1",
        "NR_ARCHITECTURES": "failing_net=tests.browser.failing_net:failing_net",
        "PYTHONPATH": str(ROOT),
    }


def make(folder: Path) -> None:
    """The site, made by a process of its own."""
    command = [sys.executable, "-m", "tests.browser.site", str(folder)]
    made = subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-6000:]


class Serving:
    """The real web server over such a folder, on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, str] = json.loads((folder / "site.json").read_text())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://localhost:{self.port}"

    def __enter__(self) -> Serving:
        command = [sys.executable, "-m", "webapp.serving", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment(self.folder))
        for _ in range(1200):
            assert self.process.poll() is None, "the web server ended"
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("The web server did not start within two minutes.")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


# --- in a process of its own ----------------------------------------------------------------------------------


class _Maker:
    def __init__(self) -> None:
        import pytest
        from celery.app.task import Task
        from django.test import Client
        from rest_framework.test import APIClient

        from tests.conftest import stay_here
        from tests.webapp.helpers import Bells
        from webapp.accounts import services

        stay_here(pytest.MonkeyPatch())
        self.bells = Bells()
        Task.apply_async = lambda task, **call: self.bells.hear(task, **call)
        self.user = services.create_user(username=USER, password=PASSWORD)
        self.user.is_staff = True
        self.user.save()
        _, key = services.create_token(owner=self.user, name="ci")
        self.api = APIClient()
        self.api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        self.browser = Client()
        self.browser.force_login(self.user)

    def post(self, path: str, body: dict[str, Any], format: str = "json") -> dict[str, Any]:
        answer = self.api.post(f"/api/v1/{path}", body, format=format)
        assert answer.status_code < 300, (path, answer.status_code, answer.content[:2000])
        return answer.json()

    def upload(self, path: str, file: Path, **more: Any) -> str:
        from django.core.files.uploadedfile import SimpleUploadedFile

        sent = SimpleUploadedFile(file.name, file.read_bytes())
        return self.post(path, {"file": sent, **more}, "multipart")["id"]

    def run(self, path: str, end: str = "succeeded", **asked: Any) -> str:
        """From its start to its end, as workers would."""
        began = time.monotonic()
        pk = self.post(path, asked)["id"]
        self.bells.answer()
        found = self.api.get(f"/api/v1/repairs/{pk}/").json()
        assert found["state"] == end, found
        print(f"{asked}: {found['outcome'] or end}, {time.monotonic() - began:.0f} s", flush=True)
        return pk

    def see(self, path: str, **more: Any) -> None:
        """Open a page, and play the worker who makes what it asked for."""
        answer = self.browser.get(path, **more)
        assert answer.status_code == 200, (path, answer.status_code)
        self.bells.answer()


def _small(maker: _Maker, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The uploads, and what is asked of them."""
    from tests.browser.failing_net import CULPRIT, checkpoint, write_zip

    (folder / "net.pth").write_bytes(checkpoint())
    write_zip(folder / "images.zip")
    model = maker.upload("models/", folder / "net.pth", architecture="failing_net", num_classes=2)
    both = {"model": model, "dataset": maker.upload("datasets/", folder / "images.zip")}
    return both, {"column": "ground", "class": "bottom", "budget": 20_000, "unit": CULPRIT}


def _shipped(maker: _Maker, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    said = json.loads((SAMPLE / "sample.json").read_text())
    network = {"architecture": said["architecture"], "num_classes": said["num_classes"]}
    model = maker.upload("models/", SAMPLE / said["model"], **network, preprocessing=json.dumps(said["preprocessing"]),
                         classes=(SAMPLE / said["classes"]).read_text())  # fmt: skip
    both = {"model": model, "dataset": maker.upload("datasets/", SAMPLE / said["data"])}
    return both, {"column": "subgroup", "class": "sandal", "budget": 60_000, "unit": ""}


def _make(folder: Path, sample: bool) -> dict[str, Any]:
    from tests.webapp.pages.helpers import at_work
    from webapp.jobs.models import Job
    from webapp.library.models import DatasetUpload, ModelUpload

    maker = _Maker()
    both, about = (_shipped if sample else _small)(maker, folder)
    maker.bells.answer()
    maker.see(f"/datasets/{both['dataset']}/")
    maker.see(f"/repairs/new/?model={both['model']}&dataset={both['dataset']}")
    budget, attack = about["budget"], {"epsilon": 0.3 if not sample else 0.03, "steps": 5, "restarts": 1}
    metric = f"subgroup-recall:{about['column']}"
    runs = {
        "repair": maker.run("repairs/", **both, metric=metric, budget=budget, name="Fair over grounds", compact=True),
        "nothing": maker.run("repairs/", **both, metric=f"recall:{about['class']}", budget=10_000),
        "explain": maker.run("repairs/", **both, kind="explain", metric="accuracy", budget=10_000),
        "score": maker.run("repairs/", **both, kind="score", metric="accuracy", also=["all"], budget=10_000),
        "robust": maker.run("repairs/", **both, metric="attack-success", budget=10_000, **attack),
        "failed": maker.run("repairs/", **both, metric="attack-success", end="failed", **(attack | {"epsilon": 1e-4})),
    }
    runs["hand"] = maker.run("repairs/", **{"from": runs["repair"]}, filters=["conv:1"] if not sample else [])
    runs["attack"] = maker.run("attacks/", repair=runs["repair"], **attack, subset=40, queries=20)
    maker.post(f"repairs/{runs['repair']}/gates/", GATES | {"file_name": "release.yml"})
    link = maker.post(f"repairs/{runs['repair']}/links/", {"name": "Grace"})["url"]
    unit = about["unit"] or Job.objects.get(pk=runs["repair"]).result["filters"][0]
    maker.see(f"/repairs/{runs['repair']}/?unit={unit}")
    token = link.rstrip("/").rpartition("/")[2]
    things = (ModelUpload.objects.get(pk=both["model"]), DatasetUpload.objects.get(pk=both["dataset"]))
    runs["working"], canceled = (str(at_work(maker.user, *things).pk) for _ in range(2))
    maker.post(f"repairs/{canceled}/cancel/", {})
    return {
        **both,
        **runs,
        "canceled": canceled,
        "token": token,
        "unit": unit,
        "user": maker.user.pk,
        **_company(maker, canceled),
    }


def _company(maker: _Maker, run: str) -> dict[str, Any]:
    """A team with an invitation, a link to it, and calls that did not arrive."""
    from webapp.accounts import services
    from webapp.jobs import teams
    from webapp.jobs.models import Delivery, Job

    team = teams.create_team(owner=maker.user, name="Radiology")
    colleague = services.create_user(username="grace", password=PASSWORD)
    invitation, _ = teams.invite(by=maker.user, team=team, role="editor", name="grace")
    teams.accept(user=colleague, invitation=invitation)
    teams.invite(by=maker.user, team=team, role="viewer", name="hopper")
    _, token = teams.invite(by=maker.user, team=team, role="viewer")
    theirs = teams.create_team(owner=colleague, name="Cardiology")
    teams.invite(by=colleague, team=theirs, role="viewer", name=maker.user.username)
    Job.objects.filter(pk=run).update(webhook_url="https://example.org/hook")
    for event, state, status in (("repair.started", "delivered", 200), ("repair.finished", "failed", 500)):
        Delivery.objects.create(
            job_id=run, event=event, state=state, status=status, attempts=1, due_at=maker.user.date_joined,
            last_error="" if status == 200 else "OSError: answered 500",
        )  # fmt: skip
    return {"team": team.pk, "join": token}


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.browser.site", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="serve it there, until it is stopped")
    parser.add_argument("--sample", action="store_true", help="the network and the images that ship")
    args = parser.parse_args()
    os.environ.update(environment(args.folder))
    args.folder.mkdir(parents=True, exist_ok=True)
    if not (args.folder / "site.json").exists():
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        (args.folder / "site.json").write_text(json.dumps(_make(args.folder, args.sample), indent=1))
    if args.port:
        print(f"http://localhost:{args.port}: {USER}, {PASSWORD}", flush=True)
        os.execv(sys.executable, [sys.executable, "-m", "webapp.serving", "--port", str(args.port)])


if __name__ == "__main__":
    main()

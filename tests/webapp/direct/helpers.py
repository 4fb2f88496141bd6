"""A sender of uploads that go straight to the store, and what it finds there."""

from __future__ import annotations

import hashlib
import http.client
from urllib.parse import urlsplit

DIRECT, MODELS, DATASETS = "/api/v1/direct-uploads/", "/api/v1/models/", "/api/v1/datasets/"
WHAT = {"architecture": "resnet18", "num_classes": 2}
PART = 5 << 20  # the least that S3 takes


def announce(one, content: bytes, **said):
    body = {"file_name": "net.pth", "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **said}
    return one.api.post(DIRECT, body, format="json")


def begin(one, content: bytes, **said) -> str:
    answer = announce(one, content, **said)
    assert answer.status_code == 201, answer.json()
    assert answer["Location"] == f"{DIRECT}{answer.json()['id']}/"
    return answer["Location"]


def missing(one, url: str) -> dict:
    answer = one.api.post(url + "parts/")
    assert answer.status_code == 200, answer.json()
    assert "no-store" in answer["Cache-Control"]
    return answer.json()


def put(url: str, body, headers: dict[str, str] | None = None, method: str = "PUT") -> int:
    where = urlsplit(url)
    sender = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    sender.request(method, f"{where.path}?{where.query}", body, headers or {})
    return sender.getresponse().status


def send(one, url: str, content: bytes, parts: slice = slice(None)) -> None:
    for part in missing(one, url)["parts"][parts]:
        assert put(part["url"], content[part["start"] : part["start"] + part["size"]]) == 200


def model_of(one, url: str):
    return one.api.post(MODELS, {"upload": url.split("/")[-2], **WHAT}, format="json")


def left(s3) -> tuple[list, list]:
    """Of what arrives, in the store: multipart uploads, and objects."""
    return list(s3.direct.under_way("arriving")), list(s3.entries("arriving"))


NOTHING: tuple[list, list] = ([], [])

"""The API against its own OpenAPI document, by schemathesis: what is documented is what happens, and nothing else.

Jobs are made and never run: no worker hears the bells.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.pytest import _test_builder
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
EXAMPLES = 8  # of each operation, beside those of the coverage phase, which tries each bound of each parameter


@cache
def handler() -> WSGIHandler:
    """Made at the first request: middleware reads the settings of tests then."""
    return WSGIHandler()


def mended(environ: dict) -> dict:
    """Werkzeug writes an empty text of a form without its line end; Django then sees no such field."""
    if environ.get("CONTENT_TYPE", "").startswith("multipart/"):
        content = environ["wsgi.input"].read().replace(b'"\r\n\r\n--', b'"\r\n\r\n\r\n--')
        environ |= {"wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content))}
    return environ


def document() -> schemathesis.BaseSchema:
    # Made by hand: a schemathesis.toml of the current directory has no part in it.
    generation = GenerationConfig(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE], deterministic=True)
    checks = ChecksConfig()
    for check in (checks.negative_data_rejection, checks.missing_required_header):
        check.expected_statuses = [*check.expected_statuses, "412"]  # tus's, where its version is missing
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation, checks=checks)))
    made = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(public=True), config=config)
    made.app = lambda environ, start: handler()(mended(environ), start)
    return made


def later(make: Callable[..., Callable]) -> Callable[..., Callable]:
    """What schemathesis tries of an operation takes seconds to make: when its test runs, and not when tests are
    collected, which every process of a run does."""

    def build(**how: object) -> Callable:
        def test(world) -> None:
            raise AssertionError("`made` puts the test in its place")

        test.make = lambda: make(**how)
        return test

    return build


@pytest.fixture(autouse=True)
def made(request) -> None:
    request.node.obj = request.node.obj.make()


_test_builder.build_operation_test = later(_test_builder.build_operation_test)
schema = document()
BOUNDED = settings(
    derandomize=True, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None
)


@schema.parametrize()
@BOUNDED
def test_the_api_is_as_documented(case, world):
    if isinstance(case.body, dict) and "file" in case.body:
        names = case.body.get("classes_file", "")
        if len(getattr(names, "data", names)):  # that a file holds UTF-8 text is beyond a schema
            case.body.pop("classes_file")
        if "/models/" in case.path:  # so is that only an ONNX file or a zip can do without these two
            case.body.setdefault("architecture", "resnet18")
            case.body.setdefault("num_classes", 2)
    told = case.headers or {}
    if "x-schemathesis-unknown-property" in told:
        return  # a schema may list the headers that are read, but HTTP lets others be there
    if "Upload-Metadata" in told:  # what it holds in base 64 is beyond a schema
        told["Upload-Metadata"] = "filename bmV0LnB0aA=="
    if (length := str(told.get("Upload-Length", ""))).isdigit() and 1000 < int(length) < 10**18:
        told["Upload-Length"] = "1000"  # and how much room there is
    case.call_and_validate(headers={"Authorization": f"Bearer {world.owner.key}"})


def real(case, world):
    """The same request about things that the caller has: it gets past 404."""
    owner = world.owner
    parts = case.path.split("/")
    if "id" in case.path_parameters:
        mine = {"models": owner.model.pk, "datasets": owner.dataset.pk, "repairs": owner.job.pk}
        if (kind := parts[3]) in mine:
            case.path_parameters["id"] = str(mine[kind])
    if isinstance(case.body, dict) and parts[3] in ("repairs", "attacks"):
        known = {"model": owner.model.pk, "dataset": owner.dataset.pk, "guard": owner.dataset.pk, "from": owner.job.pk}
        case.body.update({name: str(known[name]) for name in known if name in case.body})
        if "metric" in case.body and "from" not in case.body:
            case.body["metric"] = "accuracy"
        case.body.pop("repair", None)
        case.body.pop("surrogates", None)
    return case


@schema.include(path_regex=r"/(models|datasets|repairs|attacks)/", method_regex="GET|POST").parametrize()
@BOUNDED
def test_so_it_is_of_things_that_are_there(case, world):
    # What no schema can say of several fields together (restarts without a random start) may be refused.
    case = real(case, world)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    case.call_and_validate(headers={"Authorization": f"Bearer {world.owner.key}"}, checks=checks)

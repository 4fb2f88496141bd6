"""The API against its own OpenAPI document, by schemathesis: what is documented is what happens, and nothing else.

Jobs are made and never run: no worker hears the bells.
"""

from __future__ import annotations

from functools import cache

import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.config import (
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)

EXAMPLES = 12  # of each operation, beside those of the coverage phase, which tries each bound of each parameter


@cache
def handler() -> WSGIHandler:
    """Made at the first request: middleware reads the settings of tests then."""
    return WSGIHandler()


def document() -> schemathesis.BaseSchema:
    # Made by hand: a schemathesis.toml of the current directory has no part in it.
    generation = GenerationConfig(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE], deterministic=True)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    made = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(public=True), config=config)
    made.app = lambda environ, start: handler()(environ, start)
    return made


schema = document()


@schema.parametrize()
@settings(
    derandomize=True, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None
)
def test_the_api_is_as_documented(case, world):
    case.call_and_validate(headers={"Authorization": f"Bearer {world.owner.key}"})

from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "webapp.api"
    label = "api"

    def ready(self) -> None:
        from webapp.api import (
            schema,  # noqa: F401  (tells the OpenAPI generator about tokens)
            tasks,  # noqa: F401
        )

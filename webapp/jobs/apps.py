from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "webapp.jobs"
    label = "jobs"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate

        from webapp import checks  # noqa: F401  (registers the system checks)
        from webapp.jobs import (
            releases,
            selectors,
            tasks,  # noqa: F401
            worker_signals,  # noqa: F401
        )
        from webapp.library import quota

        quota.count(selectors)
        post_migrate.connect(releases.record, sender=self)

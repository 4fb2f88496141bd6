"""The Celery application. The database is the truth; a message is only a doorbell that carries an id."""

from __future__ import annotations

import os

from celery import Celery
from celery.loaders.app import AppLoader

from repair_engine.support.process import importing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")


class Loader(AppLoader):
    def import_default_modules(self) -> None:
        with importing():  # and Django's setting up
            super().import_default_modules()


app = Celery("webapp", loader="webapp.celery:Loader")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["webapp.library", "webapp.jobs", "webapp.api"])

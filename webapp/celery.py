"""The Celery application. The database is the truth; a message is only a doorbell that carries an id."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

app = Celery("webapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["webapp.library", "webapp.jobs", "webapp.api"])

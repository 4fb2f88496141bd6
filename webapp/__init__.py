"""The web application: uploads, jobs, shards, pages, API. No mathematics (that is repair_engine's)."""

from webapp.celery import app as celery_app

__all__ = ["celery_app"]

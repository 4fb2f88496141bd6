"""What workers are called for that shows things as the API does."""

from __future__ import annotations

from celery import shared_task

from webapp.api import delivery


@shared_task(name="webapp.jobs.tasks.deliver")
def deliver(pk: str) -> None:
    delivery.deliver(pk)

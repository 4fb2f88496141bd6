"""Rows of the release before there were teams, brought to this one."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE = [("accounts", "0002_sign_in_and_tokens"), ("library", "0006_resumable_uploads"), ("jobs", "0013_triggered")]


@pytest.mark.django_db(transaction=True)
def test_what_is_there_stays_its_owners():
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    try:
        executor.migrate(BEFORE)
        old = executor.loader.project_state(BEFORE).apps
        user = old.get_model("accounts", "User").objects.create(username="ada", password="x")
        blob = old.get_model("library", "Blob").objects.create(sha256="0" * 64, size=1)
        common = {"owner": user, "blob": blob, "name": "n", "file_name": "f", "state": "ready"}
        model = old.get_model("library", "ModelUpload").objects.create(
            **common, architecture="resnet18", num_classes=2, settings_digest="1" * 64
        )
        dataset = old.get_model("library", "DatasetUpload").objects.create(**common)
        job = old.get_model("jobs", "Job").objects.create(
            owner=user, model=model, dataset=dataset, device="cpu", idempotency_key="once"
        )
        old.get_model("jobs", "Delivery").objects.create(job=job, event="repair.started", due_at="2026-01-01T00:00Z")
        executor = MigrationExecutor(connection)
        executor.migrate(latest)
    finally:
        MigrationExecutor(connection).migrate(latest)

    from webapp.accounts.rights import May, may
    from webapp.jobs import access
    from webapp.jobs.models import Job
    from webapp.library.models import DatasetUpload, ModelUpload

    for kind in (ModelUpload, DatasetUpload, Job):
        row = kind.objects.get()
        assert (row.owner.username, row.team, row.made_by) == ("ada", None, row.owner)
        assert may(row.owner, row) == May.OWN
    assert list(access.jobs_of(row.owner)) == [row]
    assert (row.idempotency_key, row.revision, row.deliveries.get().status) == ("once", 0, None)
    assert (row.owner.mail_at_end, row.owner.notes_in_browser) == (False, False), "nobody is told who did not ask"

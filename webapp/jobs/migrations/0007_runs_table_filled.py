# What 0006 added, of the runs that are there.

from django.db import migrations

from webapp.jobs import naming


def fill(apps, schema_editor):
    Job = apps.get_model("jobs", "Job")
    for job in Job.objects.select_related("model").iterator(chunk_size=100):
        gain = job.result.get("gain") or {}
        Job.objects.filter(pk=job.pk).update(
            title=naming.title(job.name, job.request, job.model.name, bool(job.audited_id))[:500],
            kind=naming.kind_of(job.request),
            seed=job.request.get("seed", 0),
            budget=job.request.get("budget") or job.summary.get("budget"),
            gain=gain.get("value"),
            gain_lower=gain.get("lower"),
            gain_upper=gain.get("upper"),
        )


class Migration(migrations.Migration):

    dependencies = [
        ("jobs", "0006_runs_table"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def made_by_their_owners(apps, schema_editor):
    """What is there already was made by whom it belongs to."""
    for name in ['Job']:
        rows = apps.get_model("jobs", name).objects
        rows.filter(made_by=None).update(made_by=models.F("owner"))


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_teams'),
        ('jobs', '0013_triggered'),
        ('library', '0007_teams'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='job',
            name='one_job_per_idempotency_key',
        ),
        migrations.AddField(
            model_name='delivery',
            name='called_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='delivery',
            name='status',
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='made_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='job',
            name='revision',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='job',
            name='team',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='accounts.team'),
        ),
        migrations.AlterField(
            model_name='job',
            name='owner',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['team', 'deleted_at', 'archived_at', '-created_at'], name='runs_of_a_team'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.UniqueConstraint(fields=('made_by', 'idempotency_key'), name='one_job_per_persons_idempotency_key'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('owner__isnull', False), ('team__isnull', False), _connector='OR'), name='job_belongs_to_somebody'),
        ),
        # Last: PostgreSQL alters no table whose rows have just got a foreign key.
        migrations.RunPython(made_by_their_owners, migrations.RunPython.noop),
    ]

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def made_by_their_owners(apps, schema_editor):
    """What is there already was made by whom it belongs to."""
    for name in ['ModelUpload', 'DatasetUpload']:
        rows = apps.get_model("library", name).objects
        rows.filter(made_by=None).update(made_by=models.F("owner"))


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_teams'),
        ('library', '0006_resumable_uploads'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='datasetupload',
            name='made_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='datasetupload',
            name='team',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='accounts.team'),
        ),
        migrations.AddField(
            model_name='modelupload',
            name='made_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='modelupload',
            name='team',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='accounts.team'),
        ),
        migrations.AlterField(
            model_name='datasetupload',
            name='owner',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AlterField(
            model_name='modelupload',
            name='owner',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='datasetupload',
            constraint=models.UniqueConstraint(condition=models.Q(('owner', None)), fields=('team', 'blob', 'split_folder'), name='one_dataset_of_a_team_per_file_and_split'),
        ),
        migrations.AddConstraint(
            model_name='datasetupload',
            constraint=models.CheckConstraint(condition=models.Q(('owner__isnull', False), ('team__isnull', False), _connector='OR'), name='dataset_belongs_to_somebody'),
        ),
        migrations.AddConstraint(
            model_name='modelupload',
            constraint=models.UniqueConstraint(condition=models.Q(('owner', None)), fields=('team', 'blob', 'settings_digest'), name='one_model_of_a_team_per_file_and_settings'),
        ),
        migrations.AddConstraint(
            model_name='modelupload',
            constraint=models.CheckConstraint(condition=models.Q(('owner__isnull', False), ('team__isnull', False), _connector='OR'), name='model_belongs_to_somebody'),
        ),
        # Last: PostgreSQL alters no table whose rows have just got a foreign key.
        migrations.RunPython(made_by_their_owners, migrations.RunPython.noop),
    ]

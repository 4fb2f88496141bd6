# What the table of runs sorts, filters and searches by; tags, archive, deletion that can be undone.

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0005_progress_kept'),
        ('library', '0004_model_key_and_prefix'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Tag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('word', models.CharField(max_length=50)),
            ],
            options={
                'ordering': ['word'],
            },
        ),
        migrations.AddField(
            model_name='job',
            name='archived_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='budget',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='deleted_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='gain',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='gain_lower',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='gain_upper',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='kind',
            field=models.CharField(default='repair', max_length=10),
        ),
        migrations.AddField(
            model_name='job',
            name='seed',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='job',
            name='title',
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['owner', 'deleted_at', 'archived_at', '-created_at'], name='runs_of_an_account'),
        ),
        migrations.AddField(
            model_name='tag',
            name='job',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tags', to='jobs.job'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(fields=['word'], name='jobs_tag_word_428249_idx'),
        ),
        migrations.AddConstraint(
            model_name='tag',
            constraint=models.UniqueConstraint(fields=('job', 'word'), name='one_tag_per_word'),
        ),
    ]

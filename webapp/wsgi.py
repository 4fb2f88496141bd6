"""WSGI entry point: what `webapp.asgi` runs in its threads."""

import os

from django.core.wsgi import get_wsgi_application

from repair_engine.support.process import importing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
with importing():
    application = get_wsgi_application()

"""ASGI entry point: `python -m webapp.serving` serves it, with the bounds that belong to it."""

import os
import signal

from webapp.wsgi import application as wsgi  # sets Django up: the rest is imported after it


def _application():
    from webapp.jobs.worker_signals import prctl_death_signal
    from webapp.serving.bridge import Bridge

    if os.environ.get("NR_SERVING_PARENT") == str(os.getppid()):
        prctl_death_signal(signal.SIGKILL)  # no process of the server outlives its parent, and keeps the port
    return Bridge(wsgi)


application = _application()

"""`python -m webapp.serving`: the web server with its bounds, the same on a laptop and in the image."""

from __future__ import annotations

import argparse
import os
import resource

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from repair_engine.support.process import importing

CONNECTIONS = 1000  # per process; more wait to be accepted


def main() -> None:
    parser = argparse.ArgumentParser("python -m webapp.serving", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--access-log", action="store_true", help="a line per request on stdout")
    parser.add_argument(
        "--header-seconds", type=int, default=10,
        help="for the headers of a request, and for the silence between two requests of one connection",
    )  # fmt: skip
    parser.add_argument("--grace", type=int, default=10, help="seconds for what is under way when told to stop")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    os.environ["NR_SERVING_PARENT"] = str(os.getpid())
    _shut_in()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection, and its body, take one each
    Granian(
        "webapp.asgi:application",
        address=options.host,
        port=options.port,
        interface=Interfaces.ASGI,
        workers=options.processes,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=options.header_seconds * 1000, max_buffer_size=1 << 16),
        respawn_failed_workers=True,
        workers_kill_timeout=options.grace,
        log_access=options.access_log,
        log_level=LogLevels.warning if not options.access_log else LogLevels.info,
    ).serve()


def _shut_in() -> None:
    """The web process reads no upload itself; it starts only where its programs may. Ends here where they may not."""
    with importing():
        import django

        from webapp import sandboxing

        django.setup()
    sandboxing.begin("web")


if __name__ == "__main__":
    main()

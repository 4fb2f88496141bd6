"""`neuron-repair serve` (`manage.py dev`): the whole product on this machine, in one command."""

from __future__ import annotations

import os
import shutil

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from repair_engine.support import sandbox
from webapp.devserver.stack import Stack
from webapp.devserver.supervisor import Supervisor, print_line, stop_on_signals


def add_stack_arguments(parser: CommandParser) -> None:
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--workers", type=int, default=max(1, os.cpu_count() or 1), help="CPU workers")
    parser.add_argument(
        "--gpu", action="store_true", default=None, help="a GPU worker too (default: if there is a GPU)"
    )
    parser.add_argument("--quiet", action="store_true", help="do not show the processes' own lines")


def make_stack(options: dict) -> Stack:
    call_command("migrate", interactive=False, verbosity=0)
    gpu = options["gpu"] if options["gpu"] is not None else shutil.which("nvidia-smi") is not None
    log = settings.DATA_DIR / "dev.log"  # of this start
    supervisor = Supervisor(print_line, log, verbose=not options["quiet"])
    return Stack(supervisor, host=options["host"], port=options["port"], workers=max(1, options["workers"]), gpu=gpu)


class Command(BaseCommand):
    help = "Start web, workers, beat and (without REDIS_URL) a private redis-server; restart what dies."

    def add_arguments(self, parser: CommandParser) -> None:
        add_stack_arguments(parser)

    def handle(self, **options: object) -> None:
        stop_on_signals()
        stack = make_stack(options)
        try:
            stack.start()
            stack.wait_until_ready()
            print_line(f"\n{sandbox.sentence(sandbox.in_force()).capitalize()}")
            print_line(f"\nNeuron Repair is at {stack.url}   (Ctrl-C stops it)\n")
            stack.supervisor.run()
        except KeyboardInterrupt:
            print_line("Stopping …")
        finally:
            stack.supervisor.stop()

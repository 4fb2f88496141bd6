"""`neuron-repair demo` (`manage.py demo`): start everything, repair the shipped samples by the API, keep serving."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.devserver import demo
from webapp.devserver.management.commands.dev import add_stack_arguments, make_stack
from webapp.devserver.samples import find_samples
from webapp.devserver.supervisor import print_line, stop_on_signals


class Command(BaseCommand):
    help = "Show a repair from upload to result on the shipped samples, then keep serving."

    def add_arguments(self, parser: CommandParser) -> None:
        add_stack_arguments(parser)
        parser.add_argument("--sample", action="append", help="only this one (a folder in samples/); may be repeated")
        parser.add_argument("--once", action="store_true", help="stop at the end instead of serving on")
        parser.add_argument("--out", type=Path, default=Path("out", "demo"), help="for the results")

    def handle(self, **options: object) -> None:
        stop_on_signals()
        samples = find_samples()
        if wanted := options["sample"]:
            samples = [sample for sample in samples if sample.name in wanted]
        if not samples:
            raise CommandError("There is no such sample: see the folders in samples/.")
        options["quiet"] = options["quiet"] or options["verbosity"] < 2  # the processes' lines would be in the way
        stack = make_stack(options)
        try:
            stack.start()
            stack.wait_until_ready()
            visitor = demo.invite()
            sign_in = f"{stack.url}   user {visitor.username}   password {visitor.password}"
            print_line(f"Neuron Repair is at {sign_in}\nAPI token: {visitor.token}")
            failed = False
            for sample in samples:
                print_line(f"\n=== {sample.name}: {sample.title}\n")
                run = demo.Run(stack, sample, visitor, options["out"] / sample.name)
                run.start()
                stack.supervisor.run(until=lambda run=run: not run.is_alive())
                print_line("\n" + run.summary())
                failed = failed or bool(run.failure) or run.repair.get("state") != "succeeded"
            if failed and options["once"]:
                raise CommandError("The demo did not succeed; see above.")
            if not options["once"]:
                print_line(f"\nSign in and look around: {sign_in}   (Ctrl-C stops it)\n")
                stack.supervisor.run()
        except KeyboardInterrupt:
            print_line("Stopping …")
        finally:
            stack.supervisor.stop()

"""Entry point. Exit codes: 0 done, 1 a gate failed, 2 bad input, 3 our error or the machine's, 5 no repair found (or
filters chosen by hand that are not shown to help), 128 + signal.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
import traceback
import warnings
from typing import NoReturn

from repair_engine import __version__
from repair_engine.cli import server
from repair_engine.cli.stopping import machine_problem, stoppable, stopped_by
from repair_engine.errors import BadInput, VerificationFailed
from repair_engine.settings import COMMANDS
from repair_engine.settings import options as options_of
from repair_engine.settings.texts import flag_of
from repair_engine.support import sandbox
from repair_engine.support.process import importing, prepare_process

OK, BAD_INPUT, FAILED, NO_REPAIR = 0, 2, 3, 5


def parser() -> argparse.ArgumentParser:
    from repair_engine.cli.options import add_options

    top = _Parser(
        prog="neuron-repair",
        description="Find the filters that carry a behaviour of an image classifier, and repair the checkpoint.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, (record, said) in COMMANDS.items():
        add_options(verbs.add_parser(verb, help=said), record)
    for verb, said in server.VERBS.items():
        verbs.add_parser(verb, help=said, add_help=False)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code. With `--json`, stdout gets one document whatever happens."""
    argv = _verb_of_two_words(sys.argv[1:] if argv is None else argv)
    as_json, stdout = "--json" in argv, sys.stdout
    with stoppable():
        try:
            server.start_if_asked(argv)
            prepare_process()
            args = parser().parse_args(argv)
            warnings.filterwarnings("ignore", module="torch")
            if (model := getattr(args, "model", None)) is not None and os.path.isfile(model):
                # Imports torch while this process does so, too: what comes next
                sandbox.warm("checkpoint", [] if str(model).endswith(".onnx") else ["torchvision.models"])
            with importing():
                from repair_engine.cli import options, verbs

            # What a registered factory or a library prints must not mix with the document.
            with contextlib.redirect_stdout(sys.stderr if as_json else stdout):
                code = verbs.VERBS[args.verb](options.read(args, COMMANDS[args.verb][0]), stdout)
            stdout.flush()
            return code
        except _UsageError as error:
            error.parser.print_usage(sys.stderr)
            code, problem, mend = BAD_INPUT, str(error), f"See {error.parser.prog} --help."
        except BadInput as error:
            code, problem, mend = BAD_INPUT, _named(error.field) + error.problem, error.mend
        except VerificationFailed as error:
            code, problem, mend = FAILED, str(error), ""
        except KeyboardInterrupt as error:
            (code, problem), mend = stopped_by(error), ""
        except BrokenPipeError:  # who read the output has gone; the results are in their folder
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
            return 128 + signal.SIGPIPE
        except Exception as error:
            code = FAILED
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                code, problem, mend = BAD_INPUT, f"The name of a file is too long: {error.filename}.", ""
            elif (known := machine_problem(error)) is not None:
                problem, mend = known
            else:
                traceback.print_exc()
                problem, mend = f"{type(error).__name__}: {error}", ""
        return _fail(as_json, code, problem, mend)


def _named(field: str) -> str:
    """The option that an error is about."""
    known = [found[field] for record, _ in COMMANDS.values() if field in (found := options_of(record))]
    return f"{flag_of(known[0])}: " if known else ""


def _verb_of_two_words(argv: list[str]) -> list[str]:
    """`constants merge` as one word: it shares no option with `constants`."""
    return [" ".join(argv[:2]), *argv[2:]] if argv[:2] == ["constants", "merge"] else argv


class _UsageError(Exception):
    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(self, message)


def _fail(as_json: bool, code: int, problem: str, mend: str) -> int:
    if as_json:
        print(json.dumps({"error": problem, "mend": mend, "exit_code": code}, indent=1))
    print(f"error: {problem}" + (f"\n{mend}" if mend else ""), file=sys.stderr)
    return code

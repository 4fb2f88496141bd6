"""Entry point. Exit codes: 0 done, 2 bad input, 3 our error or the machine's, 5 no repair found, 128 + signal."""

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

from repair_engine.cli.stopping import machine_problem, stoppable, stopped_by
from repair_engine.errors import BadInput, VerificationFailed
from repair_engine.support.process import prepare_process

OK, BAD_INPUT, FAILED, NO_REPAIR = 0, 2, 3, 5


def parser() -> argparse.ArgumentParser:
    from repair_engine.cli import options
    from repair_engine.cli.parties import add_parties

    top = _Parser(
        prog="python -m repair_engine",
        description="Find the filters that carry a behaviour of an image classifier, and repair the checkpoint.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    inspect = verbs.add_parser("inspect", help="what a checkpoint holds: sites, filters, what is not a player")
    options.add_model(inspect)
    inspect.add_argument("--data", metavar="ZIP", help="check an image set against the model, too")
    options.add_split_folder(inspect)
    score = verbs.add_parser("score", help="Shapley values of all filters for a metric")
    options.add_model(score)
    options.add_data(score)
    options.add_further(score)
    options.add_estimation(score, repair=False)
    score.add_argument(
        "--out",
        metavar="DIR",
        help="write score.json, objectives.npz for repair --values, and estimate.json for merge, there",
    )
    explain = verbs.add_parser("explain", help="which filters a metric is made of: values, removal curves, pictures")
    options.add_model(explain)
    options.add_data(explain)
    options.add_estimation(explain, repair=False)
    options.add_explanation(explain)
    explain.add_argument(
        "--out", metavar="DIR", default="explained", help="folder for the results (default: explained)"
    )
    compare = verbs.add_parser("compare", help="do two results hold the same filters responsible?")
    compare.add_argument("first", metavar="A", help="a folder that explain, score or repair wrote, or its JSON file")
    compare.add_argument("second", metavar="B")
    compare.add_argument("--out", metavar="DIR", help="write compare.json and compare.html there")
    compare.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else")
    repair = verbs.add_parser("repair", help="ablate the culprits and write the repaired checkpoint and its report")
    options.add_model(repair)
    options.add_data(repair)
    options.add_estimation(repair, repair=True)
    repair.add_argument("--filters", metavar="SITE:CHANNEL,…", help="ablate these, chosen by hand: no search")
    repair.add_argument(
        "--values",
        metavar="DIR",
        help="start from what score --out DIR found, for any of its metrics: no search; with --filters only the splits "
        "are as there",
    )
    options.add_adversaries(repair)
    repair.add_argument("--out", metavar="DIR", default="out", help="folder for the results (default: out)")
    repair.add_argument("--compact", action="store_true", help="also write the network without the culprits' channels")
    evaluate = verbs.add_parser("evaluate", help="the metric of a checkpoint, optionally with filters ablated")
    options.add_model(evaluate)
    options.add_data(evaluate)
    evaluate.add_argument("--ablate", metavar="SITE:CHANNEL,…", help="filters to fix to their mean, without writing")
    attack = verbs.add_parser("attack", help="what adversaries achieve against a checkpoint, and against its repair")
    options.add_model(attack)
    options.add_attacked_data(attack)
    attack.add_argument("--out", metavar="DIR", help="write attack.json, attack.csv and attack.npz there")
    apply = verbs.add_parser("apply", help="a checkpoint with other filters of a repair's list ablated, or none: undo")
    options.add_model(apply)
    apply.add_argument("--plan", required=True, metavar="FILE", help="the repair.json of a repair of this model")
    which = apply.add_mutually_exclusive_group()
    which.add_argument("--without", metavar="SITE:CHANNEL,…", help="all that the repair ablated but these; or all")
    which.add_argument("--filters", metavar="SITE:CHANNEL,…", help="these of its candidates, and no others")
    apply.add_argument("--out", required=True, metavar="FILE", help="the checkpoint to be written; must not exist yet")
    add_parties(verbs)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code. With `--json`, stdout gets one document whatever happens."""
    prepare_process()
    argv = _verb_of_two_words(sys.argv[1:] if argv is None else argv)
    as_json, stdout = "--json" in argv, sys.stdout
    with stoppable():
        try:
            args = parser().parse_args(argv)
            args.stdout = stdout
            warnings.filterwarnings("ignore", module="torch")
            from repair_engine.cli import verbs

            # What a registered factory or a library prints must not mix with the document.
            with contextlib.redirect_stdout(sys.stderr if as_json else stdout):
                code = verbs.VERBS[args.verb](args)
            stdout.flush()
            return code
        except _UsageError as error:
            error.parser.print_usage(sys.stderr)
            code, problem, mend = BAD_INPUT, str(error), f"See {error.parser.prog} --help."
        except BadInput as error:
            code, problem, mend = BAD_INPUT, error.problem, error.mend
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

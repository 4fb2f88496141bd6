"""Entry point. Exit codes: 0 done, 2 bad input, 3 an error of ours, 5 no repair found."""

from __future__ import annotations

import argparse
import json
import sys
import warnings

from repair_engine.errors import BadInput, VerificationFailed

OK, BAD_INPUT, FAILED, NO_REPAIR = 0, 2, 3, 5


def parser() -> argparse.ArgumentParser:
    from repair_engine.cli import options

    top = argparse.ArgumentParser(
        prog="python -m repair_engine",
        description="Find the filters that carry a behaviour of an image classifier, and repair the checkpoint.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="inspect|score|repair|evaluate")
    inspect = verbs.add_parser("inspect", help="what a checkpoint holds: sites, filters, what is not a player")
    options.add_model(inspect)
    inspect.add_argument("--data", metavar="ZIP", help="check an image set against the model, too")
    score = verbs.add_parser("score", help="Shapley values of all filters for a metric")
    options.add_model(score)
    options.add_data(score)
    options.add_estimation(score, repair=False)
    score.add_argument("--out", metavar="DIR", help="write score.json there")
    repair = verbs.add_parser("repair", help="ablate the culprits and write the repaired checkpoint and its report")
    options.add_model(repair)
    options.add_data(repair)
    options.add_estimation(repair, repair=True)
    repair.add_argument("--out", metavar="DIR", default="out", help="folder for the results (default: out)")
    evaluate = verbs.add_parser("evaluate", help="the metric of a checkpoint, optionally with filters ablated")
    options.add_model(evaluate)
    options.add_data(evaluate)
    evaluate.add_argument("--ablate", metavar="SITE:CHANNEL,…", help="filters to fix to their mean, without writing")
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    args = parser().parse_args(argv)
    warnings.filterwarnings("ignore", module="torch")
    from repair_engine.cli import verbs

    try:
        return verbs.VERBS[args.verb](args)
    except BadInput as error:
        return _fail(args, BAD_INPUT, str(error), error.problem, error.mend)
    except VerificationFailed as error:
        return _fail(args, FAILED, str(error), str(error), "")
    except KeyboardInterrupt:
        return _fail(args, 130, "Stopped; nothing was written.", "stopped", "")


def _fail(args: argparse.Namespace, code: int, text: str, problem: str, mend: str) -> int:
    if args.json:
        print(json.dumps({"error": problem, "mend": mend, "exit_code": code}, indent=1))
    print(f"error: {text}", file=sys.stderr)
    return code

"""python -m benchmarks quality --case NAME [--size small|full] [--device auto|cpu|cuda] [--json]

Markdown on stdout, or one JSON document with a record per method; progress on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import repair_engine as nr
from benchmarks import candidates, fleet_simulated, hidden, parts, repairs, same_bits, tables, uploads, web
from benchmarks.cases import CASES, RANDOM, REAL, open_case
from benchmarks.engine import device_for, prepare_process
from benchmarks.machine import machine
from benchmarks.references import NoReference, make, path_of
from benchmarks.sources import MissingData

TABLES = Path(__file__).resolve().parent / "tables"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 where bits are not the same; 2 where something is missing, with the reason on stderr."""
    prepare_process()
    args = _parser().parse_args(arguments)
    try:
        args.device = device_for(args.device)
        # Libraries print; stdout is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            text = args.do(args)
    except same_bits.Different as different:
        print(different)
        return 1
    except (MissingData, NoReference, nr.BadInput, KeyError, same_bits.Failed) as error:
        why = str(error.args[0] if isinstance(error, KeyError) else error)
        print(why, file=sys.stderr)
        if getattr(args, "json", False):
            print(json.dumps({"error": why}))
        return 2
    print(text)
    return 0


def one_part(args: argparse.Namespace) -> str:
    """One part on one case."""
    say = teller()
    result = parts.PARTS[args.part](args.case, parts.Options.of(args), say)
    if args.json:
        return json.dumps({"machine": machine(args.device), "results": [result]}, indent=1)
    return tables.document(args.part, machine(args.device), [result], _command(args))


def all_parts(args: argparse.Namespace) -> str:
    """All parts, each table written as soon as it is done; what cannot be measured here is said in it.

    At size "full" on all cases; at "small" on those of `parts.BRIEF`, or on the cases that are named.

    Each measurement has a process of its own: none inherits another's memory or threads, and none takes others down.
    """
    args.folder.mkdir(parents=True, exist_ok=True)
    written = []
    brief = args.size == "small" and not args.case
    for part in parts.BRIEF if brief else parts.PARTS:
        results: list[dict[str, Any]] = []
        path = args.folder / f"{part}-{args.device}.md"
        for case in parts.BRIEF[part] if brief else args.case or CASES:
            if case in RANDOM and part in parts.NEED_REAL:
                continue
            options = ["--case", case, "--size", args.size, "--device", args.device, "--json"]
            if brief and part == "quality":
                options += ["--seconds", str(parts.BRIEF_SECONDS)]
            command = [sys.executable, "-m", "benchmarks", part, *options]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            answer = json.loads(done.stdout or "{}")
            why = answer.get("error", f"it ended with exit code {done.returncode}.")
            results += answer.get("results", [{"case": case, tables.SKIPPED: why}])
            path.write_text(tables.document(part, machine(args.device), results, _command(args)))
        written.append(str(path))
    return "\n".join(written)


def reference(args: argparse.Namespace) -> str:
    """Makes or continues a reference."""
    case = open_case(args.case, args.device, teller())
    header = make(case, args.minutes, teller(), args.path or path_of(args.case))
    return json.dumps(header, indent=1)


def bits(args: argparse.Namespace) -> str:
    """What a commit and this tree compute, side by side."""
    return same_bits.same_bits(args.before, teller(), args.command, args.after, args.work)


def edits(args: argparse.Namespace) -> str:
    """Every edit of a repair beside its rivals."""
    return repairs.repairs(args, teller())


def sources(args: argparse.Namespace) -> str:
    """Sources of candidates at equal cost."""
    return candidates.candidates(args, teller())


def triggers(args: argparse.Namespace) -> str:
    """Backdoors whose trigger is not known."""
    return hidden.hidden(args, teller())


def pages(args: argparse.Namespace) -> str:
    """Server time of pages, and answers to who watches."""
    return web.web(args, teller())


def arrivals(args: argparse.Namespace) -> str:
    """What uploads cost the web process."""
    return uploads.uploads(args, teller())


def fleet(args: argparse.Namespace) -> str:
    """The coordinator with virtual workers."""
    return fleet_simulated.fleet(args, teller())


def teller() -> Callable[[str], None]:
    """Progress on stderr, with the seconds since the beginning."""
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {text}", file=sys.stderr, flush=True)

    return say


def _command(args: argparse.Namespace) -> str:
    case = "" if isinstance(args.case, list) or args.case is None else f" --case {args.case}"
    given = vars(args).get
    methods = "".join(f" --method {shlex.quote(name)}" for name in given("method") or ())
    seconds = f" --seconds {given('seconds'):g}" if given("seconds") else ""
    seed = f" --seed {given('seed')}" if given("seed") else ""
    more = "".join(f" --{name}" for name in ("variants", "compiled", "float32") if given(name))
    how = f"--size {args.size} --device {args.device}{methods}{seconds}{seed}{more}"
    return f"python -m benchmarks {args.part}{case} {how}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="part", required=True)
    for part in parts.PARTS:
        verb = verbs.add_parser(part, help=tables.TITLES[part])
        cases = REAL if part in parts.NEED_REAL else CASES
        verb.add_argument("--case", required=True, choices=cases)
        verb.add_argument("--json", action="store_true", help="one JSON document on stdout")
        if part == "quality":
            verb.add_argument("--method", action="append", help="only this one; may be repeated")
            verb.add_argument("--seed", type=int, default=0)
            verb.add_argument("--reference", type=Path, help="instead of benchmarks/references/CASE.npz")
        if part == "throughput":
            verb.add_argument("--variants", action="store_true", help="also other precisions and memory layouts")
            verb.add_argument("--float32", action="store_true", help="no search in bfloat16, of which trials take long")
            verb.add_argument("--compiled", action="store_true", help="with --variants: torch.compile's forward, too")
        if part in parts.TIMED:
            verb.add_argument("--seconds", type=float, help="for each method or figure, instead of the size's")
        verb.set_defaults(do=one_part)
        _common(verb)
    verb = verbs.add_parser("all", help="all parts, small: on a case or two; writes benchmarks/tables/PART-DEVICE.md")
    verb.add_argument("--case", action="append", choices=CASES)
    verb.add_argument("--folder", type=Path, default=TABLES)
    verb.set_defaults(do=all_parts)
    _common(verb)
    verb = verbs.add_parser("reference", help="make or continue a long-run reference")
    verb.add_argument("--case", required=True, choices=REAL)
    verb.add_argument("--minutes", type=float, required=True)
    verb.add_argument("--path", type=Path, help="instead of benchmarks/references/CASE.npz")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.set_defaults(do=reference)
    verb = verbs.add_parser("same_bits", help="the same commands by a commit and by this tree: what differs")
    verb.add_argument("--before", required=True, metavar="COMMIT")
    verb.add_argument("--command", action="append", metavar="NAME", help="only this one; may be repeated")
    verb.add_argument("--after", default="", metavar="COMMIT", help="in place of this tree")
    verb.add_argument("--work", type=Path, help="keep there what both wrote, for commands that are run later on")
    verb.set_defaults(do=bits, device="cpu")
    verb = verbs.add_parser("candidates", help="sources of candidates for a repair, at equal cost")
    candidates.add_arguments(verb)
    verb.set_defaults(do=sources, device="cpu")
    verb = verbs.add_parser("hidden", help="backdoors whose trigger is not known: found, repaired, not claimed")
    hidden.add_arguments(verb)
    verb.set_defaults(do=triggers, device="cpu")
    verb = verbs.add_parser("repairs", help="every edit of a repair beside its rivals, by case and seed")
    repairs.add_arguments(verb)
    verb.set_defaults(do=edits, device="cpu")
    verb = verbs.add_parser("web", help="server time of every page with many runs, and answers to many who watch")
    verb.add_argument("--runs", type=int, default=1000)
    verb.add_argument("--units", type=int, default=36_864)
    verb.add_argument("--queued", type=int, default=2000)
    verb.add_argument("--watchers", type=int, default=200)
    verb.add_argument("--uploads", type=int, default=20)
    verb.add_argument("--megabytes", type=int, default=200, help="of each upload")
    verb.set_defaults(do=pages, device="cpu")
    verb = verbs.add_parser("uploads", help="processor time of the web process: uploads through it, and to the store")
    uploads.add_arguments(verb)
    verb.set_defaults(do=arrivals, device="cpu")
    verb = verbs.add_parser("fleet_simulated", help="turns, leases and rounds with a thousand virtual workers")
    fleet_simulated.add_arguments(verb)
    verb.set_defaults(do=fleet, device="cpu")
    return parser


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--size", choices=("small", "full"), default="small")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


if __name__ == "__main__":
    raise SystemExit(main())

"""python -m experiments NAME [--budget N] [--seed N] [--images N] [--out DIR], or --list

Writes NAME.md, NAME.json and NAME-*.svg; progress on stderr. Exit code 2 where data or an option is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import repair_engine as nr
from benchmarks.machine import line, machine
from benchmarks.sources import MissingData
from experiments.common import Options, Result, teller
from experiments.registry import EXPERIMENTS, Experiment

RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2 where data is missing or an option is bad, with the reason on stderr."""
    args = _parser().parse_args(arguments)
    if args.list:
        for e in EXPERIMENTS.values():
            print(f"{e.name:16} {e.title} ({e.paper}); --budget {e.budget} --images {e.images}")
        return 0
    if args.name is None:
        print(f"Name an experiment: {', '.join(EXPERIMENTS)}; or --list.", file=sys.stderr)
        return 2
    experiment = EXPERIMENTS[args.name]
    if args.seed < 0 or any(v is not None and v < 1 for v in (args.budget, args.images)):
        print("--seed must not be negative, --budget and --images must be positive.", file=sys.stderr)
        return 2
    options = Options(
        experiment.network, args.budget or experiment.budget, args.seed, args.images or experiment.images, args.out
    )
    began = time.perf_counter()
    try:
        result = experiment.run(options, teller())
    except (MissingData, nr.BadInput) as error:
        print(error, file=sys.stderr)
        return 2
    for path in write(experiment, options, result, time.perf_counter() - began):
        print(path)
    return 0


def write(experiment: Experiment, options: Options, result: Result, seconds: float) -> list[Path]:
    """Markdown, JSON and plots into the folder; their paths."""
    options.out.mkdir(parents=True, exist_ok=True)
    command = (
        f"python -m experiments {experiment.name} --budget {options.budget} --seed {options.seed} --images "
        f"{options.images}"
    )
    of = machine("cpu")
    parts = [f"# {experiment.title}", f"Beside the paper's {experiment.paper}. `{command}`", *result.sections]
    parts += [f"![{name}]({name})" for name in result.plots]
    parts.append(f"{seconds / 60:.1f} minutes on {line(of)}.")
    files = {f"{experiment.name}.md": "\n\n".join(parts) + "\n", **{k: str(v) + "\n" for k, v in result.plots.items()}}
    document = {"command": command, "machine": of, "seconds": round(seconds), "figures": result.figures}
    files[f"{experiment.name}.json"] = json.dumps(document, indent=1) + "\n"
    for name, text in files.items():
        (options.out / name).write_text(text, encoding="utf-8")
    return [options.out / name for name in files]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("name", nargs="?", choices=tuple(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--budget", type=int, help="evaluations of each estimate")
    parser.add_argument("--images", type=int, help="most report images of a curve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

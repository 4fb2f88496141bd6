"""Long-run references: made, continued, stored with how they were made, and loaded for one case only."""

from __future__ import annotations

import datetime
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import reference_sampler
from benchmarks.cases import BenchCase
from benchmarks.engine import NeuronGame
from benchmarks.metrics import Reference
from benchmarks.reference_sampler import Pool
from benchmarks.sources import ROOT
from shapley import Settings, merge_round, next_round, run_block, start

FOLDER = Path(__file__).resolve().parent / "references"
IMAGES = 16  # per draw: few, since many coalitions tell more than many images
SEED = 20_020_981  # of all references; no method is run with it
_ROUND = 16  # draws between two looks at who still takes part
_SAVE_SECONDS = 120.0
_HOW = (
    "Unbiased cmcs draws (arXiv 2504.02019) stratified by the number of removed filters over 0..D, D "
    "twice the depth at which a pilot of 8 walks finds the network dead; "
    "draws by Neyman allocation; first all filters, then those in or not yet told from the top or bottom 50 and 100. "
    "No method under test has a part in it. std_errors are of the means; variances are of one cmcs draw."
)


class NoReference(Exception):
    """There is no usable reference; the message says how to make one."""


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.npz"


def make(case: BenchCase, minutes: float, say: Callable[[str], None], path: Path | None = None) -> dict[str, object]:
    """Continues the stored reference of a case, or begins one, for `minutes`; its header.

    Every draw has its own seed and every round is merged, so a reference may be stopped and continued at will; it is
    stored every two minutes.

    Raises:
        NoReference: what is stored belongs to another model or other images.
    """
    path = path or path_of(case.name)
    game = case.game(IMAGES)
    commits: list[str] = []
    if path.exists():
        header, pool = _read(path)
        _check(header, case, path)
        if header["images_per_draw"] != game.batch_size:
            raise NoReference(f"{path} was made with {header['images_per_draw']} images per draw; delete it first.")
        commits = list(header["commits"])
    else:
        pool = Pool.empty(case.n, _depth(game))
    commits = [*commits, commit()] if commit() not in commits else commits
    began = saved = time.perf_counter()
    header = {}
    while time.perf_counter() - began < 60 * minutes:
        pool = run_round(game, pool, lambda: time.perf_counter() - began < 60 * minutes)
        if time.perf_counter() - saved > _SAVE_SECONDS:
            header = _write(path, pool, case, game, commits)
            saved = time.perf_counter()
        active = len(reference_sampler.contenders(pool))
        spent = time.perf_counter() - began
        error = float(np.sqrt(np.mean(np.minimum(pool.std_errors(), 1.0) ** 2)))
        say(
            f"{case.name}: {spent / 60:.1f} of {minutes:g} min, {pool.draws} draws, {pool.evaluations:,} evaluations, "
            f"{active} filters still sampled, standard error {error:.2e}"
        )
    return _write(path, pool, case, game, commits)


def run_round(game: NeuronGame, pool: Pool, go_on: Callable[[], bool] = lambda: True) -> Pool:
    """The pool with one more round of draws, or as much of it as `go_on` allows."""
    players = reference_sampler.contenders(pool)
    spans = reference_sampler.strata(pool.n, pool.depth)
    for stratum in reference_sampler.plan_round(pool, _ROUND):
        began = time.perf_counter()
        rng = np.random.default_rng([SEED, pool.draws])
        delta = reference_sampler.draw(game, rng, spans[stratum], players)
        pool = pool.add(stratum, players, delta, (1 + len(players)) * game.batch_size)
        pool = replace(pool, seconds=pool.seconds + time.perf_counter() - began)
        if not go_on():
            break
    return pool


def _depth(game: NeuronGame) -> int:
    """Twice the depth that the engine's pilot learns, at most n."""
    settings = Settings("cmcs", game.n_players, 1 << 60, batch_size=game.batch_size, seed=SEED)
    state = start(settings)
    state = merge_round(
        state, settings, [run_block(game, settings, state, task) for task in next_round(state, settings)]
    )
    assert state.depth is not None
    return min(game.n_players, 2 * state.depth)


def load(case: BenchCase, path: Path | None = None) -> tuple[Reference, dict[str, object]]:
    """The stored reference of a case and its header.

    Raises:
        NoReference: there is none, it is not complete, or it belongs to another model or other images.
    """
    path = path or path_of(case.name)
    command = f"python -m benchmarks reference --case {case.name} --minutes 30"
    if not path.exists():
        raise NoReference(f"There is no reference {path}; make one with `{command}`.")
    header, pool = _read(path)
    _check(header, case, path)
    if (pool.count < 2).any():
        raise NoReference(f"{path} has too few draws; continue it with `{command}`.")
    variances = (pool.weights[:, None] * pool.variance()).sum(0)
    return Reference(pool.values(), pool.std_errors(), variances), header


def commit() -> str:
    """The commit of this working tree, "+" behind it where files differ from it; "unknown" outside git."""
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude", "*", "--dirty=+"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def _check(header: dict[str, object], case: BenchCase, path: Path) -> None:
    if header["sources"] != case.sources:
        differ = [key for key in case.sources if header["sources"].get(key) != case.sources[key]]  # type: ignore
        raise NoReference(f"{path} belongs to another {' and '.join(differ)} than the case {case.name} has now.")


def _read(path: Path) -> tuple[dict, Pool]:
    with np.load(path) as arrays:
        header = json.loads(str(arrays["header"]))
        pool = Pool(
            arrays["count"], arrays["mean"], arrays["m2"],
            header["depth"], header["draws"], header["evaluations"], header["seconds"],
        )  # fmt: skip
    return header, pool


def _write(path: Path, pool: Pool, case: BenchCase, game: NeuronGame, commits: list[str]) -> dict[str, object]:
    header = {
        "case": case.name,
        "how": _HOW,
        "seed": SEED,
        "images_per_draw": game.batch_size,
        "depth": pool.depth,
        "strata": reference_sampler.strata(pool.n, pool.depth),
        "draws_per_stratum": [int(c) for c in pool.count.max(1)],
        "draws": pool.draws,
        "evaluations": pool.evaluations,
        "seconds": round(pool.seconds, 1),
        "commits": commits,
        "sources": case.sources,
        "device": str(case.network.device),
        "torch": torch.__version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"count": pool.count.astype(np.int32), "mean": pool.mean, "m2": pool.m2}
    results = {"values": pool.values(), "std_errors": pool.std_errors(), "samples": pool.count.sum(0)}
    whole = path.with_suffix(".part.npz")
    np.savez_compressed(whole, header=np.array(json.dumps(header, indent=1)), **results, **arrays)
    whole.replace(path)
    return header

"""The attack verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

from repair_engine.cli import options
from repair_engine.cli.emit import emit
from repair_engine.cli.progress import Bars
from repair_engine.cli.text import attack_row
from repair_engine.pages.attack_wording import settings_text
from repair_engine.settings import AttackHere
from repair_engine.support.outputs import claimed, results
from repair_engine.support.scratch import scratch
from repair_engine.verbs.attack import run


def attack(here: AttackHere, to: TextIO) -> int:
    """What adversaries achieve against a checkpoint; with --repaired, before and after."""
    request, bars = options.request_of(here), Bars(here.json)
    out = Path(here.out) if here.out else None
    with claimed(out), scratch("attack") as folder:
        found = run(request, here.repaired, here.all_images, folder, bars.stage)
        bars.close()
        if out is not None:
            with results(out) as made:
                found.write(made)
    document = found.document
    emit(here, to, document, attack_text)
    return 0


def attack_text(document: dict[str, Any]) -> str:
    """What the verb prints for people."""
    images, figures, attack = document["images"], document["figures"], document["attack"]
    lines = [
        f"{settings_text(attack)} (preset {attack['preset']}, seed {attack['seed']})",
        f"{images['picked']} images of {images['part']}; {images['left_out']} left out where there is nothing to win",
        *(f"  {name:<24}{share(figures[key])}" for key, name in _FIGURES.items()),
    ]
    if "black_box" in document:
        black = document["black_box"]
        lines.append(f"  {'black-box success':<24}{share(black['success'])}, at most {black['queries']} queries each")
    lines += _curve_lines(document["curves"], "the model")
    if document["rows"]:
        lines.append("Before and after the repair (success; true label recovered):")
        lines += [attack_row(row) for row in document["rows"]]
        lines.append(f"  {'clean accuracy after':<46}{share(document['clean_after']['accuracy'])}")
        lines += _curve_lines(document["curves_repaired"], "the repaired model")
    for test in document["self_tests"]:
        lines.append(f"{'WARNING' if test['warns'] else 'self-test'} ({test['model']}): {test['text']}")
    return "\n".join([*lines, *(f"warning: {w}" for w in document["warnings"])])


def share(figure: dict[str, Any]) -> str:
    """A rate with its interval and n."""
    return f"{figure['value']:.1%} [{figure['lower']:.1%}, {figure['upper']:.1%}] (n = {figure['n']})"


_FIGURES = {
    "clean_accuracy": "clean accuracy",
    "success": "attack success",
    "true_label": "true label recovered",
    "accuracy_under_attack": "accuracy under attack",
}


def _curve_lines(curves: dict[str, Any], model: str) -> list[str]:
    lines = []
    for key, shown in (("epsilon", "ε"), ("steps", "steps")):
        points = [f"{p[key]:.4g}: {p['success']:.1%} / {p['true_label']:.1%}" for p in curves[key]]
        if points:
            lines.append(f"Success / true label against {shown}, {model} (n = {curves['n']}): {'; '.join(points)}")
    return lines

"""What an attack found, in sentences that say no more than was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repair_engine.support.words import count, length, percent

if TYPE_CHECKING:
    from repair_engine.documents.attack import AuditRecord
    from repair_engine.question.attacks.settings import AttackRecord
    from repair_engine.studies.attack_rows import AttackRow


_NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}


def title(document: AuditRecord) -> str:
    """What was attacked."""
    if "repaired" in document:
        return "What adversaries achieve before and after the repair"
    return "What adversaries achieve"


def headline(document: AuditRecord) -> list[str]:
    """The answer in two or three sentences, the most important first."""
    out = [_on_the_model(document)]
    if document["rows"]:
        out.append(_after_the_repair(document))
    if warning := sum(test["warns"] for test in document["self_tests"]):
        tests = f"{warning} of {count(len(document['self_tests']), 'self-test')}"
        out.append(f"{tests} warn: these figures may understate what an adversary can do.")
    return out


def _on_the_model(document: AuditRecord) -> str:
    figures, attack = document["figures"], document["attack"]
    hit, clean, under = (figures[key] for key in ("success", "clean_accuracy", "accuracy_under_attack"))
    if attack["epsilon"] == 0:
        return "With ε = 0 an adversary may change nothing: this run tests the measurement itself and no adversary."
    return (
        f"{settings_text(attack)} wins {percent(hit['value'])} of {count(hit['n'], 'attacked image')} (95% interval "
        f"{percent(hit['lower'])} to {percent(hit['upper'])}). Accuracy on the {count(clean['n'], 'image')} that were "
        f"picked is {percent(clean['value'])} on clean and {percent(under['value'])} on attacked pixels."
    )


def _after_the_repair(document: AuditRecord) -> str:
    rows = {row["kind"]: row for row in document["rows"]}
    replay, fresh = rows["replay"], rows["white-box"]
    before, after = document["figures"]["clean_accuracy"]["value"], document["clean_after"]["accuracy"]["value"]
    return (
        f"On the repaired model the fixed set wins {percent(replay['success'] or 0.0)} instead of "
        f"{percent(replay['before']['success'])}; an adversary who attacks the repaired model anew wins "
        f"{percent(fresh['success'] or 0.0)}. Clean accuracy: {percent(before)} before, {percent(after)} after."
    )


def settings_text(settings: AttackRecord | AttackRow) -> str:
    """PGD with its figures, such as "PGD in ℓ∞, untargeted: ε = 8/255, 20 steps of 1/255, random start, 1 start"."""
    aim = "targeted at a random other class" if settings["targeted"] else "untargeted"
    norm = settings.get("norm", "linf")
    start = "random start" if settings["random_start"] else "no random start"
    return (
        f"PGD in {_NORMS[norm]}, {aim}: ε = {length(settings['epsilon'], norm)}, {count(settings['steps'], 'step')} of "
        f"{length(settings['step'], norm)}, {start}, {count(settings['restarts'], 'start')}"
    )


def how_made(row: AttackRow) -> str:
    """Which images, on what, with which seed and ε, in words."""
    if row["kind"] == "black-box":
        used = row["queries_used"]
        return (
            f"Square (arXiv 1912.00049) in {_NORMS[row['norm']]}, ε = {length(row['epsilon'], row['norm'])}, at most "
            f"{row['queries']:,} queries per image and no gradients, on {row['n']:,} of the images, evenly spaced in "
            f"their order; seed {row['seed']} and the image's index. Queries used on average: "
            f"{used['before']:.0f} before, {used['after']:.0f} after."
        )
    text = f"{settings_text(row)}; seed {row['seed']}; made on {row['made_on']}."
    if row["kind"] == "transfer":
        twin = row["surrogate"]
        text += f" It is right on {percent(twin['accuracy'])} of these images, and the attack wins "
        text += f"{percent(twin['success_on_itself'])} of them on it (sha256 {twin['sha256'][:16]}…)."
    return text

"""PGD: inside the ball and the pixel range, presets as published, success grows with ε."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.case.preparing import prepare
from repair_engine.documents import measures
from repair_engine.errors import BadInput
from repair_engine.question.attacks import AttackSettings, pgd, random_targets
from repair_engine.verbs import pipeline
from repair_engine.verbs.finish import Predictions
from shapley.cmcs import draw_removed
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World, call


def attack(world: World, settings: AttackSettings, n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean images, attacked ones, targets (labels where untargeted)."""
    clean = world.images.tensor()[::2][:n]
    labels = world.images.labels[::2][:n]
    targets = random_targets(labels, 3, np.random.default_rng(0)) if settings.targeted else labels
    goal = torch.from_numpy(targets)
    return clean, pgd(world.module, clean, goal, settings, torch.Generator().manual_seed(0)), goal


def success(world: World, settings: AttackSettings) -> float:
    _, attacked, goal = attack(world, settings)
    hit = world.module(attacked).argmax(1) == goal
    return float((hit if settings.targeted else ~hit).float().mean())


@pytest.mark.parametrize("preset", ["paper", "standard"])
@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0])
def test_inside_the_ball_and_the_pixel_range(skewed: World, preset: str, epsilon: float) -> None:
    settings = AttackSettings.of(preset, epsilon=epsilon, steps=7)
    clean, attacked, _ = attack(skewed, settings)
    assert attacked.dtype == torch.float32
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    assert float((attacked - clean).abs().max()) <= epsilon + 1e-6
    assert not torch.equal(attacked, clean)


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_success_starts_at_clean_and_grows_with_epsilon(skewed: World, preset: str) -> None:
    rates = [success(skewed, AttackSettings.of(preset, epsilon=e, steps=10)) for e in (1e-6, 0.03, 0.1, 0.3, 1.0)]
    clean, _, goal = attack(skewed, AttackSettings.of(preset))
    hit = skewed.module(clean).argmax(1) == goal
    assert rates[0] == pytest.approx(float((hit if preset == "paper" else ~hit).float().mean()))
    assert rates == sorted(rates)
    assert rates[-1] > rates[0] + 0.5


def test_restarts_never_lose_a_success(skewed: World) -> None:
    settings = AttackSettings.of("standard", epsilon=0.05, steps=2)
    again = AttackSettings(**{**settings.to_json(), "restarts": 4})
    assert success(skewed, again) >= success(skewed, settings)


def test_a_single_logit_is_attacked_at_zero() -> None:
    """A linear classifier: the attack moves every pixel by ε towards the other side."""
    weight = torch.tensor([1.0, -2.0, 0.5, -0.1])
    for shape in (lambda z: z, lambda z: z[:, None]):
        settings = AttackSettings.of("standard", epsilon=0.1, steps=10)
        clean = torch.full((2, 1, 2, 2), 0.5)
        goal = torch.tensor([1, 0])
        attacked = pgd(
            lambda x, shape=shape: shape(x.flatten(1) @ weight), clean, goal, settings, torch.Generator().manual_seed(0)
        )
        moved = (attacked - clean).flatten(1)
        torch.testing.assert_close(moved[0], -0.1 * weight.sign())
        torch.testing.assert_close(moved[1], 0.1 * weight.sign())


def test_the_presets() -> None:
    paper, standard = AttackSettings.of("paper"), AttackSettings.of("standard")
    assert (paper.epsilon, paper.step, paper.steps) == pytest.approx((16 / 255, 0.8 / 255, 30))
    assert (paper.targeted, paper.random_start) == (True, False)
    assert (standard.targeted, standard.random_start) == (False, True)
    assert standard.step == pytest.approx(2.5 * standard.epsilon / standard.steps)
    # ε and steps are free; how far the steps reach in all keeps its ratio to ε.
    half = AttackSettings.of("paper", epsilon=8 / 255, steps=15)
    assert half.step * half.steps / half.epsilon == pytest.approx(0.8 * 30 / 16)


@pytest.mark.parametrize(
    ("epsilon", "steps"), [(0.0, None), (-0.1, None), (1.1, None), (float("nan"), None), (None, 0)]
)
def test_settings_that_attack_nothing(epsilon: float | None, steps: int | None) -> None:
    with pytest.raises(BadInput):
        AttackSettings.of("paper", epsilon, steps)
    with pytest.raises(BadInput, match=r"attack: .gentle. is not one of paper, standard"):
        AttackSettings.of("gentle")


def test_targets_are_uniform_over_the_other_classes() -> None:
    labels = np.repeat([0, 1, 2, 3], 3000)
    targets = random_targets(labels, 4, np.random.default_rng(0))
    assert (targets != labels).all()
    for label in range(4):
        counts = np.bincount(targets[labels == label], minlength=4)
        others = np.delete(counts, label)
        assert abs(others - 1000).max() < 6 * np.sqrt(1000)
    assert set(random_targets(np.array([0, 1]), 2, np.random.default_rng(0))) == {0, 1}


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_what_has_nothing_to_win_is_left_out_and_counted(
    skewed: World, tmp_path: Path, quick: None, preset: str
) -> None:
    settings = AttackSettings.of(preset, steps=1)
    case = prepare(request_of(skewed, "attack-success", attack=settings, attack_images=20), tmp_path)
    assert set(case.question.attacked) == {"score", "select", "report"}
    for part, attacked in case.question.attacked.items():
        assert set(attacked.indices) <= set(case.images.indices(part))
        assert len(attacked.indices) + attacked.excluded == 20
        assert attacked.excluded > 0
        intact = case.intact[attacked.indices]
        assert ((intact != attacked.targets) if preset == "paper" else (intact == attacked.targets)).all()


def test_untargeted_success_is_shown_as_success(skewed: World, tmp_path: Path, quick: None) -> None:
    """V is the share of attacked images still classified rightly; what people see is 1 − V."""
    options = {"metric": "attack-success", "attack": "standard", "epsilon": "0.1", "steps": "3"}
    figures = call(skewed.argv("evaluate", "--json", **options)).document["figures"]
    case = prepare(request_of(skewed, "attack-success", attack=AttackSettings.of("standard", 0.1, 3)), tmp_path)
    for part, attacked in case.question.attacked.items():
        wrong = skewed.module(attacked.pixels).argmax(1).numpy() != attacked.targets
        assert figures[part]["metric"] == pytest.approx(wrong.mean())
        assert "metric" not in figures["all"]
    document = call(skewed.argv("score", "--json", estimator="exact", **options)).document
    assert document["metric"]["goal"] == "lower"
    assert document["value_of_all"] == pytest.approx(figures["score"]["metric"])
    # A filter's value is its share of the shown metric: efficiency holds with the shown figures.
    ids = ",".join(f["id"] for f in document["filters"])
    empty = call(skewed.argv("evaluate", "--json", "--ablate", ids, **options)).document["figures_ablated"]["score"]
    total = sum(f["value"] for f in document["filters"])
    assert total == pytest.approx(document["value_of_all"] - empty["metric"])
    for row in document["filters"]:
        assert row["lower"] <= row["value"] <= row["upper"]


def test_gain_of_an_untargeted_attack_is_in_success(skewed: World, tmp_path: Path, quick: None) -> None:
    case = prepare(request_of(skewed, "attack-success", attack=AttackSettings.of("standard", 0.1, 3)), tmp_path)
    objective = case.question.objective("report")
    worst = np.where(objective.targets == 0, 1, 0)
    gain = measures.gain(objective, worst, objective.targets, seed=0)
    assert gain["value"] == pytest.approx(-1)  # success falls from all to none
    assert gain["upper"] == pytest.approx(-1)
    logits = np.eye(3, dtype=np.float32)[objective.targets]
    assert (Predictions({"attack_report": logits}).attacked["report"] == objective.targets).all()


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_culprits_raise_the_success_by_sampling_and_by_guesses(
    sabotaged: World, tmp_path: Path, quick: None, preset: str
) -> None:
    """Of all filters the one that serves the attack best is the first culprit, whichever way it is found."""
    settings = AttackSettings.of(preset, epsilon=0.15, steps=3)
    job = pipeline.prepare_job(request_of(sabotaged, "attack-success", attack=settings, estimator="exact"), tmp_path)
    ranking, _ = pipeline.ranking_of(job, None, None)
    values = ranking.found.values[0]
    assert ranking.players[0] == values.argmax()
    assert values[ranking.players[0]] > 0.01
    assert (values[ranking.players] > 0).all()
    assert job.request.metric.culprit_sign == job.game.objective.culprit_sign == 1
    game, rng, guesses = job.game, np.random.default_rng(0), []
    for _ in range(40):
        coalitions = draw_removed(rng, game.n_players, game.n_players // 3, game.n_parts)
        guesses.append(game.guesses([(coalitions, game.draw_batch(rng))], lambda _: None)[0, 0])
    assert np.corrcoef(np.mean(guesses, axis=0), values)[0, 1] > 0.3

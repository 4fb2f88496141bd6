"""What an attack may do: own figures over the presets, and settings that make no sense."""

from __future__ import annotations

import json

import pytest

from repair_engine.errors import BadInput
from repair_engine.question.attacks import AttackSettings


def test_own_figures_over_a_preset() -> None:
    settings = AttackSettings.of("standard", 0.5, 10, norm="l2", restarts=3, targeted=True)
    assert (settings.norm, settings.epsilon, settings.steps, settings.restarts) == ("l2", 0.5, 10, 3)
    assert settings.targeted
    assert settings.step * settings.steps / settings.epsilon == pytest.approx(2.5)
    assert AttackSettings.of("standard", 0.5, 10, step=0.01).step == 0.01
    assert AttackSettings(**json.loads(json.dumps(settings.to_json()))) == settings
    assert set(settings.given) == {"epsilon", "steps", "norm", "restarts", "targeted"}
    assert AttackSettings.of("paper").given == ()


def test_another_epsilon_or_other_steps_reach_equally_far() -> None:
    settings = AttackSettings.of("paper")
    for other in (settings.at(epsilon=0.1), settings.at(steps=7), settings.at(0.3, 50)):
        assert other.step * other.steps / other.epsilon == pytest.approx(1.5)
    none = AttackSettings.of("paper", epsilon=0.0, zero=True)
    assert (none.epsilon, none.step) == (0.0, 0.0)


BAD = {
    "norm": ({"norm": "l1"}, "linf, l2"),
    "l2 without ε": ({"norm": "l2"}, "an ε is needed"),
    "l2 below one grey level": ({"norm": "l2", "epsilon": 0.003}, "less than one grey level of one pixel"),
    "l2 of nothing": ({"norm": "l2", "epsilon": 0.0}, "no attack can succeed"),
    "l2 that is no number": ({"norm": "l2", "epsilon": float("nan")}, "no finite number"),
    "ε in grey levels": ({"epsilon": 8.0}, "is not between 0 and 1"),
    "ε = 0": ({"epsilon": 0.0}, "no attack can succeed"),
    "step of nothing": ({"step": 0.0}, "step_size"),
    "step that is no number": ({"step": float("inf")}, "step_size"),
    "no start": ({"restarts": 0}, "less than 1"),
    "restarts that are all the same": ({"restarts": 2}, "Without a random start"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_make_no_sense(case: str) -> None:
    options, said = BAD[case]
    with pytest.raises(BadInput, match=said):
        AttackSettings.of("paper", **options)


def test_an_l2_length_in_grey_levels_is_told_by_the_image_size() -> None:
    settings = AttackSettings.of("standard", 128.0, norm="l2")
    with pytest.raises(BadInput, match=r"3×32×32.*\n.*divided by 255: 0\.50"):
        settings.check_images((3, 32, 32))
    AttackSettings.of("standard", 0.5, norm="l2").check_images((3, 32, 32))
    AttackSettings.of("standard", 1.0).check_images((1, 1, 1))


def test_a_target_asked_of_a_single_logit() -> None:
    with pytest.raises(BadInput, match="single logit"):
        AttackSettings.of("standard", targeted=True).check_logits(1)
    AttackSettings.of("standard", targeted=True).check_logits(2)
    AttackSettings.of("paper").check_logits(1)  # the preset's aim: the one other class

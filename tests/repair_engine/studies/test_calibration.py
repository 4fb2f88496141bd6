"""Calibration by other means than the study's own: plain torch, loops, and models of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repair_engine.studies.calibration import Judged, describe, reliability, surer
from repair_engine.verbs.calibration_again import confidence_again, scores_again


def images(n: int, classes: int, seed: int, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax of logits, and these logits times `sharp`: above 1 such a model is surer than right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    p = torch.softmax(torch.from_numpy(logits), 1).numpy()
    labels = (rng.random((n, 1)) > p.cumsum(1)[:, :-1]).sum(1)
    return labels, (sharp * logits).astype(np.float32)


def described(labels: np.ndarray, before: np.ndarray, after: np.ndarray, groups: list[str] | None = None):
    half = len(labels) // 2
    there = labels[:half], before[:half], after[:half]
    return describe(labels[half:], before[half:], after[half:], None if groups is None else groups[half:], there, 3)


def test_scores_are_those_of_plain_torch():
    labels, logits = images(400, 5, 1)
    found = Judged.of(logits, labels)
    logits, labels = torch.from_numpy(logits), torch.from_numpy(labels)
    p = torch.softmax(logits.double(), 1)
    assert found.nll == pytest.approx(torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none"))
    assert found.brier == pytest.approx(((p - torch.nn.functional.one_hot(labels, 5)) ** 2).sum(1).numpy())
    assert found.confidence == pytest.approx(p.max(1).values.numpy())
    assert (found.right == (logits.argmax(1) == labels).numpy()).all()


def test_a_single_logit_is_the_sigmoid_of_two_classes():
    labels, two = images(300, 2, 2)
    one = two[:, 1:] - two[:, :1]
    single, double = Judged.of(one, labels), Judged.of(two, labels)
    for name in ("nll", "brier", "confidence"):
        assert getattr(single, name) == pytest.approx(getattr(double, name), abs=1e-6)
    assert Judged.of(np.zeros((1, 1)), np.array([0])).right.all(), "0 is not above 0: the first class"


def test_the_error_is_the_sum_over_bins():
    labels, logits = images(500, 4, 3, sharp=2.0)
    judged = Judged.of(logits, labels)
    expected = 0.0
    for tenth in range(10):
        inside = (judged.confidence > tenth / 10) & (judged.confidence <= (tenth + 1) / 10)
        if inside.any():
            expected += inside.mean() * abs(judged.right[inside].mean() - judged.confidence[inside].mean())
    assert reliability(judged.confidence, judged.right)["ece"] == pytest.approx(expected)


def test_a_calibrated_model_lies_within_what_noise_makes_and_an_overconfident_one_above():
    labels, logits = images(4_000, 4, 4)
    found = described(labels, logits, 3 * logits)
    mean, high = found["before"]["ece_if_calibrated"]
    assert 0 < mean < high
    assert found["before"]["ece"] < 1.5 * high
    assert found["after"]["ece"] > 3 * found["after"]["ece_if_calibrated"][1]
    assert found["before"]["confidence"] < found["after"]["confidence"]
    assert found["overconfidence"]["change"]["lower"] > 0
    assert found["nll"]["change"]["lower"] > 0
    assert surer(found) == "more"


def test_noise_alone_passes_its_95th_percentile_once_in_twenty():
    above = 0
    for seed in range(200):
        labels, logits = images(300, 3, 100 + seed)
        judged = Judged.of(logits, labels)
        found = describe(labels, logits, logits, None, (labels, logits, logits), seed)
        above += reliability(judged.confidence, judged.right)["ece"] > found["before"]["ece_if_calibrated"][1]
    assert 2 <= above <= 20


def test_the_interval_of_over_confidence_holds():
    """A repair that halves the logits of a model twice too sure; the true change is that of very many images."""

    def excess(labels: np.ndarray, logits: np.ndarray) -> float:
        judged = Judged.of(logits, labels)
        return float((judged.confidence - judged.right).mean())

    labels, sharp = images(400_000, 3, 9, sharp=2.0)
    truth = excess(labels, sharp / 2) - excess(labels, sharp)
    held = 0
    for seed in range(100):
        labels, sharp = images(200, 3, 500 + seed, sharp=2.0)
        change = describe(labels, sharp, sharp / 2, None, (labels, sharp, sharp), seed)["overconfidence"]["change"]
        held += change["lower"] <= truth <= change["upper"]
    assert held >= 88


def test_the_temperature_is_found_again():
    labels, logits = images(8_000, 4, 5, sharp=2.5)
    found = described(labels, logits, logits / 2.5)
    assert found["before"]["temperature"] == pytest.approx(2.5, rel=0.05)
    assert found["after"]["temperature"] == pytest.approx(1.0, rel=0.05)
    assert found["before"]["nll_at_temperature"] == pytest.approx(found["nll"]["after"], abs=0.01)
    assert found["before"]["ece_at_temperature"] < found["before"]["ece"] / 3
    assert surer(found) == "less"


def test_where_all_are_right_no_temperature_fits_best():
    logits = np.eye(3, dtype=np.float32)[np.arange(90) % 3]
    labels = np.arange(90) % 3
    found = describe(labels, logits, logits, None, (labels, logits, logits), 0)
    assert found["before"]["temperature"] is None
    assert found["before"]["ece_at_temperature"] is None
    assert surer(found) == ""


def test_subgroups_of_thirty_images_or_more():
    labels, logits = images(200, 3, 6)
    groups = ["few"] * 29 + ["some"] * 71
    found = described(labels, logits, logits, ["x"] * 100 + groups)["subgroups"]
    assert [(row["name"], row["n"], row["size"]) for row in found] == [("some", 71, "few")]
    judged = Judged.of(logits[129:], labels[129:])
    assert found[0]["before"] == pytest.approx((judged.confidence - judged.right).mean())


def test_a_worse_likelihood_is_said_where_confidence_is_as_right_as_before():
    labels, logits = images(6_000, 3, 7)
    found = described(labels, logits, np.zeros_like(logits))
    assert found["after"]["confidence"] == pytest.approx(1 / 3)
    assert found["nll"]["change"]["lower"] > 0
    assert surer(found) == "worse"


def test_every_figure_comes_again_from_rounded_confidences_and_from_logits():
    labels, before = images(600, 4, 8, sharp=2.0)
    before[:3] = np.log([[0.6, 0.2, 0.1, 0.1]])  # at the end of a bin
    after, groups = before / 2, np.array(["a"] * 40 + ["b"] * 560)
    document = {"calibration": describe(labels, before, after, groups.tolist(), (labels, before, after), 1)}
    judged = {"before": Judged.of(before, labels), "after": Judged.of(after, labels)}
    right = {when: one.right for when, one in judged.items()}
    written = {when: np.array([float(f"{c:.6f}") for c in one.confidence]) for when, one in judged.items()}
    told = [*confidence_again(document, right, written, groups)]
    assert len(told) == 2 * (1 + 1 + 2)
    for when, logits in (("before", before), ("after", after)):
        told += scores_again(document, when, logits, labels, 1e-6)
    assert len(told) == 12
    for what, said, again, allowed in told:
        assert abs(said - again) <= allowed < 0.02, what
    assert not [*confidence_again({}, right, written, groups)], "a report of an earlier version"

"""Figures before a run, against those made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from repair_engine.documents.baseline import baseline_document
from repair_engine.studies.calibration import BINS
from repair_engine.support.statistics import wilson

SEEN = {"total": 500, "free": 400, "used": 400, "seed": 0}
NAMES = ("cat", "dog", "emu")


def document(labels, predicted, confidence=None, **attributes):
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    confidence = np.full(len(labels), 0.75) if confidence is None else np.asarray(confidence)
    return baseline_document(labels, predicted, confidence, attributes, NAMES, SEEN)


@pytest.fixture(scope="module")
def found():
    """200 cats and 200 dogs; of the 50 terriers among the dogs 10 are recognised, all else is."""
    labels = np.repeat([0, 1], 200)
    breed = ["none"] * 200 + ["terrier"] * 50 + ["poodle"] * 150
    predicted = labels.copy()
    predicted[200:240] = 0
    return document(labels, predicted, breed=breed, sex=["f", "m"] * 200)


def test_shares_and_intervals(found):
    accuracy = wilson(360, 400)
    assert found["accuracy"] == {"value": 0.9, "lower": accuracy.lower, "upper": accuracy.upper, "level": 0.95}
    cat, dog = found["classes"]
    assert (cat["recall"], dog["recall"], dog["n"], dog["right"]) == (1.0, 0.8, 200, 160)
    breed, sex = found["columns"]
    assert (breed["column"], sex["column"]) == ("breed", "sex")
    assert [(row["value"], row["n"], row["recall"]) for row in breed["values"]] == [
        ("none", 200, 1.0), ("poodle", 150, 1.0), ("terrier", 50, 0.2),
    ]  # fmt: skip
    worst = breed["cells"][0]
    assert (worst["name"], worst["n"], worst["size"]) == ("dog / terrier", 50, "few")
    assert (worst["lower"], worst["upper"]) == (wilson(10, 50).lower, wilson(10, 50).upper)


def test_the_worst_are_named_and_lead_to_what_to_repair(found):
    assert found["said"].startswith("Recognised least: dog / terrier: 20% of 50; dog")
    assert [row["metric"] for row in found["suggestions"]] == ["subgroup-recall:breed", "recall:dog", "accuracy"]
    assert found["suggestions"][0]["why"].startswith("recall is 20% for terrier, 100% for")


def test_the_same_images_under_two_names_are_named_once():
    labels = np.repeat([0, 1], 200)
    predicted = labels.copy()
    predicted[200:300] = 0
    ground = ["dark"] * 300 + ["light"] * 100
    found = document(labels, predicted, ground=ground, tag=["red" if g == "dark" else "blue" for g in ground])
    assert [row["name"] for row in found["worst"]] == ["dog / dark", "dog"]


def test_where_nothing_stands_out_nothing_is_made_of_it():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    predicted = np.where(rng.random(400) < 0.2, 1 - labels, labels)
    found = document(labels, predicted, shade=[*"ab" * 200])
    assert found["worst"] == []
    assert "No class or subgroup of 30 images or more is shown" in found["said"]
    assert [row["metric"] for row in found["suggestions"]] == ["accuracy"]


def test_a_handful_of_images_decides_nothing():
    labels = np.repeat([0, 1], [390, 10])
    found = document(labels, np.zeros(400, int))
    assert found["worst"] == []
    assert found["classes"][1]["size"] == "too few"


def test_confusions():
    found = document([0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 0, 0])
    assert found["class_names"] == list(NAMES)
    assert found["matrix"] == [[1, 2, 0], [1, 1, 0], [1, 0, 0]]
    assert found["confused"][0] == {"label": "cat", "predicted": "dog", "n": 2, "of": 3}
    assert sum(row["n"] for row in found["confused"]) == 4


def test_calibration_by_hand():
    confidence = np.array([0.55, 0.6, 0.95, 0.9999, 1.0, 0.91])
    labels, predicted = np.zeros(6, int), np.array([0, 1, 0, 0, 1, 0])
    found = document(labels, predicted, confidence)["calibration"]
    low, high = found["bins"]
    assert (low["low"], low["high"], low["n"]) == (0.5, 0.6, 2), "a bin holds its upper end"
    assert (high["high"], high["n"]) == (1.0, 4)
    assert low["accuracy"] == 0.5
    expected = 2 / 6 * abs(0.5 - 0.575) + 4 / 6 * abs(0.75 - confidence[2:].mean())
    assert found["ece"] == pytest.approx(expected)
    assert len(found["bins"]) <= BINS


def test_a_model_near_chance_is_warned_of():
    (warning,) = document(np.repeat([0, 1, 2], 50), np.zeros(150, int))["warnings"]
    assert "chance is 33.3%. Usual mistakes: normalization" in warning

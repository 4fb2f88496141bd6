"""Confidence: the probability of the class that is predicted."""

from __future__ import annotations

import numpy as np
import pytest

from repair_engine.documents.predictions import predicted


def test_softmax_of_the_predicted_class() -> None:
    found = predicted(np.log(np.array([[1, 2, 1], [8, 1, 1]], np.float32)))
    assert found.classes.tolist() == [1, 0]
    assert found.confidence == pytest.approx([0.5, 0.8])


def test_a_single_logit_is_a_binary_classifier() -> None:
    found = predicted(np.array([[np.log(3)], [-np.log(9)], [0]], np.float32))
    assert found.classes.tolist() == [1, 0, 0]
    assert found.confidence == pytest.approx([0.75, 0.9, 0.5])


def test_large_logits_do_not_overflow() -> None:
    assert predicted(np.array([[3e4, -3e4], [1e4, 1e4]], np.float32)).confidence == pytest.approx([1.0, 0.5])

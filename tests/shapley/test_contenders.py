"""The bandit's active set, by hand: who straddles the midpoint between ranks k and k + 1."""

import numpy as np
import pytest

from shapley.contenders import contenders

#                  0    1    2    3    4    5
VALUES = np.array([0.9, 0.8, 0.5, 0.4, 0.1, 0.0])
EVERYBODY = np.ones(6, dtype=bool)


def active(half, k, side="top", tol=0.0, candidates=EVERYBODY, values=VALUES):
    half = np.full(len(values), half) if np.isscalar(half) else np.asarray(half)
    return np.flatnonzero(contenders(values, half, candidates, k, side, tol)).tolist()


@pytest.mark.parametrize(
    ("half", "k", "side", "expected"),
    [
        (0.10, 2, "top", []),  # midpoint 0.65: nobody within 0.10
        (0.16, 2, "top", [1, 2]),
        (0.26, 2, "top", [0, 1, 2, 3]),
        (0.16, 2, "bottom", [3, 4]),  # midpoint 0.25
        (0.16, 2, "both", [1, 2, 3, 4]),
        (0.06, 1, "top", [0, 1]),  # midpoint 0.85
        (0.06, 1, "bottom", [4, 5]),  # midpoint 0.05
        (0.06, 3, "both", [2, 3]),  # both ends ask the same question
        (np.inf, 2, "top", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_who_is_in_question(half, k, side, expected):
    assert active(half, k, side) == expected


def test_intervals_are_narrowed_not_widened():
    assert active(0.16, 2, tol=0.005) == [1, 2]
    assert active(0.16, 2, tol=0.02) == []


def test_each_player_has_its_own_interval():
    assert active([0.0, 0.0, 0.0, 0.3, 0.0, 0.7], 2) == [3, 5]


def test_only_candidates_count():
    candidates = np.array([True, False, True, True, True, True])
    # without player 1 the midpoint of ranks 2 and 3 is that of 0.5 and 0.4
    assert active(0.06, 2, candidates=candidates) == [2, 3]


def test_the_k_th_does_not_straddle_itself_for_ever():
    # The threshold phi_(k) = 0.8 lies in the interval of player 1 however narrow; the midpoint does not.
    assert active(1e-9, 2) == []


def test_ties_are_in_question_until_their_intervals_are_within_tol():
    values = np.array([0.5, 0.3, 0.3, 0.1])
    assert active(0.011, 2, tol=0.01, candidates=np.ones(4, dtype=bool), values=values) == [1, 2]
    assert active(0.010, 2, tol=0.01, candidates=np.ones(4, dtype=bool), values=values) == []

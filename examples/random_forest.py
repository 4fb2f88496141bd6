"""Which trees of a random forest hurt it? `shapley` on a game that is no neural network.

    python -m examples.random_forest [--trees 30] [--bad 6] [--budget 400000] [--seed 0]

Needs scikit-learn. The players are the trees, V(S) is the accuracy of the vote of the trees in S on the
score images (scikit-learn's digits), and some trees were trained on labels that are off by one. The trees
whose interval lies below zero are removed, and the accuracy before and after is measured on images
that neither the training nor the values have seen.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from shapley import Estimate, Outcomes, Progress, Settings, estimate, run
from shapley.games import flip_differences


class ForestGame:
    """Outcomes are per image: does the vote of the trees in the coalition name its class?

    ``votes`` [T, N, C] is each tree's probability of each class on each image, ``labels`` [N].
    Without any tree the vote is a tie, which goes to class 0.
    """

    n_objectives = 1
    n_parts = 1
    lookahead = 64

    def __init__(self, votes: np.ndarray, labels: np.ndarray, batch_size: int):
        self.n_players, self.n_images, _ = votes.shape
        self.batch_size = batch_size
        self.accesses = 0
        self._votes, self._labels = votes, labels
        self._intact = votes.sum(axis=0).argmax(axis=1)
        self.dead_level = float((self._intact == 0).mean())

    def draw_batch(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.n_images, self.batch_size, replace=False)

    def full_batch(self) -> np.ndarray:
        return np.arange(self.n_images)

    def evaluate(self, coalitions: np.ndarray, batch: np.ndarray) -> Outcomes:
        self.accesses += len(coalitions) * len(batch)
        scores = np.tensordot(coalitions.astype(np.float64), self._votes[:, batch], axes=1)  # [K, B, C]
        predicted = scores.argmax(axis=2)
        right = predicted == self._labels[batch]
        same = predicted == self._intact[batch]
        return Outcomes(right.mean(axis=1)[None], same.mean(axis=1))

    def differences(
        self, coalitions: np.ndarray, players: np.ndarray, batch: np.ndarray, spent: Progress
    ) -> np.ndarray:
        return flip_differences(self, coalitions[0], players, batch, spent)


@dataclasses.dataclass(frozen=True)
class Data:
    """A forest's votes [T, N, C] and labels [N] on score and report images; which trees are bad [T]."""

    score_votes: np.ndarray
    score_labels: np.ndarray
    report_votes: np.ndarray
    report_labels: np.ndarray
    bad: np.ndarray


def grow(trees: int, bad: int, seed: int) -> Data:
    """A forest of ``trees`` trees, ``bad`` of them trained on labels that are off by one."""
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    train, rest, train_labels, rest_labels = train_test_split(
        images, labels, train_size=0.3, stratify=labels, random_state=seed
    )
    score, report, score_labels, report_labels = train_test_split(
        rest, rest_labels, test_size=0.5, stratify=rest_labels, random_state=seed
    )
    is_bad = np.zeros(trees, dtype=bool)
    is_bad[rng.choice(trees, bad, replace=False)] = True
    score_votes, report_votes = [], []
    for tree_is_bad in is_bad:
        rows = rng.integers(len(train), size=len(train))  # a bootstrap sample, as forests do
        given = train_labels[rows]
        if tree_is_bad:
            given = (given + 1) % 10
        tree = DecisionTreeClassifier(max_features="sqrt", random_state=int(rng.integers(2**31)))
        tree.fit(train[rows], given)
        score_votes.append(tree.predict_proba(score))
        report_votes.append(tree.predict_proba(report))
    return Data(np.array(score_votes), score_labels, np.array(report_votes), report_labels, is_bad)


def value_trees(game: ForestGame, budget: int, seed: int) -> Estimate:
    """Values of all trees by comparable sampling, with 95% intervals that hold together."""
    settings = Settings("cmcs", game.n_players, budget, batch_size=game.batch_size, seed=seed, tol=0.0, delta=0.05)
    _, state = run(game, settings)
    return estimate(state, settings, "clt")


def accuracy(votes: np.ndarray, labels: np.ndarray, keep: np.ndarray) -> float:
    return float((votes[keep].sum(axis=0).argmax(axis=1) == labels).mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trees", type=int, default=30)
    parser.add_argument("--bad", type=int, default=6)
    parser.add_argument("--budget", type=int, default=400_000, help="evaluations: trees' votes on one image")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    data = grow(options.trees, options.bad, options.seed)
    game = ForestGame(data.score_votes, data.score_labels, batch_size=32)
    found = value_trees(game, options.budget, options.seed)
    print(f"{found.samples[0]} samples per tree, {found.evaluations} evaluations, stopped by {found.stopped}")
    print(f"intervals: {found.interval.text}")
    print(" tree    value     lower     upper  trained on")
    for i in np.argsort(found.values[0]):
        ends = f"{found.lower[0, i]:+.5f}  {found.upper[0, i]:+.5f}"
        print(f"{i:5d}  {found.values[0, i]:+.5f}  {ends}  {'labels off by one' if data.bad[i] else 'labels'}")

    culprits = found.upper[0] < 0.0
    everybody = np.ones(options.trees, dtype=bool)
    before = accuracy(data.report_votes, data.report_labels, everybody)
    after = accuracy(data.report_votes, data.report_labels, ~culprits)
    print(f"culprits (interval below 0): {np.flatnonzero(culprits).tolist()}")
    print(f"accuracy on {len(data.report_labels)} unseen images: {before:.4f} before, {after:.4f} after")


if __name__ == "__main__":
    main()

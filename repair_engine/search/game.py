"""The game whose players are filters: V(S) of an objective on image batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.network import Network, Trail, flipped_logits, predictions
from repair_engine.question.objectives import Objective, plan_batches
from repair_engine.search.guesses import GUESS_COST, N_GUESSES, guess_differences, hits
from repair_engine.support.memory import KERNELS
from shapley import Outcomes

Normalize = Callable[[torch.Tensor], torch.Tensor]

MEMORY = 2 << 30  # bytes that a game may work with on a CPU; on a GPU a quarter of what it has
_CHUNK = {"cpu": 512, "cuda": 4096}  # images per forward, K·B, at most
_OF_STORED = _OF_CHUNK = 2  # shares of the memory: a half for stored states, a half for a forward
_SCRATCH = 100 << 20  # bytes that kernels take whatever the images are (weights repacked), on a CPU
_LEAST_CHUNK = 2  # convolutions of a single image are computed another way, and rounded otherwise
_OF_NOMINAL, _LEAST_NOMINAL, _OF_BACKWARD = 4, 4, 8


@dataclass(frozen=True)
class ImageBatch:
    """Images of one draw: their indices [B] into the objective and their weights [M, B]."""

    indices: np.ndarray
    weights: np.ndarray


def _memory_of(device: torch.device) -> int:
    """Bytes to work with where nothing is said."""
    return torch.cuda.get_device_properties(device).total_memory // 4 if device.type == "cuda" else MEMORY


class NeuronGame:
    """`shapley.EnumerableGame` over a network's filters.

    Outcomes are the same with any batching: on the CPU consecutive coalitions reuse the states upstream of the
    first change (`Trail`); on a GPU many coalitions run as one batch.

    Args:
        network: with its constants set.
        normalize: pixels (uint8 or float in [0, 1]) [B, C, H, W] -> float32 network input.
        batch_size: images per draw, about (fixed counts per cell decide).
        memory: bytes for stored states, a forward and its kernels; None = 2 GiB, on a GPU a quarter of it.
        backward: images of a backward pass at most. Neither changes what comes out.
    """

    n_guesses = N_GUESSES
    guess_cost = GUESS_COST

    def __init__(
        self,
        network: Network,
        objective: Objective,
        normalize: Normalize,
        batch_size: int,
        memory: int | None = None,
        backward: int | None = None,
    ) -> None:
        self.network = self.played = network  # see `playing`
        self.objective, self.normalize = objective, normalize
        self.n_players = network.n_filters
        self.n_images = len(objective)
        self.n_objectives = len(objective.rows)
        memory = _memory_of(network.device) if memory is None else memory
        self.memory = max(memory - _SCRATCH, memory // 2) if network.device.type == "cpu" else memory
        self.chunk, self._nominal = self._sizes()
        self._backward = backward
        self._size(batch_size)
        full = np.ones((1, self.n_players), dtype=bool)
        everyone = np.arange(self.n_images)
        self.intact = self._predict(self.network, full, everyone)[0]
        dead = self._predict(self.network, ~full, everyone)[0]
        self.dead_level = float((dead == self.intact).mean())

    def _sizes(self) -> tuple[int, int]:
        """Images per forward: small ones in large batches (fewer calls), large ones within the memory; and those that
        guesses are made of together, which decide what is summed with what, and so follow from the network alone."""
        one, most = self.network.footprint(self.images(np.zeros(1, np.int64))), _CHUNK[self.network.device.type]
        # Flips start from a state and its masked one, both held while copies of them run.
        each = KERNELS * one.forward + 2 * one.largest
        nominal = _memory_of(self.network.device) // _OF_NOMINAL // one.largest
        return (
            int(np.clip(self.memory // _OF_CHUNK // each, _LEAST_CHUNK, most)),
            int(np.clip(nominal, _LEAST_NOMINAL, most)),
        )

    def resized(self, batch_size: int) -> NeuronGame:
        """The same game with about `batch_size` images per draw; nothing is predicted anew."""
        if batch_size == self._asked:
            return self
        game = copy.copy(self)
        game._size(batch_size)
        return game

    def playing(self, network: Network) -> NeuronGame:
        """The same game evaluated with the same network in another precision; guesses stay as they are."""
        if network is self.played:
            return self
        game = copy.copy(self)
        game.played, game._trails = network, None
        return game

    def _size(self, batch_size: int) -> None:
        self._asked = batch_size
        self.plan = plan_batches(self.objective, batch_size)
        self.batch_size = self.n_parts = self.plan.size
        self.lookahead = 1 if self.network.device.type == "cpu" else max(1, self.chunk // self.batch_size)
        self._trails: tuple[ImageBatch, list[Trail]] | None = None

    def draw_batch(self, rng: np.random.Generator) -> ImageBatch:
        return ImageBatch(*self.plan.draw(rng))

    def full_batch(self) -> ImageBatch:
        return ImageBatch(np.arange(self.n_images), self.objective.rows)

    def evaluate(self, coalitions: np.ndarray, batch: ImageBatch) -> Outcomes:
        if self.network.device.type == "cpu":
            predicted = self._along_trail(coalitions, batch)
        else:
            predicted = self._predict(self.played, coalitions, batch.indices)
        return self._outcomes(predicted, batch)

    def differences(
        self, coalitions: np.ndarray, players: np.ndarray, batch: ImageBatch, spent: Callable[[int], None]
    ) -> np.ndarray:
        """See `shapley.Game.differences`; image b of the batch is under row b of `coalitions` [B or 1, n]."""
        return self.smooth_differences(coalitions, players, batch, spent)[0]

    def smooth_differences(
        self, coalitions: np.ndarray, players: np.ndarray, batch: ImageBatch, spent: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`differences` [M, m], and of the first objective with targets' probabilities for outcomes [m]."""
        size = len(batch.indices)
        rows = np.broadcast_to(coalitions, (size, self.n_players))
        gained = np.empty((2, len(players), size))  # hits and probability with the player minus without it
        for part in self._chunks(size):
            targets = self._targets(batch.indices[part])
            hit = np.empty((2, len(players), part.stop - part.start))

            def keep(
                chunk: np.ndarray, logits: torch.Tensor, hit: np.ndarray = hit, targets: torch.Tensor = targets
            ) -> None:
                hit[:, chunk] = torch.stack(hits(logits, targets)).cpu().numpy()
                spent(hit[0, chunk].size)

            of_part = coalitions if len(coalitions) == 1 else rows[part]
            images = self.images(batch.indices[part])
            base = flipped_logits(self.played, images, of_part, players, self.chunk, keep)
            spent(len(base))
            right = torch.stack(hits(base, targets)).cpu().numpy()
            signs = np.where(rows[part][:, players].T, 1.0, -1.0)
            gained[:, :, part] = signs * (right[:, None] - hit)
        hard = self.objective.weigh_gain(gained[0], batch.weights)
        return hard, self.objective.weigh_gain(gained[1], batch.weights[:1])[0]

    @property
    def guess_draws(self) -> int:
        """Draws whose guesses are made together; a backward keeps all states, so far fewer images than a forward's."""
        return max(1, self._nominal // _OF_BACKWARD // self.batch_size)

    def guesses(self, draws: Sequence[tuple[np.ndarray, ImageBatch]], spent: Callable[[int], None]) -> np.ndarray:
        """See `shapley.GuessingGame.guesses` and `repair_engine.search.guesses`; [D, N_GUESSES, n]."""
        sizes = [len(batch.indices) for _, batch in draws]
        indices = np.concatenate([batch.indices for _, batch in draws])
        rows = np.concatenate(
            [np.broadcast_to(coalitions, (size, self.n_players)) for (coalitions, _), size in zip(draws, sizes)]
        )
        weights = np.zeros((len(draws), len(indices)))  # each draw sees its own images
        ends = np.cumsum(sizes)
        for d, (_, batch) in enumerate(draws):
            weights[d, ends[d] - sizes[d] : ends[d]] = batch.weights[0]
        total = np.zeros((self.n_guesses, len(draws), self.n_players))
        for part in self._chunks(len(indices), self._nominal):
            images, targets = self.images(indices[part]), self._targets(indices[part])
            of_part = torch.from_numpy(weights[:, part]).to(images)
            total += guess_differences(self.network, images, rows[part], targets, of_part, self._backward)
            spent(len(images) * self.guess_cost)
        return np.swapaxes(-total if self.objective.complement else total, 0, 1)

    def _targets(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.objective.targets[indices]).to(self.network.device)

    def images(self, indices: np.ndarray) -> torch.Tensor:
        """Normalized images [B, C, H, W] of the objective on the network's device."""
        return self.normalize(self.objective.pixels[torch.from_numpy(indices)].to(self.network.device))

    def _outcomes(self, predicted: np.ndarray, batch: ImageBatch) -> Outcomes:
        right = predicted == self.objective.targets[batch.indices]
        same = predicted == self.intact[batch.indices]
        return Outcomes(self.objective.weigh(right, batch.weights), same.mean(axis=1))

    def _along_trail(self, coalitions: np.ndarray, batch: ImageBatch) -> np.ndarray:
        if self._trails is None or self._trails[0] is not batch:
            parts = list(self._chunks(len(batch.indices)))
            share = self.memory // _OF_STORED // len(parts)
            trails = [Trail(self.played, self.images(batch.indices[p]), share) for p in parts]
            self._trails = (batch, trails)
        rows = [
            torch.cat([predictions(trail.logits(c)) for trail in self._trails[1]]).cpu().numpy() for c in coalitions
        ]
        return np.stack(rows)

    def _predict(self, network: Network, coalitions: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Predictions int64 [K, B] of coalitions [K, n] on images [B], K·B at a time."""
        out = np.empty((len(coalitions), len(indices)), dtype=np.int64)
        for part in self._chunks(len(indices)):
            images = self.images(indices[part])
            step = max(1, self.chunk // len(images))
            for k in range(0, len(coalitions), step):
                logits = network.masked_logits(images, coalitions[k : k + step])
                out[k : k + step, part] = predictions(logits).cpu().numpy()
        return out

    def _chunks(self, n: int, most: int | None = None) -> Iterator[slice]:
        step = most or self.chunk
        return (slice(i, min(i + step, n)) for i in range(0, n, step))

"""A case: one request with its model, images and question at hand. `preparing` makes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from repair_engine.data.images import Images
from repair_engine.network.subject import Subject
from repair_engine.question.further import check_size
from repair_engine.question.objectives import Objective
from repair_engine.question.question import Question
from repair_engine.question.request import RepairRequest, RunSettings, Sources
from repair_engine.search.game import NeuronGame


@dataclass(frozen=True)
class Case:
    """See the module's text. `intact` holds the intact network's predictions of all images, int64 [N]."""

    request: RepairRequest
    subject: Subject
    images: Images
    question: Question
    intact: np.ndarray
    warnings: tuple[str, ...]

    @property
    def settings(self) -> RunSettings:
        """The request without its files: all that decides how filters are valued and chosen."""
        return self.request

    @property
    def sources(self) -> Sources:
        """The request's files, for verbs and documents."""
        return self.request

    def game(self, batch_size: int) -> NeuronGame:
        """The game of the metric, and of the further objectives, on the score images."""
        if self.question.further:
            check_size(len(self.question.names), self.subject.network.n_filters)
        return self.game_of(self.question.game_objective("score"), batch_size)

    def game_of(self, objective: Objective, batch_size: int) -> NeuronGame:
        room = self.subject.room
        return NeuronGame(self.subject.network, objective, self.images.normalize, batch_size, room.game, room.backward)

"""What an explanation shows beside the values."""

from __future__ import annotations

from dataclasses import dataclass

from repair_engine.errors import BadInput

MOST_PICTURED = 50  # filters from each end: the page embeds ten images of each


@dataclass(frozen=True)
class Explain:
    """Options of `explain`.

    Attributes:
        remove: filters removed at most on the curves from the most critical end; from the other end at least half of
            all filters are.
        draws: random orders of removal.
        curve_images: most report images on which curves are measured; None = by the budget.
        pictures: filters from each end whose extreme score images are shown; 0 = none.
        visualize: filters from each end for which an image is optimized; 0 = none.
    """

    remove: int = 50
    draws: int = 5
    curve_images: int | None = None
    pictures: int = 6
    visualize: int = 2

    def __post_init__(self) -> None:
        if self.remove < 1:
            raise BadInput(f"--remove is {self.remove}; a removal curve removes at least one filter.")
        if self.draws < 2:
            raise BadInput(f"--random-draws is {self.draws}; a band needs at least two random orders.")
        if self.curve_images is not None and self.curve_images < 1:
            raise BadInput(f"--curve-images is {self.curve_images}; a curve needs at least one image.")
        for option, value in (("--pictures", self.pictures), ("--visualize", self.visualize)):
            if not 0 <= value <= MOST_PICTURED:
                raise BadInput(f"{option} is {value}; it is 0 (none) to {MOST_PICTURED} filters from each end.")

"""captum and shapiq on an additive game, where they are installed (`make bench` installs them)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.methods import Cannot
from benchmarks.peers import captum_peer, shapiq_peer
from tests.benchmarks.additive import additive_case

OWNED = [9, 1, 5, 3, 7, 2, 4, 1]  # 32 images, all of them in every batch


def test_captum_gives_the_values() -> None:
    pytest.importorskip("captum")
    case, values = additive_case(OWNED)
    last = captum_peer.run(case, 0.2, seed=0)[-1]
    assert last.values == pytest.approx(values, abs=1e-6)
    assert last.evaluations % 32 == 0


@pytest.mark.parametrize("run", [shapiq_peer.permutation, shapiq_peer.kernel_shap])
def test_shapiq_gives_the_values(run: object) -> None:
    pytest.importorskip("shapiq")
    case, values = additive_case(OWNED)
    assert run(case, 0.2, 0)[-1].values == pytest.approx(values, abs=1e-4)


def test_what_takes_too_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def approximate(self, budget: int, game: object) -> None:
            while True:
                game(np.ones((1, 8), dtype=bool))

    monkeypatch.setattr(shapiq_peer, "_shapiq", lambda: None)
    case, _ = additive_case(OWNED)
    with pytest.raises(Cannot, match="least budget, 18 coalitions, did not end"):
        shapiq_peer._whole(case, 0.1, 0, lambda _: Slow(), 18)


def test_values_that_are_not_finite_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflows:
        def approximate(self, budget: int, game: object) -> dict:
            return {(player,): np.nan if player < 3 else 0.0 for player in range(8)}

    monkeypatch.setattr(shapiq_peer, "_shapiq", lambda: None)
    case, _ = additive_case(OWNED)
    with pytest.raises(Cannot, match="3 of its 8 values are not finite"):
        shapiq_peer._whole(case, 0.1, 0, lambda _: Overflows(), 18)

"""The tables of hidden triggers and of sources of candidates, from rows as they are measured."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks import backdoor, candidates, hidden


def test_a_scan_and_a_repair_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"images": 100, "clean": 0.85, "success": 1.0, "true_label": 0.0}
    monkeypatch.setattr(backdoor, "intact", dict)
    monkeypatch.setattr(backdoor, "not_seen", lambda _: shares)
    classes = [{"class": name, "size": size, "success": 0.9, "below": None} for name, size in (("a", 3.0), ("b", 20.0))]
    scan = {"network": "resnet8", "seed": 0, "class": "a", "p": 0.2, "stands_out": False, "classes": classes}
    row = {"name": "ours", "seed": 0, "units": 4, **shares, "success": 0.02}
    text = hidden.document([scan], [row], Namespace(seeds=1))
    assert "| resnet8 | 0 | a | 3.0 | 20.0 | 90% | 0.200 | no |" in text
    assert "| ours | 0 | 4 | 85.0% | 2.0% | 0.0% |" in text
    assert "| intact | 0 | 0 | 85.0% | 100.0% | 0.0% |" in text


def test_sources_are_averaged_over_seeds() -> None:
    rows = [
        {"case": "catdog", "seed": seed, "source": "gradients, intact", "order": order, "candidates": 9, "k": 2,
         "select": 0.03, "gain": gain, "lower": gain - 0.01, "upper": gain + 0.01}
        for order, gains in ((candidates.VALUE, (0.02, 0.04)), (candidates.REPAIR, (0.05, 0.06)))
        for seed, gain in enumerate(gains)
    ]  # fmt: skip
    text = candidates.document(rows, Namespace(seeds=2, case=None))
    assert "| gradients, intact | +3.0 | +3.0 |" in text
    assert "| gradients, intact | +5.5 | +5.5 |" in text
    assert "| catdog | 1 | gradients, intact | by value | 9 | 2 | +3.0 | +4.0 [+3.0, +5.0] |" in text

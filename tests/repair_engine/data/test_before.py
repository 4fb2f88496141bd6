"""Images that are looked at before a run: in no report, evenly spread; and some images of a zip read alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repair_engine.data import read_dataset, split
from repair_engine.data.before import looked_at, outside_reports, small_columns
from repair_engine.models.classes import ClassNames
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine.tiny import CLASSES, images

SEED = 5


def test_no_image_is_in_the_report_of_any_question():
    shown = images(240)
    columns = {"ground": tuple(shown.ground), "name": shown.names, "half": tuple(n[-5] for n in shown.names)}
    assert small_columns(columns) == ["ground", "half"], "names are no subgroups"
    hashes = [f"{i // 2}" for i in range(240)]  # twins stay together
    found = outside_reports(shown.labels, columns, hashes, SEED)
    for subgroups in (None, columns["ground"], columns["half"]):
        report = split(shown.labels, subgroups, None, hashes, SEED).report
        assert not np.isin(found, report).any()
    assert len(found) > 240 / 3
    assert len(set(found)) == len(found)


def test_report_images_that_were_looked_at_are_counted():
    shown = images(240)
    columns, hashes = {"ground": tuple(shown.ground)}, [str(i) for i in range(240)]

    def said(seed, subgroups=None):
        return looked_at(shown.labels, columns, hashes, split(shown.labels, subgroups, None, hashes, seed).report)

    assert said(0) == said(0, columns["ground"]) == []
    (warning,) = said(SEED)
    free = outside_reports(shown.labels, columns, hashes)
    count = np.isin(split(shown.labels, None, None, hashes, SEED).report, free).sum()
    assert warning.startswith(f"Of the 60 report images {count} may have been looked at before the run")


def test_every_beginning_is_spread_over_classes_and_columns():
    shown = images(240)
    columns = {"ground": tuple(shown.ground)}
    found = outside_reports(shown.labels, columns, [str(i) for i in range(240)], SEED)
    cells = shown.labels * 2 + (shown.ground == "light")
    for most in (30, 60, 90):
        for cell in np.unique(cells):
            expected = most * (cells[found] == cell).mean()
            assert abs((cells[found[:most]] == cell).sum() - expected) <= 1.5


@pytest.mark.parametrize("apart", [False, True])
def test_some_images_of_a_zip_in_another_order(tmp_path: Path, apart: bool):
    shown = images(24)
    path = shown.zip(tmp_path / "images.zip")
    names = ClassNames(3, CLASSES, source="here")
    whole = read_dataset(path, names, Preprocessing(channels=1))
    picked = np.array([20, 3, 11])
    seen = []

    def pick(labels, attributes, digests):
        seen.append((list(labels), attributes, digests))
        return picked

    some = read_dataset(path, names, Preprocessing(channels=1), tmp_path / "cache", apart=apart, pick=pick)
    ((labels, attributes, digests),) = seen
    assert labels == list(whole.labels)
    assert attributes == whole.attributes
    assert len(set(digests)) == 24
    assert some.file_names == tuple(whole.file_names[i] for i in picked)
    assert some.pixel_hashes == tuple(whole.pixel_hashes[i] for i in picked)
    assert np.array_equal(some.images, whole.images[picked])
    assert np.array_equal(some.labels, whole.labels[picked])
    assert some.attributes == {"ground": tuple(whole.attributes["ground"][i] for i in picked)}
    again = read_dataset(path, names, Preprocessing(channels=1), tmp_path / "cache")
    assert len(again) == 24, "what is kept of some is not taken for all"

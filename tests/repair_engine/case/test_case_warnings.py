"""What is said of a case before its figures are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repair_engine.tiny import World, call, images, make_sabotaged


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> World:
    """72 images: 18 for the report, 6 of each class."""
    return make_sabotaged(tmp_path_factory.mktemp("few"), images(72, seed=2))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("metric", "n"), [("accuracy", 18), ("recall:bee", 6)])
def test_a_metric_on_few_report_images_is_named(few: World, tmp_path: Path, metric: str, n: int) -> None:
    result = call(few.argv("repair", "--json", metric=metric, budget="4000", out=str(tmp_path / "out")))
    assert result.code in (0, 5), result.err
    said = [warning for warning in result.document["warnings"] if f"measures {metric} on" in warning]
    assert [f"on {n} images" in warning for warning in said] == [True]


@pytest.mark.usefixtures("quick")
def test_a_metric_on_enough_images_is_not(sabotaged: World, tmp_path: Path) -> None:
    result = call(sabotaged.argv("repair", "--json", budget="4000", out=str(tmp_path / "out")))
    assert result.code in (0, 5), result.err
    assert not [warning for warning in result.document["warnings"] if "report measures" in warning]

"""The other functions of the Python API, and what results can do: print, show, save, compare, tell how far they are."""

from __future__ import annotations

import gc
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import repair_engine as nr
from repair_engine.support import scratch
from repair_engine.verbs.results import Explanation, Repaired, Result, Scores
from tests.repair_engine.tiny import CLASSES, Sabotaged, World, call, rows_of, trained

TOLD: dict[str, Any] = {"classes": list(CLASSES)}


def arrays(world: World) -> tuple[np.ndarray, np.ndarray]:
    return world.images.pixels[:, None], world.images.labels


@pytest.fixture(scope="module")
def found(sabotaged: World) -> Scores:
    return nr.score(sabotaged.module, arrays(sabotaged), metric="accuracy", budget=9000, also=["classes"], **TOLD)


@pytest.fixture(scope="module")
def why(sabotaged: World) -> Explanation:
    options = {"metric": "accuracy", "budget": 9000, "pictures": 1, "visualize": 1, "draws": 2}
    ready = (sabotaged.images.tensor() - 0.5) / 0.5

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = sabotaged.module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x * 0.5 + 0.5)

    return nr.explain(Shifted(), (ready, sabotaged.images.labels), normalized=True, **options, **TOLD)


@pytest.fixture(scope="module")
def fixed(sabotaged: World, found: Scores) -> Repaired:
    """From the values that were found: nothing is searched."""
    return nr.repair(sabotaged.module, arrays(sabotaged), metric="accuracy", values=found, budget=9000, **TOLD)


def test_a_repair_may_start_from_values(fixed: Repaired, found: Scores) -> None:
    assert fixed.units == ("spy:0",)
    assert fixed.document["run"]["values_from"]["evaluations"] == found.document["run"]["evaluations"]
    assert [o["name"] for o in found.objectives] == ["accuracy", "recall:ant", "recall:bee", "recall:cat"]
    assert found.table()[0]["unit"] == "spy:0"
    assert set(found.table()[0]) == {"unit", "value", "lower", "upper", "samples"}


def test_explaining_normalized_images(why: Explanation, tmp_path: Path) -> None:
    assert len(why.table()) == 9
    assert why.table()[-1]["unit"] == "inner.spy:0"  # the least critical: its presence hurts
    assert {row["end"] for row in why.curves} == {"most critical first", "least critical first"}
    out = why.save(tmp_path / "out")
    assert {p.name for p in out.iterdir()} == {"explain.json", "explain.html", "filters.csv", "curves.csv"}
    assert "data:image/png" in (out / "explain.html").read_text()


def test_evaluating_with_filters_ablated(sabotaged: World, fixed: Repaired) -> None:
    both = nr.evaluate(sabotaged.module, arrays(sabotaged), metric="accuracy", ablate="spy:0", **TOLD)
    rows = {(row["model"], row["part"]): row["accuracy"] for row in both.table()}
    with torch.inference_mode():
        for name, module in (("intact", sabotaged.module), ("ablated", fixed.module)):
            right = module(sabotaged.images.tensor()).argmax(1).numpy() == sabotaged.images.labels
            assert rows[name, "all"] == pytest.approx(right.mean())
    assert rows["ablated", "all"] > rows["intact", "all"]


def test_attacking_before_and_after(sabotaged: World, fixed: Repaired) -> None:
    options: dict[str, Any] = {"steps": 2, "queries": 5, "subset": 10, "attack_images": 20}
    alone = nr.attack(sabotaged.module, arrays(sabotaged), **options, **TOLD)
    assert {row["what"] for row in alone.table()} >= {"success", "clean_accuracy"}
    for repaired in (fixed, fixed.module):
        both = nr.attack(sabotaged.module, arrays(sabotaged), repaired=repaired, **options, **TOLD)
        assert both.document["figures"] == alone.document["figures"]
        assert {"row", "before", "after", "n"} == set(both.table()[0])
        assert both.document["clean_after"]["accuracy"]["value"] > both.document["figures"]["clean_accuracy"]["value"]
    with pytest.raises(nr.BadInput, match="same file"):
        nr.attack(sabotaged.module, arrays(sabotaged), repaired=sabotaged.module, **options, **TOLD)


def test_repairing_an_attack_with_a_compact_export_and_a_guard_set(sabotaged: World, tmp_path: Path) -> None:
    pixels, labels = arrays(sabotaged)
    options: dict[str, Any] = {"steps": 2, "queries": 3, "attack_images": 30, "budget": 9000, "epsilon": 0.1}
    fixed = nr.repair(
        sabotaged.module, (pixels[:99], labels[:99]), metric="attack-success", guard=(pixels[99:], labels[99:]),
        compact=True, **options, **TOLD,
    )  # fmt: skip
    assert "guard" in fixed.document
    assert fixed.document["attack"]["rows"] or not fixed.document["k"]
    names = {p.name for p in fixed.save(tmp_path).iterdir()}
    assert {"report.json", "report.html", "guard_predictions.csv"} <= names
    assert ("repaired.safetensors" in names) == fixed.repaired


def test_inspecting(sabotaged: World) -> None:
    alone, shown = nr.inspect(sabotaged.module, size=(8, 8)), nr.inspect(sabotaged.module, arrays(sabotaged), **TOLD)
    for result in (alone, shown):
        assert {row["name"]: row["filters"] for row in result.table()} == {"stem": 3, "branch": 3, "last": 2, "spy": 1}
    assert shown.document["data"]["classes"] == dict.fromkeys(CLASSES, 48)
    by_file = nr.inspect(nr.open_model(sabotaged.model, "net", 3, register={"net": sabotaged.factory}), size=(8, 8))
    assert by_file.table() == alone.table()


def test_comparing_results_and_folders(found: Scores, fixed: Repaired, sabotaged: World, tmp_path: Path) -> None:
    again = nr.score(sabotaged.module, arrays(sabotaged), metric="accuracy", budget=9000, seed=1, **TOLD)
    both = nr.compare(found, again, names=("seed 0", "seed 1"))
    assert [side["path"] for side in both.document["results"]] == ["seed 0", "seed 1"]
    folders = nr.compare(found.save(tmp_path / "a"), again.save(tmp_path / "b"), names=("seed 0", "seed 1"))
    assert folders.document == both.document
    assert {p.name for p in both.save(tmp_path / "c").iterdir()} == {"compare.json", "compare.html"}
    with_repair = nr.compare(found, fixed)
    assert with_repair.document["filters"] == 9


def test_a_module_with_a_zip(sabotaged: World) -> None:
    shown = nr.open_images(sabotaged.data, sabotaged.module, resize=8)
    assert (len(shown), shown.class_names, set(shown.columns)) == (144, CLASSES, {"ground"})
    assert np.array_equal(shown.labels, sabotaged.images.labels)
    found = nr.evaluate(sabotaged.module, shown, metric="accuracy")
    again = nr.evaluate(sabotaged.module, arrays(sabotaged), metric="accuracy", **TOLD)
    assert found.document["figures"] == again.document["figures"]
    assert found.document["model"]["file"] == "Sabotaged in memory"
    assert found.document["data"]["file"] == "data.zip"


def test_a_resnet_with_a_torchvision_dataset() -> None:
    """Batch norm, skips, a pool: masked and really written logits agree, and the class loads what comes out."""
    from torchvision.datasets import FakeData
    from torchvision.models.resnet import BasicBlock, ResNet
    from torchvision.transforms import ToTensor

    def resnet() -> ResNet:
        return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2)

    torch.manual_seed(0)
    shown = FakeData(24, (3, 32, 32), 2, ToTensor())
    pixels, labels = torch.stack([image for image, _ in shown]), np.array([int(c) for _, c in shown])
    module = trained(resnet(), pixels, labels, steps=3)
    fixed = nr.repair(module, shown, metric="accuracy", filters=["layer1.0.conv1:3", "layer2.0.conv2:5"], budget=7000)
    assert fixed.document["verification"]["different_predictions"] == 0
    edited = nr.evaluate(module, shown, metric="accuracy", ablate=["layer1.0.conv1:3", "layer2.0.conv2:5"])
    figures = edited.document["figures_ablated"]
    assert fixed.document["after"]["report"]["accuracy"] == figures["report"]["accuracy"]
    plain = resnet().eval()
    plain.load_state_dict(fixed.state_dict())
    with torch.inference_mode():
        assert torch.equal(plain(pixels), fixed.module(pixels))


def test_a_shuffled_loader_is_read_once(sabotaged: World) -> None:
    dataset = TensorDataset(sabotaged.images.tensor(), torch.from_numpy(sabotaged.images.labels))
    loader = DataLoader(dataset, batch_size=16, shuffle=True)
    shown = nr.open_images(loader, **TOLD)
    assert any("shuffles" in note for note in shown.dataset.notes)
    one, two = (nr.evaluate(sabotaged.module, shown, metric="accuracy") for _ in range(2))
    assert one.document["figures"] == two.document["figures"]
    assert one.document["figures"]["all"] == pytest.approx(
        nr.evaluate(sabotaged.module, dataset, metric="accuracy").document["figures"]["all"]
    )


def test_pillow_images_and_columns_with_gaps(sabotaged: World) -> None:
    from PIL import Image

    pixels, labels = arrays(sabotaged)

    class Pictures(torch.utils.data.Dataset):
        classes = CLASSES

        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, i: int) -> tuple[Image.Image, int]:
            return Image.fromarray(pixels[i, 0]), int(labels[i])

    site = [None if i % 3 else float("nan") for i in range(len(labels))]
    shown = nr.open_images(Pictures(), columns={"site": site, "ward": np.arange(len(labels)) % 2})
    assert np.array_equal(shown.dataset.images, pixels)
    assert set(shown.columns["site"]) == {""}
    assert set(shown.columns["ward"]) == {"0", "1"}
    assert shown.class_names == CLASSES


@pytest.mark.parametrize("kind", ["found", "why", "fixed"])
def test_results_print_and_show_themselves(kind: str, request: pytest.FixtureRequest) -> None:
    result: Result = request.getfixturevalue(kind)
    said, html = str(result), result._repr_html_()
    assert "spy:0" in said or kind == "why"  # at this budget no filter's value is known
    assert "None" not in said.split("warning")[0]
    assert repr(result).startswith(f"<{type(result).__name__}: ")
    assert html.startswith('<div class="neuron-repair">')
    assert "<script" not in html
    styles = html.partition("<style>")[2].partition("</style>")[0]
    assert styles.startswith(".neuron-repair {")
    depths = np.cumsum([{"{": 1, "}": -1}.get(letter, 0) for letter in styles])
    assert (depths[len(".neuron-repair {") : -1] > 0).all(), "styles of the whole page are changed"
    assert not re.search(r"(^|\n) *(html|body|:root)\b", styles), "such a rule applies to nothing inside a cell"
    if kind != "found":
        assert "<svg" in html
    json.dumps(result.records())
    json.dumps(result.table())


def test_frames(found: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = found.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["unit", "value", "lower", "upper", "samples"]
    assert frame["unit"][0] == "spy:0"


def test_without_pandas(found: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(nr.BadInput, match="pandas is not installed"):
        found.frame()


def test_what_is_saved_is_what_the_command_line_writes(
    found: Scores, sabotaged: World, tmp_path: Path, quick: None
) -> None:
    options = ("--budget", "9000", "--also", "classes")
    result = call([*sabotaged.argv("score", "--json", out=str(tmp_path / "cli")), *options])
    assert result.code == 0, result.err
    saved = found.save(tmp_path / "api")
    assert {p.name for p in saved.iterdir()} == {p.name for p in (tmp_path / "cli").iterdir()}
    values = [row | {"id": ""} for row in json.loads((tmp_path / "cli" / "score.json").read_text())["filters"]]
    assert [row | {"id": ""} for row in found.records()] == values


def test_saving_loses_nothing(fixed: Repaired, tmp_path: Path) -> None:
    (tmp_path / "repaired.safetensors").write_bytes(b"mine")
    with pytest.raises(nr.BadInput, match="not of an earlier run"):
        fixed.save(tmp_path)
    assert (tmp_path / "repaired.safetensors").read_bytes() == b"mine"
    fixed.save(tmp_path / "out")
    fixed.save(tmp_path / "out")  # in the place of the same result
    assert rows_of(tmp_path / "out" / "predictions.csv")


def test_progress_is_told(sabotaged: World, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, float]] = []
    options: dict[str, Any] = {"metric": "accuracy", "budget": 2000, **TOLD}
    nr.score(sabotaged.module, arrays(sabotaged), progress=lambda *step: told.append(step), **options)
    assert {stage for stage, _ in told} >= {"capturing the network", "sampling"}
    assert all(0 <= share <= 1 for _, share in told)
    assert capsys.readouterr().err == ""
    nr.score(sabotaged.module, arrays(sabotaged), progress=True, **options)
    assert "sampling" in capsys.readouterr().err


def test_stopping_leaves_nothing_behind(sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for stage in ("capturing the network", "confirming", "writing the repaired checkpoint"):

        def stop(now: str, share: float, stage: str = stage) -> None:
            if now.startswith(stage):
                raise KeyboardInterrupt

        module = Sabotaged()
        module.load_state_dict(sabotaged.module.state_dict())
        module.train()
        with pytest.raises(KeyboardInterrupt):
            nr.repair(module, arrays(sabotaged), metric="accuracy", budget=8000, progress=stop, **TOLD)
        assert not list(tmp_path.iterdir()), stage
        assert module.training


def test_the_files_of_a_result_go_with_it(sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = nr.score(sabotaged.module, arrays(sabotaged), metric="accuracy", budget=2000, **TOLD)
    assert [p.name[: len(scratch._PREFIX)] for p in tmp_path.iterdir()] == [scratch._PREFIX]
    del found
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_torch_modes_of_the_caller(sabotaged: World) -> None:
    options: dict[str, Any] = {"metric": "accuracy", "budget": 2000, **TOLD}
    plain = nr.score(sabotaged.module, arrays(sabotaged), **options)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        within = nr.score(sabotaged.module, arrays(sabotaged), **options)
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert within.table() == plain.table()

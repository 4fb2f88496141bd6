"""`explain`: rankings and removal curves against filters that are edited by hand, and what the command leaves."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from repair_engine.documents.explain import histogram
from repair_engine.documents.explain_files import write_filters
from repair_engine.pages import explain_page as page
from repair_engine.pages.explain_wording import advantage_text, headline
from repair_engine.pages.text import explain_text, score_text
from repair_engine.studies.explain_curves import grid, mean_over_removals
from repair_engine.studies.names import LEAST, MOST
from repair_engine.studies.noise import noise_of
from repair_engine.studies.rankings import descending
from tests.repair_engine.tiny import Result, Sabotaged, World, call, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")

NO_PICTURES = {"pictures": "0", "visualize": "0"}  # they have tests of their own


@pytest.fixture(scope="module")
def explained(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Exact values of the nine filters' recall of bees: (folder, document)."""
    out = tmp_path_factory.mktemp("explained") / "out"
    options = {"metric": "recall:bee", "estimator": "exact", "top_k": "3", "random_draws": "4", "out": str(out)}
    options |= NO_PICTURES
    result = call(sabotaged.argv("explain", "--json", **options))
    assert result.code == 0, result.err
    document = result.document  # fails on anything else on stdout
    stored = json.loads((out / "explain.json").read_text())
    assert {k: v for k, v in document.items() if k != "out"} == stored
    return out, stored


class ByHand:
    """The network with filters fixed to given constants by forward hooks: nothing of the engine."""

    def __init__(self, world: World, constants: dict[str, float]) -> None:
        self.net = Sabotaged().eval()
        self.net.load_state_dict(load_file(world.model))
        self.constants = constants
        self.removed: set[str] = set()
        self.act = {"stem": torch.relu, "branch": torch.relu, "last": torch.nn.functional.silu, "spy": torch.relu}

    def predict(self, x: torch.Tensor, removed: list[str]) -> np.ndarray:
        def fix(site: str, y: torch.Tensor) -> torch.Tensor:
            y = y.clone()
            for name in removed:
                where, channel = name.split(":")
                if where == site:
                    y[:, int(channel)] = self.constants[name]
            return y

        net = self.net
        with torch.inference_mode():
            seen = fix("spy", torch.relu(net.spy(x.mean((2, 3), keepdim=True))))
            h = fix("stem", torch.relu(net.stem(x)))
            h = h + fix("branch", torch.relu(net.bn(net.branch(h))))
            h = fix("last", torch.nn.functional.silu(net.last(h)))
            return (net.head(h.flatten(1)) + net.harm(seen.flatten(1))).argmax(1).numpy()


def parts(world: World, tmp_path: Path) -> dict[str, np.ndarray]:
    """Image rows of each split, as the repair's predictions.csv names them."""
    rows = rows_of(tmp_path / "predictions.csv")
    assert [row["file_name"] for row in rows] == list(world.images.names)
    return {
        part: np.array([i for i, r in enumerate(rows) if r["split"] == part]) for part in ("score", "select", "report")
    }


@pytest.fixture(scope="module")
def splits(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("splits")
    assert call(sabotaged.argv("repair", metric="recall:bee", estimator="exact", out=str(folder))).code in (0, 5)
    return parts(sabotaged, folder)


def test_curves_are_those_of_filters_removed_by_hand(
    explained: tuple[Path, dict], sabotaged: World, splits: dict[str, np.ndarray]
) -> None:
    """Every point of every curve, of metric and of overall accuracy, on the report images."""
    _, document = explained
    byhand = ByHand(sabotaged, {f["id"]: f["constant"] for f in document["filters"]})
    images, labels = sabotaged.images.tensor()[splits["report"]], sabotaged.images.labels[splits["report"]]
    keys = {"Shapley value": "ranked_by", "weight norm": "weight_norm", "response norm": "response_norm",
            "leave-one-out": "leave_one_out", "Shapley value, nearest zero": "ranked_by"}  # fmt: skip
    checked = 0
    for row in document["curves"]["rows"]:
        if row["ranking"] not in keys:
            continue
        scores = np.array([f[keys[row["ranking"]]] for f in document["filters"]])
        order = [document["filters"][i]["id"] for i in np.argsort(-scores, kind="stable")]
        order = order if row["end"] == MOST else order[::-1]
        if row["ranking"].endswith("nearest zero"):
            assert row["end"] == LEAST
            order = [document["filters"][i]["id"] for i in np.argsort(np.abs(scores), kind="stable")]
        assert row["ks"][0] == 0
        assert row["ks"][-1] == 9
        for k, metric, accuracy in zip(row["ks"], row["metric"], row["accuracy"], strict=True):
            right = byhand.predict(images, order[:k]) == labels
            assert metric == pytest.approx(right[labels == 1].mean())
            assert accuracy == pytest.approx(right.mean())
            checked += 1
    assert checked == (2 * 4 + 1) * len(document["curves"]["rows"][0]["ks"])


def test_rankings_against_plain_torch(
    explained: tuple[Path, dict], sabotaged: World, splits: dict[str, np.ndarray]
) -> None:
    """Weight norms of the tensors, response norms of the layers, leave-one-out of edited networks."""
    _, document = explained
    state, rows = load_file(sabotaged.model), {f["id"]: f for f in document["filters"]}
    byhand = ByHand(sabotaged, {name: f["constant"] for name, f in rows.items()})
    images, labels = sabotaged.images.tensor()[splits["score"]], sabotaged.images.labels[splits["score"]]
    bees = images[labels == 1]
    whole = (byhand.predict(bees, []) == 1).mean()
    assert document["curves"]["loo_images"] >= len(bees)  # so that leave-one-out is of all of them
    with torch.inference_mode():
        outputs = {"stem": torch.relu(byhand.net.stem(images))}
        outputs["branch"] = torch.relu(byhand.net.bn(byhand.net.branch(outputs["stem"])))
    for name, row in rows.items():
        site, channel = name.split(":")
        assert row["weight_norm"] == pytest.approx(float(state[f"{site}.weight"][int(channel)].norm()), rel=1e-5)
        assert row["leave_one_out"] == pytest.approx(whole - (byhand.predict(bees, [name]) == 1).mean())
        if site in outputs:
            norms = outputs[site][:, int(channel)].flatten(1).norm(dim=1)
            assert row["response_norm"] == pytest.approx(float(norms.mean()), rel=1e-4)
    ranked = sorted(rows.values(), key=lambda r: r["rank"])
    assert [r["value"] for r in ranked] == sorted((r["value"] for r in rows.values()), reverse=True)
    assert sum(r["value"] for r in ranked) == pytest.approx(
        whole - (byhand.predict(bees, list(rows)) == 1).mean()
    )  # efficiency: on score images alone


def test_the_random_band(explained: tuple[Path, dict]) -> None:
    out, document = explained
    with (out / "curves.csv").open(newline="") as file:
        written = [r for r in csv.DictReader(file) if r["ranking"] == "random"]
    for end in (MOST, LEAST):
        row = next(r for r in document["curves"]["rows"] if r["end"] == end and r["ranking"] == "random")
        assert row["draws"] == 4
        for i, k in enumerate(row["ks"]):
            values = [float(r["metric"]) for r in written if r["end"] == end and int(r["removed"]) == k]
            assert len(values) == 4
            assert row["metric"][i] == pytest.approx(np.mean(values))
            assert [ends[i] for ends in row["metric_range"]] == pytest.approx([min(values), max(values)])


def test_the_advantage_is_the_difference_of_the_areas(explained: tuple[Path, dict]) -> None:
    _, document = explained
    rows = {(r["end"], r["ranking"]): r for r in document["curves"]["rows"]}

    def area(row: dict) -> float:
        ks, v = row["ks"], row["metric"]
        steps = range(len(ks) - 1)
        return sum((ks[i + 1] - ks[i]) * (v[i] + v[i + 1]) / 2 for i in steps) / (ks[-1] - ks[0])

    for found in document["curves"]["advantages"]:
        mine, rival = rows[found["end"], "Shapley value"], rows[found["end"], found["rival"]]
        assert found["value"] == pytest.approx(area(mine) - area(rival))
        assert found["lower"] <= found["value"] + 1e-9
        assert found["value"] <= found["upper"] + 1e-9
    assert len(document["curves"]["advantages"]) == 9


def test_files_layers_and_page(explained: tuple[Path, dict]) -> None:
    out, document = explained
    for end, pick in (("most", lambda r: r["rank"] <= 3), ("least", lambda r: r["rank"] > 6)):
        for layer in document["layers"]:
            inside = [f for f in document["filters"] if f["id"].split(":")[0] == layer["site"]]
            assert layer["filters"] == len(inside)
            assert layer[end] == sum(pick(f) for f in inside)
    assert sum(document["histogram"]["counts"]) == 9
    rows = rows_of(out / "filters.csv")
    assert [r["filter"] for r in rows] == [f["id"] for f in document["filters"]]
    assert [float(r["value"]) for r in rows] == [f["value"] for f in document["filters"]]
    page = (out / "explain.html").read_text()
    assert "recall of bee" in page
    for row in document["filters"]:
        if row["rank"] <= 3 or row["rank"] > 6:
            assert f"<code>{row['id']}</code>" in page
    assert page.count("<svg") >= 2 * 7  # wide and narrow
    for outside in ("http://", "https://", "<script", "url(http"):
        assert outside not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")


def sampled(world: World, out: Path, **more: str) -> Result:
    options = {"estimator": "cmcs", "budget": "20000", "top_k": "2", "out": str(out), **NO_PICTURES} | more
    return call(world.argv("explain", "--json", **options))


def test_fresh_samples_for_both_ends_and_the_same_bits_again(sabotaged: World, tmp_path: Path) -> None:
    first, again = sampled(sabotaged, tmp_path / "a"), sampled(sabotaged, tmp_path / "b")
    document = first.document
    fresh = [f for f in document["filters"] if f["fresh_value"] is not None]
    assert len(fresh) == 4
    assert {1, 9} <= {f["rank"] for f in fresh}
    assert document["run"]["evaluations"] <= 20_000
    assert all(f["fresh_lower"] <= f["fresh_value"] <= f["fresh_upper"] for f in fresh)
    for name in ("filters.csv", "curves.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert again.document["curves"] == document["curves"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"remove": "0"}, "--remove"),
        ({"random_draws": "1"}, "--random-draws"),
        ({"curve_images": "0"}, "--curve-images"),
        ({"visualize": "-1"}, "--visualize"),
        ({"pictures": "51"}, "--pictures"),
    ],
)
def test_bad_options(sabotaged: World, tmp_path: Path, options: dict[str, str], said: str) -> None:
    result = sampled(sabotaged, tmp_path / "out", **options)
    assert result.code == 2
    assert said in result.document["error"]
    assert not (tmp_path / "out" / "explain.json").exists()


def test_a_repairs_folder_is_refused(sabotaged: World, tmp_path: Path) -> None:
    (tmp_path / "repair.json").write_text("{}")
    result = sampled(sabotaged, tmp_path)
    assert result.code == 2
    assert "holds a repair" in result.document["error"]


def test_numbers_of_removed_filters() -> None:
    assert grid(1).tolist() == [0, 1]
    assert grid(7).tolist() == [0, 1, 2, 3, 4, 6, 7]
    for most in (2, 3, 50, 8608):
        ks = grid(most)
        assert ks[0] == 0
        assert ks[-1] == most
        assert (np.diff(ks) > 0).all()


def test_small_pieces_by_hand() -> None:
    assert mean_over_removals(np.array([0, 1, 3]), np.array([1.0, 0.5, 0.0])) == pytest.approx((0.75 + 0.5) / 3)
    assert descending(np.array([0.1, np.nan, -0.2, 0.1])).tolist() == [0, 3, 1, 2]
    values, errors = np.array([1.0, -1.0, 1.0, -1.0, np.nan]), np.array([0.5, 0.5, 0.5, 0.5, 1.0])
    noise = noise_of(values, errors)
    assert noise.n == 4
    assert noise.spread**2 == pytest.approx(4 / 3)
    assert noise.reliability == pytest.approx(1 - 0.25 / (4 / 3))
    assert noise_of(values, errors * 10).reliability == 0.0
    assert noise_of(values[:2], errors[:2]).reliability is None


def test_histogram_counts_every_value_once() -> None:
    values = np.array([-0.01, 0.0, 0.0001, 0.03, 0.03, np.nan])
    found = histogram(values)
    edges, counts = np.array(found["edges"]), np.array(found["counts"])
    assert counts.sum() == found["filters"] == 5
    for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True):
        last = high == edges[-1]
        assert n == ((values >= low) & ((values < high) | (last & (values == high)))).sum()
    middle = np.searchsorted(edges, 0.0) - 1
    assert edges[middle] == pytest.approx(-edges[middle + 1])  # a bin is centred on zero
    assert histogram(np.zeros(4))["counts"].count(0) == len(histogram(np.zeros(4))["counts"]) - 1


def test_attack_success_is_explained_on_the_attacked_report_images(sabotaged: World, tmp_path: Path) -> None:
    """The curve starts at what `evaluate` measures, both for the attack and for clean accuracy."""
    options = {"metric": "attack-success", "epsilon": "0.2", "attack_images": "30"}
    explained = {"estimator": "exact", "top_k": "2", "out": str(tmp_path / "out"), **NO_PICTURES}
    result = call(sabotaged.argv("explain", "--json", **options, **explained))
    assert result.code == 0, result.err
    document = result.document
    figures = call(sabotaged.argv("evaluate", "--json", **options)).document["figures"]["report"]
    for row in document["curves"]["rows"]:
        assert row["metric"][0] == pytest.approx(figures["metric"])
        assert row["accuracy"][0] == pytest.approx(figures["accuracy"])
    shift = document["curves"]["logit_shift"]
    assert shift["metric"] <= figures["metric"] + 1e-9 or not shift["moved"]
    assert "culprits" in (tmp_path / "out" / "explain.html").read_text()
    values = [f["value"] for f in document["filters"]]
    everyone = call(sabotaged.argv("evaluate", "--json", "--ablate", ",".join(f["id"] for f in document["filters"]),
                                   **options)).document  # fmt: skip
    intact, dead = (everyone[key]["score"]["metric"] for key in ("figures", "figures_ablated"))
    assert sum(values) == pytest.approx(intact - dead)


def test_a_budget_is_chosen_and_can_be_repeated(sabotaged: World, tmp_path: Path) -> None:
    argv = sabotaged.argv("explain", "--json", minutes="0.05", out=str(tmp_path / "a"), **NO_PICTURES)
    chosen = call(argv).document
    assert chosen["run"]["budget_was"] == "calibrated"
    assert chosen["run"]["evaluations"] <= chosen["run"]["budget"]
    again = {"budget": str(chosen["run"]["budget"]), "out": str(tmp_path / "b"), **NO_PICTURES}
    assert call(sabotaged.argv("explain", "--json", **again)).document["filters"] == chosen["filters"]


@pytest.mark.parametrize("metric", ["accuracy", "recall:bee", "subgroup-recall:ground"])
def test_curves_of_a_part_of_the_report_images(sabotaged: World, tmp_path: Path, metric: str) -> None:
    """Ten of its 24 images, drawn per class and subgroup: as where there are more than the budget allows."""
    options = {"metric": metric, "estimator": "exact", "top_k": "3", "random_draws": "2", "out": str(tmp_path / "o")}
    result = call(sabotaged.argv("explain", "--json", curve_images="10", **options, **NO_PICTURES))
    assert result.code == 0, result.err
    rows = rows_of(tmp_path / "o" / "curves.csv")
    for figure in ("metric", "accuracy"):
        intact = {float(row[figure]) for row in rows if row["removed"] == "0"}
        assert len(intact) == 1  # the same images under every ranking
        assert 0.0 < intact.pop() <= 1.0
    whole = result.document["curves"]
    assert whole["images"]["accuracy"] == 10


def test_the_headline_has_n_intervals_and_the_images_behind_each_ranking(explained: tuple[Path, dict]) -> None:
    _, document = explained
    for found in document["curves"]["first_removed"]:
        row = next(
            r for r in document["curves"]["rows"] if r["end"] == found["end"] and r["ranking"] == "Shapley value"
        )
        at = row["ks"].index(found["removed"])
        assert found["change"] == pytest.approx(row["metric"][at] - row["metric"][0])
        assert found["lower"] <= found["change"] <= found["upper"]
    said = " ".join(headline(document))
    assert f"n = {document['curves']['images']['metric']}" in said
    assert "95% interval" in said
    assert f"leave-one-out {document['curves']['loo_images']}" in said


def test_a_ranking_made_on_few_images_is_no_rival(explained: tuple[Path, dict]) -> None:
    document = copy.deepcopy(explained[1])
    rows = [r for r in document["curves"]["advantages"] if r["end"] == MOST]
    for row in rows:
        row |= {"lower": -0.2, "value": -0.1, "upper": -0.05}  # all fall slower than by Shapley value
    document["curves"]["ranked_on"]["leave-one-out"] = 4
    said = advantage_text(document, MOST)[0]
    assert "leave-one-out" not in said.split(".")[0]
    assert "that ranking was made on 4 score images: too few" in said
    assert "weight norm" in said.split(".")[0]
    text = explain_text({**document, "out": "out"})
    assert "leave-one-out (made on 4 images: no rival)" in text
    document["curves"]["ranked_on"]["leave-one-out"] = 30
    assert "leave-one-out" in advantage_text(document, MOST)[0].split(".")[0]


def test_sampled_filters_of_which_nothing_is_known(explained: tuple[Path, dict], tmp_path: Path) -> None:
    """An interval from −1 to 1 is no figure: not on the page, in the text or, by its flag, in the table."""
    document = copy.deepcopy(explained[1])
    for row in document["filters"]:
        row |= {"value": 0.25125, "lower": -1.0, "upper": 1.0, "samples": 4, "ranked_by": 0.0}
    text = explain_text({**document, "out": "out"})
    assert text.count("critical filters: not known") == 2
    assert "0.25125" not in text
    shown = next(part.body for part in page.sections(document) if part.ident == "filters")
    assert "0.25125" not in shown
    assert "not known (4 samples)" in shown
    document["filters"][0] |= {"lower": -0.5, "rank": 0}
    assert "+0.25125 [-0.50000, +1.00000]" in explain_text({**document, "out": "out"})
    write_filters(document["filters"], tmp_path / "filters.csv")
    assert [row["known"] for row in rows_of(tmp_path / "filters.csv")] == ["1"] + ["0"] * 8
    score = score_text({
        "metric": {"text": "accuracy"}, "score_images": [1], "value_of_all": 0.5, "warnings": [],
        "run": {"estimator": "cmcs", "evaluations": 9, "seed": 0, "interval": {"text": ""}},
        "filters": document["filters"],
    })  # fmt: skip
    assert score.count("0.25125") == 1
    assert "8 sampled filters have an interval from −1 to 1: nothing is known" in score

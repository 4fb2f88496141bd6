"""Several parties by file exchange: common constants, and estimates that add up to those of all images together."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from repair_engine.case.case import Case
from repair_engine.case.preparing import prepare
from repair_engine.documents.estimates import read_estimate
from repair_engine.errors import BadInput
from repair_engine.parties.merging import merge_estimates
from repair_engine.question.objectives import Metric, Objective, cell_codes, metric_weights
from repair_engine.search.game import NeuronGame
from shapley import exact
from tests.repair_engine import tiny
from tests.repair_engine.search.test_exact_values import FILTERS, means, request_of
from tests.repair_engine.tiny import CLASSES, World, call, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")


@dataclass(frozen=True)
class Parties:
    """Two parties with one model; images of their own, of different numbers and mixtures of grounds."""

    worlds: tuple[World, World]
    folder: Path

    @property
    def constants(self) -> str:
        return str(self.folder / "constants.npz")

    def case(self, which: int, metric: str, folder: Path) -> Case:
        request = request_of(self.worlds[which], metric, constants=self.constants, seed=which)
        return prepare(request, folder / str(which))

    def scored(self, metric: str, out: Path, *more: str, **given: str) -> list[str]:
        """The folders of `score --out`, one per party."""
        folders = []
        for which, world in enumerate(self.worlds):
            folder = out / f"party{which}"
            options = {"metric": metric, "out": str(folder), "seed": str(which), "constants": self.constants, **given}
            result = call(world.argv("score", "--json", *more, **options))
            assert result.code == 0, result.err
            folders.append(str(folder))
        return folders


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    folder = tmp_path_factory.mktemp("parties")
    first = tiny.make_world(folder / "a", tiny.images(96, seed=0), skewed=True)
    shown = tiny.images(60, seed=7, absent="cat")
    second = World(folder / "b", first.module, first.model, shown.zip(folder / "other.zip"), shown)
    found = Parties((first, second), folder)
    for which, world in enumerate(found.worlds):
        assert call(world.argv("constants", seed=str(which), out=str(folder / f"{which}.npz"))).code == 0
    sums = [str(folder / f"{which}.npz") for which in (0, 1)]
    assert call(["constants", "merge", *sums, "--out", found.constants]).code == 0
    return found


def together(cases: list[Case], metric: str) -> NeuronGame:
    """The game on the score images of all cases, with the constants of the first."""
    parts = [case.question.indices("score") for case in cases]
    labels = np.concatenate([case.images.labels[i] for case, i in zip(cases, parts)])
    groups = None
    if metric.startswith("subgroup"):
        groups = [case.question.subgroups[i] for case, indices in zip(cases, parts) for i in indices]
    weights = metric_weights(Metric.parse(metric), labels, groups, CLASSES)
    pixels = torch.cat([case.images.pixels[torch.from_numpy(i)] for case, i in zip(cases, parts)])
    objective = Objective(pixels, labels, weights, cell_codes(labels, groups))
    return NeuronGame(cases[0].subject.network, objective, cases[0].images.normalize, 32)


def test_common_constants_are_the_means_over_all_score_images(parties: Parties, tmp_path: Path) -> None:
    cases = [parties.case(which, "accuracy", tmp_path) for which in (0, 1)]
    x = torch.cat([
        world.images.tensor([case.images.dataset.file_names[i] for i in case.images.splits.score])
        for world, case in zip(parties.worlds, cases)
    ])  # fmt: skip
    expected = means(parties.worlds[0].module, x)
    assert len(x) > len(cases[0].images.splits.score)
    for case in cases:
        found = dict(zip(FILTERS, case.subject.network.constants.tolist()))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
        assert case.subject.constants_from["parties"] == 2
        assert case.subject.constants_from["images"] == len(x)
    assert torch.equal(cases[0].subject.network.constants, cases[1].subject.network.constants)
    own = prepare(request_of(parties.worlds[0], "accuracy"), tmp_path / "own")
    assert not torch.equal(own.subject.network.constants, cases[0].subject.network.constants)


@pytest.mark.parametrize("metric", ["accuracy", "recall:bee"])
def test_exact_values_add_up_to_those_of_all_images(parties: Parties, tmp_path: Path, metric: str) -> None:
    folders = parties.scored(metric, tmp_path, estimator="exact")
    document = call(["merge", *folders, "--json"]).document
    cases = [parties.case(which, metric, tmp_path) for which in (0, 1)]
    game = together(cases, metric)
    expected = exact(game)
    assert np.abs(expected.values[0]).max() > 0.03
    np.testing.assert_allclose([f["value"] for f in document["filters"]], expected.values[0], atol=1e-12)
    assert [f["lower"] for f in document["filters"]] == [f["upper"] for f in document["filters"]]
    counts = [len(case.question.objective("score")) for case in cases]
    assert [p["weight"] for p in document["parties"]] == pytest.approx([n / sum(counts) for n in counts])
    assert document["value_of_all"] == pytest.approx(float(game.objective.value(game.intact)))
    # Exact values of different images differ without any sampling error.
    assert set(document["differing"]["filters"]) == {
        f["id"] for f in document["filters"] if abs(f["parties"][0]["value"] - f["parties"][1]["value"]) > 1e-12
    }


def test_attack_success_weighs_by_the_images_attacked(parties: Parties, tmp_path: Path) -> None:
    more = ("--epsilon", "0.2", "--steps", "3")
    folders = parties.scored("attack-success", tmp_path, *more, estimator="exact")
    documents = [json.loads((Path(f) / "estimate.json").read_text()) for f in folders]
    counts = [sum(cell["images"] for cell in d["cells"]) for d in documents]
    assert counts[0] < documents[0]["data"]["score_images"]  # some are left out: nothing to win there
    merged = call(["merge", *folders, "--json"]).document
    by_hand = sum(n * np.array(d["values"]) for n, d in zip(counts, documents)) / sum(counts)
    np.testing.assert_allclose([f["value"] for f in merged["filters"]], by_hand, atol=1e-12)


@pytest.fixture(scope="module")
def sampled(parties: Parties, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    options = {"estimator": "cmcs", "depth": "8", "budget": "25000"}
    return parties.scored("accuracy", tmp_path_factory.mktemp("sampled"), "--batch-size", "8", **options)


def test_sampled_values_add_up_within_their_errors(parties: Parties, sampled: list[str], tmp_path: Path) -> None:
    document = call(["merge", *sampled, "--json"]).document
    expected = exact(together([parties.case(which, "accuracy", tmp_path) for which in (0, 1)], "accuracy")).values[0]
    rows = document["filters"]
    errors = np.array([f["std_error"] for f in rows])
    silent = np.abs(expected) < 1e-12  # filters that never fire: all samples are 0
    assert ((errors > 0) == ~silent).all()
    assert silent.sum() < len(silent) / 2
    assert (np.abs(np.array([f["value"] for f in rows]) - expected) <= 4 * errors + 1e-12).all()
    assert all(f["lower"] <= v <= f["upper"] for f, v in zip(rows, expected))
    weights = np.array([p["weight"] for p in document["parties"]])
    each = np.array([[one["std_error"] for one in f["parties"]] for f in rows])
    np.testing.assert_allclose(errors, np.sqrt((each**2) @ weights**2))
    assert not document["warnings"]
    # The two image sets differ a good deal, and the samples are many: the test must find it out.
    differ = {f["id"] for f in rows if f["differing_p"] < 0.05}
    assert differ == set(document["differing"]["filters"]) != set()
    for f in (f for f, quiet in zip(rows, silent) if not quiet):
        a, b = f["parties"]
        z = (a["value"] - b["value"]) / np.hypot(a["std_error"], b["std_error"])
        assert f["differing_p"] >= min(1.0, 2 * norm.sf(abs(z))) - 1e-12


def test_what_a_merge_writes(sampled: list[str], tmp_path: Path) -> None:
    document = call(["merge", *sampled, "--json", "--out", str(tmp_path)]).document
    assert json.loads((tmp_path / "merged.json").read_text()) == document
    rows = rows_of(tmp_path / "filters.csv")
    assert [row["filter"] for row in rows] == FILTERS
    assert [float(row["value"]) for row in rows] == [f["value"] for f in document["filters"]]
    assert [float(row["value_2"]) for row in rows] == [f["parties"][1]["value"] for f in document["filters"]]
    page = (tmp_path / "merged.html").read_text()
    assert all(text in page for text in ("Where they differ", "stem:0", "party1", "asymptotic"))
    people = call(["merge", *sampled])
    assert people.code == 0
    assert "2 parties together" in people.out


def test_no_names_of_images_are_sent(parties: Parties, sampled: list[str]) -> None:
    for world, folder in zip(parties.worlds, sampled):
        text = (Path(folder) / "estimate.json").read_text()
        names = [name for name in world.images.names if name in text]
        assert not names
        assert str(world.data) not in text


def edited(folder: str, out: Path, change: Callable[[dict], None]) -> str:
    """A copy of an estimate with a change in it."""
    document = json.loads((Path(folder) / "estimate.json").read_text())
    change(document)
    out.mkdir()
    (out / "estimate.json").write_text(json.dumps(document))
    return str(out)


def test_one_seed_adds_errors_in_full(sampled: list[str], tmp_path: Path) -> None:
    same = edited(sampled[1], tmp_path / "same", lambda d: d["run"].update(seed=0))
    document = call(["merge", sampled[0], same, "--json"]).document
    assert "same seed 0" in " ".join(document["warnings"])
    weights = np.array([p["weight"] for p in document["parties"]])
    errors = np.array([[one["std_error"] for one in f["parties"]] for f in document["filters"]])
    np.testing.assert_allclose([f["std_error"] for f in document["filters"]], errors @ weights)


REFUSED: dict[str, tuple[Callable[[dict], None], str]] = {
    "model": (lambda d: d["model"].update(sha256="0" * 64), "model (sha256)"),
    "architecture": (lambda d: d["model"].update(options={"wide": True}), "architecture"),
    "players": (lambda d: d["filters"].reverse(), "players"),
    "classes": (lambda d: d["classes"].reverse(), "classes"),
    "metric": (lambda d: d["metric"].update(name="recall:ant"), "metric"),
    "attack": (lambda d: d["metric"].update(attack={"epsilon": 0.1}), "attack settings"),
    "preprocessing": (lambda d: d["preprocessing"].update(mean=[0.5]), "preprocessing"),
    "precision": (lambda d: d["run"].update(precision="bfloat16"), "precision"),
    "kind": (lambda d: d["constants"].update(kind="bn_beta"), "kind of constant"),
    "constants": (lambda d: d["constants"].update(sha256="1" * 64), "constants merge"),
    "truncation": (lambda d: d["truncation"].update(rule="walk"), "rule of truncation"),
    "depth": (lambda d: d["truncation"].update(depth=5), "--depth"),
    "lengths": (lambda d: d["values"].pop(), "differ in length"),
    "kind of file": (lambda d: d.update(kind="a letter"), "a letter"),
    "missing": (lambda d: d.pop("cells"), "cells"),
    "negative": (lambda d: d["std_errors"].__setitem__(0, -1.0), "negative"),
}


@pytest.mark.parametrize(("change", "named"), [pytest.param(*row, id=name) for name, row in REFUSED.items()])
def test_what_does_not_fit_is_refused_by_name(
    sampled: list[str], tmp_path: Path, change: Callable[[dict], None], named: str
) -> None:
    result = call(["merge", sampled[0], edited(sampled[1], tmp_path / "other", change), "--json"])
    assert result.code == 2
    assert named in f"{result.document['error']} {result.document['mend']}"


def places(value: object, at: tuple = ()) -> list[tuple]:
    """The way to every field of a document; of a list, to its first item."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*at, key), *places(item, (*at, key)))]


ODD = (None, "x", -1, 1e308, 10**30, [], {}, float("nan"), True)


def test_whatever_stands_in_a_file_it_is_merged_or_refused(sampled: list[str], tmp_path: Path) -> None:
    """The file comes from another party. No field of it ends in an error of ours."""
    document = json.loads((Path(sampled[1]) / "estimate.json").read_text())
    tried, failures = 0, []
    for place in places(document):
        for odd in (*ODD, KeyError):
            changed = copy.deepcopy(document)
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            if odd is KeyError:
                del inner[place[-1]]
            else:
                inner[place[-1]] = odd
            (tmp_path / "estimate.json").write_text(json.dumps(changed))
            try:
                merge_estimates([read_estimate(sampled[0]), read_estimate(tmp_path)])
            except BadInput:
                pass
            except Exception as error:
                failures.append((place, odd, repr(error)))
            tried += 1
    assert tried > 300
    assert not failures
    (tmp_path / "estimate.json").write_text("[" * 100_000)
    with pytest.raises(BadInput, match="is not an estimate"):
        read_estimate(tmp_path)


def test_sums_take_no_inputs_place_and_no_other_file(parties: Parties, tmp_path: Path) -> None:
    sums = [str(shutil.copy(parties.folder / f"{which}.npz", tmp_path)) for which in (0, 1)]
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    for out, said in ((sums[0], "is an input"), (str(other), "is no file of sums")):
        before = Path(out).read_bytes()
        result = call(["constants", "merge", *sums, "--out", out])
        assert result.code == 2
        assert said in result.err
        assert Path(out).read_bytes() == before
    world = parties.worlds[0]
    for out in (world.model, world.data):
        before = out.read_bytes()
        assert "is an input" in call(world.argv("constants", out=str(out))).err
        assert out.read_bytes() == before
    again = str(tmp_path / "constants.npz")
    assert [call(["constants", "merge", *sums, "--out", again]).code for _ in range(2)] == [0, 0]


def test_the_same_images_twice_are_refused(sampled: list[str], tmp_path: Path) -> None:
    again = shutil.copytree(sampled[0], tmp_path / "again")
    result = call(["merge", sampled[0], sampled[1], str(again)])
    assert result.code == 2
    assert "same image set" in result.err
    assert call(["merge", sampled[0]]).code == 2
    assert "no file" in call(["merge", sampled[0], str(tmp_path / "none")]).err


def cells(*counts: tuple[str, str, int]) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        document["metric"]["name"] = "subgroup-recall:site"
        document["cells"] = [{"class": c, "subgroup": g, "images": n} for c, g, n in counts]

    return change


@pytest.mark.parametrize(
    ("first", "second", "weights"),
    [
        # Parties that are subgroups of their own: the mean over subgroups is the mean over the parties'.
        ([("ant", "x", 10), ("bee", "x", 30)], [("ant", "y", 7), ("bee", "z", 1)], [1 / 3, 2 / 3]),
        # The same cells in the same proportions.
        ([("ant", "x", 10), ("bee", "y", 30)], [("ant", "x", 20), ("bee", "y", 60)], [1 / 3, 2 / 3]),
        ([("ant", "x", 10), ("bee", "y", 30)], [("ant", "x", 20), ("bee", "y", 59)], None),
        ([("ant", "x", 10), ("bee", "y", 30)], [("ant", "x", 20)], None),
    ],
)
def test_subgroup_recall_adds_up_or_says_why_not(
    sampled: list[str], tmp_path: Path, first: list, second: list, weights: list[float] | None
) -> None:
    folders = [
        edited(folder, tmp_path / str(i), cells(*given))
        for i, (folder, given) in enumerate(zip(sampled, (first, second)))
    ]
    result = call(["merge", *folders, "--json"])
    if weights is None:
        assert result.code == 2
        assert "is no sum of the parties' own" in result.document["error"]
        assert "in subgroup 'x'" in result.document["error"]
    else:
        assert [p["weight"] for p in result.document["parties"]] == pytest.approx(weights)


def test_constants_of_other_things_are_refused(parties: Parties, tmp_path: Path) -> None:
    first, second = parties.worlds
    sums = str(parties.folder / "0.npz")
    assert "same image set" in call(["constants", "merge", sums, parties.constants, "--out", str(tmp_path / "x")]).err
    assert "two files" in call(["constants", "merge", sums, "--out", str(tmp_path / "x")]).err
    (tmp_path / "junk.npz").write_text("junk")
    junk = call(first.argv("score", constants=str(tmp_path / "junk.npz")))
    assert (junk.code, "not a file of channel sums" in junk.err) == (2, True)
    other_split = call(first.argv("score", constants=parties.constants, seed="5"))
    assert (other_split.code, "another score split" in other_split.err) == (2, True)
    changed = tiny.make_world(tmp_path / "changed", tiny.images(96, seed=2))
    other_model = call(changed.argv("score", constants=parties.constants))
    assert (other_model.code, "another model" in other_model.err) == (2, True)
    scaled = call(second.argv("score", constants=parties.constants, seed="1", mean="0.5", std="0.5"))
    assert (scaled.code, "other preprocessing" in scaled.err) == (2, True)
    assert call(first.argv("constants", out=str(tmp_path / "no" / "folder.npz"))).code == 2


def test_repair_with_common_constants_says_so(parties: Parties, tmp_path: Path) -> None:
    argv = parties.worlds[0].argv("repair", "--json", constants=parties.constants, budget="20000", out=str(tmp_path))
    document = call(argv).document
    assert document["run"]["constants_from"]["parties"] == 2
    assert "2 parties" in (tmp_path / "report.html").read_text()

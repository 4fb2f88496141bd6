"""Exact values through the pipeline against enumeration of really edited weights in plain torch."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq

from repair_engine.case.preparing import prepare
from repair_engine.models.architectures import Architecture
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.verbs import pipeline
from shapley import Estimate
from tests.repair_engine.tiny import CLASSES, Tiny, World, call

SITES = (("stem", 3), ("branch", 3), ("last", 2))
FILTERS = [f"{site}:{channel}" for site, count in SITES for channel in range(count)]
N = len(FILTERS)

pytestmark = pytest.mark.usefixtures("quick_module")


def request_of(world: World, metric: str, **more: object) -> RepairRequest:
    architecture = Architecture("net", 3, register={"net": world.factory})
    return RepairRequest(str(world.model), str(world.data), architecture, metric=Metric.parse(metric), **more)  # type: ignore[arg-type]


def exact_job(world: World, metric: str, folder: Path, **more: object) -> tuple[pipeline.Job, Estimate]:
    job = pipeline.prepare_job(request_of(world, metric, estimator="exact", **more), folder)
    ranking, spent = pipeline.ranking_of(job, None, None)
    assert spent == 2**N * len(job.case.question.objective("score"))
    return job, ranking.found


def means(module: Tiny, x: torch.Tensor) -> dict[str, float]:
    """Mean outputs after the activation, over images and positions, in plain torch."""
    with torch.inference_mode():
        stem = torch.relu(module.stem(x))
        branch = torch.relu(module.bn(module.branch(stem)))
        last = F.silu(module.last(stem + branch))
    values = [y.double().mean((0, 2, 3)) for y in (stem, branch, last)]
    return dict(zip(FILTERS, torch.cat(values).tolist()))


def edited(module: Tiny, constants: dict[str, float]) -> Tiny:
    """A copy with the given filters' weights edited so that they put out their constants."""
    copy = Tiny()
    copy.load_state_dict(module.state_dict())
    copy.eval().requires_grad_(False)
    for name, constant in constants.items():
        site, channel = name.split(":")[0], int(name.split(":")[1])
        getattr(copy, site).weight[channel] = 0
        if site == "stem":
            copy.stem.bias[channel] = constant
        elif site == "branch":
            copy.bn.weight[channel], copy.bn.bias[channel] = 0, constant
        else:
            silu = lambda b, m=constant: b / (1 + math.exp(-b)) - m  # noqa: E731
            copy.last.bias[channel] = brentq(silu, -1.2784645, 50, xtol=1e-14)
    return copy


def all_predictions(module: Tiny, constants: dict[str, float], x: torch.Tensor) -> np.ndarray:
    """Predictions [2^n, N] of every coalition; bit i of the row is filter i present."""
    rows = []
    for code in range(2**N):
        absent = {f: constants[f] for i, f in enumerate(FILTERS) if not code >> i & 1}
        with torch.inference_mode():
            rows.append(edited(module, absent)(x).argmax(1).numpy())
    return np.stack(rows)


def shapley_by_permutation_weights(v: np.ndarray) -> np.ndarray:
    """Shapley values [n] of V [2^n]: the definition, one coalition at a time."""
    phi = np.zeros(N)
    for code in range(2**N):
        size = code.bit_count()
        for i in range(N):
            if code >> i & 1:
                phi[i] += math.factorial(size - 1) * math.factorial(N - size) / math.factorial(N) * v[code]
            else:
                phi[i] -= math.factorial(size) * math.factorial(N - size - 1) / math.factorial(N) * v[code]
    return phi


def test_accuracy_and_recall_by_the_command_line(skewed: World) -> None:
    document = call(skewed.argv("score", "--json", estimator="exact")).document
    assert [f["id"] for f in document["filters"]] == FILTERS
    names = document["score_images"]
    assert document["constants_from"] == names
    assert len(names) == 48
    x = skewed.images.tensor(names)
    labels = np.array([CLASSES.index(n.split("/")[0]) for n in names])
    constants = {f["id"]: f["constant"] for f in document["filters"]}
    assert constants == pytest.approx(means(skewed.module, x), rel=1e-5, abs=1e-7)

    right = all_predictions(skewed.module, constants, x) == labels
    accuracy = shapley_by_permutation_weights(right.mean(axis=1))
    assert np.abs(accuracy).max() > 0.03
    np.testing.assert_allclose([f["value"] for f in document["filters"]], accuracy, atol=1e-12)
    assert document["value_of_all"] == pytest.approx(right[-1].mean())
    assert document["run"]["evaluations"] == 2**N * 48

    for index, name in enumerate(CLASSES):
        recall = shapley_by_permutation_weights(right[:, labels == index].mean(axis=1))
        asked = call(skewed.argv("score", "--json", estimator="exact", metric=f"recall:{name}")).document
        np.testing.assert_allclose([f["value"] for f in asked["filters"]], recall, atol=1e-12)
        assert asked["score_images"] == [n for n in names if n.startswith(name)]
        assert asked["constants_from"] == names


def test_subgroup_recall_with_an_absent_class(uneven: World, tmp_path: Path) -> None:
    job, found = exact_job(uneven, "subgroup-recall:ground", tmp_path)
    names = [job.case.images.dataset.file_names[i] for i in job.case.images.splits.score]
    x = uneven.images.tensor(names)
    labels = np.array([CLASSES.index(n.split("/")[0]) for n in names])
    ground = np.array([uneven.images.ground[uneven.images.names.index(n)] for n in names])
    assert set(labels[ground == "light"]) == {0, 1}
    constants = {f: float(c) for f, c in zip(FILTERS, job.case.subject.network.constants)}
    right = all_predictions(uneven.module, constants, x) == labels
    cells = defaultdict(list)
    for g in ("light", "dark"):
        for c in set(labels[ground == g]):
            cells[g].append(right[:, (ground == g) & (labels == c)].mean(axis=1))
    v = np.mean([np.mean(rows, axis=0) for rows in cells.values()], axis=0)
    expected = shapley_by_permutation_weights(v)
    assert np.abs(expected).max() > 0.03
    np.testing.assert_allclose(found.values[0], expected, atol=1e-12)


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_attack_success(skewed: World, tmp_path: Path, preset: str) -> None:
    settings = AttackSettings.of(preset, epsilon=0.2, steps=4)
    job, found = exact_job(skewed, "attack-success", tmp_path, attack=settings)
    case = job.case
    attacked = case.question.attacked["score"]
    names = [case.images.dataset.file_names[i] for i in attacked.indices]
    clean, labels = skewed.images.tensor(names), case.images.labels[attacked.indices]
    with torch.inference_mode():
        intact = skewed.module(clean).argmax(1).numpy()
    assert len(names) + attacked.excluded == 48
    if preset == "paper":
        assert (attacked.targets != labels).all()
        assert (intact != attacked.targets).all()
    else:
        assert (intact == labels).all()
    # Constants come from clean images, all of them.
    x = skewed.images.tensor([case.images.dataset.file_names[i] for i in case.images.splits.score])
    constants = {f: float(c) for f, c in zip(FILTERS, case.subject.network.constants)}
    assert constants == pytest.approx(means(skewed.module, x), rel=1e-5, abs=1e-7)
    predicted = all_predictions(skewed.module, constants, attacked.pixels)
    hit = predicted == attacked.targets
    expected = shapley_by_permutation_weights((hit if preset == "paper" else ~hit).mean(axis=1))
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(found.values[0], expected, atol=1e-12)


def test_the_attack_is_made_by_the_published_steps(skewed: World, tmp_path: Path) -> None:
    """x ← clip(x − step·sign ∇ cross-entropy(target)), within ε of the image and in [0, 1]; no random start."""
    request = request_of(skewed, "attack-success", attack=AttackSettings.of("paper", steps=5))
    case = prepare(request, tmp_path)
    part = case.question.attacked["select"]
    clean = skewed.images.tensor([case.images.dataset.file_names[i] for i in part.indices])
    epsilon, step, x = 16 / 255, 0.8 / 255 * 30 / 5, clean.clone()
    for _ in range(5):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(skewed.module(x), torch.from_numpy(part.targets)), x)
        x = (x.detach() - step * gradient.sign()).clamp(clean - epsilon, clean + epsilon).clamp(0, 1)
    torch.testing.assert_close(part.pixels, x, rtol=0, atol=1e-6)

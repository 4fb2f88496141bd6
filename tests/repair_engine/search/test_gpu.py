"""Every verb on a GPU, pretended or real: nothing is left on the wrong device, and the answers are the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.repair_engine.pretend_gpu import pretended
from tests.repair_engine.tiny import World, call

ATTACK = ("--attack", "paper", "--epsilon", "0.03", "--attack-images", "24")
VERBS = {
    "fast": ("repair", {"metric": "subgroup-recall:ground", "budget": "8000"}, ()),
    "bfloat16": ("repair", {"metric": "subgroup-recall:ground", "budget": "8000", "precision": "bfloat16"}, ()),
    "tmab": ("repair", {"metric": "recall:bee", "budget": "8000", "estimator": "tmab"}, ("--compact",)),
    "exact": ("score", {"metric": "accuracy", "estimator": "exact"}, ()),
    "cmcs, all objectives": ("score", {"budget": "6000", "estimator": "cmcs", "also": "all"}, ()),
    "attacked": ("repair", {"metric": "attack-success", "budget": "20000"}, ATTACK),
    "attack": ("attack", {}, ATTACK),
    "explain": ("explain", {"budget": "6000", "pictures": "2"}, ()),
    "evaluate": ("evaluate", {"ablate": "spy:0"}, ()),
}
OTHER_DRAWS = ("bfloat16", "tmab", "attacked")  # batches of another size end walks and budgets elsewhere
LONG = ("explain", "attack")
# Hashes of computed floats hang on the last bits of sums, which differ between memory layouts and processors.
HASH_OF_SUMS = "/constants_from/sha256"
OF_THE_RUN = ("created", "out", "files", "device", "seconds", "precision", "notes")


def test_what_a_gpu_refuses_is_refused() -> None:
    with pretended():
        there = torch.rand(2, 3).to("cuda")
        assert there.is_cuda
        assert (2 * there + there.sum()).device.type == "cuda"
        assert type(there.cpu()) is torch.Tensor
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(2, 3)
        with pytest.raises(TypeError, match="can't convert cuda"):
            np.asarray(there)
    assert not torch.cuda.is_available()


@pytest.mark.device
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in VERBS])
def test_the_answers_are_the_cpus(name: str, sabotaged: World, tmp_path: Path, torch_device: str) -> None:
    verb, options, more = VERBS[name]
    found = []
    for device, where in (("cpu", nullcontext()), ("cuda", gpu(torch_device))):
        out = {} if verb == "evaluate" else {"out": str(tmp_path / device)}
        argv = sabotaged.argv(verb, "--json", *more, device=device, **out, **options)
        if verb == "attack":
            del argv[argv.index("--metric") : argv.index("--metric") + 2]
        with where:
            result = call(argv)
        assert result.code in (0, 5), result.err
        found.append(dict(_figures(result.document)))
    on_cpu, on_gpu = found
    assert on_cpu.keys() == on_gpu.keys()
    assert {k: v for k, v in on_cpu.items() if isinstance(v, str)} == {
        k: v for k, v in on_gpu.items() if isinstance(v, str)
    }
    numbers = [k for k, v in on_cpu.items() if isinstance(v, float)]
    assert len(numbers) > 10
    if name in OTHER_DRAWS:
        numbers = [k for k in numbers if k.startswith(("/data", "/model", "/intact"))]
    np.testing.assert_allclose([on_gpu[k] for k in numbers], [on_cpu[k] for k in numbers], rtol=1e-5, atol=1e-6)


@pytest.mark.device
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("estimator", ["fast", "tmab", "cmcs"])
def test_the_same_bits_twice(estimator: str, sabotaged: World, torch_device: str) -> None:
    with gpu(torch_device):
        argv = sabotaged.argv("score", "--json", device="cuda", budget="8000", estimator=estimator)
        once, again = (call(argv).document["filters"] for _ in range(2))
    assert once == again
    assert sum(row["samples"] for row in once)


def gpu(torch_device: str) -> AbstractContextManager[None]:
    """Within, "cuda" is the real GPU where there is one that is asked for, else a pretended one."""
    return nullcontext() if torch_device == "cuda" else pretended()


def _figures(document: Any, path: str = "") -> Iterator[tuple[str, str | float]]:
    """Path and value of what a document says of the model, not of the run."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in OF_THE_RUN and not f"{path}/{key}".endswith(HASH_OF_SUMS):
                yield from _figures(value, f"{path}/{key}")
    elif isinstance(document, list):
        for i, value in enumerate(document):
            yield from _figures(value, f"{path}/{i}")
    elif document is not None:
        yield path, document if isinstance(document, str) else float(document)

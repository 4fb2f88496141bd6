"""The cases of ../shared/cases about checkpoints and ONNX, and further ones of their kinds: the right values."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from repair_engine.cli.main import main
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from repair_engine.network import Network
from repair_engine.network.activations import describe
from tests.repair_engine.onnx.test_onnx_families import check_written
from tests.repair_engine.onnx_models import graph, run

CASES = Path(__file__).parents[4] / "shared" / "cases"
ONNX = Architecture("onnx", 0)
there = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is absent: its inputs are not tested")

Say = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def say(quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a README's command in its folder, with another file or further options: exit code, document, stderr."""

    def run_it(folder: str, model: str = "", *more: str) -> tuple[int, dict[str, Any], str]:
        here = CASES / folder
        text = (here / "README.txt").read_text()
        command = next(line for line in text.splitlines() if "python -m repair_engine" in line)
        given = shlex.split(command.partition("python -m repair_engine ")[2])
        if model:
            given[given.index("--model") + 1] = model
        monkeypatch.chdir(here)
        monkeypatch.syspath_prepend(here)
        monkeypatch.delitem(sys.modules, "case_nets", raising=False)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(Path(__file__).parents[3]), str(here))))
        monkeypatch.setattr("sys.dont_write_bytecode", True)
        code = main([*given, "--json", *more])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out.strip() else {}, err

    return run_it


# --- checkpoints -----------------------------------------------------------------------------------


@there
@pytest.mark.parametrize(
    "name",
    [
        "examples_best_acc1_tensor.pth",
        "lightning_criterion.pth",
        "numpy_best_acc.pth",
        "small.pth",
        "timm_args_namespace.pth",
    ],
)
def test_checkpoints_are_read_and_go_back(name: str, say: Say, tmp_path: Path) -> None:
    code, document, err = say("checkpoints", name)
    assert code == 0, err
    assert (document["format"], document["filters"], document["num_classes"]) == ("state_dict", 36, 4)
    register = {"small": "case_nets:small"}
    checkpoint = parse(CASES / "checkpoints" / name, Architecture("small", 4, register=register), None, name)
    wrapped = name != "small.pth"
    assert document["layout"]["wrapper"] == ["state_dict"] * wrapped
    assert document["layout"]["beside"] == ["criterion.weight"] * (name == "lightning_criterion.pth")
    assert [level.key for level in checkpoint.source.wrapper] == ["state_dict"] * wrapped
    formats.write(checkpoint, tmp_path / "out.pth")
    before = torch.load(CASES / "checkpoints" / name, weights_only=False)  # a file of the project's own
    after = torch.load(tmp_path / "out.pth", weights_only=True)
    before, after = (found["state_dict"] if wrapped else found for found in (before, after))
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


# --- ONNX: free dimensions, Constant nodes -----------------------------------------------------------


@there
@pytest.mark.parametrize("name", ["batch_minus_one", "free_batch", "all_minus_one", "weights_in_constants"])
def test_onnx_sizes_and_constants(name: str, say: Say) -> None:
    code, document, err = say("onnx-batch-minus-one", f"{name}.onnx")
    assert code == 0, err
    assert (document["filters"], document["onnx"]["batch"]) == (36, None)


@there
@pytest.mark.parametrize("name", ["weights_in_constants", "batch_minus_one"])
def test_masked_is_written_in_the_shared_files(name: str, tmp_path: Path) -> None:
    judged(CASES / "onnx-batch-minus-one" / f"{name}.onnx", (3, 32, 32), 36, tmp_path)


def judged(path: Path, size: tuple[int, ...], filters: int, folder: Path) -> Network:
    """Reads a file, and compares masked with written by onnxruntime at every site."""
    checkpoint = parse(path, ONNX, None, path.name)
    images = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert network.n_filters == filters, network.not_players
    check_written(checkpoint, network, path, images, folder)
    return network


def _weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def _end(last: str, axes: str = "space", channels: str = "head") -> list[onnx.NodeProto]:
    """The mean over `axes`, and a linear layer."""
    return [
        _node("ReduceMean", f"{last} {axes}", "mean", keepdims=0),
        _node("MatMul", f"mean {channels}", "made"),
        _node("Add", "made headbias", "y"),
    ]


SPACE = {"space": np.array([2, 3]), "rows": np.array([1, 2])}


@pytest.mark.parametrize("sizes", [(0, 2, 8, 8), (-1, 2, -1, -1), (-1, -1, 0, 0), (-1, 2, 8, "w")])
def test_sizes_below_one_are_free(sizes: tuple[int | str, ...], tmp_path: Path) -> None:
    """0 and -1 at any place; onnxruntime runs them with another number of images than one."""
    channels = sizes[1] if sizes[1] == 2 else 3  # where it is free, images have three
    weights = _weights(w=(5, channels, 3, 3), b=(5,), head=(5, 3), headbias=(3,))
    nodes = [_node("Conv", "x w b", "a"), _node("Relu", "a", "r"), *_end("r")]
    path = graph(tmp_path / "m.onnx", nodes, {**weights, "space": SPACE["space"]}, sizes, out=(sizes[0], 3))
    plan = parse(path, ONNX, None, path.name).architecture.plan
    assert plan is not None
    assert plan.batch is None
    assert plan.size == tuple(s if isinstance(s, int) and s > 0 else None for s in sizes[1:])
    judged(path, (channels, 8, 8), 5, tmp_path)


@pytest.mark.parametrize("stored", ["raw", "float_data", "mixed"])
def test_weights_in_constant_nodes_are_edited_there(stored: str, tmp_path: Path) -> None:
    weights = _weights(w=(5, 2, 3, 3), b=(5,), v=(4, 5, 1, 1), c=(4,), head=(4, 3), headbias=(3,))
    inside = ("w", "c", "head") if stored == "mixed" else tuple(weights)
    constants = [helper.make_node("Constant", [], [k], value=_tensor(weights[k], stored)) for k in inside]
    nodes = [
        *constants,
        _node("Conv", "x w b", "a"), _node("Relu", "a", "r"), _node("Conv", "r v c", "d"), _node("Relu", "d", "e"),
        *_end("e"),
    ]  # fmt: skip
    outside = {key: value for key, value in weights.items() if key not in inside}
    path = graph(tmp_path / "m.onnx", nodes, {**outside, "space": SPACE["space"]})
    checkpoint = parse(path, ONNX, None, path.name)
    weights["head"] = weights["head"].T  # in the module: a linear layer's, that the file stores input first
    assert all(torch.equal(checkpoint.tensors[key], torch.from_numpy(value)) for key, value in weights.items())
    formats.write(checkpoint, tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == path.read_bytes()
    judged(path, (2, 8, 8), 9, tmp_path)


def _tensor(array: np.ndarray, stored: str) -> onnx.TensorProto:
    if stored == "float_data":
        return helper.make_tensor("", onnx.TensorProto.FLOAT, array.shape, array.ravel().tolist())
    return numpy_helper.from_array(array)


# --- ONNX: biases behind a change of layout -----------------------------------------------------------


@there
def test_the_bias_of_keras_lies_behind_transpose_and_cast(say: Say, tmp_path: Path) -> None:
    code, document, err = say("keras-nhwc-bias")
    assert code == 0, err
    assert [(site["filters"], site["norm"]) for site in document["sites"]] == [(8, "none"), (16, "none")]
    assert document["filters"] == 24
    judged(CASES / "keras-nhwc-bias" / "cnn.onnx", tuple(document["input"]), 24, tmp_path)


LAST = {"perm": [0, 2, 3, 1]}
# name -> nodes from "a" (the convolution's output) to "r", shape of the bias, axes of the mean, the site's activation
BEHIND = {
    "Add [1, C, 1, 1]": ("Add a b s|Relu s r", (1, 5, 1, 1), "space", "relu"),
    "Add [C, 1, 1], bias first": ("Add b a s|Tanh s r", (5, 1, 1), "space", "tanh"),
    "Cast, Add [1, C, 1, 1]": ("Cast a k|Add k b s|Sigmoid s r", (1, 5, 1, 1), "space", "sigmoid"),
    "Transpose, Add [C]": ("Transpose a t|Add t b s|Relu s r", (5,), "rows", "relu"),
    "Transpose, Cast, Add [1, 1, 1, C]": ("Transpose a t|Cast t k|Add k b s|Relu s r", (1, 1, 1, 5), "rows", "relu"),
    "Transpose, Add, x·sigmoid(x)": ("Transpose a t|Add t b s|Sigmoid s g|Mul s g r", (1, 1, 5), "rows", "silu"),
    "Add, Transpose, Clip": ("Add a b s|Transpose s t|Clip t low high r", (5, 1, 1), "rows", "clamp(0, 6)"),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_bias_behind_its_convolution(name: str, tmp_path: Path) -> None:
    text, shape, axes, activation = BEHIND[name]
    nodes = [_node("Conv", "x w", "a", pads=[1, 1, 1, 1])]
    for part in text.split("|"):
        op, *inputs, output = part.split()
        more: dict[str, Any] = {"Transpose": LAST, "Cast": {"to": 1}}.get(op, {})
        nodes.append(_node(op, " ".join(inputs), output, **more))
    weights = {**_weights(w=(5, 2, 3, 3), b=shape, head=(5, 3), headbias=(3,)), axes: SPACE[axes]}
    weights |= {"low": np.float32(0), "high": np.float32(6)} if "Clip" in text else {}
    path = graph(tmp_path / "m.onnx", [*nodes, *_end("r", axes)], weights)
    network = judged(path, (2, 8, 8), 5, tmp_path)
    assert describe(network.sites[0].activation) == activation
    assert network.sites[0].bias == "b"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("Add a b r", (8,)),  # along the width, which happens to be of the channels' number
        ("Add a b r", (1, 8, 8, 8)),  # a number for each place
        ("Transpose a t|Add t b r", (8, 1, 1)),  # along the height
        ("Add a b s|Mul s b r", (1, 8, 1, 1)),  # read twice
        ("Add a b s|Add s a r", (1, 8, 1, 1)),  # a branch that goes around it
    ],
)
def test_what_is_no_bias_is_not_taken_for_one(text: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [_node("Conv", "x w", "a", pads=[1, 1, 1, 1])]
    for part in text.split("|"):
        op, *inputs, output = part.split()
        nodes.append(_node(op, " ".join(inputs), output, **(LAST if op == "Transpose" else {})))
    axes = "rows" if "Transpose" in text else "space"
    # a second convolution, so that there is a site at all
    first = [_node("Conv", "x v c", "x2", pads=[1, 1, 1, 1])]
    nodes[0] = _node("Conv", "x2 w", "a", pads=[1, 1, 1, 1])
    weights = _weights(v=(2, 2, 3, 3), c=(2,), w=(8, 2, 3, 3), b=shape, head=(8, 3), headbias=(3,))
    path = graph(tmp_path / "m.onnx", [*first, *nodes, *_end("r", axes)], {**weights, axes: SPACE[axes]})
    network = judged(path, (2, 8, 8), 2, tmp_path)
    assert [one.name for one in network.not_players] == ["w"]
    assert run(path, torch.zeros(2, 2, 8, 8)).shape == (2, 3)

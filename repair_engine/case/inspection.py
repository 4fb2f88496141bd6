"""What a checkpoint holds: its sites and units, and which layers have no players."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NotRequired, TypedDict

import torch

from repair_engine.data import Dataset, read_dataset
from repair_engine.errors import BadInput
from repair_engine.models.classes import ClassNames
from repair_engine.models.formats import Checkpoint
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.models.weights_metadata import weights_metadata
from repair_engine.network import Network
from repair_engine.network.activations import describe
from repair_engine.network.sites import NotAPlayerRecord
from repair_engine.support.progress import Progress

_SIZES = (32, 28, 64, 96, 128, 224, 256, 299)  # tried in turn where nothing tells the input size


class UnitsRecord(TypedDict):
    """Units of one kind, and their share of the network's parameters."""

    units: int
    parameter_share: float


class LayoutRecord(TypedDict):
    """Where in the file the network's tensors lay, and what beside them is kept or is not written back."""

    wrapper: list[str]
    prefix: str
    beside: list[str]
    dropped: list[str]


class OnnxRecord(TypedDict):
    opset: int
    producer: str
    nodes: int
    logits: str
    batch: int | None
    import_checked: str


class SiteRecord(TypedDict):
    name: str
    kind: str
    filters: int
    norm: str
    activation: str


class ImagesRecord(TypedDict):
    """A set checked against the model; of each column the first values and how many there are."""

    images: int
    classes: dict[str, int]
    columns: dict[str, list[str]]
    column_sizes: dict[str, int]
    warnings: list[str]
    notes: list[str]


class InspectRecord(TypedDict):
    """What `inspect --json` gives."""

    schema: int
    verb: str
    sha256: str
    architecture: str
    num_classes: int
    logits: int
    format: str
    layout: LayoutRecord
    dtypes: list[str]
    input: list[int]
    preprocessing: dict[str, Any]
    onnx: OnnxRecord | None
    filters: int
    parameter_share: float
    kinds: dict[str, UnitsRecord]
    sites: list[SiteRecord]
    not_players: list[NotAPlayerRecord]
    warnings: list[str]
    data: NotRequired[ImagesRecord]


def inspect_network(
    checkpoint: Checkpoint,
    given: Preprocessing | None = None,
    size: tuple[int, ...] | None = None,
    device: str = "cpu",
    units: str = "all",
) -> InspectRecord:
    """JSON-able description of a checkpoint's units.

    Args:
        given: tells the input size (crop, or a fixed resize) unless `size` (height, width) does; else torchvision's
            metadata, else sizes are tried.
        units: which kinds are players: "filters", "hidden", "heads" or "all".

    Raises:
        BadInput: the network takes none of the sizes, or cannot be captured.
        NoPlayers: no unit can be ablated and written back.
    """
    architecture = checkpoint.architecture
    preprocessing, _ = default_preprocessing(given, checkpoint)
    module = checkpoint.module().to(device)
    size = usable_size(module, size or fixed_size(preprocessing), checkpoint.in_channels, device)
    example = torch.zeros(2, checkpoint.in_channels, *size, device=device)
    network = Network.capture(module, example, checkpoint.dtypes, units)
    return {
        "schema": 1,
        "verb": "inspect",
        "sha256": checkpoint.sha256,
        "architecture": architecture.name,
        "num_classes": architecture.num_classes,
        "logits": network.classes,
        "format": checkpoint.source.format,
        "layout": describe_layout(checkpoint),
        "dtypes": sorted({str(t.dtype).removeprefix("torch.") for t in checkpoint.tensors.values()}),
        "input": [checkpoint.in_channels, *size],
        "preprocessing": preprocessing.to_json(),
        "onnx": describe_onnx(checkpoint),
        "filters": network.n_filters,
        "parameter_share": round(network.coverage.share, 4),
        "kinds": kinds_of(network),
        "sites": [
            {
                "name": site.name,
                "kind": site.kind,
                "filters": site.channels,
                "norm": site.norm,
                "activation": describe(site.activation),
            }
            for site in network.sites
        ],
        "not_players": [p.to_json() for p in network.not_players],
        "warnings": []
        if network.coverage.share >= 0.5
        else [f"The units cover {network.coverage.share:.0%} of the network's parameters."],
    }


def kinds_of(network: Network) -> dict[str, UnitsRecord]:
    """Kind of unit -> how many there are, and their share of the network's parameters."""
    total = network.coverage.total
    return {
        kind: {
            "units": sum(site.channels for site in network.sites if site.kind == kind),
            "parameter_share": round(parameters / total, 4) if total else 0.0,
        }
        for kind, parameters in network.coverage.kinds.items()
    }


def describe_layout(checkpoint: Checkpoint) -> LayoutRecord:
    """Where in the file the network's tensors lay, and what beside them is kept or is not written back."""
    source, used = checkpoint.source, set(checkpoint.source.names.values())
    return {
        "wrapper": [level.key for level in source.wrapper],
        "prefix": source.prefix,
        "beside": [key for key in source.order if key not in used],
        "dropped": list(source.dropped),
    }


def describe_onnx(checkpoint: Checkpoint) -> OnnxRecord | None:
    """What an ONNX file is, and how its import was checked; None for other formats."""
    plan = checkpoint.architecture.plan
    if plan is None:
        return None
    ends = {"": "its output is the logits"}
    return {
        "opset": plan.opset,
        "producer": plan.producer,
        "nodes": len(plan.nodes),
        "logits": ends.get(plan.ends, f"it ends in {plan.ends}; the logits are what goes in there"),
        "batch": plan.batch,
        "import_checked": checkpoint.source.checked,
    }


def default_preprocessing(given: Preprocessing | None, checkpoint: Checkpoint) -> tuple[Preprocessing, str]:
    """The preprocessing that is used, for the checkpoint's input channels, and where it comes from.

    What was given, else what an ONNX graph says of its size, else that of torchvision's weights, else none.
    """
    channels, architecture = checkpoint.in_channels, checkpoint.architecture
    if given is not None:
        return given.for_channels(channels), "given"
    plan = architecture.plan
    if plan is not None and plan.size[1] and plan.size[2]:
        size = (plan.size[1], plan.size[2])
        how = f"pixels in [0, 1], resized to the {size[0]} × {size[1]} that the ONNX graph takes (none was given)"
        return Preprocessing(channels=channels, resize=size), how
    metadata = None if architecture.registered else weights_metadata(architecture.name)
    if metadata is None or channels != 3:
        return Preprocessing(channels=channels), "pixels in [0, 1], no resizing (none was given)"
    return metadata.preprocessing, f"torchvision's {architecture.name} {metadata.variant}"


def read_for(
    checkpoint: Checkpoint, path: str, names: ClassNames, given: Preprocessing | None, progress: Progress, **more: Any
) -> Dataset:
    """The images of a zip as a model takes them; a note says so where the preprocessing was not given.

    Args:
        more: see `read_dataset`.

    Raises:
        BadInput: see `read_dataset`.
    """
    preprocessing, origin = default_preprocessing(given, checkpoint)
    dataset = read_dataset(path, names, preprocessing, progress=reading(progress), **more)
    return dataset if origin == "given" else replace(dataset, notes=(*dataset.notes, f"Preprocessing: {origin}."))


def reading(progress: Progress) -> Callable[[int, int], None]:
    """How `read_dataset` tells what it has read."""
    return lambda done, total: progress("reading the images", done / max(total, 1))


def fixed_size(preprocessing: Preprocessing) -> int | tuple[int, ...] | None:
    """What a preprocessing makes of every image, where that does not depend on the image."""
    return preprocessing.crop or (preprocessing.resize if isinstance(preprocessing.resize, tuple) else None)


def usable_size(
    module: torch.nn.Module, fixed: int | tuple[int, ...] | None, channels: int, device: str
) -> tuple[int, int]:
    """Height and width of images that a module in eval mode takes: what is fixed, else found by trying."""
    if fixed:  # capturing says so where it does not suit
        return (fixed, fixed) if isinstance(fixed, int) else (fixed[0], fixed[1])
    for size in _SIZES:
        height, width = (size, size) if isinstance(size, int) else size
        try:
            with torch.inference_mode():
                module(torch.zeros(2, channels, height, width, device=device))
        except (RuntimeError, ValueError):  # Unsupported is one: an ONNX graph takes no other size
            continue
        return height, width
    raise BadInput(
        f"The network takes images of none of these sizes: {', '.join(str(s) for s in _SIZES)}.",
        "Give the input size with --crop.",
    )

"""Weight standardization in a graph: a normalization that sees no image, but a weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

STANDARDIZED = "Its convolutions have standardized weights (as timm's nf_* and BiT's ResNetV2 have)."
INSTEAD_OF_STANDARDIZED = "Give the checkpoint instead, with --architecture timm:NAME: it is read exactly."


def of_images(nodes: Iterable[Any], image: str) -> set[str]:
    """The values that depend on the images. Nodes have `inputs` and `outputs`, or protobuf's `input` and `output`."""
    found = {image}
    for node in nodes:
        inputs, outputs = (node.inputs, node.outputs) if hasattr(node, "inputs") else (node.input, node.output)
        if found.intersection(inputs):
            found.update(outputs)
    return found


def standardizes(nodes: Iterable[Any], image: str) -> bool:
    """Whether a batch norm works on a weight."""
    nodes = list(nodes)
    seen = of_images(nodes, image)
    return any(_op(node) == "BatchNormalization" and not seen.intersection(_outputs(node)) for node in nodes)


def _op(node: Any) -> str:
    return str(node.op if hasattr(node, "op") else node.op_type)


def _outputs(node: Any) -> Iterable[str]:
    found: Iterable[str] = node.outputs if hasattr(node, "outputs") else node.output
    return found

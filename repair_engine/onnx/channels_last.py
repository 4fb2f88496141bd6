"""Biases and activations behind a change of layout, as Keras and tf2onnx write them, drawn to their convolution.

Conv → Transpose → Cast → Add(bias) → Relu computes the same as Conv(bias) → Relu → Transpose → Cast: the bias has one
number per channel, and the activation works on each number alone. In the second form the site is seen where it lies.
The file's own graph stays as it is; the bias is the same bytes under either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from repair_engine.onnx.plan import Constant, Node, Weight

_FLOAT32 = 1
_CHANGES = {"Transpose", "Cast", "Identity"}
_ACTIVATIONS = {
    "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu", "Sigmoid", "Silu",
    "Softplus", "Softsign", "Tanh",
}  # fmt: skip


def draw_biases(
    nodes: Sequence[Node], weights: Mapping[str, Weight], logits: str
) -> tuple[list[Node], dict[str, Weight]]:
    """Each Add of a bias behind a convolution without one becomes the convolution's own."""
    made, known = list(nodes), dict(weights)
    for conv in _before(nodes, {*_CHANGES, "Add"}):
        if any(conv.inputs[2:]) or len(_shape(known, conv.inputs[1])) != 4:
            continue
        _, axis, end = _layout_changes(made, conv, logits)
        add = _only_user(made, end, logits)
        if add is None or add.op != "Add" or len(set(add.inputs)) != 2:
            continue
        bias = next(v for v in add.inputs if v != end)
        channels = _shape(known, conv.inputs[1])[0]
        if not _is_bias(_shape(known, bias), channels, axis) or _uses(made)[bias] > 1:
            continue
        known[bias] = replace(known[bias], shape=(channels,))
        own = next(node for node in made if node.outputs == conv.outputs)
        made[made.index(own)] = replace(own, inputs=(*own.inputs[:2], bias))
        made.remove(add)
        made = _renamed(made, end, add.outputs[0])
    return made, known


def draw_activations(nodes: Sequence[Node], constants: Mapping[str, Constant], logits: str) -> list[Node]:
    """Each activation behind a change of layout behind a convolution goes before the change."""
    made = list(nodes)
    for conv in _before(nodes, _CHANGES):
        chain, _, end = _layout_changes(made, conv, logits)
        act = _only_user(made, end, logits)
        if not chain or act is None or act.op not in _ACTIVATIONS:
            continue
        if any(v not in constants for v in act.inputs[1:] if v):
            continue
        made.remove(act)
        made = _renamed(made, end, act.outputs[0])
        first = next(i for i, node in enumerate(made) if conv.outputs[0] in node.inputs)
        inside = f"{act.outputs[0]}:before"
        made[first] = replace(made[first], inputs=(inside, *made[first].inputs[1:]))
        made.insert(made.index(conv) + 1, replace(act, inputs=(conv.outputs[0], *act.inputs[1:]), outputs=(inside,)))
    return made


def _before(nodes: Sequence[Node], wanted: Set[str]) -> list[Node]:
    """The convolutions that an operator of these kinds reads: all others need no further look."""
    read = {value for node in nodes if node.op in wanted for value in node.inputs}
    return [node for node in nodes if node.op == "Conv" and node.outputs[0] in read]


def _layout_changes(nodes: Sequence[Node], conv: Node, logits: str) -> tuple[list[Node], int, str]:
    """The transposes and casts behind a convolution that nothing else reads; its channels' axis and value there."""
    chain: list[Node] = []
    axis, value = 1, conv.outputs[0]
    while (user := _only_user(nodes, value, logits)) is not None:
        perm = user.attributes.get("perm")
        if user.op == "Transpose" and isinstance(perm, list) and len(perm) == 4 and perm[0] == 0:
            axis = perm.index(axis)
        elif not (user.op == "Identity" or (user.op == "Cast" and user.attributes.get("to") == _FLOAT32)):
            break
        chain.append(user)
        value = user.outputs[0]
    return chain, axis, value


def _only_user(nodes: Sequence[Node], value: str, logits: str) -> Node | None:
    users = [node for node in nodes for v in node.inputs if v == value]
    return users[0] if len(users) == 1 and value != logits else None


def _is_bias(shape: tuple[int, ...], channels: int, axis: int) -> bool:
    """Whether a tensor of this shape adds one number per channel, the channels lying along `axis` of four."""
    padded = (1,) * (4 - len(shape)) + shape
    return bool(shape) and len(padded) == 4 and all(d == (channels if i == axis else 1) for i, d in enumerate(padded))


def _shape(weights: Mapping[str, Weight], name: str) -> tuple[int, ...]:
    return weights[name].shape if name in weights else ()


def _uses(nodes: Sequence[Node]) -> Counter[str]:
    return Counter(value for node in nodes for value in node.inputs)


def _renamed(nodes: Sequence[Node], old: str, new: str) -> list[Node]:
    """The node that gives a value gives it under another name."""
    return [
        replace(node, outputs=tuple(new if v == old else v for v in node.outputs)) if old in node.outputs else node
        for node in nodes
    ]

"""Linear layers as exporters write them, as one operator with weights [out, in], so that their units are seen.

MatMul and Gemm take weights [in, out] (torch's, turned when they were exported), or a Transpose node turns them. The
module holds such a weight turned; the file's own graph and layout stay as they are (`Weight.turned`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from repair_engine.onnx.plan import Node, Weight

_TURN = [1, 0]


def draw_linears(
    nodes: Sequence[Node], weights: Mapping[str, Weight], logits: str
) -> tuple[list[Node], dict[str, Weight]]:
    """Each product with a weight becomes a Gemm or a `Linear` whose weight is [out, in]; its Add goes in as bias."""
    nodes, known = _turned_by_node(nodes, weights), dict(weights)
    made: dict[str, Node] = {}
    for name, users in _users(nodes).items():
        if len(_shape(known, name)) == 2 and all(_reads_input_first(node, name) for node in users):
            known[name] = replace(known[name], shape=known[name].shape[::-1], turned=True)
            made |= {node.outputs[0]: _output_first(node, name) for node in users}
    return _with_biases([made.get(node.outputs[0], node) for node in nodes], known, logits), known


def _turned_by_node(nodes: Sequence[Node], weights: Mapping[str, Weight]) -> list[Node]:
    """MatMul of what a Transpose of a weight gives, and nothing else reads: the weight is [out, in] already."""
    users = _users(nodes)
    gone: set[str] = set()
    made: dict[str, Node] = {}
    for turn in nodes:
        if turn.op != "Transpose" or len(_shape(weights, turn.inputs[0])) != 2:
            continue
        readers = users[turn.outputs[0]]
        if turn.attributes.get("perm", _TURN) == _TURN and all(_reads_input_first(n, turn.outputs[0]) for n in readers):
            made |= {node.outputs[0]: _output_first(node, turn.outputs[0], turn.inputs[0]) for node in readers}
            gone.add(turn.outputs[0])
    return [made.get(node.outputs[0], node) for node in nodes if node.outputs[0] not in gone]


def _reads_input_first(node: Node, name: str) -> bool:
    if node.inputs.count(name) != 1 or len(node.inputs) < 2 or node.inputs[1] != name:
        return False
    return node.op == "MatMul" or (node.op == "Gemm" and not node.attributes.get("transB", 0))


def _output_first(node: Node, name: str, instead: str = "") -> Node:
    inputs = (node.inputs[0], instead or name, *node.inputs[2:])
    if node.op == "MatMul":
        return replace(node, op="Linear", inputs=inputs)
    return replace(node, inputs=inputs, attributes={**node.attributes, "transB": 1})


def _with_biases(nodes: Sequence[Node], weights: dict[str, Weight], logits: str) -> list[Node]:
    users, gone = _users(nodes), set()
    made: dict[str, Node] = {}
    for linear in nodes:
        if linear.op != "Linear" or linear.outputs[0] == logits:
            continue
        add = next(iter(users[linear.outputs[0]]), None)
        if add is None or add.op != "Add" or len(users[linear.outputs[0]]) > 1 or len(set(add.inputs)) != 2:
            continue
        bias = next(value for value in add.inputs if value != linear.outputs[0])
        out = _shape(weights, linear.inputs[1])[0]
        if _shape(weights, bias) != (out,) and (_shape(weights, bias) != (1, out) or len(users[bias]) > 1):
            continue
        weights[bias] = replace(weights[bias], shape=(out,))
        made[linear.outputs[0]] = replace(linear, inputs=(*linear.inputs, bias), outputs=add.outputs)
        gone.add(add.outputs[0])
    kept = [node for node in nodes if node.outputs[0] not in gone]
    return [made.get(node.outputs[0], node) for node in kept]


def _users(nodes: Sequence[Node]) -> Mapping[str, list[Node]]:
    users: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        for value in dict.fromkeys(node.inputs):
            users[value].append(node)
    return users


def _shape(weights: Mapping[str, Weight], name: str) -> tuple[int, ...]:
    return weights[name].shape if name in weights else ()

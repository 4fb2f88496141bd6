"""Activations that exporters write as several operators, put together again, so that a site lies behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from repair_engine.onnx.plan import Constant, Node

_CLOSE = 1e-4


def fuse(nodes: Sequence[Node], constants: Mapping[str, Constant]) -> tuple[Node, ...]:
    """x·sigmoid(x), x·hardsigmoid(x), x·tanh(softplus(x)), x·½(1 + erf(x/√2)), safe softmax: one node each."""
    finder = _Finder(nodes, constants)
    replaced: dict[int, Node] = {}
    gone: set[int] = set()
    for node in nodes:
        kind = {"Mul": finder.gated, "Erf": finder.gelu, "IsNaN": finder.number}.get(node.op)
        found = kind(node) if kind is not None else None
        if found is not None:
            last, fused, inner = found
            replaced[finder.index[last.outputs[0]]] = fused
            gone |= {finder.index[n.outputs[0]] for n in inner}
    return tuple(replaced.get(i, node) for i, node in enumerate(nodes) if i not in gone or i in replaced)


_Found = tuple[Node, Node, list[Node]]  # the node that is replaced, by what, and which others go


class _Finder:
    def __init__(self, nodes: Sequence[Node], constants: Mapping[str, Constant]) -> None:
        self.constants = constants
        self.index = {value: i for i, node in enumerate(nodes) for value in node.outputs}
        self.maker = {value: node for node in nodes for value in node.outputs}
        self.users: dict[str, list[Node]] = {}
        for node in nodes:
            for value in node.inputs:
                self.users.setdefault(value, []).append(node)

    def gated(self, product: Node) -> _Found | None:
        for x, gate in (product.inputs, product.inputs[::-1]):
            made = self._only(gate)
            if made is None:
                continue
            if made.op == "Sigmoid" and made.inputs[0] == x:
                return self._one("Silu", x, product, [made])
            if made.op == "HardSigmoid" and made.inputs[0] == x and _hardswish(made):
                return self._one("HardSwish", x, product, [made])
            inner = self._only(made.inputs[0]) if made.op == "Tanh" else None
            if inner is not None and inner.op == "Softplus" and inner.inputs[0] == x:
                return self._one("Mish", x, product, [made, inner])
        return None

    def gelu(self, erf: Node) -> _Found | None:
        scaled = self._only(erf.inputs[0])
        if scaled is None or scaled.op not in ("Mul", "Div"):
            return None
        x, factor = self._scalar_of(scaled)
        if not math.isclose(factor, math.sqrt(2) if scaled.op == "Div" else math.sqrt(0.5), rel_tol=_CLOSE):
            return None
        plus = self._user(erf.outputs[0], "Add")
        if plus is None or not math.isclose(self._scalar_of(plus)[1], 1.0, rel_tol=_CLOSE):
            return None
        product = self._user(plus.outputs[0], "Mul")
        if product is None:
            return None
        other = next((v for v in product.inputs if v != plus.outputs[0]), "")
        half = self._only(other)
        if half is not None and half.op == "Mul" and self._is_half(half, x):
            return self._one("Gelu", x, product, [scaled, erf, plus, half])
        if self._is_half(product, plus.outputs[0]):
            last = self._user(product.outputs[0], "Mul")
            if last is not None and x in last.inputs:
                return self._one("Gelu", x, last, [scaled, erf, plus, product])
        if other == x:
            last = self._user(product.outputs[0], "Mul")
            if last is not None and self._is_half(last, product.outputs[0]):
                return self._one("Gelu", x, last, [scaled, erf, plus, product])
        return None

    def number(self, test: Node) -> _Found | None:
        """Attention's safe softmax. A softmax of which some are no numbers is refused: it does not compute the same."""
        x, where = test.inputs[0], self._user(test.outputs[0], "Where")
        if where is None or where.inputs[2] != x or self.maker.get(x, test).op != "Softmax":
            return None
        return self._one("Identity", x, where, [test])

    def _is_half(self, node: Node, of: str) -> bool:
        value, factor = self._scalar_of(node)
        return value == of and math.isclose(factor, 0.5, rel_tol=_CLOSE)

    def _one(self, op: str, x: str, last: Node, inner: list[Node]) -> _Found:
        return last, Node(op, (x,), last.outputs, {}, last.name), inner

    def _only(self, value: str) -> Node | None:
        """The node that makes a value, if one node uses it."""
        return self.maker.get(value) if len(self.users.get(value, [])) == 1 else None

    def _user(self, value: str, op: str) -> Node | None:
        users = self.users.get(value, [])
        return users[0] if len(users) == 1 and users[0].op == op else None

    def _scalar_of(self, node: Node) -> tuple[str, float]:
        """The other input of a two-input node and the scalar constant; NaN where there is none."""
        for x, c in (node.inputs, node.inputs[::-1]):
            constant = self.constants.get(c)
            if constant is not None and math.prod(constant.shape) == 1:
                return x, float(constant.array().reshape(-1)[0])
        return "", math.nan


def _hardswish(node: Node) -> bool:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return math.isclose(alpha, 1 / 6, rel_tol=_CLOSE) and math.isclose(beta, 0.5, rel_tol=_CLOSE)  # type: ignore[arg-type]

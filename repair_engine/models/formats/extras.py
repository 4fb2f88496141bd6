"""What training programs keep beside the tensors (arguments, NumPy scalars, paths): read as inert stand-ins.

`torch.load(weights_only=True)` refuses a file for one `argparse.Namespace`. Here each such global is replaced by a
class that does nothing, under the same name: nothing of the file's program is imported or called, and the entry is
dropped like every other that is neither a tensor nor a plain scalar.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

_NAMES = {
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.frozenset",
    "builtins.object",
    "builtins.range",
    "builtins.slice",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
    "decimal.Decimal",
    "easydict.EasyDict",
    "fractions.Fraction",
    "types.SimpleNamespace",
    "uuid.UUID",
}
_MODULES = (
    "addict",
    "datetime",
    "lightning",
    "lightning_fabric",
    "ml_collections",
    "mmcv",
    "mmengine",
    "numpy",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "torch.optim",
    "torchmetrics",
    "yacs",
)
_MAPPINGS = ("AttributeDict", "CfgNode", "ConfigDict", "EasyDict", "addict.Dict")  # by the ends of their names


class Inert:
    """Stands for an object of any of these kinds: takes what a pickle would build it from, and forgets it."""

    def __init__(self, *given: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class InertMapping:
    """Stands for a dict of a class of its own: the loader fills only plain ones."""

    def __new__(cls, *given: Any) -> Any:
        return OrderedDict()


def is_extra(asked: str) -> bool:
    """Whether a pickle's global is only data beside the tensors."""
    return asked in _NAMES or asked.startswith(tuple(f"{module}." for module in _MODULES))


def stand_ins(asked: Iterable[str]) -> AbstractContextManager[Any]:
    """A context in which `torch.load(weights_only=True)` takes these globals, as stand-ins."""
    names = dict.fromkeys([*asked, *(a.replace("copyreg.", "copy_reg.") for a in asked)])
    return torch.serialization.safe_globals(
        [(InertMapping if name.endswith(_MAPPINGS) else Inert, name) for name in names if is_extra(name)]
    )

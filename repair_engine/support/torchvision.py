"""Importing torchvision without torch's compiler: a second less in every process that builds or resizes.

One module of torchvision asks torch._dynamo for a function at import, to be called where a detection operator is
compiled. That imports the compiler and sympy, which take far longer than all else of it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from repair_engine.support.process import importing

_COMPILER, _ASKED = "torch._dynamo", "torch._dynamo.utils"


def import_torchvision() -> None:
    """Imports torchvision; the compiler is imported where it is first used, as torch itself does it."""
    if "torchvision" in sys.modules or _COMPILER in sys.modules:
        return
    import torch

    package, utils = _Later(_COMPILER), _Later(_ASKED)
    package.__path__ = [f"{folder}/_dynamo" for folder in torch.__path__]
    vars(utils)["is_compile_supported"] = _is_compile_supported
    sys.modules |= {_COMPILER: package, _ASKED: utils}
    try:
        with importing():
            import torchvision  # noqa: F401
    finally:
        _real(_COMPILER, load=False)


class _Later(ModuleType):
    """Stands for a module of the compiler; asked for anything else, it gives way to the module itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system looks for
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _real(name: str, load: bool = True) -> ModuleType | None:
    for stands in (_COMPILER, _ASKED):
        if isinstance(sys.modules.get(stands), _Later):
            del sys.modules[stands]
    return importlib.import_module(name) if load else None


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(_ASKED).is_compile_supported(device_type))

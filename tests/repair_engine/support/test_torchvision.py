"""torchvision comes without torch's compiler, which still works; in processes of their own, for each imports once."""

from __future__ import annotations

import subprocess
import sys

QUICK = "from repair_engine.support.torchvision import import_torchvision as quick; quick(); "


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_neither_the_compiler_nor_sympy_is_imported() -> None:
    assert said(QUICK + "import sys; print('torchvision' in sys.modules, 'sympy' in sys.modules)") == "True False"


def test_models_compile_and_the_operator_asks_the_compiler_itself() -> None:
    code = (
        "import torch, torchvision; net = torchvision.models.squeezenet1_1(num_classes=2).eval(); "
        "print(*torch.compile(net, backend='eager')(torch.zeros(1, 3, 64, 64)).shape); "
        "from torchvision.ops import roi_align as it; print(it.__globals__['is_compile_supported']('cpu')); "
        "import torch._dynamo; print(torch._dynamo.utils.is_compile_supported('cpu'), torch._dynamo.__file__[-19:])"
    )
    assert said(QUICK + code) == "1 2\nTrue\nTrue _dynamo/__init__.py"


def test_a_version_that_asks_for_more_gets_the_compiler() -> None:
    """A package in torchvision's place that takes other things from it, a submodule among them."""
    code = (
        "import sys, pathlib, tempfile; folder = pathlib.Path(tempfile.mkdtemp()) / 'torchvision'; folder.mkdir(); "
        "(folder / '__init__.py').write_text('from torch._dynamo.utils import is_compile_supported, counters; "
        "from torch._dynamo import allow_in_graph; from torch._dynamo.exc import Unsupported'); "
        "sys.path.insert(0, str(folder.parent)); " + QUICK + "import torchvision, torch._dynamo as real; "
        "print(torchvision.counters is real.utils.counters, torchvision.allow_in_graph is real.allow_in_graph, "
        "torchvision.Unsupported is real.exc.Unsupported, torchvision.is_compile_supported('cpu'))"
    )
    assert said(code) == "True True True True"

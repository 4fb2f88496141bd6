"""For all tests: a switch that saves them the starting of processes, and the long files first.

What the large libraries left on the heap is not looked through again at every collection, collections are fewer, and
what `torch.export` gave for a network is remembered.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

# The browser test's event loop stays in its process, and Django would refuse all tests of the web that come after it.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

# Begun first, so that at the end no process has one of them left while the others have nothing (`--dist loadfile`). The
# first has one test, so its process is given the fourth at once, too.
LONGEST = ("browser/test_whole_way.py", "webapp/test_openapi.py", "browser/test_by_keyboard.py",
           "webapp/test_real_engine.py", "webapp/test_killed_workers.py", "browser/test_every_page.py",
           "webapp/test_client.py", "webapp/test_uploads.py", "webapp/test_serving.py")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # it hands tests out, and runs none

    from repair_engine.support.process import importing

    with importing():
        import torchvision  # noqa: F401

        from repair_engine.verbs import verify  # noqa: F401
        from tests import remembered
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    remembered.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--torch-device", choices=("cpu", "cuda"), default="cpu", help="where tests with the marker device compute"
    )


@pytest.fixture(scope="session")
def torch_device(request: pytest.FixtureRequest) -> str:
    """What tests with the marker `device` compute on: "cpu", or a real GPU where `--torch-device cuda` asks for it."""
    import torch

    from repair_engine.support.process import prepare_process

    name = str(request.config.getoption("--torch-device"))
    if name == "cuda":
        if not torch.cuda.is_available():
            pytest.fail("--torch-device cuda: torch sees no GPU here")
        prepare_process()  # as every entry does: no TF32
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(LONGEST) if item.path.match(name)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process what otherwise runs in fresh ones (those have tests of their own)."""
    stay_here(monkeypatch)


@pytest.fixture(scope="module")
def quick_module() -> Iterator[None]:
    """`quick` for all tests of a module and what they share."""
    with pytest.MonkeyPatch.context() as patch:
        stay_here(patch)
        yield


def stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from repair_engine.support import sandbox
    from repair_engine.verbs import verify

    def call(task: str, payload: dict, limits: object, reads=None, writes=None, imports=(), pours=None) -> dict:
        module, _, function = sandbox.TASKS[task].partition(":")
        paths = {name: str(path) for name, path in (reads or {}).items()}
        with contextlib.ExitStack() as stack:
            opened = {name: stack.enter_context(path.open("wb")).fileno() for name, path in (writes or {}).items()}
            poured = {name: stack.enter_context(tempfile.TemporaryFile()) for name in pours or {}}
            opened |= {name: file.fileno() for name, file in poured.items()}
            answer = getattr(importlib.import_module(module), function)({**payload, **paths, **opened})
            for name, file in poured.items():
                file.seek(0)
                pours[name](file.read())
            return answer

    def run(command: list[str], input: str, **_: object) -> SimpleNamespace:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(input))
            verify.main()
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(sandbox, "call", call)
    monkeypatch.setattr(sandbox, "warm", lambda *_: None)
    monkeypatch.setattr(verify, "subprocess", SimpleNamespace(run=run))

"""Worlds that tests share, and a switch that saves them the starting of processes."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import tempfile
from types import SimpleNamespace

import pytest

from repair_engine.support import sandbox
from repair_engine.verbs import verify
from tests.repair_engine import tiny


@pytest.fixture(scope="session")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """A network trained on images with a dark ground only: it fails those with a light one."""
    return tiny.make_world(tmp_path_factory.mktemp("skewed"), skewed=True)


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """As `skewed`, and no cat is on a light ground: the subgroups have three and two classes."""
    shown = tiny.images(80, seed=3, absent="cat")
    return tiny.make_world(tmp_path_factory.mktemp("uneven"), shown, skewed=True)


@pytest.fixture(scope="session")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """A network that one filter, `spy:0`, makes wrong on half of the images with a light ground."""
    return tiny.make_sabotaged(tmp_path_factory.mktemp("sabotaged"), tiny.images(144, seed=1))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process what otherwise runs in fresh ones (those have tests of their own)."""

    def call(task: str, payload: dict, limits: sandbox.Limits, reads=None, writes=None, imports=(), pours=None) -> dict:
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
    monkeypatch.setattr(verify, "subprocess", SimpleNamespace(run=run))

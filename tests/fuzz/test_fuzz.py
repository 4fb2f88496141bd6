"""The fuzzer finds what it is there for: its payloads do run where they are unpickled, and its counts say so."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest

from repair_engine.models.formats.pickles import check_globals
from tests.fuzz import __main__ as fuzz
from tests.fuzz.mutations import payloads


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fuzz.Run:
    return fuzz.Run(1, tmp_path_factory.mktemp("fuzz"))


def test_every_payload_runs_where_it_is_loaded_and_none_gets_past_the_check(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    for data in payloads(proof):
        framed = data if data[:1] == b"\x80" or data[-1:] == b"." else b"\x80\x04" + data + b"."
        with pytest.raises(ValueError):
            check_globals(framed, "x.pth")
        process = os.fork()
        if process == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                pickle.loads(framed)
            finally:
                os._exit(0)
        os.waitpid(process, 0)
        assert proof.exists(), framed
        proof.unlink()


def test_inputs_repeat_by_their_seed_and_nothing_is_executed(run: fuzz.Run) -> None:
    assert run.input(7) == run.input(7) != run.input(8)
    found = run.batch(0, 60)
    assert sum(found.values()) == 60
    assert not [name for name in found if any(bad in name for bad in ("EXECUTED", "CRASH"))]
    assert not run.proof.exists()


def test_what_is_executed_is_counted(run: fuzz.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(kind: str, path: Path, data: bytes) -> None:
        os.system("true")

    monkeypatch.setattr(fuzz, "here", trusting)
    assert all("EXECUTED os.system" in name for name in run.batch(0, 3))

    def crashing(kind: str, path: Path, data: bytes) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(fuzz, "here", crashing)
    assert all("CRASH" in name for name in run.batch(0, 2))

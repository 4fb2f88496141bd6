"""Runs that are stopped, killed, or meet a full disk: nothing is left behind, and nothing in place is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from repair_engine.cli import verbs
from repair_engine.cli.main import main
from repair_engine.data.cache import NewPixels
from repair_engine.support.outputs import claimed, replace, results
from repair_engine.support.scratch import scratch, unbroken
from tests.repair_engine.tiny import World, call

# The command line, telling on file descriptor 3 which stage it is in.
TELLING = """
import os, sys
from repair_engine.support import bars as progress
class Bars(progress.Bars):
    def stage(self, name, share):
        os.write(3, (name + chr(10)).encode())
    def counting(self, name, total):
        os.write(3, (name + chr(10)).encode())
        return lambda count: None
progress.Bars = Bars
from repair_engine.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def ours(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor")]


def start(argv: list[str], stage: str) -> subprocess.Popen[bytes]:
    """The command line in a process and session of its own, once it has come to a stage."""
    read, write = os.pipe()

    def hand_over() -> None:
        os.dup2(write, 3)
        for ignored in (signal.SIGHUP, signal.SIGINT):  # as a test run under nohup and in the background hands it on
            signal.signal(ignored, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", TELLING, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(3, write),
        preexec_fn=hand_over,
        start_new_session=True,
    )
    os.close(write)
    with os.fdopen(read) as lines:
        for line in lines:
            if stage in line:
                return process
    raise AssertionError(f"it ended before {stage!r}: {process.communicate()}")


def processes_of(session: int) -> list[str]:
    """Those that are still there after a while: what was killed may take its time to go on a busy machine."""
    deadline, left = time.monotonic() + 30, [""]
    while left and time.monotonic() < deadline:
        found = subprocess.run(["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True)
        left = [line for line in found.stdout.splitlines() if "defunct" not in line]
    return left


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        (signal.SIGINT, "searching"),
        (signal.SIGTERM, "fresh process"),
        (signal.SIGHUP, "reading the model"),
    ],
)
def test_a_signal_leaves_nothing_behind(
    sabotaged: World, temporary: Path, tmp_path: Path, number: signal.Signals, stage: str
) -> None:
    out = tmp_path / "out"
    process = start(sabotaged.argv("repair", "--json", budget="3000", out=str(out)), stage)
    process.send_signal(number)
    try:
        said, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors.decode()
    assert json.loads(said)["exit_code"] == 128 + number
    assert number.name in json.loads(said)["error"]
    assert b"Traceback" not in errors
    assert ours(temporary) == []
    assert list(out.iterdir()) == []
    assert processes_of(process.pid) == []


def test_what_a_killed_run_left_goes_with_the_next(temporary: Path) -> None:
    hold = (
        "import sys; from repair_engine.support.scratch import scratch\n"
        "with scratch('x'): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = ours(temporary)
        with scratch("next"):
            assert left in ours(temporary), "its run is alive"
        process.kill()
        process.wait()
        assert ours(temporary) == [left]
        (temporary / "neuron-repair-of-others").mkdir()
        with scratch("next"):
            assert left not in ours(temporary)
    assert ours(temporary) == ["neuron-repair-of-others"]


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT, which a test run in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_what_must_not_be_cut(heeded: None) -> None:
    done = []

    def in_one_piece() -> None:
        with unbroken():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        in_one_piece()
    assert done == ["first", "second"]


def test_one_run_at_a_time_in_a_folder(skewed: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with claimed(out):
        for verb in ("repair", "score", "explain"):
            result = call(skewed.argv(verb, "--json", out=str(out), budget="2000"))
            assert result.code == 2, result.err
            assert "another run is writing" in result.document["error"]
    with claimed(out):
        pass


def test_verbs_whose_files_have_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "explain.json").write_text("{}")
    with claimed(tmp_path, "explain.json"), claimed(tmp_path / "sub", "repair.json"):
        pass
    with pytest.raises(ValueError, match="holds an explanation"), claimed(tmp_path, "repair.json"):
        pass
    with claimed(tmp_path):  # what score leaves has names of its own
        pass


def test_results_without_room_leave_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, made = tmp_path / "out", tmp_path / "made"
    for folder, text in ((out, "old"), (made, "new")):
        folder.mkdir()
        for name in ("a.json", "b.csv"):
            (folder / name).write_text(text)
    (made / "sub").mkdir()
    (made / "sub" / "c.json").write_text("new")

    def full(source: Path, target: Path) -> None:
        if target.name == ".b.csv.part":
            raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))
        target.write_bytes(Path(source).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(OSError, match="No space left") as caught:
            replace(made, out)
    assert caught.value.filename == str(out / ".b.csv.part"), "what is full is where it goes"
    assert {p.name: p.read_text() for p in out.iterdir()} == {"a.json": "old", "b.csv": "old"}
    replace(made, out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*")} == {"a.json", "b.csv", "sub", "sub/c.json"}
    assert {p.read_text() for p in out.rglob("*") if p.is_file()} == {"new"}

    def failing() -> None:
        with results(out) as folder:
            (folder / "a.json").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert (out / "a.json").read_text() == "new"


def test_a_full_disk_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch, skewed: World) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch/x")

    monkeypatch.setitem(verbs.VERBS, "inspect", full)
    result = call(skewed.argv("inspect", "--json"))
    assert result.code == 3
    assert "no space left" in result.document["error"]
    assert "/scratch/x" in result.document["error"]
    assert "TMPDIR" in result.document["mend"]
    assert "Traceback" not in result.err


def test_room_for_pixels_is_taken_before_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a full disk would end the process by SIGBUS, at a write into the mapped file."""
    with NewPixels(tmp_path, 0) as new:
        array = new.allocate((64, 3, 64, 64))
        (file,) = tmp_path.iterdir()
        assert file.stat().st_blocks * 512 >= array.nbytes
        array[...] = 7
        assert np.load(file).sum() == 7 * array.size
    there, taken = os.statvfs(tmp_path), []
    monkeypatch.setattr(os, "posix_fallocate", lambda *given: taken.append(given))
    with pytest.raises(OSError, match="No space left") as caught, NewPixels(tmp_path, 0) as new:
        new.allocate((2 * there.f_bavail * there.f_frsize // 3, 3))
    assert caught.value.errno == errno.ENOSPC
    assert not taken, "a disk that is filled to the brim would stop others"
    assert list(tmp_path.iterdir()) == []


def test_the_reader_of_the_output_has_gone(skewed: World) -> None:
    argv = [sys.executable, "-m", "repair_engine", *skewed.argv("inspect")]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, timeout=240)
    os.close(write)
    assert done.returncode == 128 + signal.SIGPIPE
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"Exception ignored" not in done.stderr


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["no-such-verb"]) == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

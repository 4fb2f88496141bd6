"""A parser that was taken over gets nowhere: with all layers, and with those that a container leaves."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from repair_engine.errors import BadInput, SandboxTooWeak
from repair_engine.support import sandbox
from repair_engine.support.sandbox import landlock, seccomp
from tests.repair_engine.hostile import ATTEMPTS

SECRET = "correct-horse-battery-staple"
# Docker's default profile forbids unshare; there may be no Landlock; and a user namespace may be all there is.
IN_A_CONTAINER = set(sandbox.LAYERS) - {"namespaces"}
COMBINATIONS = {
    "all": set(sandbox.LAYERS),
    "in a container": IN_A_CONTAINER,
    "without Landlock": set(sandbox.LAYERS) - {"landlock"},
    "seccomp alone": IN_A_CONTAINER - {"landlock"},
}
# What the user may read, a filter of calls alone does not keep from being read: docs/operations.md says so.
READS = {
    "its parent's environment",
    "any process's environment",
    "its parent's memory",
    "read the database",
    "read a blob",
    "list the data directory",
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A parent with secrets, a database, a blob, two servers and a process to kill."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgres://u:{SECRET}@h/d")
    monkeypatch.setitem(sandbox.TASKS, "hostile", "tests.repair_engine.hostile:run_task")
    for name in ("database", "blob", "input"):
        (tmp_path / name).write_bytes(b"mine" * 2000)
    descriptor = os.open(tmp_path / "database", os.O_RDWR)
    os.set_inheritable(descriptor, True)
    victim = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        env={"SECRET_KEY": SECRET},
    )
    redis, web = socket.socket(socket.AF_UNIX), socket.socket()
    redis.bind(str(tmp_path / "s"))
    web.bind(("127.0.0.1", 0))
    for server in (redis, web):
        server.listen()
    yield {
        "database": str(tmp_path / "database"),
        "blob": str(tmp_path / "blob"),
        "redis": str(tmp_path / "s"),
        "port": web.getsockname()[1],
        "parent": os.getpid(),
        "victim": victim.pid,
        "secret": SECRET[::-1],  # so that it is nowhere in what the child is given
        "inode": os.fstat(descriptor).st_ino,
    }
    assert victim.poll() is None, "the process was killed"
    victim.communicate()
    os.close(descriptor)
    redis.close()
    web.close()
    for name in ("database", "blob", "input"):
        assert (tmp_path / name).read_bytes() == b"mine" * 2000
    assert not Path("/tmp/left-behind").exists()


def attack(world: dict[str, Any], tmp_path: Path, layers: set[str]) -> dict[str, Any]:
    reads, writes = {"path": tmp_path / "input"}, {"out": tmp_path / "out"}
    limits = sandbox.Limits(wall_seconds=240)
    found = sandbox.call("hostile", world, limits, reads, writes, layers=layers)
    assert (tmp_path / "out").read_bytes() == b"mine" * 2000  # it does what it is there for
    assert set(found) == set(ATTEMPTS)
    return {name: got for name, got in found.items() if got is not None}


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_parser_that_was_taken_over_gets_nowhere(combination: str, world: dict[str, Any], tmp_path: Path) -> None:
    layers = COMBINATIONS[combination]
    holds = {name for name, held in sandbox.try_layers(layers).items() if held}
    if layers - holds:
        pytest.skip(f"this machine does not give {', '.join(sorted(layers - holds))}")
    got = attack(world, tmp_path, layers)
    assert set(got) <= (READS if combination == "seccomp alone" else set()), got


def test_the_attempts_succeed_where_nothing_holds_them(world: dict[str, Any], tmp_path: Path) -> None:
    """Or the test above would show nothing. (Those that destroy are left to it.)"""
    os.environ.pop("SECRET_KEY")
    harmless = (READS - {"its parent's environment"}) | {"redis by its socket", "TCP to loopback", "a file in memory"}
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    for name in harmless:
        assert ATTEMPTS[name]({**world, "path": str(tmp_path / "input"), "out": out}) is not None, name
    os.close(out)


def test_each_layer_is_known_to_be_missing_where_it_is_left_out() -> None:
    whole = sandbox.try_layers()
    assert whole["environment"]
    assert whole["limits"]
    for name in ("no_new_privs", "namespaces", "landlock", "seccomp"):
        found = sandbox.try_layers(set(sandbox.LAYERS) - {name})
        # Landlock and the filter need no_new_privs, unless root has put them in force
        assert not found[name]


def test_fewer_layers_than_asked_for_read_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    monkeypatch.setenv(sandbox.REQUIRE, "namespaces, seccomp")
    with pytest.raises(SandboxTooWeak, match="namespaces"):
        sandbox.call("archive", {"name": "a"}, sandbox.Limits(), {"path": tmp_path / "a.zip"}, layers=IN_A_CONTAINER)
    monkeypatch.setenv(sandbox.REQUIRE, "namespaces,selinux")
    with pytest.raises(ValueError, match="no layer selinux"):
        sandbox.required()


def test_ordinary_uploads_are_read_in_a_container_too(tmp_path: Path) -> None:
    """With all layers many other tests read them."""
    import torch

    from repair_engine.models.architectures import Architecture

    module = Architecture("resnet18", 2).build()
    torch.save(module.state_dict(), tmp_path / "m.pth")
    asked = {"architecture": Architecture("resnet18", 2).to_json(), "weights": None, "name": "m.pth"}
    reads, writes = {"path": tmp_path / "m.pth"}, {"out": tmp_path / "out.safetensors"}
    built_by = ["torchvision.models"]  # as `convert` asks
    answer = sandbox.call("checkpoint", asked, sandbox.Limits(), reads, writes, built_by, layers=IN_A_CONTAINER)
    assert answer["source"]["format"] == "state_dict"
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "out.safetensors")["conv1.weight"], module.conv1.weight)


def test_who_takes_what_is_poured_may_end_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox.TASKS, "endless", "tests.repair_engine.support.test_sandbox_hostile:pour_on")
    with pytest.raises(ZeroDivisionError):  # as a progress does that raises to cancel
        sandbox.call("endless", {}, sandbox.Limits(), pours={"out": lambda piece: 1 // 0})


def pour_on(payload: dict[str, Any]) -> dict[str, Any]:
    while True:
        os.write(payload["out"], b"x" * 4096)


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox.TASKS, "loud", "tests.repair_engine.support.test_sandbox_hostile:shout")
    monkeypatch.setattr(sandbox.parent, "MAX_ANSWER", 1 << 20)
    with pytest.raises(BadInput, match="too much"):
        sandbox.call("loud", {}, sandbox.Limits())


def shout(payload: dict[str, Any]) -> dict[str, Any]:
    return {"text": "x" * (8 << 20)}


def test_the_answer_does_not_choose_what_code_the_parent_runs(monkeypatch, tmp_path: Path) -> None:
    """The child's word about the architecture is sizes and a graph: a factory of its choice would run outside."""
    from repair_engine.models.architectures import Architecture
    from repair_engine.models.formats import convert

    mine = Architecture("resnet18", 2)
    theirs = {**mine.to_json(), "name": "x", "register": {"x": "os:system"}, "options": {"weights": "DEFAULT"}}

    def call(task, payload, limits, reads, writes, imports):
        writes["out"].write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
        return {"resolved": theirs, "source": {"format": "state_dict", "suffix": "", "names": {}, "wrapper": [],
                                               "dropped": []}}  # fmt: skip

    monkeypatch.setattr(sandbox, "call", call)
    (tmp_path / "m.pth").write_bytes(b"x")
    assert convert(tmp_path / "m.pth", tmp_path / "out", mine).architecture == mine


def test_the_filter_has_the_kernels_numbers() -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp to compare with")
    resolve = library.seccomp_syscall_resolve_name_arch
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    for name, numbers in seccomp.NUMBERS.items():
        found = [resolve(arch, name.encode()) for arch in (0xC000003E, 0xC00000B7)]
        assert [number if number >= 0 else None for number in found] == list(numbers), name


def test_both_processors_programs_are_whole() -> None:
    for machine in ("x86_64", "aarch64"):
        made = seccomp.program(machine, 1)
        assert len(made) < 4096
        for at, (code, yes, no, _) in enumerate(made):
            assert code == 0x06 or at + 1 + max(yes, no) < len(made)
            assert max(yes, no) < 256
    assert platform.machine() in seccomp._MACHINES or landlock


UNDER_A_PROFILE = """
import ctypes, struct, sys
from repair_engine.support import sandbox
from repair_engine.support.sandbox import kernel, seccomp
kernel.no_new_privileges()
forbidden = [seccomp._load(0)]
for number in {numbers}:
    forbidden += [seccomp._equal(number, 0, 1), seccomp._refuse(1)]
forbidden += [seccomp._end(seccomp._ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in forbidden))
head = ctypes.create_string_buffer(struct.pack("@HP", len(forbidden), ctypes.addressof(code)))
kernel.syscall("seccomp", seccomp._MACHINES[{machine!r}][2], 1, 0, ctypes.byref(head))
found = sandbox.try_layers()
print(sorted(name for name in found if not found[name]))
"""
CALLS = {"unshare": (272, 97), "mount": (165, 40), "landlock_create_ruleset": (444, 444)}


@pytest.mark.parametrize(
    ("forbidden", "missing"),
    [
        (["unshare"], ["namespaces"]),  # Docker's default
        (["mount"], ["namespaces"]),  # AppArmor on Ubuntu 24.04: the namespaces are made and are good for nothing
        (["unshare", "landlock_create_ruleset"], ["landlock", "namespaces"]),
    ],
)
def test_what_the_platform_forbids_is_left_out_and_the_rest_holds(forbidden: list[str], missing: list[str]) -> None:
    """Really forbidden, by a filter around the parent, as a container's profile does it."""
    if platform.machine() not in seccomp._MACHINES or not all(sandbox.try_layers().values()):
        pytest.skip("this machine forbids more itself")
    column = seccomp._MACHINES[platform.machine()][0]
    numbers = [CALLS[name][column] for name in forbidden]
    code = UNDER_A_PROFILE.format(numbers=numbers, machine=platform.machine())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(missing)


def test_what_a_child_leaves_dies_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the filter a daemon can be made: it is in the child's own world, and ends with its first process."""
    monkeypatch.setitem(sandbox.TASKS, "daemon", "tests.repair_engine.support.test_sandbox_hostile:leave_a_daemon")
    layers = set(sandbox.LAYERS) - {"seccomp"}
    if not sandbox.try_layers(layers)["namespaces"]:
        pytest.skip("no namespaces here")
    sandbox.call("daemon", {}, sandbox.Limits(), writes={"out": tmp_path / "out"}, layers=layers)
    before = (tmp_path / "out").stat().st_size
    assert before > 0
    for _ in range(20):
        time.sleep(0.01)
        assert (tmp_path / "out").stat().st_size == before


def leave_a_daemon(payload: dict[str, Any]) -> dict[str, Any]:
    if os.fork() == 0:
        os.setsid()
        while True:
            os.write(payload["out"], b".")
    while not os.fstat(payload["out"]).st_size:
        time.sleep(0.001)
    return {}


def test_images_of_others_are_decoded_in_the_child_and_give_the_same(monkeypatch, tmp_path: Path) -> None:
    from repair_engine.data import read_dataset
    from repair_engine.models import decoding
    from repair_engine.models.classes import ClassNames
    from repair_engine.models.preprocessing import Preprocessing
    from tests.repair_engine.image_sets import make_zip, two_classes

    path, classes = make_zip(tmp_path / "a.zip", two_classes()), ClassNames(2, ("cat", "dog"))
    steps: list[tuple[int, int]] = []
    here = read_dataset(path, classes, Preprocessing())
    monkeypatch.setattr(decoding, "decode", None)  # not in this process
    there = read_dataset(path, classes, Preprocessing(), progress=lambda *at: steps.append(at), apart=True)
    assert (there.images == here.images).all()
    assert there.pixel_hashes == here.pixel_hashes
    assert there.file_names == here.file_names
    assert steps == [(i + 1, len(here)) for i in range(len(here))]
    bad = make_zip(tmp_path / "b.zip", {**two_classes(), "cat/9.png": b"\x89PNG\r\n\x1a\n" + b"x" * 60})
    with pytest.raises(BadInput, match=r"cat/9\.png"):
        read_dataset(bad, classes, Preprocessing(), apart=True)


@pytest.mark.parametrize("poured", [b"", b"\1\0\0\0\1\0\0\0", b"\0" * 12, b"\xff" * 12, b"\1\0\0\0" * 3 + b"x" * 9])
def test_pixels_that_are_no_images_are_refused(poured: bytes, monkeypatch, tmp_path: Path) -> None:
    from repair_engine.data import read_dataset
    from repair_engine.models.classes import ClassNames
    from repair_engine.models.preprocessing import Preprocessing
    from tests.repair_engine.image_sets import make_zip, two_classes

    def call(task, payload, limits, reads, imports, pours):
        pours["pixels"](poured)
        return {"warnings": []}

    monkeypatch.setattr(sandbox, "call", call)
    path = make_zip(tmp_path / "a.zip", two_classes())
    with pytest.raises(BadInput, match="no usable answer"):
        read_dataset(path, ClassNames(2, ("cat", "dog")), Preprocessing(), apart=True)

"""An environment in which the wheel and what it declares are installed, and nothing else.

Installing torch anew takes minutes and 6 GB. So the packages come from the environment that runs the tests, by a link
to its folder; a finder shows only those that the wheel's dependencies name, and theirs. Neither modules nor versions of
others are found, nor this checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_FINDER = """\
import sys
from importlib.machinery import PathFinder

HIDDEN = {hidden!r}
SHOWN = {shown!r}


class Declared(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        found = PathFinder.find_distributions(*args, **kwargs)
        return (one for one in found if one.name.lower().replace("_", "-").replace(".", "-") in SHOWN)


sys.meta_path[sys.meta_path.index(PathFinder)] = Declared
"""


class Environment:
    """A virtual environment in `folder`, with the wheel and these extras of it."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.command = folder / "bin" / "neuron-repair"
        venv.create(folder, with_pip=False, symlinks=True)
        run(sys.executable, "-m", "pip", "--python", self.python, "install", "--no-deps", "--no-index", "-q", wheel)
        (own,) = folder.glob("lib/python*/site-packages")
        self.packages = own
        (ours,) = metadata.distributions(path=[str(own)])
        shown = _with_theirs(ours.requires or [], set(extras)) | {ours.name}
        hidden = {
            module
            for module, owners in metadata.packages_distributions().items()
            if not shown & {canonicalize_name(owner) for owner in owners}
        }
        (own / "sitecustomize.py").write_text(_FINDER.format(hidden=hidden, shown=shown))
        (own / "linked.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def environment(self, **further: str) -> dict[str, str]:
        """Without what the project's own settings and this checkout's path would bring in."""
        left_out = ("PYTHON", "NR_", "DJANGO_", "DATABASE_URL", "REDIS_URL", "SECRET_KEY")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return {**kept, "OMP_NUM_THREADS": "1", **further}

    def run(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """`neuron-repair COMMAND`, in a folder."""
        return subprocess.run(
            [self.command, *command], cwd=cwd, env=self.environment(), capture_output=True, text=True, timeout=600
        )

    def ask(self, code: str, cwd: Path) -> str:
        """What a line of Python prints there."""
        around = self.environment(DJANGO_SETTINGS_MODULE="webapp.settings")
        return run(self.python, "-c", code, cwd=cwd, env=around)


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """stdout; all that was said is in the error where it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


def _with_theirs(requires: list[str], extras: set[str]) -> set[str]:
    """The names of what is required, and of what that requires in turn. Raises PackageNotFoundError: not installed."""
    found: set[str] = set()
    todo = [(requires, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        lines, wanted = todo.pop()
        for requirement in map(Requirement, lines):
            marker, name = requirement.marker, canonicalize_name(requirement.name)
            if marker and not any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                continue
            if (name, frozenset(requirement.extras)) not in seen:
                seen.add((name, frozenset(requirement.extras)))
                found.add(name)
                todo.append((metadata.distribution(name).requires or [], set(requirement.extras)))
    return found

"""Small files of other people with the right answers, run by the commands of their README.txt."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.repair_engine.tiny import Result, call

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there: its cases are NOT run")


@dataclass(frozen=True)
class Case:
    folder: Path

    def command(self) -> list[str]:
        """The README's command, after `python -m repair_engine`."""
        line = (self.folder / "README.txt").read_text(encoding="utf-8").splitlines()[0]
        return shlex.split(line.split("python -m repair_engine ", 1)[1])

    def run(self, *more: str) -> Result:
        return call([*self.command(), *more])


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A writable copy of the case, which is the working directory and on the path."""
    folder = tmp_path / request.param
    shutil.copytree(CASES / request.param, folder, copy_function=shutil.copyfile)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "case_nets", raising=False)
    return Case(folder)


def the_case(name: str):
    return pytest.mark.parametrize("case", [name], indirect=True, ids=[name])


def accuracy(result: Result) -> float:
    """Of all images, by `evaluate --json`."""
    assert result.code == 0, result.err
    return result.document["figures"]["all"]["accuracy"]


@the_case("hf-poolformer-preprocessing")
def test_the_crop_share_of_poolformer(case: Case) -> None:
    pytest.importorskip("transformers")
    assert accuracy(case.run("--json")) == 1


@the_case("hf-vit-own-save")
def test_keys_as_transformers_saves_them(case: Case) -> None:
    pytest.importorskip("transformers")
    document = case.run("--json").document
    assert [site["name"] for site in document["sites"]] == ["vit.embeddings.patch_embeddings.projection"]
    assert document["filters"] == 16

"""Small files of other people with the right answers, run by the commands of their README.txt."""

from __future__ import annotations

import shlex
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from repair_engine.data import read_dataset
from repair_engine.models.classes import ClassNames
from repair_engine.models.preprocessing import Preprocessing
from tests.repair_engine.tiny import Result, call

CASES = Path(__file__).parents[3] / ".." / "shared" / "cases"
pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there: its cases are NOT run"),
    pytest.mark.usefixtures("quick"),
]


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
    filters = [site for site in document["sites"] if site["kind"] == "filter"]
    assert [site["name"] for site in filters] == ["vit.embeddings.patch_embeddings.projection"]
    assert sum(site["filters"] for site in filters) == 16


@the_case("gbk-folder-order")
def test_names_of_an_unknown_code_page(case: Case) -> None:
    refused = case.run("--json")
    assert refused.code == 2
    assert "not marked as UTF-8 and had to be guessed" in refused.err
    with zipfile.ZipFile("images.zip") as archive:
        real = sorted({name.partition("/")[0].encode("cp437").decode("gbk") for name in archive.namelist()})
    (case.folder / "classes.txt").write_text("\n".join(real), encoding="utf-8")
    assert accuracy(case.run("--json", "--classes", "classes.txt")) == 1


@the_case("nfd-csv")
def test_names_are_equal_after_nfc(case: Case) -> None:
    result = case.run("--json")
    assert accuracy(result) == 1
    assert result.document["figures"]["all"]["metric"] == pytest.approx(1)


@the_case("split-folders")
def test_splits_of_any_name_are_refused(case: Case) -> None:
    refused = case.run("--json")
    assert refused.code == 2
    assert "which are splits, not classes" in refused.err
    assert "--split-folder test_set" in refused.err
    data = read_dataset("images.zip", ClassNames(2), Preprocessing(), split="training_set")
    assert len(data) == 24
    assert data.class_names == ("cat", "dog")


@the_case("hf-imagefolder-layout")
def test_labels_of_the_label_column(case: Case) -> None:
    assert accuracy(case.run("--json")) == 1

"""verify --key: a receipt is signed by this key, by another one, not at all, or something was changed after signing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import repair_engine as nr
from repair_engine.support import signatures
from tests.repair_engine.tiny import Result, World, call

pytestmark = pytest.mark.usefixtures("quick_module")
PRIVATE, OTHER = signatures.new_private(), signatures.new_private()


@pytest.fixture(scope="module")
def original(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repaired")
    argv = sabotaged.argv("repair", "--json", metric="subgroup-recall:ground", budget="8000", seed="3", out=str(out))
    assert call(argv).code == 0
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}
    says = {"server": "https://repair.example", "run": "a-run", "times": {"finished": "2026-11-30T12:00:00+00:00"},
            "files": hashes}  # fmt: skip
    (out / "receipt.json").write_text(json.dumps(signatures.sign(json.dumps(says), PRIVATE).to_json()))
    return out


@pytest.fixture
def got(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "got"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return keys(tmp_path / "keys.json", PRIVATE)


def keys(path: Path, *private: bytes) -> Path:
    publics = [signatures.public_of(one) for one in private]
    path.write_text(json.dumps(signatures.document_of({signatures.id_of(one): one for one in publics})))
    return path


def said(folder: Path, *more: str) -> tuple[str, str, Result]:
    result = call(["verify", str(folder), "--json", *more])
    check = next(one for one in result.document["checks"] if one["name"] == "receipt")
    return check["verdict"], check["text"], result


def test_signed_by_this_key(got, key):
    verdict, text, result = said(got, "--key", str(key))
    assert (verdict, result.code) == ("passed", 0)
    assert text.startswith(f"signed by this key: {signatures.id_of(signatures.public_of(PRIVATE))}, of https://repair")


def test_an_older_key_of_the_server_is_as_good(got, tmp_path):
    assert said(got, "--key", str(keys(tmp_path / "k.json", OTHER, PRIVATE)))[0] == "passed"


def test_a_public_key_in_pem(got, tmp_path):
    public = Ed25519PublicKey.from_public_bytes(signatures.public_of(PRIVATE))
    (tmp_path / "k.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert said(got, "--key", str(tmp_path / "k.pem"))[0] == "passed"


def test_signed_by_another_key(got, tmp_path):
    verdict, text, result = said(got, "--key", str(keys(tmp_path / "k.json", OTHER)))
    assert (verdict, result.code) == ("failed", 1)
    assert text.startswith("signed by another key: ")


def test_not_signed(got, key):
    (got / "receipt.json").unlink()
    assert said(got, "--key", str(key))[:2] == ("failed", "not signed: there is no receipt.json")
    (got / "receipt.json").write_text('{"signed": true}')
    assert said(got, "--key", str(key))[1].startswith("not signed: receipt.json is no signed receipt")
    assert said(got)[:2] == ("not checked", "give --key, the server's public keys, to check who signed it")


def change(got: Path, name: str, how) -> None:
    found = json.loads((got / "receipt.json").read_text())
    how(found)
    (got / "receipt.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    "how",
    [
        lambda found: found.update(receipt=found["receipt"].replace("a-run", "b-run")),
        lambda found: found.update(receipt=found["receipt"] + " "),
        lambda found: found.update(signature="A" * 86 + "=="),
    ],
    ids=["text", "a blank", "signature"],
)
def test_a_receipt_that_was_changed(got, key, how):
    change(got, "receipt.json", how)
    verdict, text, _ = said(got, "--key", str(key))
    assert (verdict, text.partition(":")[0]) == ("failed", "changed after signing")


@pytest.mark.parametrize("name", ["report.json", "predictions.csv", "repair.json"])
def test_a_file_that_was_changed(got, key, name):
    with (got / name).open("a") as file:
        file.write("\n")
    verdict, text, _ = said(got, "--key", str(key))
    assert verdict == "failed"
    assert text.startswith(f"changed after signing: {name}")


def test_somebody_elses_receipt_under_this_id(got, key):
    """Signed with a key of one's own, and named as the server's."""
    receipt = json.loads((got / "receipt.json").read_text())["receipt"].replace("a-run", "mine")
    forged = signatures.sign(receipt, OTHER).to_json() | {"key": signatures.id_of(signatures.public_of(PRIVATE))}
    (got / "receipt.json").write_text(json.dumps(forged))
    assert said(got, "--key", str(key))[1].startswith("changed after signing")


@pytest.mark.parametrize(
    "content", ["", "{}", '{"keys": []}', "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"]
)
def test_a_key_that_is_none(got, tmp_path, content):
    (tmp_path / "k").write_text(content)
    result = call(["verify", str(got), "--key", str(tmp_path / "k")])
    assert result.code == 2
    assert "neuron-repair-keys.json" in result.err
    assert call(["verify", str(got), "--key", str(tmp_path / "none")]).code == 2


def test_in_python(got, key, sabotaged):
    found = nr.verify(got, key=key)
    assert found.passed
    assert [row["name"] for row in found.table()] == [
        "files", "plan", "figures", "made again", "predictions", "receipt",
    ]  # fmt: skip
    assert len(found.warnings) == 2
    assert "what was checked holds" in str(found)
    assert "signed by this key" in found._repr_html_()
    with_all = nr.verify(got, model=sabotaged.model, data=sabotaged.data, key=key, device="cpu",
                         register={"net": sabotaged.factory})  # fmt: skip
    assert with_all.passed
    assert with_all.warnings == []
    (got / "predictions.csv").write_text("changed")
    assert not nr.verify(got).passed
    with pytest.raises(nr.BadInput, match="There is no"):
        nr.verify(got / "nowhere")
    with pytest.raises(nr.BadInput, match=r"keys.*data|data"):
        nr.verify(got, images="x.zip")

"""Receipts of finished repairs: signed, passed on, checked without the server; and the key behind them."""

from __future__ import annotations

import json
import stat
import tarfile

import pytest
from django.core.management import CommandError, call_command

from repair_engine.errors import BadInput
from repair_engine.support.signatures import Signed, read_keys, signer_of
from repair_engine.verbs.checks import Wrong
from repair_engine.verbs.receipt import check_receipt
from webapp.jobs import backup, receipts
from webapp.jobs.models import Job, Receipt, SigningKey

KEYS = "/.well-known/neuron-repair-keys.json"


@pytest.fixture
def key(settings, tmp_path):
    settings.SIGNING_KEY = tmp_path / "signing_key.pem"
    return settings.SIGNING_KEY


def ended(world) -> Job:
    world.bells.answer()
    world.owner.job.refresh_from_db()
    assert world.owner.job.state == Job.State.SUCCEEDED
    return world.owner.job


def test_a_repair_gets_one(world, key, client, tmp_path):
    api, url = world.owner.api, f"/api/v1/repairs/{world.owner.job.pk}/receipt/"
    assert api.get(url).status_code == 404
    job = ended(world)
    got = api.get(url)
    assert got.status_code == 200
    assert 'filename="receipt.json"' in got["Content-Disposition"]
    signed = Signed.read(got.content.decode())
    keys = read_keys(client.get(KEYS).content)
    assert signer_of(signed, keys) == signed.key
    says = signed.says
    assert says["asked"] == job.request
    assert (says["run"], says["outcome"]) == (str(job.pk), job.outcome)
    assert (says["model"]["sha256"], says["data"]["sha256"]) == (job.model.blob_id, job.dataset.blob_id)
    assert says["checkpoint"] == "repaired.safetensors"
    assert says["files"] == {file.name: file.blob_id for file in job.artifacts.all()}
    assert says["times"]["finished"] == job.finished_at.isoformat()

    folder = tmp_path / "got"
    folder.mkdir()
    for file in job.artifacts.all():
        (folder / file.name).write_bytes(file.blob.path.read_bytes())
    (folder / "receipt.json").write_bytes(got.content)
    (tmp_path / "keys.json").write_bytes(client.get(KEYS).content)
    assert "signed by this key" in check_receipt(folder, str(tmp_path / "keys.json"))
    with (folder / "repaired.safetensors").open("ab") as file:
        file.write(b"!")
    with pytest.raises(Wrong, match=r"changed after signing: repaired\.safetensors"):
        check_receipt(folder, str(tmp_path / "keys.json"))


def test_only_who_sees_the_run_gets_it(world, key):
    ended(world)
    url = f"/api/v1/repairs/{world.owner.job.pk}/receipt/"
    assert world.team_mate.api.get(url).status_code == 404
    assert world.stranger.get(url).status_code == 401
    page = world.owner.browser.get(f"/repairs/{world.owner.job.pk}/").content.decode()
    assert url in page


def test_the_key_is_closed_to_others_and_made_once(world, key):
    first = receipts.begin()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    content = key.read_bytes()
    assert receipts.begin() == first
    assert key.read_bytes() == content
    assert [path.name for path in key.parent.glob("signing_key.pem*")] == ["signing_key.pem"]


def test_a_new_key_keeps_the_old_public_one(world, key, client):
    job = ended(world)
    old = Receipt.objects.get(job=job).key_id
    call_command("rotate_signing_key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    keys = read_keys(client.get(KEYS).content)
    assert len(keys) == 2
    assert receipts.begin() != old
    assert old in keys
    signed = Signed.read(json.dumps(receipts.document(Receipt.objects.get(job=job))))
    assert signer_of(signed, keys) == old


def test_a_key_that_is_none_keeps_no_run_from_its_end(world, key, caplog):
    key.write_text("no key")
    job = ended(world)
    assert not Receipt.objects.exists()
    assert f"run {job.pk} gets no receipt" in caplog.text
    with pytest.raises(CommandError, match=r"signing_key\.pem"):
        call_command("rotate_signing_key")


def test_a_backup_has_the_private_key_only_if_asked(world, key, tmp_path):
    ended(world)
    backup.make(tmp_path / "plain.tar")
    private = key.read_bytes()
    with tarfile.open(tmp_path / "plain.tar") as tar:
        names = tar.getnames()
        assert "signing_key.pem" not in names
        assert all(private not in (tar.extractfile(name) or pytest.fail(name)).read() for name in names)
        assert SigningKey.objects.get().public in tar.extractfile("database.jsonl").read().decode()
    call_command("backup", str(tmp_path / "whole.tar"), "--with-signing-key")
    key.unlink()
    backup.restore(tmp_path / "whole.tar", replace=True)
    assert key.read_bytes() == private
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert set(Receipt.objects.values_list("key", flat=True)) == {receipts.begin()}
    key.write_bytes(b"another")
    backup.restore(tmp_path / "whole.tar", replace=True)
    assert key.read_bytes() == b"another", "a key that is there stays"
    key.unlink()
    with pytest.raises(CommandError, match="no signing key"):
        call_command("backup", str(tmp_path / "third.tar"), "--with-signing-key")


def test_a_document_without_keys_says_where_to_get_them():
    with pytest.raises(BadInput, match="holds none"):
        read_keys(b'{"keys": []}')

"""A repair runs on one kind of device from beginning to end. (The tiny engine needs no GPU to be sent to one.)"""

from __future__ import annotations

import pytest

from tests.webapp.real_stack import RealStack
from webapp.jobs import leases


def body(person, **changes) -> dict:
    return {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": "accuracy", **changes}


@pytest.mark.parametrize(
    ("alive", "asked", "device"),
    [([], "auto", "cpu"), (["cpu"], "auto", "cpu"), (["cpu", "gpu"], "auto", "cuda"), (["gpu"], "cpu", "cpu")],
)
def test_auto_takes_a_gpu_if_a_gpu_worker_is_alive(world, alive, asked, device):
    leases.worker_seen(name="one@host", incarnation="a", queues=alive, device="host")
    world.bells.rung.clear()
    made = world.owner.api.post("/api/v1/repairs/", body(world.owner, device=asked)).json()
    assert made["device"] == device
    assert [queue for _, _, queue in world.bells.rung] == ["gpu" if device == "cuda" else "cpu"]


def test_says_when_no_worker_for_its_device_is_alive(world):
    leases.worker_seen(name="cpu1@host", incarnation="a", queues=["cpu", "light"], device="host")
    made = world.owner.api.post("/api/v1/repairs/", body(world.owner, device="cuda")).json()
    assert made["progress"]["worker_alive"] is False
    made = world.owner.api.post("/api/v1/repairs/", body(world.owner, device="cpu")).json()
    assert made["progress"]["worker_alive"] is True


def test_each_kind_of_worker_does_its_own_repairs(tmp_path):
    with RealStack(tmp_path, workers=1, options=("--gpu",)) as stack:
        seeded = stack.seed()
        ids = {}
        for device in ("cpu", "cuda"):
            asked = {"model": seeded["model"], "dataset": seeded["dataset"], "metric": "accuracy", "device": device}
            ids[device] = stack.call("POST", "repairs/", asked)["id"]
        results = {device: stack.finished({"id": pk}) for device, pk in ids.items()}
        assert {repair["state"] for repair in results.values()} == {"succeeded"}
        for device, name in (("cpu", "cpu1@"), ("cuda", "gpu1@")):
            pk = ids[device].replace("-", "")
            workers = stack.query(f"SELECT DISTINCT worker FROM jobs_shard WHERE job_id = '{pk}'")
            assert len(workers) == 1
            assert workers[0][0].startswith(name)

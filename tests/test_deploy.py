"""deploy/ against compose.yaml and the settings: the same processes, and no environment variable that nothing reads."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from repair_engine.support.signatures import new_private
from webapp.monitoring import metrics

ROOT = Path(__file__).resolve().parents[1]
BASE, SITE = ROOT / "deploy" / "base", ROOT / "deploy" / "overlays" / "example"
MONITORED = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
# Not taken over: compose brings a database of its own.
OTHERWISE = {"POSTGRES_PASSWORD"}
PROCESSES = {"web": "web", "worker": "cpu-worker", "gpu-worker": "gpu-worker", "light": "light-worker", "beat": "beat",
             "migrate": "migrate"}  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def kustomization(folder: Path) -> dict[str, Any]:
    (found,) = read(folder / "kustomization.yaml")
    return found


def literals(found: dict[str, Any]) -> dict[str, str]:
    (settings,) = [one for one in found["configMapGenerator"] if one["name"] == "settings"]
    return dict(line.split("=", 1) for line in settings["literals"])


def rendered() -> list[dict[str, Any]]:
    """The base's objects."""
    files = kustomization(BASE)["resources"]
    assert set(files) == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    return [one for name in files for one in read(BASE / name)]


def workloads(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    kinds = ("Deployment", "StatefulSet", "Job")
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in kinds}


def containers(workload: dict[str, Any]) -> list[dict[str, Any]]:
    spec = workload["spec"]["template"]["spec"]
    return [*spec["containers"], *spec.get("initContainers", [])]


def read_by_the_program() -> set[str]:
    """The names that stand in what reads the environment: the settings, and the sandbox, which the engine has, too."""
    files = [ROOT / "webapp" / "settings.py", ROOT / "webapp" / "env.py"]
    files += (ROOT / "repair_engine" / "support" / "sandbox").glob("*.py")
    return set(re.findall(r'"([A-Z][A-Z0-9_]+)"', "".join(path.read_text() for path in files)))


def secrets() -> dict[str, str]:
    return dict(line.split("=", 1) for line in (SITE / "secrets.env.example").read_text().splitlines())


def test_every_variable_is_one_that_the_settings_read():
    known = read_by_the_program()
    assert {"DATABASE_URL", "NR_S3_BUCKET", "NR_HTTPS", "NR_SIGNING_KEY", "REDIS_URL"} <= known
    for name in (*literals(kustomization(BASE)), *literals(kustomization(SITE)), *secrets()):
        assert name in known, name
    assert not set(literals(kustomization(BASE))) & set(secrets())
    assert set(literals(kustomization(SITE))) <= set(literals(kustomization(BASE))), "merged into what is there"


def test_what_compose_sets_is_set_here():
    composed = set(COMPOSE["x-app"]["environment"]) - OTHERWISE
    assert composed <= set(literals(kustomization(BASE))) | set(secrets())


@pytest.mark.parametrize(("composed", "here"), PROCESSES.items())
def test_the_same_processes_run(composed, here):
    command = COMPOSE["services"][composed].get("command") or image_command()
    (main,) = workloads(rendered())[here]["spec"]["template"]["spec"]["containers"]
    told = ["migrate" if word == "migrate" else str(word) for word in main["command"]]
    assert told == command


def image_command() -> list[str]:
    said = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M)
    return yaml.safe_load(said[-1])


def test_nothing_runs_that_compose_does_not():
    assert set(workloads(rendered())) == {*PROCESSES.values(), "redis"}
    assert set(COMPOSE["services"]) == {*PROCESSES, "redis", "postgres", "store", "proxy", "metrics"}


def test_what_compose_mounts_and_prometheus_reads_is_there():
    for name in ("proxy", "metrics"):
        files = [ROOT / one.split(":")[0] for one in COMPOSE["services"][name]["volumes"] if one.startswith("./")]
        assert files
        assert all(path.is_file() for path in files)
        assert not set(COMPOSE["services"][name]["profiles"]) & {"", "default"}
    (given,) = COMPOSE["services"]["metrics"]["configs"]
    (scraped,) = yaml.safe_load((MONITORED / "prometheus.yml").read_text())["scrape_configs"]
    assert Path(given["target"]).name == scraped["authorization"]["credentials_file"]
    (target,) = scraped["static_configs"][0]["targets"]
    assert target == "web:8000", "the web service's name and port"


@pytest.mark.django_db
def test_alarms_are_of_figures_that_there_are():
    alarms = yaml.safe_load((MONITORED / "alerts.yml").read_text())["groups"][0]["rules"]
    known = {one.name for one in metrics.State().collect()}
    for alarm in alarms:
        asked = set(re.findall(r"neuron_repair_\w+", alarm["expr"]))
        assert asked <= known, alarm
        assert asked or alarm["expr"].startswith("up{"), alarm


def test_probes_ask_what_a_probe_may():
    (web,) = workloads(rendered())["web"]["spec"]["template"]["spec"]["containers"]
    assert web["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz?exclude=worker"
    ports = {one["name"]: one["containerPort"] for one in web["ports"]}
    assert ports == {"http": 8000}
    assert str(ports["http"]) in web["command"]
    assert {web[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe", "startupProbe")} == {"http"}


def test_selectors_meet_their_pods_and_services():
    objects = rendered()
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in workloads(objects).items()}
    for name, one in workloads(objects).items():
        if one["kind"] != "Job":
            assert one["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    for one in objects:
        if one["kind"] == "Service" and "selector" in one["spec"]:
            assert any(one["spec"]["selector"].items() <= found.items() for found in labels.values()), one
    names = {one["metadata"]["name"] for one in objects if one["kind"] == "Service"}
    assert {"web", "redis", "workers"} == names
    assert literals(kustomization(BASE))["REDIS_URL"] == "redis://redis:6379/0"
    for one in workloads(objects).values():
        assert one["spec"].get("serviceName", "workers") in names


def test_one_beat_and_nobody_is_root():
    found = workloads(rendered())
    assert (found["beat"]["spec"]["replicas"], found["beat"]["spec"]["strategy"]["type"]) == (1, "Recreate")
    uid = int(re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[1])
    for name, one in found.items():
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert name == "redis" or pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == uid
        assert all(part["securityContext"]["allowPrivilegeEscalation"] is False for part in pod["containers"])


def test_what_is_mounted_and_named_is_there():
    generated = {one["name"] for one in kustomization(BASE)["configMapGenerator"]}
    generated |= {one["name"] for one in kustomization(SITE)["secretGenerator"]}
    keys = {Path(name).name for one in kustomization(SITE)["secretGenerator"] for name in one.get("files", ())}
    assert literals(kustomization(BASE))["NR_SIGNING_KEY"] in {f"/keys/{name}" for name in keys}
    for name, one in workloads(rendered()).items():
        volumes = {volume["name"]: volume for volume in one["spec"]["template"]["spec"].get("volumes", ())}
        for part in containers(one):
            assert {mount["name"] for mount in part.get("volumeMounts", ())} <= set(volumes), name
            for source in part.get("envFrom", ()):
                (reference,) = source.values()
                assert reference["name"] in generated
        for volume in volumes.values():
            assert volume.get("secret", {}).get("secretName", "signing-key") in generated


def test_the_overlay_changes_what_there_is():
    site, found = kustomization(SITE), workloads(rendered())
    assert {one["name"] for one in site["replicas"]} <= set(found)
    assert {one["name"] for one in site["images"]} <= {
        part["image"] for one in found.values() for part in containers(one)
    }
    for patch in site["patches"]:
        target = found[patch["target"]["name"]]
        assert target["kind"] == patch["target"]["kind"]
        for change in yaml.safe_load(patch["patch"]):
            place: Any = target
            for part in change["path"].strip("/").split("/"):
                place = place[int(part) if isinstance(place, list) else part]
            assert place == "neuron-repair"


def kustomize() -> list[str] | None:
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


@pytest.mark.skipif(kustomize() is None, reason="neither kustomize nor kubectl is installed")
def test_kustomize_renders_the_overlay(tmp_path):
    command = kustomize()
    assert command
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    site = tmp_path / "deploy" / "overlays" / "example"
    shutil.copy(site / "secrets.env.example", site / "secrets.env")
    (site / "signing_key.pem").write_bytes(new_private())
    done = subprocess.run([*command, str(site)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    check_rendered([one for one in yaml.safe_load_all(done.stdout) if one])


def check_rendered(objects: list[dict[str, Any]]) -> None:
    found = workloads(objects)
    assert set(found) == set(workloads(rendered()))
    assert (found["cpu-worker"]["spec"]["replicas"], found["gpu-worker"]["spec"]["replicas"]) == (4, 1)
    images = {part["image"] for name, one in found.items() if name != "redis" for part in containers(one)}
    assert images == {f"registry.example.org/neuron-repair:0.1.0{more}" for more in ("", "-gpu")}
    made = {one["metadata"]["name"]: one for one in objects if one["kind"] in ("ConfigMap", "Secret")}
    (settings,) = [one for name, one in made.items() if name.startswith("settings-")]
    assert settings["data"] == {**literals(kustomization(BASE)), **literals(kustomization(SITE))}
    for one in found.values():
        assert one["metadata"]["namespace"] == "neuron-repair"
        for part in containers(one):
            for source in part.get("envFrom", ()):
                (reference,) = source.values()
                assert reference["name"] in made

"""Recomputes what a repair reported by plain torch, torchvision, onnxruntime, Pillow and numpy, without the project.

python -s checker.py CASE.json      (run in a process of its own by `verified.py`; prints one JSON document)

Reads the image zip, the intact and the repaired file and the report's files. Every figure is derived again from the
pixels, the zip's folder names and metadata.csv; every difference is listed.
"""

from __future__ import annotations

import csv
import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from definitions import bootstrap, holm, mcnemar, wilson
from PIL import Image
from torchvision import transforms

PROJECT = ("repair_engine", "shapley", "webapp", "samples", "tests")
PARTS = ("score", "select", "report")
Predict = Callable[[torch.Tensor], np.ndarray]


class Findings:
    """How many comparisons were made, and those that failed."""

    def __init__(self) -> None:
        self.checks = 0
        self.differences: list[str] = []

    def same(self, what: str, reported: object, found: object) -> None:
        self.checks += 1
        if reported != found:
            self.differences.append(f"{what}: reported {str(reported)[:200]}, found {str(found)[:200]}")

    def close(self, what: str, reported: float, found: float, tolerance: float = 1e-9) -> None:
        self.checks += 1
        if not abs(reported - found) <= tolerance:  # also where one is NaN
            self.differences.append(f"{what}: reported {reported}, found {found} (tolerance {tolerance:g})")


# --- files --------------------------------------------------------------------------------------------------

_DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "I64": torch.int64,
    "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def state_of(path: Path) -> dict[str, torch.Tensor]:
    """A state dict; safetensors by its published layout: length, JSON header, bytes."""
    if path.suffix != ".safetensors":
        state = torch.load(path, weights_only=True)
        return state.get("state_dict", state)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    state = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        dtype = _DTYPES[entry["dtype"]]
        flat = torch.frombuffer(bytearray(raw[start:end]), dtype=dtype) if end > start else torch.empty(0, dtype=dtype)
        state[name] = flat.reshape(entry["shape"])
    return state


def build(case: dict) -> torch.nn.Module:
    kind, _, name = case["network"].partition(":")
    if kind == "networks":
        import networks

        return getattr(networks, name)(case.get("logits", case["num_classes"]))
    if kind == "torchvision":
        import torchvision

        return getattr(torchvision.models, name)(num_classes=case["num_classes"])
    assert kind == "timm", kind
    import timm

    return timm.create_model(name, num_classes=case["num_classes"], in_chans=case["channels"])


def module_of(case: dict, path: Path) -> torch.nn.Module:
    if case["network"] == "transformers":
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification.from_pretrained(path, local_files_only=True).eval()
    module = build(case)
    module.load_state_dict({k.removeprefix("module."): v for k, v in state_of(path).items()})
    return module.eval()


def classes_of(logits: np.ndarray) -> np.ndarray:
    """[N, classes] -> int64 [N]; one logit says the second class above 0."""
    return (logits[:, 0] > 0).astype(np.int64) if logits.shape[1] == 1 else logits.argmax(1)


def predictor(case: dict, path: Path) -> Predict:
    """Normalized images float32 [N, C, H, W] -> predicted classes int64 [N]."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: classes_of(session.run(None, {name: x.numpy()})[0])
    module = module_of(case, path)

    def predict(x: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            out = [module(part) for part in x.split(64)]
            return classes_of(torch.cat([getattr(o, "logits", o) for o in out]).numpy())

    return predict


def images_of(case: dict) -> tuple[list[str], torch.Tensor, list[str], list[str] | None]:
    """Sorted file names, pixels in [0, 1], labels (the folder's name), subgroups (of the metric's columns)."""
    mode = "L" if case["channels"] == 1 else "RGB"
    steps = []
    if case.get("resize"):
        steps.append(transforms.Resize(case["resize"], transforms.InterpolationMode(case["interpolation"])))
    if case.get("crop"):
        steps.append(transforms.CenterCrop(case["crop"]))
    steps.append(transforms.ToTensor())
    prepare = transforms.Compose(steps)
    with zipfile.ZipFile(case["data"]) as archive:
        names = sorted(n for n in archive.namelist() if not n.endswith(("/", ".csv")))
        pixels = torch.stack([prepare(Image.open(io.BytesIO(archive.read(n))).convert(mode)) for n in names])
        subgroups = None
        if case["columns"]:
            table = csv.DictReader(io.StringIO(archive.read("metadata.csv").decode()))
            rows = {row["file_name"]: row for row in table}
            subgroups = [" & ".join(rows[n][c] for c in case["columns"]) for n in names]
    return names, pixels, [n.split("/")[0] for n in names], subgroups


def normalized(case: dict, pixels: torch.Tensor) -> torch.Tensor:
    return transforms.Normalize(case["mean"], case["std"])(pixels)


# --- the report ---------------------------------------------------------------------------------------------


class World:
    """The images of a case with predictions before and after, made here."""

    def __init__(self, case: dict) -> None:
        self.case = case
        self.names, self.pixels, labels, self.subgroups = images_of(case)
        self.classes: list[str] = case["classes"]
        self.labels = np.array([self.classes.index(label) for label in labels])
        self.intact = predictor(case, Path(case["intact"]))
        self.repaired = predictor(case, Path(case["repaired"])) if case["repaired"] else self.intact
        self.moments = ("before", "after") if case["repaired"] else ("before",)
        x = normalized(case, self.pixels)
        self.before, self.after = self.intact(x), self.repaired(x)

    def right(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (self.before == self.labels)[rows], (self.after == self.labels)[rows]

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """The metric as a weighted mean of correctness over these images."""
        kind, _, argument = self.case["metric"].partition(":")
        labels = self.labels[rows]
        if kind == "recall":
            hit = labels == self.classes.index(argument)
            return hit / hit.sum()
        if kind == "subgroup-recall":
            assert self.subgroups is not None
            groups = np.array(self.subgroups)[rows]
            weights = np.zeros(len(rows))
            for g in np.unique(groups):
                present = np.unique(labels[groups == g])
                for c in present:
                    cell = (groups == g) & (labels == c)
                    weights[cell] = 1 / len(np.unique(groups)) / len(present) / cell.sum()
            return weights
        return np.full(len(rows), 1 / len(rows))


def check_predictions(world: World, out: Path, report: dict, found: Findings) -> dict[str, np.ndarray]:
    """predictions.csv against what the files predict; the images of each split."""
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found.same("images in predictions.csv", [r["file_name"] for r in rows], world.names)
    for i, row in enumerate(rows):
        found.same(f"{row['file_name']}, label", row["label"], world.classes[world.labels[i]])
        found.same(f"{row['file_name']}, before", row["predicted_before"], world.classes[world.before[i]])
        if world.case["repaired"]:  # else what was tried and rejected, of which there is no file
            found.same(f"{row['file_name']}, after", row["predicted_after"], world.classes[world.after[i]])
        if world.subgroups is not None:
            found.same(f"{row['file_name']}, subgroup", row["subgroup"], world.subgroups[i])
    parts = {part: np.array([i for i, r in enumerate(rows) if r["split"] == part]) for part in PARTS}
    found.same("sizes of the splits", report["data"]["splits"], {part: len(parts[part]) for part in PARTS})
    found.same("every image is in one split", len(world.names), sum(map(len, parts.values())))
    return parts | {"all": np.arange(len(world.names))}


def check_figures(world: World, parts: dict[str, np.ndarray], report: dict, found: Findings) -> None:
    """Accuracy and metric per split, before and after; gain and change of accuracy with their intervals."""
    attack = world.case["metric"] == "attack-success"
    for part, rows in parts.items():
        for when, right in zip(world.moments, world.right(rows)):
            found.close(f"accuracy {when}, {part}", report[when][part]["accuracy"], right.mean())
            if not attack:
                value = float(world.weights(rows) @ right)
                found.close(f"{world.case['metric']} {when}, {part}", report[when][part]["metric"], value)
    rows = parts["report"]
    before, after = world.right(rows)
    found.same("right images before", report["images_right"]["before"], int(before.sum()))
    if "after" not in world.moments:
        return
    found.same("right images after", report["images_right"]["after"], int(after.sum()))
    labels = world.labels[rows]
    cells = labels if world.subgroups is None else np.unique(
        np.array([f"{c}/{world.subgroups[i]}" for c, i in zip(labels, rows)]), return_inverse=True
    )[1]  # fmt: skip
    check_change(report["clean_change"], before, after, np.full(len(rows), 1 / len(rows)), labels, "accuracy", found)
    if not attack:
        check_change(report["gain"], before, after, world.weights(rows), cells, "metric", found)


def check_change(
    said: dict,
    before: np.ndarray,
    after: np.ndarray,
    weights: np.ndarray,
    cells: np.ndarray,
    what: str,
    found: Findings,
) -> None:
    change = weights * (after.astype(float) - before.astype(float))
    found.close(f"change of {what}", said["value"], float(change.sum()))
    low, high, spread = bootstrap(change, cells)
    step = float(np.abs(change).max(initial=0.0))  # a percentile of few values jumps by one image's weight
    for end, value in (("lower", low), ("upper", high)):
        found.close(f"{end} end of the change of {what}", said[end], value, 0.12 * spread + 1.2 * step + 1e-12)
    paired = {k: said["mcnemar"][k] for k in ("lost", "won")}
    weighed = weights > 0
    lost, won, p = mcnemar(before[weighed], after[weighed])
    found.same(f"McNemar's counts of {what}", paired, {"lost": lost, "won": won})
    found.close(f"McNemar's p of {what}", said["mcnemar"]["p_value"], p, 1e-9)


def check_groups(world: World, rows: np.ndarray, report: dict, found: Findings) -> None:
    """Recall per class, subgroup and cell with Wilson intervals and Holm's adjustment."""
    titles = np.array([world.classes[c] for c in world.labels[rows]])
    of = {"classes": titles}
    if world.subgroups is not None:
        of["subgroups"] = np.array(world.subgroups)[rows]
        of["cells"] = np.array([f"{g}: {t}" for g, t in zip(of["subgroups"], titles)])
    found.same("tables of groups", sorted(report["groups"]), sorted(of))
    before, after = world.right(rows)
    for which, names in of.items():
        table = report["groups"][which]
        found.same(f"{which} shown", sorted(r["name"] for r in table), sorted(set(names.tolist())))
        p_values = []
        for row in table:
            inside = names == row["name"]
            n = int(inside.sum())
            found.same(f"{row['name']}, n", row["n"], n)
            for when, right in zip(world.moments, (before[inside], after[inside])):
                k = int(right.sum())
                found.close(f"{row['name']}, {when}", row[when], k / n)
                for end, value in zip(row[f"{when}_interval"], wilson(k, n)):
                    found.close(f"{row['name']}, Wilson {when}", end, value, 1e-9)
            if "after" not in world.moments:
                continue
            lost, won, p = mcnemar(before[inside], after[inside])
            found.same(f"{row['name']}, lost and won", (row["lost"], row["won"]), (lost, won))
            found.close(f"{row['name']}, p", row["p"], p)
            p_values.append(p)
        for row, adjusted in zip(table, holm(p_values)):  # none without a repaired file
            found.close(f"{row['name']}, p (Holm)", row["p_holm"], adjusted)


def check_tensors(case: dict, report: dict, found: Findings) -> None:
    """Same keys, shapes and dtypes; nothing but the rows that the report names has changed."""
    if Path(case["repaired"]).suffix == ".onnx":
        return
    files = [Path(case[k]) for k in ("intact", "repaired")]
    old, new = (state_of(f / "model.safetensors" if f.is_dir() else f) for f in files)
    found.same("keys", list(new), list(old))
    named: dict[str, set[int]] = {}
    for culprit in report["culprits"]:
        for edit in culprit["edits"] if culprit["ablated"] else ():
            named.setdefault(edit["key"].removeprefix("module."), set()).add(edit["channel"])
    for key, tensor in old.items():
        found.same(f"{key}: shape and dtype", (new[key].shape, new[key].dtype), (tensor.shape, tensor.dtype))
        rows = {i for i in range(len(tensor)) if not torch.equal(tensor[i], new[key][i])} if tensor.dim() else set()
        unnamed = rows - named.get(key.removeprefix("module."), set())
        found.same(f"{key}: changed rows that the report does not name", sorted(unnamed), [])


def check_undone(world: World, found: Findings) -> None:
    """The file that `apply --without all` wrote is the intact one again."""
    case = world.case
    intact, undone = Path(case["intact"]), Path(case["undone"])
    if undone.suffix == ".onnx":
        again = predictor(case, undone)(normalized(case, world.pixels))
        found.same("predictions of the undone repair", again.tolist(), world.before.tolist())
        return
    old, new = state_of(intact), state_of(undone)
    found.same("keys of the undone repair", list(new), list(old))
    for key, tensor in old.items():
        same = new[key].dtype == tensor.dtype and torch.equal(new[key], tensor)
        found.same(f"{key}: as in the intact file after undoing", same, True)


def check_constants(world: World, rows: np.ndarray, report: dict, found: Findings) -> None:
    """The constants are mean outputs over the score images and positions, behind the activation."""
    case = world.case
    module = module_of(case, Path(case["intact"]))
    seen: dict[str, list[torch.Tensor]] = {}
    parts = dict(module.named_modules())
    hooks = {site: act for site, act in case["activations"].items() if act in parts}
    for site, act in hooks.items():
        parts[act].register_forward_hook(lambda _m, _i, out, site=site: seen.setdefault(site, []).append(out.clone()))
    with torch.inference_mode():
        for part in normalized(case, world.pixels[rows]).split(64):
            module(part)
    for culprit in report["culprits"]:
        site, _, channel = culprit["id"].rpartition(":")
        if site in seen and culprit["constant_from"] == "mean":
            mean = torch.cat(seen[site])[:, int(channel)].double().mean().item()
            found.close(f"{culprit['id']}: constant", culprit["constant"], mean, 1e-5 + case["rounding"] * abs(mean))


def check_attack(world: World, parts: dict[str, np.ndarray], report: dict, found: Findings) -> None:
    """The stored adversarial images: within ε of the clean ones, and what both files predict on them."""
    case = world.case
    with np.load(Path(case["attacked"]) / "attack.npz") as stored:
        names, labels, targets, pixels = (stored[k] for k in ("file_names", "labels", "targets", "pixels"))
    rows = np.array([world.names.index(str(n)) for n in names])
    found.same("attacked images are of the report split", sorted(set(rows) - set(parts["report"])), [])
    found.same("labels of the attacked images", labels.tolist(), world.labels[rows].tolist())
    targeted = case["targeted"]
    left = world.before[rows] == targets if targeted else world.before[rows] != labels
    found.same("attacked where there was nothing to win", int(left.sum()), 0)
    unit, clean = torch.from_numpy(pixels), world.pixels[rows]
    found.same("adversarial pixels lie in [0, 1]", bool(((unit >= 0) & (unit <= 1)).all()), True)
    length = float((unit - clean).abs().max())
    found.same("no change is longer than ε", length <= case["epsilon"] + 1e-6, True)
    x = normalized(case, unit)
    before, after = world.intact(x), world.repaired(x)
    won = [(p == targets) if targeted else (p != labels) for p in (before, after)]
    for when, hits in zip(("before", "after"), won):
        found.close(f"attack success {when}", report[when]["report"]["metric"], float(hits.mean()))
    weights = np.full(len(rows), 1 / len(rows))
    check_change(report["gain"], *won, weights, labels, "metric", found)
    for name, document in (("attacks.csv", Path(case["out"])), ("attack.csv", Path(case["attacked"]))):
        with (document / name).open(newline="", encoding="utf-8") as file:
            lines = [r for r in csv.DictReader(file) if r["kind"] == "replay"]
        found.same(f"{name}: images", [r["file_name"] for r in lines], [str(n) for n in names])
        found.same(f"{name}: before", [r["predicted_before"] for r in lines], [world.classes[i] for i in before])
        found.same(f"{name}: after", [r["predicted_after"] for r in lines], [world.classes[i] for i in after])


def main() -> None:
    torch.set_num_threads(1)
    case = json.loads(Path(sys.argv[1]).read_text())
    out, found = Path(case["out"]), Findings()
    report = json.loads((out / "report.json").read_text())
    world = World(case)
    parts = check_predictions(world, out, report, found)
    check_figures(world, parts, report, found)
    check_groups(world, parts["report"], report, found)
    if case["repaired"]:
        check_tensors(case, report, found)
    if case["undone"]:
        check_undone(world, found)
    if case["activations"]:
        check_constants(world, parts["score"], report, found)
    if case.get("attacked"):
        check_attack(world, parts, report, found)
    loaded = sorted({name.split(".")[0] for name in sys.modules} & set(PROJECT))
    figures = {when: report[when]["report"] for when in ("before", "after")}
    print(json.dumps({"checks": found.checks, "differences": found.differences, "project": loaded, "figures": figures}))


if __name__ == "__main__":
    main()

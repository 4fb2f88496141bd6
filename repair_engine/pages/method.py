"""The method half of the page: how it was measured, verification, limits, files and versions."""

from __future__ import annotations

from typing import Any

from repair_engine.pages.markup import Markup, definitions, details, element, join, name, table
from repair_engine.pages.repair_wording import (
    ABLATIONS,
    ESTIMATORS,
    STOPPED,
    count,
    interval,
    level_of,
    points,
    processor,
)
from repair_engine.pages.svg import decimal, percent
from repair_engine.support.precision import Precision

Row = dict[str, Any]

_USES = {  # of the select and the report images, by verb
    "repair": ("choice of k", "the figures above"),
    "explain": ("the logit shift", "the curves"),
    "score": ("not used here", "not used here"),
}
_RUN_SHOWN = frozenset(
    (
        *(
            "estimator",
            "afresh",
            "screen",
            "expected_overlap",
            "ablation",
            "constants",
            "constants_from",
            "images_per_draw",
            "precision",
            "budget",
            "budget_was",
            "evaluations",
            "rounds",
            "stopped",
        ),
        *(
            "depth",
            "seed",
            "device",
            "threads",
            "instruction_set",
            "seconds",
            "interval",
            "reported_values",
            "estimand",
            "certificate",
        ),
    )
)


def measured(document: Row) -> Markup:
    """Splits, estimator, cost, interval, estimand and certificate."""
    run, data, model = document["run"], document["data"], document["model"]
    splits, interval, verb = data["splits"], run["interval"], document.get("verb")
    select, report = _USES.get(verb or "", _USES["repair"])
    pairs: list[tuple[object, object]] = [
        ("metric", f"{document['metric']['text']} ({document['metric']['name']}), to be "
                   f"{'lowered' if document['metric']['goal'] == 'lower' else 'raised'}"),
        ("splits", f"score {splits['score']:,} images (values, constants), select {splits['select']:,} "
                   f"({select}), report {splits['report']:,} ({report}); image-disjoint, stratified"),
        ("kept together by", name(data["group"]) if data.get("group") else "nothing but identical pixels"),
        *([("report images used", f"{count(document['report_uses'], 'time')}")] if "report_uses" in document else []),
        ("players", f"{count(model['filters'], 'filter')} at {count(model['sites'], 'site')}, covering "
                    f"{percent(model['parameter_share'])} of the network's parameters"),
        ("ablation", ABLATIONS.get(run["ablation"], run["ablation"]) + _by_constant(run)),
        *_shared(run),
        ("estimator", f"{run['estimator']}: {ESTIMATORS.get(run['estimator'], run['estimator'])}"),
        ("estimand", run["estimand"]),
        ("values shown", f"from {run['reported_values']}"),
        ("interval", f"{interval['name']}: {interval['text']}"),
        *_afresh(run),
        ("truncation certificate", _certificate(run.get("certificate"))),
        *_screen(run),
        *_precision(run),
        ("budget", f"{count(run['budget'], 'evaluation')} ({run['budget_was']}); {run['evaluations']:,} spent, "
                   f"{run['images_per_draw']} images per draw"),
        *_overlap(run),
        ("stopped", f"{STOPPED.get(run['stopped'], run['stopped'])}, after {count(run['rounds'], 'round')}"),
        ("depth", "not limited" if run.get("depth") is None else f"at most {run['depth']} filters removed in a draw"),
        ("seed and device", f"seed {run['seed']}, {processor(run)}"),
        ("time", f"{run['seconds']:g} s"),
    ]  # fmt: skip
    pairs += [
        (key.replace("_", " "), value) for key, value in run.items() if key not in _RUN_SHOWN and value is not None
    ]
    again = f"The same files and options with --budget {run['budget']} --seed {run['seed']} give the same values on "
    again += "the same kind of device."
    intervals = (
        f"Intervals of changes are paired {level_of(document['gain'])} bootstrap intervals over the report images; "
    )
    intervals += (
        "those of single rates are Wilson's, of 95%. They speak of images like these, not of another population."
    )
    return join((definitions(pairs), element("p", again), element("p", intervals, class_="note")))


def _by_constant(run: dict[str, Any]) -> str:
    """How many filters have which constant, where they differ from one another."""
    if run["ablation"] == "activation_mean":
        return ""
    counts = run.get("constants", {})
    return f" ({counts.get('bn_beta', 0):,} filters by β, {counts.get('mean', 0):,} by their mean)"


def _precision(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What the search computed in, where anything but float32 was asked for."""
    said = run.get("precision") or {}
    if said.get("asked", "float32") == "float32":
        return []
    return [("precision of the search", Precision(**said).note())]


def _afresh(run: dict[str, Any]) -> list[tuple[str, str]]:
    """The ablated filters' own samples."""
    found = run.get("afresh")
    if not found:
        return []
    text = f"drawn after they were chosen: {count(found['samples'], 'sample')} of each, of "
    text += f"{found['images_per_draw']} images ({found['evaluations']:,} evaluations, in addition to the budget); "
    return [("values of the ablated filters", text + found["interval"]["text"])]


def _shared(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Means that several parties made together."""
    origin = run.get("constants_from") or {}
    if not origin.get("shared"):
        return []
    text = f"over {count(origin['images'], 'score image')} of {count(origin['parties'], 'party', 'parties')}, "
    return [("mean constants", text + f"not of these images alone (sha256 {origin['sha256']})")]


def _overlap(run: dict[str, Any]) -> list[tuple[str, str]]:
    share = run.get("expected_overlap")
    if share is None:
        return []
    text = f"{percent(share)} of the filters at the end that was asked for, by the ranking's own model: a forecast, "
    return [("expected to be found", text + "not a guarantee")]


def _screen(run: dict[str, Any]) -> list[tuple[str, str]]:
    if "screen" not in run:
        return []
    screen = run["screen"]
    text = (
        f"gradients on {count(screen['images'], 'image')}, each under a removed set of its own, touched all filters; "
    )
    text += f"{screen['sampled']:,} of {screen['of']:,} were then sampled"
    return [("screen", text)]


def _certificate(certificate: Row | None) -> str:
    if certificate is None:
        return "none: no full walk was made"
    error = certificate.get("missing_error")
    missing = decimal(certificate["missing"], 4) + ("" if error is None else f" (standard error {error:.4f})")
    intact, stop, empty = (decimal(certificate[key], 4) for key in ("intact", "at_stop", "all_ablated"))
    return (
        f"from {count(certificate['walks'], 'full walk')}: V is {intact} intact, {stop} where the walks stopped and "
        f"{empty} with everything ablated; the values leave out {missing} in sum (it bounds the sum, not each value)"
    )


def compact(document: Row) -> Markup:
    """The export without the culprits' channels: what went, and its own figures."""
    found = document["compact"]
    kept = [(name(row["id"]), row["reason"]) for row in found["kept"]]
    rest = [table("Culprits that stay, ablated in place", ("filter", "why"), kept)] if kept else []
    if not found["written"]:
        why = found.get("failed", "No culprit can be removed.")
        return join((element("p", f"Not written. {why}"), *rest))
    against, widths = found["against_repaired"], found["parameters"]
    after, repaired = found["report"], document["after"]["report"]
    pairs = [
        ("removed", f"{count(len(found['removed']), 'filter')}: {', '.join(found['removed'])}"),
        ("parameters", f"{widths['before']:,} before, {widths['after']:,} after"),
        ("metric on the report images", f"{percent(after['metric'])} (the repaired checkpoint: "
                                        f"{percent(repaired['metric'])}); change {points(found['gain']['value'])}, "
                                        f"{level_of(found['gain'])} "
                                        f"{interval(found['gain'])}"),
        ("clean accuracy", f"{percent(after['accuracy'])} (the repaired checkpoint: {percent(repaired['accuracy'])})"),
        ("against the repaired checkpoint", f"{against['different_predictions']:,} of {against['images']:,} images "
                                            "predicted differently; largest difference of a logit "
                                            f"{against['largest_logit_difference']:.3g}"),
    ]  # fmt: skip
    loading = "repaired_compact.json has the widths and the code that loads them into the original architecture."
    return join((definitions(pairs), *rest, element("p", f"{found['note']} {loading}", class_="note")))


def limits(document: Row) -> Markup:
    limit = document["limits"]
    pairs = [
        ("clean accuracy", f"may fall by at most {100 * limit['max_clean_drop']:g} points (also on the guard set)"),
        ("subgroups", f"none of at least 30 images may fall by more than {100 * limit['max_subgroup_drop']:g} points"),
        ("filters", f"at most {limit['max_filters']} may be ablated"),
    ]
    said = (
        "Limits are kept on the select images, where k is chosen; on the report images they are measured, not enforced."
    )
    return join((definitions(pairs), element("p", said, class_="note")))


def verification(document: Row) -> Markup:
    check = document.get("verification")
    if not check:
        return element("p", "Nothing was written, so there was nothing to verify.")
    intact = f"nothing was ablated: the model's own file, loaded into {check.get('by', 'the plain module')} in a fresh "
    intact += "process, against the captured network"
    pairs = [
        ("compared", check["how"] if document["k"] else intact),
        ("images", f"{check['images']:,}"),
        ("different predictions", f"{check['different_predictions']:,}"),
        ("largest difference of a logit", f"{check['largest_logit_difference']:.3g}"),
    ]
    return definitions(pairs)


def files(document: Row) -> Markup:
    """Inputs and outputs with their hashes, preprocessing and versions."""
    model, data = document["model"], document["data"]
    found: list[tuple[object, object]] = [
        ("model", _file(model["file"], model["sha256"])),
        ("images", _file(data["file"], data["sha256"])),
    ]
    if data.get("guard"):
        found.append(("guard set", _file(data["guard"]["file"], data["guard"]["sha256"])))
    written = document.get("files", {})
    found += [(f"written: {role}", _file(file["name"], file["sha256"])) for role, file in written.items()]
    if not written:
        found.append(("written: checkpoint", "none"))
    onnx = model.get("onnx")
    architecture = model["architecture"] + (f" = {model['registered']}" if model.get("registered") else "")
    options = ", ".join(f"{k}={v}" for k, v in (model.get("options") or {}).items())
    pairs: list[tuple[object, object]] = [
        ("architecture", f"{architecture}, {model['num_classes']} classes" + (f", {options}" if options else "")),
        *(
            [("ONNX graph", f"opset {onnx['opset']}, {onnx['nodes']:,} nodes, made by {onnx['producer'] or 'unknown'}; "
                            f"{onnx['logits']}; import checked against {onnx['import_checked']}")]
            if onnx else []
        ),
        ("preprocessing", ", ".join(f"{k} {_plain(v)}" for k, v in data["preprocessing"].items())),
        ("versions", ", ".join(f"{k} {v}" for k, v in document["versions"].items())),
        ("report schema", document["schema"]),
    ]  # fmt: skip
    parts: list[object] = [definitions(found + pairs)]
    notes = data.get("notes") or []
    if notes:
        parts.append(details("Notes on reading the images", element("ul", *(element("li", n) for n in notes))))
    images = [(name(c["name"]), f"{c['images']:,}") for c in data["classes"]]
    parts.append(
        details(
            f"{data['images']:,} images of {len(images)} classes",
            table("Images per class", ("class", "n"), images, (1,)),
        )
    )
    return join(parts)


def not_players(document: Row) -> Markup:
    """What cannot be ablated, and why."""
    rows = document["model"]["not_players"]
    if not rows:
        return element("p", "Every convolution's filters are players.")
    keys = list(rows[0])
    body = [[row.get(key, "") for key in keys] for row in rows]
    header = [key.replace("_", " ") for key in keys]
    return details(
        count(len(rows), "layer is not a player", "layers are not players"), table("Not players", header, body)
    )


def _file(called: str, sha256: str) -> Markup:
    return join((name(called), element("span", "sha256 ", element("code", sha256), class_="hash")))


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)

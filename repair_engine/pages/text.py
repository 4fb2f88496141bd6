"""What the verbs print for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from repair_engine.documents.edits import clean_words, is_changed, is_tuned
from repair_engine.documents.known import is_known, not_known_said, row_known, unknown_words
from repair_engine.documents.reasons import beyond_said
from repair_engine.pages import forgetting_wording
from repair_engine.pages.attack_wording import settings_text
from repair_engine.pages.explain_page import at_ends, samples_of, shown
from repair_engine.pages.explain_wording import advantage_line, headline, shift_text
from repair_engine.pages.fairness_wording import fairness_said, odds_said
from repair_engine.pages.repair_wording import deed, edit_said, goal_said, selection_said, title, verdict
from repair_engine.pages.trigger_wording import NOT_MEASURED, is_hidden, known_said
from repair_engine.support.words import first_few, kinds_said, level_of

if TYPE_CHECKING:
    from repair_engine.case.inspection import InspectRecord
    from repair_engine.documents.attack import AuditRecord, ShareRecord
    from repair_engine.documents.corruption import CorruptionRow
    from repair_engine.documents.explain import ExplainRecord, ExplainRow
    from repair_engine.documents.objectives import EndRow, ObjectiveRow, ScoreRecord
    from repair_engine.documents.records import EvaluateRecord, RepairRecord
    from repair_engine.documents.trigger import TriggerRow
    from repair_engine.studies.attack_curves import CurvesRecord
    from repair_engine.studies.attack_rows import AttackRow


_SHOWN = 15
_VALUES = 10  # of a column
_ENDS_SHOWN = 10  # filters of each end of an explanation
_ENDS = 3  # filters shown at each end of a further objective


def inspect_text(document: InspectRecord) -> str:
    lines = [
        f"{document['architecture']}: {kinds_said({k: v['units'] for k, v in document['kinds'].items()})} at "
        f"{len(document['sites'])} sites, "
        f"{document['parameter_share']:.0%} of the parameters; {document['logits']} logits; "
        f"{document['format']} ({', '.join(document['dtypes'])})",
    ]
    if document["onnx"]:
        onnx = document["onnx"]
        lines.append(f"opset {onnx['opset']}, {onnx['logits']}; import checked against {onnx['import_checked']}")
    layout = document["layout"]
    found = [f"wrapper {{{key}}}" for key in layout["wrapper"]]
    found += [f"prefix {layout['prefix']}"] if layout["prefix"] else []
    kept = (layout["beside"], "not the network's, kept as they are")
    for keys, said in (kept, (layout["dropped"], "not written back")):
        found += [f"{said}: {first_few(keys, 5)}"] if keys else []
    lines += [f"read as {'; '.join(found)}"] if found else []
    lines.append(f"{'site':<44}{'units':>8}  kind    norm     activation")
    lines += [
        f"{s['name']:<44}{s['filters']:>8}  {s['kind']:<7} {s['norm']:<8} {s['activation']}" for s in document["sites"]
    ]
    if document["not_players"]:
        lines.append("Not players:")
        lines += [f"  {p['name']} ({p['channels']} channels): {p['reason']}" for p in document["not_players"]]
    if "data" in document:
        data = document["data"]
        lines.append(
            f"{data['images']} images: " + ", ".join(f"{k} {v}" for k, v in list(data["classes"].items())[:20])
        )
        lines += [
            f"  column {_quoted(name)}: {_values(values, data['column_sizes'][name])}"
            for name, values in data["columns"].items()
        ]
        lines += [f"note: {note}" for note in data["notes"]] + [f"warning: {w}" for w in data["warnings"]]
    lines += [f"warning: {w}" for w in document["warnings"]]
    return "\n".join(lines)


def _values(values: list[str], n: int) -> str:
    """The first of a column's n different values; one that has a comma or a colon, or is empty, in quotes."""
    return first_few([_quoted(value) for value in values], _VALUES, n)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ',":') else text


def score_text(document: ScoreRecord) -> str:
    rows = sorted((f for f in document["filters"] if row_known(f)), key=lambda f: f["value"] or 0.0)
    unknown = not_known_said(document["filters"])
    run = document["run"]
    lines = [
        f"{document['metric']['text']} on {len(document['score_images'])} score images: "
        f"{document['value_of_all']:.4f}; {run['estimator']}, {run['evaluations']:,} evaluations, seed {run['seed']}",
        run["interval"]["text"],
        f"{'filter':<44}{'value':>10}{'lower':>10}{'upper':>10}{'samples':>9}",
    ]
    ends = rows if len(rows) <= 2 * _SHOWN else [*rows[:_SHOWN], None, *rows[-_SHOWN:]]
    for row in ends:
        if row is None:
            lines.append(f"… {len(rows) - 2 * _SHOWN} more (--json or --out gives all)")
        else:
            lines.append(
                f"{row['id']:<44}{row['value']:>10.5f}{row['lower']:>10.5f}{row['upper']:>10.5f}{row['samples']:>9}"
            )
    lines += [unknown] if unknown else []
    for objective in document.get("objectives", [])[1:]:
        lines.append(_ends_of(objective))
    return "\n".join([*lines, *_warnings(document["warnings"])])


def _ends_of(objective: ObjectiveRow) -> str:
    """One line on a further objective: the filters of lowest and of highest value."""
    head = f"{objective['name']}: {objective['value_of_all']:.4f} on {objective['images']} images"
    return f"{head}; lowest {_listed(objective['lowest'])}; highest {_listed(objective['highest'])}"


def _listed(rows: list[EndRow]) -> str:
    return ", ".join(f"{row['id']} {row['value']:+.4f}" for row in rows[:_ENDS])


def repair_text(document: RepairRecord) -> str:
    before, after = document["before"]["report"], document["after"]["report"]
    change = document["gain"]
    if document["outcome"] == "repaired":
        done = deed(document).lower() if is_tuned(document) else f"{document['k']} filters ablated"
        head = f"{title(document)}: {done}." + (f" {beyond}" if (beyond := beyond_said(document)) else "")
    elif document["outcome"] == "not_shown_to_help":
        head = "NOT SHOWN TO HELP, written because its filters were chosen by hand: " + " ".join(document["reasons"])
    else:
        head = "No repair found: " + " ".join(document["reasons"])
    lines = [
        head,
        f"On {document['data']['splits']['report']} report images: {document['metric']['text']} "
        f"{before['metric']:.4f} -> {after['metric']:.4f} "
        f"(change {change['value']:+.4f}, {level_of(change)} interval "
        f"{change['lower']:+.4f} to {change['upper']:+.4f}); "
        f"{clean_words(document)} {before['accuracy']:.4f} -> {after['accuracy']:.4f}",
    ]
    if is_changed(document) and (said := goal_said(document)):
        lines.append(said)
    if "guard" in document:
        guard = document["guard"]
        lines.append(f"Guard set ({guard['n']} images): {guard['before']:.4f} -> {guard['after']:.4f}")
    for row in document["groups"].get("subgroups", []):
        lines.append(
            f"  {row['name']:<24} n = {row['n']:<6} {row['before']:.3f} -> {row['after']:.3f} "
            f"[{row['after_interval'][0]:.3f}, {row['after_interval'][1]:.3f}]"
        )
    if document.get("fairness"):
        both = (said(document["fairness"], is_changed(document)) for said in (fairness_said, odds_said))
        lines += [f"  {sentence}" for said in both for sentence in said]
    if "trigger" in document:
        lines.append("Clean accuracy, attack success, accuracy under the trigger (95% Wilson intervals):")
        lines += [f"  {row['name']:<26}{_rates(row)}" for row in document["trigger"]["rows"]]
        lines += [known_said(document) or NOT_MEASURED] if is_hidden(document) else []
    if "forgetting" in document:
        lines += forgetting_wording.summary(document)
    if "corruption" in document:
        shown = document["corruption"]["shown"]
        lines.append(f"Accuracy by kind and severity on {shown:,} report images (95% intervals):")
        lines += [f"  {_corrupted(row)}" for row in document["corruption"]["rows"]]
    rows = document.get("attack", {}).get("rows", [])
    if rows:
        lines.append("Attacks before and after (success; true label recovered):")
        lines += [attack_row(row) for row in rows]
        tests = document["attack"]["self_tests"]
        lines += [f"{'WARNING' if t['warns'] else 'self-test'} ({t['model']}): {t['text']}" for t in tests]
    lines += [
        f"  {f['id']:<44} value {f['value']:+.5f} [{f['lower']:+.5f}, {f['upper']:+.5f}]"
        if row_known(f)
        else f"  {f['id']:<44} value {unknown_words(f['samples'], f['value'])}"
        for f in document["culprits"][: document["k"]]
        if f["value"] is not None
    ]
    lines += selection_said(document) + edit_said(document)
    if document["controls"]:
        lines.append(f"Controls (metric, {clean_words(document)}; each under the same limits):")
        lines += [
            f"  {row['name']:<26}{row['metric']:.4f}  {row['accuracy']:.4f}  {verdict(row, document)}"
            for row in document["controls"]
        ]
    lines += [f"finding: {finding}" for finding in document["findings"]]
    checkpoint = document["files"].get("checkpoint")
    if checkpoint and "out" in document:
        lines.append(f"Checkpoint: {document['out']}/{checkpoint['name']} (sha256 {checkpoint['sha256']})")
    lines += _compact(document)
    lines += [f"Report: {document['out']}/report.html"] if "out" in document else []
    return "\n".join([*lines, *_warnings(document["warnings"])])


def _rates(row: TriggerRow) -> str:
    shares = (row["clean"], row["success"], row["true_label"])
    return "  ".join(f"{one['value']:.1%} [{one['lower']:.1%}, {one['upper']:.1%}]" for one in shares)


def _corrupted(row: CorruptionRow) -> str:
    before, after, change = row["before"], row["after"], row["change"]
    said = f"{row['kind']:<18}{row['severity'] or '':<3}{before['value']:.1%} "
    said += f"[{before['lower']:.1%}, {before['upper']:.1%}]"
    if after is None or change is None:
        return said
    return (
        f"{said} -> {after['value']:.1%} [{after['lower']:.1%}, {after['upper']:.1%}]  change {change['value']:+.1%} "
        f"[{change['lower']:+.1%}, {change['upper']:+.1%}]"
    )


def _compact(document: RepairRecord) -> list[str]:
    if "compact" not in document:
        return []
    found = document["compact"]
    kept = [f"  {row['id']:<44} stays, ablated: {row['reason']}" for row in found["kept"]]
    if not found["written"]:
        return [f"No compact export: {found.get('failed', 'no culprit can be removed')}", *kept]
    report, against = found["report"], found["against_repaired"]
    where = f"{document['out']}/" if "out" in document else ""
    head = (
        f"Compact: {where}{document['files']['compact']['name']}, {len(found['removed'])} filters removed, "
        f"{found['parameters']['before']:,} -> {found['parameters']['after']:,} parameters; "
        f"{document['metric']['text']} {report['metric']:.4f}, {clean_words(document)} {report['accuracy']:.4f} on the "
        f"report images; "
        f"{against['different_predictions']} of {against['images']} predictions are not the repaired checkpoint's"
    )
    return [head, *kept]


def attack_row(row: AttackRow) -> str:
    """One row of attacks, before and after."""
    if row["success"] is None:
        return f"  {row['name']:<46}{row['not_measured']}"
    before = row["before"]
    queries = f", {row['queries']} queries" if "queries" in row else ""
    return (
        f"  {row['name']:<46}{before['success']:.1%} -> {row['success']:.1%} "
        f"[{row['success_interval'][0]:.1%}, {row['success_interval'][1]:.1%}]; "
        f"{before['true_label']:.1%} -> {row['true_label']:.1%} (n = {row['n']}{queries})"
    )


def evaluate_text(document: EvaluateRecord) -> str:
    both = document["metric"]["name"] != "accuracy"
    under = "trigger" in document["metric"]
    lines = [f"{document['metric']['text']}, then {clean_words(document)}:" if both else "accuracy:"]
    if under:
        lines = ["attack success, accuracy under the trigger, then clean accuracy:"]
    tables = [("intact", document["figures"])]
    if "figures_ablated" in document:
        tables.append((f"{len(document['ablated'])} ablated", document["figures_ablated"]))
    for name, figures in tables:
        for part, row in figures.items():
            shown = ("success", "true_label") if under else ("metric",) * both
            metric = "".join(f"{row[key]:.4f}  " if key in row else " " * 8 for key in shown)  # type: ignore[literal-required]
            lines.append(f"  {name:<14}{part:<8}{metric}{row['accuracy']:.4f}")
    return "\n".join([*lines, *_warnings(document["warnings"])])


def _warnings(warnings: list[str]) -> list[str]:
    return [f"warning: {w}" for w in warnings]


def explain_text(document: ExplainRecord) -> str:
    """What the verb prints for people."""
    run = document["run"]
    lines = [
        f"{document['metric']['text']}: {run['estimator']}, {run['evaluations']:,} evaluations, seed {run['seed']}",
        *headline(document),
    ]
    for end, rows in zip(("Most", "Least"), at_ends(document), strict=True):
        known = [r for r in rows if is_known(*shown(r))]
        if not known:
            lines.append(f"{end} critical filters: not known. {_nothing_known(rows)}")
            continue
        lines.append(f"{end} critical filters (value, interval):")
        lines += [_filter_line(r) for r in rows[:_ENDS_SHOWN]]
    lines.append("Mean of the metric over the removal curve:")
    lines += [f"  {advantage_line(document, row)}" for row in document["curves"]["advantages"]]
    lines.append(shift_text(document))
    lines += [f"Page: {document['out']}/explain.html"] if "out" in document else []
    return "\n".join([*lines, *_warnings(document["warnings"])])


def _nothing_known(rows: list[ExplainRow]) -> str:
    if all(shown(r)[0] is None for r in rows):
        return "None of them was sampled."
    return "Their intervals go from −1 to 1, all that a value can be; a larger --budget would narrow them."


def _filter_line(row: ExplainRow) -> str:
    value, low, high = shown(row)
    if value is None or low is None or high is None or not is_known(value, low, high):
        return f"  {row['id']:<44}  {unknown_words(samples_of(row), value)}"
    return f"  {row['id']:<44}{value:>+10.5f} [{low:+.5f}, {high:+.5f}]"


def attack_text(document: AuditRecord) -> str:
    """What the verb prints for people."""
    images, figures, attack = document["images"], document["figures"], document["attack"]
    lines = [
        f"{settings_text(attack)} (preset {attack['preset']}, seed {attack['seed']})",
        f"{images['picked']} images of {images['part']}; {images['left_out']} left out where there is nothing to win",
        *(f"  {name:<24}{share(figures[key])}" for key, name in _FIGURES.items()),
    ]
    if "black_box" in document:
        black = document["black_box"]
        lines.append(f"  {'black-box success':<24}{share(black['success'])}, at most {black['queries']} queries each")
    lines += _curve_lines(document["curves"], "the model")
    if document["rows"]:
        lines.append("Before and after the repair (success; true label recovered):")
        lines += [attack_row(row) for row in document["rows"]]
        lines.append(f"  {'clean accuracy after':<46}{share(document['clean_after']['accuracy'])}")
        lines += _curve_lines(document["curves_repaired"], "the repaired model")
    for test in document["self_tests"]:
        lines.append(f"{'WARNING' if test['warns'] else 'self-test'} ({test['model']}): {test['text']}")
    return "\n".join([*lines, *_warnings(document["warnings"])])


def share(figure: ShareRecord) -> str:
    """A rate with its interval and n."""
    return f"{figure['value']:.1%} [{figure['lower']:.1%}, {figure['upper']:.1%}] (n = {figure['n']})"


_FIGURES = {
    "clean_accuracy": "clean accuracy",
    "success": "attack success",
    "true_label": "true label recovered",
    "accuracy_under_attack": "accuracy under attack",
}


def _curve_lines(curves: CurvesRecord, model: str) -> list[str]:
    by_epsilon = [(p["epsilon"], p) for p in curves["epsilon"]]
    by_steps = [(float(p["steps"]), p) for p in curves["steps"]]
    lines = []
    for name, points in (("ε", by_epsilon), ("steps", by_steps)):
        if points:
            said = "; ".join(f"{at:.4g}: {p['success']:.1%} / {p['true_label']:.1%}" for at, p in points)
            lines.append(f"Success / true label against {name}, {model} (n = {curves['n']}): {said}")
    return lines

"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.machine import line

SKIPPED = "skipped"  # key of a result that was not measured: why


def document(part: str, machine: dict[str, Any], results: Sequence[dict[str, Any]], command: str) -> str:
    """A whole file: what, where, how to make it again, one section per case."""
    sections = [f"# {TITLES[part]}", f"{line(machine)}\n\nMade by `{command}`; [how to read it](../README.md)."]
    for result in results:
        body = f"Not measured: {result[SKIPPED]}" if SKIPPED in result else RENDER[part](result)
        sections.append(f"## {result['case']}\n\n{body}")
    return "\n\n".join(sections) + "\n"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [f"| {' | '.join(header)} |", "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def quality(result: dict[str, Any]) -> str:
    """Time to quality of one case."""
    reference, ceiling = result["reference"], result["ceiling"]
    k = max((k for k in (50, 20) if f"top{k}" in ceiling["perfect"]), default=100)
    ends, levels = (f"top{k}", f"bottom{k}"), ("0.8", "0.9", "0.95")
    head = (
        f"{result['filters']:,} filters, accuracy on {result['score_images']:,} score images; "
        f"{result['seconds_given']:.0f} s per method. Reference: {reference['draws']:,} draws, "
        f"{reference['evaluations']:,} evaluations, mean standard error {reference['mean_std_error']:.1e}, of its "
        f"variance over filters {100 * reference['reliability']:.0f}% is not noise. That noise allows a "
        f"perfect method an overlap of about {ceiling['perfect'][ends[0]]:.2f} (top {k}) and "
        f"{ceiling['perfect'][ends[1]]:.2f} (bottom {k}); two such references overlap by "
        f"{ceiling['two_references'][ends[0]]:.2f} and {ceiling['two_references'][ends[1]]:.2f}."
    )
    able = [r for r in result["records"] if "cannot" not in r]
    columns = [(end, level) for end in ends for level in levels]
    names = [f"{end.removesuffix(str(k))} {k} ≥ {level}" for end, level in columns]
    times = grid(
        ["seconds until", *names],
        ([r["method"], *(_reach(r["reach"][end][level], "seconds") for end, level in columns)] for r in able),
    )
    counts = grid(
        ["evaluations until", *names],
        ([r["method"], *(_reach(r["reach"][end][level], "evaluations") for end, level in columns)] for r in able),
    )
    ratios = grid(
        ["times sooner than the authors' loop / than the best of captum and shapiq", *names],
        (
            [
                r["method"],
                *(
                    f"{_ratio(r['ratio_to_authors'][end][level])} / {_ratio(r['ratio_to_peers'][end][level])}"
                    for end, level in columns
                ),
            ]
            for r in able
        ),
    )
    shown = (*ends, f"regret_{ends[0]}", f"regret_{ends[1]}", "spearman")
    finals = grid(
        ["at the end", "seconds", "evaluations", *(name.replace("regret_", "regret form, ") for name in shown)],
        (
            [r["method"], f"{r['seconds']:.0f}", f"{r['evaluations']:,}", *(f"{r['end'][name]:.2f}" for name in shown)]
            for r in able
        ),
    )
    notes = [f"- {r['method']}: cannot, because {r['cannot']}." for r in result["records"] if "cannot" in r]
    notes += [f"- {r['method']}: {r['note']}." for r in able if r.get("note")]
    legend = (
        "~ extrapolated from the measured spread to overlap with the true values, also where a level is above what the "
        "reference's noise lets one see; – out of reach or not to be told (the JSON says why)."
    )
    return "\n\n".join([head, times, counts, ratios, legend, finals, *(["\n".join(notes)] if notes else [])])


def _reach(cell: dict[str, Any], what: str) -> str:
    if cell[what] is None:
        return "–"
    return ("~" if cell["extrapolated"] else "") + number(cell[what])


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{number(value)}×"


def number(value: float) -> str:
    """Three digits, with thousands separated."""
    if value >= 100:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def throughput(result: dict[str, Any]) -> str:
    """Throughput of one case, with its variants where there are some."""
    if "variants" in result:
        return f"{_throughput(result)}\n\n{_variants(result['variants'])}"
    return _throughput(result)


def _variants(rows: Sequence[dict[str, Any]]) -> str:
    forms = list(dict.fromkeys(form for row in rows for form in row["plain"]))
    head = ["precision, layout", *(f"plain forward, {form}" for form in forms), "marginals", "of the suffix bound"]
    return "Evaluations per second; the bound is that of the fastest plain forward in the same precision.\n\n" + grid(
        head,
        (
            [f"{row['precision']}, {row['layout']}"]
            + [number(row["plain"][form]) if form in row["plain"] else "" for form in forms]
            + [number(row["marginals"]), f"{100 * row['share_of_suffix_bound']:.0f}%"]
            for row in rows
        ),
    )


def _throughput(result: dict[str, Any]) -> str:
    plain, (*ways, last, half) = result["plain"], result["records"]
    head = (
        f"{result['filters']:,} filters, {result['gmacs']:.3g} GMAC per image, {result['images']} images per "
        f"coalition. Plain forward: batches of {plain['batch']}, {plain['memory_format']}."
    )
    rows = grid(
        ["", "evaluations/s", "ratio to plain forwards"],
        (
            [r["method"], number(r["evaluations_per_second"]), f"{r['ratio_to_plain']:.2f}"]
            for r in [
                *ways,
                last,
                *([] if "cannot" in half else [half]),
                {
                    "method": "bound for marginals: what comes after the filter",
                    "evaluations_per_second": last["suffix_bound_evaluations_per_second"],
                    "ratio_to_plain": last["suffix_bound_ratio"],
                },
                {
                    "method": "bound for marginals: what depends on the filter",
                    "evaluations_per_second": last["dependent_bound_evaluations_per_second"],
                    "ratio_to_plain": last["dependent_bound_ratio"],
                },
                {
                    "method": "bound for marginals: the time that passes after the filter",
                    "evaluations_per_second": last["timed_bound_evaluations_per_second"],
                    "ratio_to_plain": last["timed_bound_ratio"],
                },
            ]
        ),
    )
    by_round = ", ".join(f"{100 * share:.0f}%" for share in last["share_of_suffix_bound_by_round"])
    tail = (
        f"Marginals reach **{100 * last['share_of_suffix_bound']:.0f}%** of the first bound (by round {by_round}) and "
        f"{100 * last['share_of_dependent_bound']:.0f}% of the second, {100 * last['share_of_timed_bound']:.0f}% of "
        "the third; over all filters "
        f"{number(last['marginals_per_second'])} marginals/s of {result['images']} images each. "
        "Convolutions that compute the one changed channel only could gain at most "
        f"{last['one_channel_gain']:.2f} times."
    )
    if "cannot" in half:
        return "\n\n".join([head, rows, f"{tail} No search in bfloat16: {half['cannot']}."])
    agreed = half["precision"]
    in_bfloat16 = (
        f"In bfloat16 {half['evaluations_per_second'] / last['evaluations_per_second']:.2f} times as many; "
        f"{100 * agreed['agreement']:.1f}% of {agreed['predictions']} predictions of the intact and of damaged "
        "networks are those of float32."
    )
    return "\n\n".join([head, rows, tail, in_bfloat16])


def scaling(result: dict[str, Any]) -> str:
    """Scaling of one case."""
    workers = result["workers"]
    head = (
        f"{result['filters']:,} filters; a draw is one coalition and the single flips of the filters valued, on "
        f"{result['images']} images where they are not varied."
    )
    rows = grid(
        ["varied", "seconds per draw", "evaluations per draw", "evaluations/s"],
        (
            [r["method"], number(r["seconds_per_draw"]), f"{r['evaluations_per_draw']:,}",
             number(r["evaluations_per_second"])]
            for r in result["records"]
        ),
    )  # fmt: skip
    tail = (
        f"Workers: {workers['blocks']} blocks take {workers['seconds_one']:.1f} s with one one-thread process and "
        f"{workers['seconds_two']:.1f} s with two: **{workers['ratio']:.2f}×**, "
        f"{'the same bits' if workers['same_bits'] else '**different bits**'}."
    )
    return "\n\n".join([head, rows, tail])


def memory(result: dict[str, Any]) -> str:
    """Memory of one case."""
    return f"{result['flips']} single flips of {result['images']} images each.\n\n" + grid(
        ["byte budget", "before, MiB", "peak, MiB", "added, MiB", "within the budget"],
        (
            [r["method"], *(f"{r[key] / 2**20:,.0f}" for key in ("before", "peak", "added")),
             "yes" if r["within_budget"] else "no"]
            for r in result["records"]
        ),
    )  # fmt: skip


def forecast(result: dict[str, Any]) -> str:
    """Forecasts of one case."""
    able = [r for r in result["records"] if "cannot" not in r]
    rows = grid(
        ["bottom K, overlap", "told after", "foretold", "spent", "foretold, s", "took, s", "ratio", "reached"],
        (
            [r["method"], f"{r['told_after_evaluations']:,}", f"{r['foretold_evaluations']:,}", f"{r['evaluations']:,}",
             number(r["foretold_seconds"]), number(r["seconds"]), f"{r['ratio']:.2f}", "yes" if r["reached"] else "no"]
            for r in able
        ),
    )  # fmt: skip
    within = sum(1 / 1.5 <= r["ratio"] <= 1.5 for r in able)
    tail = (
        f"Within a factor of 1.5: **{within} of {len(able)}**. A search that is not there at {result['budget']:,} "
        "evaluations ends all the same, and no more than that is foretold."
    )
    return f"{rows}\n\n{tail}"


def profile(result: dict[str, Any]) -> str:
    """Where the time of flips goes, of one case."""
    wall = result["seconds"]
    floors = [
        ("floor: operations at the plain forward's speed", result["floor_operations"]),
        (f"floor: bytes at {result['bytes_per_second'] / 1e9:.0f} GB/s", result["floor_bytes"]),
    ]
    rows = [(r["method"], r["seconds"]) for r in result["records"]] + [("in all", wall), *floors]
    head = (
        f"{result['evaluations']:,} evaluations by single flips of {result['filters']:,} filters, "
        f"{result['images']} images per coalition, under the profiler."
    )
    return f"{head}\n\n" + grid(
        ["", "seconds", "of the time"], ([name, number(took), f"{100 * took / wall:.0f}%"] for name, took in rows)
    )


TITLES = {
    "quality": "Time to quality",
    "throughput": "Throughput",
    "scaling": "Scaling",
    "memory": "Memory",
    "forecast": "Forecasts",
    "profile": "Where the time goes",
}
RENDER = {
    "quality": quality,
    "throughput": throughput,
    "scaling": scaling,
    "memory": memory,
    "forecast": forecast,
    "profile": profile,
}

"""Charts are well-formed SVG whose marks lie where the numbers say, inside the picture."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from repair_engine.pages.charts import RoundPoint, convergence, front, removal, removal_curve, success
from repair_engine.pages.row_charts import Bar, ValueRow, bars, before_after, histogram, interval_plot, layers
from repair_engine.pages.svg import NARROW, WIDE, nice_scale, shorten
from repair_engine.studies.names import RANDOM, SHAPLEY
from repair_engine.support.words import decimal, digits_for, percent

SVG = "{http://www.w3.org/2000/svg}"
NAME = "<b>&\"'" + "very long name " * 8


def step(k, objective, clean, feasible=True, **more):
    return {"k": k, "objective": objective, "clean": clean, "feasible": feasible, **more}


def group(name, n, before, before_interval, after=None, after_interval=None):
    return {"name": name, "n": n, "before": before, "before_interval": before_interval,
            "after": after, "after_interval": after_interval}  # fmt: skip


ATTACKED = [step(k, 0.9 - 0.1 * k, 0.9, true_label=0.1 * k) for k in range(7)]
POINTS = [step(k, 0.5 + 0.02 * k, 0.9 - 0.01 * k, k < 4, guard=0.8 - 0.02 * k) for k in range(7)]
BANDED = [s | {"lower": s["objective"] - 0.6, "upper": s["objective"] + 0.6, "front": s["k"] % 2 == 0} for s in POINTS]
GROUPS = [group(NAME, 20, 0.0, (0.0, 0.16), 1.0, (0.84, 1.0)), group("b", 300, 0.5, (0.44, 0.56), 0.25, (0.2, 0.3))]
VALUES = [ValueRow(NAME, -0.02, -0.03, -0.01, True), ValueRow("conv:1", -0.001, None, None, False)]
BARS = [Bar("this repair", 1.0, marked=True), Bar(NAME, 0.5, 0.4, 0.6), Bar("nothing", 0.0)]
KS = [0, 1, 10, 2944]
REMOVED = [
    {"ranking": SHAPLEY, "ks": KS, "metric": [0.9, 0.8, 0.2, 0.0]},
    {
        "ranking": RANDOM,
        "ks": KS,
        "metric": [0.9, 0.9, 0.8, 0.0],
        "metric_range": [[0.9, 0.8, 0.7, 0], [0.9, 1, 0.9, 0]],
    },
]
HIT = [{"success": 0.1 * i, "success_interval": [0.09 * i, 0.11 * i]} for i in range(4)]
SITES = [{"site": NAME, "filters": 64, "most": 3, "least": 0, "expected": 0.4}]
ROUNDS = [RoundPoint(NAME, 300, 0.2), RoundPoint("search", 100_000, 0.01)]
CHARTS = {
    "curve": lambda width: removal_curve(POINTS, 3, NAME, floor=0.88, width=width),
    "curve under attack": lambda width: removal_curve(ATTACKED, 3, NAME, width=width),
    "curve k=0": lambda width: removal_curve(POINTS[:1], 0, "accuracy", one_line=True, width=width),
    "curve with a band": lambda width: removal_curve(BANDED, 6, NAME, floor=0.0, width=width),
    "front": lambda width: front({"curve": BANDED, "k": 2, "metric": {"text": NAME}}, width=width),
    "removal": lambda width: removal(REMOVED, "metric", NAME, shift=1.0, width=width),
    "removal, of two runs": lambda width: removal(REMOVED, "metric", "m", names=[NAME, NAME], width=width),
    "success": lambda width: success({NAME: HIT, "b": HIT}, ["1/255", "2/255", "4/255", NAME[:9]], 3, NAME, "ε",
                                     width=width, ident="s"),
    "success of one point": lambda width: success({"a": HIT[:1]}, ["0"], 0, NAME, "ε", width=width, ident="s"),
    "convergence": lambda width: convergence(ROUNDS, 300_000, width=width),
    "histogram": lambda width: histogram([-0.1, 0.0, 0.1], [1, 2943], NAME, width=width, ident="h"),
    "layers": lambda width: layers(SITES, NAME, width=width),
    "groups": lambda width: before_after(GROUPS, True, NAME, width=width),
    "groups, intact only": lambda width: before_after([group("a", 5, 1.0, (0.5, 1.0))], False, width=width),
    "values": lambda width: interval_plot(VALUES, width=width),
    "values of few samples": lambda width: interval_plot([ValueRow("a", -0.03, -60.0, 60.0, True)], width=width),
    "values all alike": lambda width: interval_plot([ValueRow("a", 0.0, 0.0, 0.0, True)], width=width),
    "bars": lambda width: bars(BARS, NAME, ("intact model", 0.0), width=width),
}  # fmt: skip


@pytest.fixture(params=CHARTS.values(), ids=CHARTS.keys())
def chart(request):
    return request.param


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_is_wellformed_named_and_inside_its_frame(chart, width):
    root = ET.fromstring(chart(width))
    _, _, right, bottom = (float(v) for v in root.get("viewBox").split())
    assert right == width
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (SVG + "title", SVG + "desc")
    assert root.get("aria-labelledby").split() == [title.get("id"), description.get("id")]
    assert title.text
    assert description.text
    for node in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            if node.get(key):
                assert 0 <= float(node.get(key)) <= right, (node.tag, node.attrib)
        for key in ("y", "y1", "y2", "cy"):
            if node.get(key):
                assert 0 <= float(node.get(key)) <= bottom, (node.tag, node.attrib)
        if node.tag == SVG + "text":  # about as wide as its letters
            wide = len(node.text or "") * 5.5 * float(node.get("font-size")) / 13
            before = {"start": 0, "middle": 0.5, "end": 1}[node.get("text-anchor")] * wide
            assert float(node.get("x")) - before >= -1, node.text
            assert len(node.text or "") > 40 or float(node.get("x")) - before + wide <= right + 1, node.text
        assert "<" not in (node.get("class") or "")


def test_same_input_gives_the_same_bytes(chart):
    assert chart(WIDE) == chart(WIDE)


def tips(svg: str) -> dict[str, ET.Element]:
    """Marks by their tooltips."""
    return {node[0].text: node for node in ET.fromstring(svg).iter() if len(node) and node[0].tag == SVG + "title"}


def test_curve_places_marks_by_k_and_tells_infeasible_ones_apart_by_shape():
    marks = tips(removal_curve(POINTS, 3, "recall"))
    feasible = [m for tip, m in marks.items() if tip.startswith("k = ") and "outside" not in tip]
    outside = [m for tip, m in marks.items() if tip.endswith(", outside a limit")]
    assert (len(feasible), len(outside)) == (4, 3)
    xs, ys = [float(m.get("cx")) for m in feasible], [float(m.get("cy")) for m in feasible]
    assert xs == sorted(xs)
    assert len({round(b - a, 1) for a, b in pairwise(xs)}) == 1
    assert ys == sorted(ys, reverse=True), "a higher recall is drawn higher"
    assert all(m.tag == SVG + "path" for m in outside), "crosses, not discs"
    assert "k = 3 chosen" in removal_curve(POINTS, 3, "recall")


def test_groups_draw_rings_before_and_diamonds_after():
    marks = tips(before_after(GROUPS, True, "Recall"))
    before, after = marks["b before: 50.0%"], marks["b after: 25.0%"]
    assert before.tag == SVG + "circle"
    assert after.tag == SVG + "path"
    at = float(after.get("d")[1:].split(",")[0])
    whole = tips(before_after([group("a", 9, 1.0, (0, 1), 0.0, (0, 1))], True, "Recall"))
    zero, one = float(whole["a after: 0.0%"].get("d")[1:].split(",")[0]), float(whole["a before: 100.0%"].get("cx"))
    assert zero < at < float(before.get("cx")) < one


def test_bars_are_as_long_as_their_values():
    lengths = [float(m.get("width")) for m in tips(bars(BARS, "t")).values() if m.tag == SVG + "rect"]
    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=0.01)
    assert lengths[2] == 0


def test_scales_have_round_ticks_within_bounds():
    scale = nice_scale([0.53, 0.97], 0, 100, 6, (0.0, 1.0))
    assert scale.ticks == pytest.approx((0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    assert nice_scale([1.0, 1.0], 0, 100, 6, (0.0, 1.0)).high == 1.0
    assert nice_scale([-3e-5, 0.0], 0, 100, 4, (-1.0, 1.0)).ticks == pytest.approx((-3e-5, -2e-5, -1e-5, 0.0))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.66234), "66.2%"),
        (percent(-0.0004, sign=True), "0.0%"),
        (percent(0.123, sign=True), "+12.3%"),
        (decimal(-0.01234), "−0.0123"),
        (decimal(0.0, sign=True), "0.0000"),
        (str(digits_for([-0.000123, 0.00001])), "6"),
        (shorten("abcdefghij", 40), "abcd…"),
    ],
)
def test_numbers_as_text(shown, expected):
    assert shown == expected


def test_true_labels_under_attack_are_drawn_and_told():
    drawn = removal_curve(ATTACKED, 3, "success of the attack")
    assert "true label under attack" in drawn
    assert "True labels under attack go from 0.0% to 30.0%." in drawn
    assert "true label" not in removal_curve(POINTS, 3, "recall").lower()


@pytest.mark.parametrize(("lower", "cut"), [(-0.1, False), (-0.6, True), (float("-inf"), True)])
def test_intervals_much_wider_than_the_values_are_cut_and_it_is_said(lower, cut):
    """Values of 0.03 stay readable beside an interval from -0.6 on; a cut one has no line over the name."""
    chart = interval_plot([ValueRow("conv:0", -0.03, lower, 0.05, True), ValueRow("conv:1", -0.01, -0.02, 0.01, True)])
    assert ("intervals without caps reach further" in chart) == cut
    assert ("Some intervals reach further than is drawn" in chart) == cut
    root = ET.fromstring(chart)
    names = [node for node in root.iter(SVG + "text") if (node.text or "").startswith("conv:")]
    right_of_names = max(float(node.get("x")) for node in names) + 20
    marks = [float(node.get("x1")) for node in root.iter(SVG + "line") if "s-after" in (node.get("class") or "")]
    assert min(marks) > right_of_names

"""Options said once: what a record checks, keywords, records as JSON, and that nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from repair_engine import settings
from repair_engine.errors import BadInput
from repair_engine.settings import Attack, Explain, Pixels, Repair, Score, texts

RECORDS = [Repair, Explain, Score, Attack, settings.Evaluate, settings.ModelUpload, settings.ImagesUpload]


def test_it_needs_the_standard_library_alone() -> None:
    code = (
        "import sys, repair_engine.settings.texts; print([m for m in ('torch', 'numpy', 'django') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("record", RECORDS)
def test_every_option_has_words_for_people(record: type[settings.Settings]) -> None:
    for one in settings.options(record).values():
        assert one.help.endswith("."), one.name
        assert one.help[0].isupper() or one.help.split()[0].rstrip(",:.") in (
            "accuracy",
            "torchvision's",
            "K,OVERLAP",
            "1",
        )
        assert one.default is None or one.check(one.default) == one.default


BAD: dict[str, tuple[type[settings.Settings], dict[str, Any], str]] = {
    "no such choice, and which is near": (Repair, {"estimator": "fst"}, "estimator: 'fst' is not one of .*\n.*fast"),
    "below": (Repair, {"top_k": 0}, "top_k: 0 is less than 1"),
    "above": (Repair, {"max_clean_drop": 2}, "max_clean_drop: 2 is not between 0 and 1"),
    "no number at all": (Repair, {"max_clean_drop": float("nan")}, "max_clean_drop: nan"),
    "another kind": (Repair, {"budget": "many"}, "budget: 'many' is not a whole number"),
    "a half filter": (Repair, {"max_filters": 1.5}, "max_filters: 1.5 is not a whole number"),
    "true is no number": (Repair, {"seed": True}, "seed: True is not"),
    "one is not true": (Repair, {"compact": 1}, "compact: 1 is not true or false"),
    "the bound itself": (Repair, {"minutes": 0}, "minutes: 0 is not above 0"),
    "a text for a list": (Score, {"also": "classes"}, "also: 'classes' is not a list"),
    "no metric": (Repair, {"metric": "beauty"}, "metric: 'beauty' is not one of"),
    "a metric of nothing": (Repair, {"metric": "recall"}, "metric: recall needs a class"),
    "too much after it": (Repair, {"metric": "accuracy:cat"}, "metric: accuracy takes nothing"),
    "a filter twice": (Repair, {"filters": ["a:1", "a:1"]}, "filters: A filter stands there twice"),
    "minutes and budget": (Repair, {"minutes": 3, "budget": 5000}, "minutes: .* exclude"),
    "depth of no draws": (Score, {"depth": 3, "estimator": "exact"}, "depth: .*exact"),
    "quality of another": (Score, {"quality": "50,0.9", "estimator": "tmab"}, "quality: .*fast only"),
    "quality of all": (Score, {"quality": "50,1"}, "quality: .*between 0 and 1"),
    "no quality": (Score, {"quality": "50"}, "quality: '50' is not K,OVERLAP"),
    "no size": (Score, {"memory": "lots"}, "memory: 'lots' is no size"),
    "no memory": (Score, {"memory": "10M"}, "memory: .*the program itself takes"),
    "one random order": (Explain, {"draws": 1}, "draws: 1 is less than 2"),
    "a mean of five": (Pixels, {"mean": [0.5] * 5}, "mean: At most four"),
    "a std of nothing": (Pixels, {"std": [0.0]}, "std: 0 is not above 0"),
    "a size of three": (Pixels, {"resize": [1, 2, 3]}, "resize: .* is not pixels"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_said_with_the_options_name(case: str) -> None:
    record, given, said = BAD[case]
    with pytest.raises(BadInput, match=said) as caught:
        record(**given)
    assert caught.value.field == next(iter(given))


def test_keywords_of_python() -> None:
    known = settings.keywords(Repair)
    assert known["metric"] is settings.MISSING
    assert (known["max_clean_drop"], known["budget"], known["estimator"]) == (0.02, None, "fast")
    assert settings.from_keywords(Repair, metric="accuracy", top_k=3) == Repair(metric="accuracy", top_k=3)
    with pytest.raises(BadInput, match=r"no option 'max_clean_drp'.\n.*max_clean_drop"):
        settings.from_keywords(Repair, metric="accuracy", max_clean_drp=0.1)
    with pytest.raises(BadInput, match="metric: It must be given"):
        settings.from_keywords(Repair, top_k=3)


def test_a_record_leaves_defaults_out_and_comes_back() -> None:
    asked = Repair(metric="recall:cat", max_clean_drop=0.05, queries=0, targeted=False, filters=["a:1"])
    kept = {
        "metric": "recall:cat",
        "seed": 0,
        "max_clean_drop": 0.05,
        "queries": 0,
        "targeted": False,
        "filters": ["a:1"],
    }
    assert asked.to_record() == kept
    assert Repair.from_record({**kept, "kind": "repair", "budget": None, "unknown": 3}) == asked


def test_a_server_takes_less() -> None:
    small = Repair(budget=5)
    with pytest.raises(BadInput, match="budget: 5 is not between 1000"):
        small.check_served()
    Repair(budget=1000).check_served()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("resize", "none", "none"),
        ("resize", "0", "none"),
        ("resize", "224", 224),
        ("crop", "8,9", (8, 9)),
        ("crop", "8x9", (8, 9)),
        ("mean", "0.5 0.25,0.125", (0.5, 0.25, 0.125)),
        ("num_classes", "3", 3),
        ("options", "a=1\nb=0.5\nc=true\nd=False\ne=f=g", {"a": 1, "b": 0.5, "c": True, "d": False, "e": "f=g"}),
    ],
)
def test_texts_are_read_and_written(name: str, text: str, value: object) -> None:
    one = settings.options(settings.ModelUpload)[name]
    found = texts.parse(one, text)
    assert found == value
    assert texts.parse(one, texts.written(one, found)) == found


def test_sizes_that_say_nothing_and_sizes_that_say_none() -> None:
    assert Pixels().given() == {}
    assert Pixels(resize="none", crop=[8, 9], mean=[0.5]).given() == {"resize": None, "crop": [8, 9], "mean": [0.5]}


@pytest.mark.parametrize("text", ["big", "8²", "1,2,3", ""])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="resize: "):
        texts.parse(settings.options(Pixels)["resize"], text)

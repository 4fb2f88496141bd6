"""Fields that several forms share, each with the way from a request and back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django import forms

PIXEL = 255  # levels of a pixel: lengths of attacks are shown in these
TRUTH = {"yes": True, "no": False}
LENGTHS = ("epsilon", "step_size")
SAID = ("targeted", "random_start")
SHARES = ("max_clean_drop", "max_subgroup_drop")  # shown in percentage points


def number(label: str, help_text: str, **limits: Any) -> forms.FloatField:
    """An optional number, of which any step is accepted."""
    any_step = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(required=False, label=label, help_text=help_text, widget=any_step, **limits)


def shown(value: float) -> float | int:
    """As people would type it: 2, not 2.0."""
    near = round(value, 6)
    return int(near) if near == int(near) else near


def count(label: str, help_text: str, least: int | None = 1) -> forms.IntegerField:
    """An optional whole number."""
    return forms.IntegerField(required=False, min_value=least, label=label, help_text=help_text)


def choice(label: str, help_text: str, *choices: tuple[str, str]) -> forms.ChoiceField:
    return forms.ChoiceField(required=False, label=label, help_text=help_text, choices=choices)


class NamedForm(forms.Form):
    """Sent twice, it starts one run."""

    name = forms.CharField(required=False, max_length=200, label="Name", help_text="For your lists.")
    key = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)

    def __init__(self, *args: Any, initial: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, initial={"key": f"page-{uuid.uuid4()}", **(initial or {})}, **kwargs)


class SplitFields(forms.Form):
    """What decides the splits, and where it runs."""

    group = choice(
        "Keep together", "A column whose values (patient, writer, identity) must not be in two of the three splits."
    )
    seed = count("Seed", "The same seed and budget give the same result.", least=0)
    device = choice(
        "Device",
        "A run stays on one kind of device.",
        ("auto", "a GPU if there is one"),
        ("cpu", "CPU"),
        ("cuda", "GPU"),
    )

    def offer_columns(self, columns: Mapping[str, object]) -> None:
        self.fields["group"].choices = [("", "nothing but identical images"), *((name, name) for name in columns)]


class LimitFields(forms.Form):
    """How a repair is chosen, of the ranked culprits."""

    max_clean_drop = number(
        "Clean accuracy may fall by, points", "On the select images and on the guard set.", min_value=0, max_value=100
    )
    max_subgroup_drop = number(
        "Any subgroup may fall by, points",
        "Subgroups of fewer than 30 images do not count.",
        min_value=0,
        max_value=100,
    )
    max_filters = count("Filters, at most", "The longest list of culprits that is tried.")
    choose = choice(
        "How many of them",
        "Chosen on the select images, within the limits.",
        ("", "the number with the best figure"),
        ("one-se", "the fewest within one standard error of the best"),
    )
    order = choice(
        "Order of removal",
        "The stepwise order scores candidates again after each removal, for up to 45% of the budget in addition.",
        ("", "by value and stepwise: the better one on the select images"),
        ("value", "by value alone"),
    )

    def limits(self) -> dict[str, Any]:
        """Of the cleaned data, as a request has them; None where a field is blank."""
        given = {key: self.cleaned_data.get(key) for key in LimitFields.base_fields}
        return given | {key: round(given[key] / 100, 10) for key in SHARES if given[key] is not None}

    @staticmethod
    def limits_of(asked: Mapping[str, Any]) -> dict[str, Any]:
        """The fields as a request has them, or its defaults."""
        start = {"max_clean_drop": 2, "max_subgroup_drop": 10, "max_filters": 50}
        found = start | {key: asked[key] for key in LimitFields.base_fields if key in asked}
        return found | {key: shown(asked[key] * 100) for key in SHARES if key in asked}


class AdversaryFields(forms.Form):
    """PGD, and what is measured beside it."""

    attack = choice(
        "Preset",
        "Who the adversary is.",
        ("", "paper: targeted, 30 steps, no random start"),
        ("standard", "standard: untargeted, random start, restarts"),
    )
    norm = choice("Norm", "What ε measures.", ("", "ℓ∞: any pixel"), ("l2", "ℓ2: the whole image"))
    targeted = choice(
        "Aim",
        "What the adversary wants.",
        ("", "the preset's"),
        ("yes", "a random other class"),
        ("no", "anything but the label"),
    )
    epsilon = number(
        "ε, of 255 levels",
        "How far a pixel may be moved; in ℓ2, the whole image (128 is an ε of 0.5). Blank: the preset's (paper: 16, "
        "standard: 8).",
        min_value=0,
    )
    steps = count("Steps", "Gradient steps per image. Blank: the preset's.")
    step_size = number("Step size, of 255 levels", "Blank: all steps together keep the preset's ratio to ε.")
    random_start = choice("Random start", "Within the ε-ball.", ("", "the preset's"), ("yes", "yes"), ("no", "no"))
    restarts = count("Restarts", "Random starts, of which any may succeed.")
    attack_images = count("Images attacked, at most", "Per split. Blank: 500.")
    queries = count("Black-box queries", "Per image of the subset. Blank: 500; 0: none.", least=0)
    subset = count("Subset, images", "For what is costly: queries, curves, self-tests. Blank: 100.")
    surrogates = forms.MultipleChoiceField(
        required=False,
        label="Transfer attacks from",
        help_text="Other models of the same images and classes: attacks made on them are tried on this one.",
        widget=forms.CheckboxSelectMultiple,
    )

    def adversary(self) -> dict[str, Any]:
        """Of the cleaned data, as a request has it; None where a field is blank."""
        given = {key: self.cleaned_data.get(key) for key in AdversaryFields.base_fields if key != "surrogates"}
        given |= {key: given[key] / PIXEL for key in LENGTHS if given[key] is not None}
        return given | {key: TRUTH.get(given[key]) for key in SAID}

    @staticmethod
    def adversary_of(asked: Mapping[str, Any]) -> dict[str, Any]:
        """The fields as a request has them."""
        found = {key: asked[key] for key in AdversaryFields.base_fields if key in asked}
        found |= {key: shown(asked[key] * PIXEL) for key in LENGTHS if key in asked}
        return found | {key: "yes" if asked[key] else "no" for key in SAID if key in asked}

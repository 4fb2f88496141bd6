"""The form of a repair: its choices come from the model and the dataset that were chosen."""

from __future__ import annotations

import base64
from difflib import get_close_matches
from typing import Any

from django import forms

from repair_engine.data.columns import argument_of, columns_of
from repair_engine.errors import BadInput
from repair_engine.settings import (
    CORRUPTIONS,
    FORGET,
    Attacked,
    Corrupted,
    Corruption,
    Device,
    Explain,
    Pgd,
    Repair,
    Rows,
    Score,
    Trigger,
    attacks,
    check_trigger,
    corruptions_of,
    corrupts,
    options,
    triggers,
)
from webapp.jobs import requests
from webapp.jobs.models import Job
from webapp.jobs.triggers import MOST_TEXT, Patch, patch_of
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.pages.forms.fields import NamedForm, column_field, offer_columns, options_form, surrogates_field

METRICS = (
    ("subgroup-recall", "Subgroup-fair recall", "The mean recall over subgroups: raises those that are failed."),
    ("recall", "Recall of one class", "How many images of one class are recognised."),
    ("accuracy", "Accuracy", "How many of all images are recognised."),
    ("attack-success", "Attack success", "How often an adversary (PGD) steers the model; to be lowered."),
    (
        "trigger-success",
        "A backdoor's trigger",
        "How many images keep their true label under a known trigger.",
    ),
    (
        "hidden-trigger",
        "A backdoor whose trigger is not known",
        "The same under a trigger that is reconstructed from clean images, where a class stands out by it.",
    ),
    (
        "forget",
        "Forget a class or a group",
        "How many images of it are still recognised, to be lowered; limits hold on all others. A linear probe tells "
        "whether it is gone or hidden.",
    ),
    (
        "corrupted-accuracy",
        "Accuracy under corruptions",
        "How many images are recognised when noise, blur, JPEG, brightness or contrast spoil them.",
    ),
)
KINDS = (
    ("repair", "Repair", "Ablate the culprits, and write a checkpoint if that is shown to help."),
    ("explain", "Explain only", "Which filters the metric is made of: values, removal curves, pictures of filters."),
    ("score", "Values only", "Of all filters, for several objectives at once; repairs can go on from them."),
)
ALSO = (("accuracy", "accuracy"), ("classes", "recall of every class"), ("subgroups", "every subgroup of every column"))
MOST_LISTED = 500  # classes and groups that are offered to be forgotten
CUSTOM = "custom"  # in the place of an effort: a budget or minutes
EFFORTS = (
    *((name, *words.split(": ")) for name, words in options(Repair)["effort"].words.items()),
    (CUSTOM, "custom", "a budget that repeats a result, or minutes"),
)
VERBS = (Repair, Explain, Score)
OF_ATTACKS = (*options(Pgd), *options(Attacked), *options(Rows))
OF_TRIGGERS = tuple(options(Trigger))
OF_CORRUPTIONS = (*options(Corruption), *options(Corrupted))
_ARGUMENTS = {
    "recall": "class_name",
    "subgroup-recall": "column",
    "trigger-success": "trigger_class",
    "hidden-trigger": "hidden_class",
    "corrupted-accuracy": "corruptions",
    FORGET: "forgotten",
}
_CLASSES = {"repair": "of-repairs", "explain": "of-explanations", "score": "of-scores"}  # of the stylesheet


class RepairForm(NamedForm, options_form(*VERBS, Device)):
    placed = (
        *("metric", "also", "group", "seed", "effort", "budget", "minutes", "device", "max_clean_drop"),
        *("max_subgroup_drop", "max_filters", "choose", "goal", "edit", "compact", *OF_ATTACKS, *OF_TRIGGERS),
        *OF_CORRUPTIONS,
    )
    kind = forms.ChoiceField(
        required=False, choices=[(key, label) for key, label, _ in KINDS], widget=forms.RadioSelect
    )
    metric = forms.ChoiceField(choices=[(key, label) for key, label, _ in METRICS], widget=forms.RadioSelect)
    class_name = forms.CharField(
        required=False, label="Class", widget=forms.TextInput(attrs={"list": "classes", "autocomplete": "off"})
    )
    trigger_class = forms.CharField(
        required=False,
        label="Class that it gives",
        widget=forms.TextInput(attrs={"list": "classes", "autocomplete": "off"}),
    )
    hidden_class = forms.CharField(
        required=False,
        label="Class that is suspected, if one is",
        widget=forms.TextInput(attrs={"list": "classes", "autocomplete": "off"}),
    )
    forgotten = forms.CharField(
        required=False,
        label="Class, or COLUMN=VALUE of metadata.csv",
        widget=forms.TextInput(attrs={"list": "forgettable", "autocomplete": "off"}),
    )
    trigger_file = forms.FileField(
        required=False,
        label="Patch",
        help_text="PNG, JPEG or WebP, at most 1 MiB: pasted on the images, in pixels of the network's input. An alpha "
        "channel says where it covers them.",
    )
    trigger = forms.CharField(required=False, max_length=MOST_TEXT, widget=forms.HiddenInput)  # in base 64
    triggered = forms.ChoiceField(
        required=False,
        label="Or images that carry it",
        help_text="A dataset of yours, with their true labels.",
    )
    column = forms.MultipleChoiceField(
        required=False,
        label="Columns of metadata.csv",
        help_text="Of several, the subgroups are the combinations of values that occur.",
        widget=forms.CheckboxSelectMultiple,
    )
    corruptions = forms.MultipleChoiceField(
        required=False,
        choices=[(kind, kind.replace("_", " ").replace("jpeg", "JPEG")) for kind in CORRUPTIONS],
        label="Kinds",
        help_text="Where several are ticked they take turns, one an image; none ticked: all.",
        widget=forms.CheckboxSelectMultiple,
    )
    also = forms.MultipleChoiceField(
        required=False,
        choices=ALSO,
        label=options(Score)["also"].title,
        help_text="On the same evaluations, at the price of one. For values only; not beside attack success.",
        widget=forms.CheckboxSelectMultiple,
    )
    guard = forms.ChoiceField(
        required=False,
        label="Guard set",
        help_text="A second labelled set on which clean accuracy must hold too.",
    )
    effort = forms.ChoiceField(
        required=False, choices=[(key, label) for key, label, _ in EFFORTS], widget=forms.RadioSelect
    )
    group = column_field()
    surrogates = surrogates_field()

    def __init__(
        self,
        *args: Any,
        model: ModelUpload,
        dataset: DatasetUpload,
        guards: list[DatasetUpload],
        models: list[ModelUpload],
        initial: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        columns = list(dataset.columns)
        start = {"metric": "subgroup-recall" if columns else "recall", "column": columns[:1]}
        usual = {**start, "kind": "repair", "effort": "quick"}
        super().__init__(*args, initial={**usual, **(initial or {})}, **kwargs)
        self.class_names = class_names(model, dataset)
        self.columns = columns
        groups = [f"{column}={value}" for column, counts in dataset.columns.items() for value in counts]
        self.forgettable = [*self.class_names, *groups][:MOST_LISTED]
        self.fields["column"].choices = [(name, name) for name in columns]
        own = [name for name in (initial or {}).get("also", ()) if name not in dict(ALSO)]  # named by the API
        listed = [pair for pair in ALSO if columns or pair[0] != "subgroups"]
        self.fields["also"].choices = [*listed, *((name, name) for name in own)]
        self.fields["surrogates"].choices = [(str(m.pk), m.name) for m in models if m.pk != model.pk]
        offer_columns(self.fields["group"], dataset.columns)
        others = [("", "none"), *((str(g.pk), g.name) for g in guards if g.pk != dataset.pk)]
        self.fields["guard"].choices = self.fields["triggered"].choices = others

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics with what they mean, each with the field of its argument."""
        chosen = self["metric"].value()
        return [
            {
                "name": name,
                "label": label,
                "meaning": meaning,
                "checked": name == chosen,
                "argument": self[_ARGUMENTS[name]] if name in _ARGUMENTS else None,
                "disabled": name == "subgroup-recall" and not self.columns,
            }
            for name, label, meaning in METRICS
        ]

    def kinds(self) -> list[dict[str, Any]]:
        """Repair or explanation, with what it means."""
        chosen = self["kind"].value() or "repair"
        return [{"name": n, "label": label, "meaning": m, "checked": n == chosen} for n, label, m in KINDS]

    def efforts(self) -> list[dict[str, Any]]:
        """How long it may take, with what that means."""
        chosen = self["effort"].value() or CUSTOM
        return [{"name": n, "label": label, "meaning": m, "checked": n == chosen} for n, label, m in EFFORTS]

    def rest(self) -> list[forms.BoundField]:
        """What is not placed, each with the class of the kinds of run that have it."""
        found = super().rest()
        for field in found:
            having = [record.verb for record in VERBS if field.name in options(record)]
            field.kinds = _CLASSES[having[0]] if len(having) == 1 else ""
        return found

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        metric = given.get("metric")
        if metric in ("recall", "trigger-success"):
            self._check_class(_ARGUMENTS[metric])
        if metric == "hidden-trigger" and given.get("hidden_class", "").strip():
            self._check_class("hidden_class")
        if metric == FORGET:
            self._check_forgotten()
        if triggers(metric or ""):
            self._check_trigger()
        if metric == "subgroup-recall" and not given.get("column"):
            none = "The dataset has no metadata.csv with attribute columns, so there are no subgroups."
            self.add_error("column", "Tick a column, or several." if self.columns else none)
        if given.get("also") and given.get("kind") != "score":
            self.add_error("also", "Only “Values only” values further objectives: choose that above, or untick these.")
        if self.errors:
            return given
        try:
            given["asked"] = requests.asked(self._request())
        except BadInput as error:
            self.add_error(error.field if error.field in self.fields else None, error.said)
        return given

    def _check_class(self, field: str) -> None:
        name = self.cleaned_data.get(field, "").strip()
        if not name:
            self.add_error(field, "Say which class.")
        elif self.class_names and name not in self.class_names:
            near = get_close_matches(name, self.class_names, n=3)
            shown = ", ".join(self.class_names[:12]) + (", …" if len(self.class_names) > 12 else "")
            meant = f" Is {' or '.join(near)} meant?" if near else ""
            self.add_error(field, f"There is no class {name!r}.{meant} There are: {shown}.")

    def _check_forgotten(self) -> None:
        """A class, or a column of the dataset; whether the column has the value is told by whoever reads it."""
        name = self.cleaned_data.get("forgotten", "").strip()
        if any(name.startswith(f"{column}=") for column in self.columns):
            return
        if "=" in name and name not in self.class_names:
            known = ", ".join(self.columns) or "none"
            self.add_error("forgotten", f"There is no column {name.partition('=')[0]!r}. There are: {known}.")
        else:
            self._check_class("forgotten")

    def _check_trigger(self) -> None:
        """A patch that was sent stays with the form, in base 64, where something else is wrong with it."""
        given = self.cleaned_data
        try:
            if file := given.get("trigger_file"):
                given["patch"] = Patch.of(file.read(), file.size)
                self.data = self.data.copy()
                self.data["trigger"] = base64.b64encode(given["patch"].content).decode()
            elif given.get("trigger") and not given.get("triggered"):
                given["patch"] = Patch.of_text(given["trigger"])
            how = None if self.errors.get("trigger_at") else Trigger(**self.said(Trigger))
            check_trigger(given["metric"], "patch" in given, bool(given.get("triggered")), how)
        except BadInput as error:
            field = error.field if error.field in ("triggered", "trigger_at", "trigger_opacity") else "trigger_file"
            self.add_error(field, f"{error.problem} {error.mend}".strip())

    def _request(self) -> dict[str, Any]:
        given = self.cleaned_data
        arguments = {
            "recall": given["class_name"].strip(),
            "subgroup-recall": argument_of(given["column"], self.columns),
            "trigger-success": given["trigger_class"].strip(),
            "hidden-trigger": given["hidden_class"].strip(),
            "corrupted-accuracy": ",".join(given["corruptions"]),
            FORGET: given["forgotten"].strip(),
        }
        argument = arguments.get(given["metric"])
        kind = given["kind"] or Repair.verb
        values = self.said(requests.ASKED[kind])
        if values.get("effort") == CUSTOM:
            del values["effort"]
        elif values.get("effort"):  # what stands in the fields out of sight is not asked for
            values = {name: value for name, value in values.items() if name not in ("budget", "minutes")}
        if not attacks(given["metric"]):
            values = {name: value for name, value in values.items() if name not in OF_ATTACKS}
        if not triggers(given["metric"]):
            values = {name: value for name, value in values.items() if name not in OF_TRIGGERS}
        if not corrupts(given["metric"]):
            values = {name: value for name, value in values.items() if name not in OF_CORRUPTIONS}
        return values | {
            "kind": kind,
            "metric": f"{given['metric']}:{argument}" if argument else given["metric"],
        }


def class_names(model: ModelUpload, dataset: DatasetUpload) -> list[str]:
    """Names that `recall:` may take: the model's, or the dataset's folders where it has none."""
    return list(model.class_names) or sorted(dataset.facts.get("folders", {}))


def initial_from(job: Job) -> dict[str, Any]:
    """The form as it was when this repair was asked for."""
    asked = job.request
    values: dict[str, Any] = RepairForm.initial_of(asked)
    values |= {"name": job.name, "device": job.device, "kind": asked.get("kind", Repair.verb)}
    values |= asked_metric(asked.get("metric", "accuracy"), job.dataset)
    values["surrogates"] = asked.get("surrogates", [])
    if {"budget", "minutes"} & asked.keys():
        values["effort"] = CUSTOM
    values.pop("also", None)  # a follow-up's: of the run that it goes on from
    if job.scores:
        values["also"] = [key for key, _ in ALSO] if "all" in asked.get("also", ()) else list(asked.get("also", ()))
    if job.guard_id:
        values["guard"] = str(job.guard_id)
    if job.triggered_id:
        values["triggered"] = str(job.triggered_id)
    if patch := patch_of(job):
        values["trigger"] = base64.b64encode(patch.content).decode()
    return values


def asked_metric(metric: str, dataset: DatasetUpload) -> dict[str, Any]:
    """The form's fields of a metric. Columns that cannot be read, as of a request that failed for it, are none."""
    kind, _, argument = metric.partition(":")
    if kind in ("recall", "trigger-success", "hidden-trigger", FORGET):
        return {"metric": kind, _ARGUMENTS[kind]: argument}
    if corrupts(kind):
        return {"metric": kind, "corruptions": list(corruptions_of(argument)) if argument else []}
    if kind != "subgroup-recall":
        return {"metric": kind}
    try:
        return {"metric": kind, "column": list(columns_of(argument, dataset.columns))}
    except BadInput:
        return {"metric": kind, "column": []}

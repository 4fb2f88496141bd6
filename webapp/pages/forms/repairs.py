"""The form of a repair: its choices come from the model and the dataset that were chosen."""

from __future__ import annotations

from typing import Any

from django import forms

from repair_engine.data.columns import argument_of, columns_of
from repair_engine.errors import BadInput
from webapp.jobs.models import Job
from webapp.jobs.requests import Asked, BadRequest
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.pages.forms.fields import AdversaryFields, LimitFields, NamedForm, SplitFields, choice, count

METRICS = (
    ("subgroup-recall", "Subgroup-fair recall", "The mean recall over subgroups: raises those that are failed."),
    ("recall", "Recall of one class", "How many images of one class are recognised."),
    ("accuracy", "Accuracy", "How many of all images are recognised."),
    ("attack-success", "Attack success", "How often an adversary (PGD) steers the model; to be lowered."),
)
KINDS = (
    ("repair", "Repair", "Ablate the culprits, and write a checkpoint if that is shown to help."),
    ("explain", "Explain only", "Which filters the metric is made of: values, removal curves, pictures of filters."),
    ("score", "Values only", "Of all filters, for several objectives at once; repairs can go on from them."),
)
ALSO = (("accuracy", "accuracy"), ("classes", "recall of every class"), ("subgroups", "every subgroup of every column"))
ESTIMATORS = (
    ("", "fast: gradients screen, comparable marginal contributions decide (the default)"),
    ("cmcs", "cmcs: comparable marginal contributions of all filters"),
    ("tmab", "tmab: the truncated bandit of the paper"),
    ("monte_carlo", "monte_carlo: permutations"),
    ("exact", "exact: enumeration, at most 20 filters"),
)
CONSTANTS = (
    ("", "its mean over the score images, as in the paper"),
    ("bn_beta", "what its batch norm's β gives, as in the authors' code"),
)
PRECISIONS = (
    ("", "float32"),
    ("bfloat16", "bfloat16 where it agrees: faster on newer processors"),
)


class RepairForm(NamedForm, SplitFields, LimitFields, AdversaryFields):
    kind = forms.ChoiceField(
        required=False, choices=[(key, label) for key, label, _ in KINDS], widget=forms.RadioSelect
    )
    metric = forms.ChoiceField(choices=[(key, label) for key, label, _ in METRICS], widget=forms.RadioSelect)
    class_name = forms.CharField(
        required=False, label="Class", widget=forms.TextInput(attrs={"list": "classes", "autocomplete": "off"})
    )
    column = forms.MultipleChoiceField(
        required=False,
        label="Columns of metadata.csv",
        help_text="Of several, the subgroups are the combinations of values that occur.",
        widget=forms.CheckboxSelectMultiple,
    )
    also = forms.MultipleChoiceField(
        required=False,
        choices=ALSO,
        label="Value these, too",
        help_text="On the same evaluations, at the price of one. For values only; not beside attack success.",
        widget=forms.CheckboxSelectMultiple,
    )
    guard = forms.ChoiceField(
        required=False,
        label="Guard set",
        help_text="A second labelled set on which clean accuracy must hold too.",
    )
    budget = count(
        "Budget, evaluations",
        "One evaluation is one image under one coalition. Blank: enough for about five minutes.",
        least=None,
    )
    estimator = choice("Estimator", "How the filters are valued.", *ESTIMATORS)
    constant = choice(
        "An ablated filter gives", "Filters without a batch norm of their own give their mean either way.", *CONSTANTS
    )
    precision = choice("The search computes in", "What is reported is computed in float32 either way.", *PRECISIONS)
    memory = forms.CharField(
        required=False,
        max_length=20,
        label="Memory",
        help_text="That a worker may take for it, such as 2G (blank) or 1500M. Changes no figure.",
    )
    top_k = count("Culprits to tell apart", "tmab stops when these are clear.")
    side = choice(
        "End of the values",
        "Where tmab looks.",
        *(("", "where culprits are"), ("top", "top"), ("bottom", "bottom"), ("both", "both")),
    )
    batch_size = count("Images per draw", "Blank: chosen so that the budget buys enough.")
    compact = forms.BooleanField(
        required=False,
        label="Also write a compact network",
        help_text="Without the culprits' channels, where they can be removed: smaller, not equal to the repaired "
        "checkpoint, and measured by itself.",
    )
    DEFAULTS = {"kind": "repair", "seed": 0, "device": "auto", **LimitFields.limits_of({})}

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
        columns = list(dataset.facts.get("columns", {}))
        start = {"metric": "subgroup-recall" if columns else "recall", "column": columns[:1]}
        start |= {**self.DEFAULTS, **(initial or {})}
        super().__init__(*args, initial=start, **kwargs)
        self.class_names = class_names(model, dataset)
        self.columns = columns
        self.fields["column"].choices = [(name, name) for name in columns]
        own = [name for name in start.get("also", ()) if name not in dict(ALSO)]  # named by the API
        listed = [pair for pair in ALSO if columns or pair[0] != "subgroups"]
        self.fields["also"].choices = [*listed, *((name, name) for name in own)]
        self.fields["surrogates"].choices = [(str(m.pk), m.name) for m in models if m.pk != model.pk]
        self.offer_columns(dataset.facts.get("columns", {}))
        self.fields["guard"].choices = [("", "none"), *((str(g.pk), g.name) for g in guards if g.pk != dataset.pk)]

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics with what they mean, each with the field of its argument."""
        arguments = {"recall": "class_name", "subgroup-recall": "column"}
        chosen = self["metric"].value()
        return [
            {
                "name": name,
                "label": label,
                "meaning": meaning,
                "checked": name == chosen,
                "argument": self[arguments[name]] if name in arguments else None,
                "disabled": name == "subgroup-recall" and not self.columns,
            }
            for name, label, meaning in METRICS
        ]

    def kinds(self) -> list[dict[str, Any]]:
        """Repair or explanation, with what it means."""
        chosen = self["kind"].value() or "repair"
        return [{"name": n, "label": label, "meaning": m, "checked": n == chosen} for n, label, m in KINDS]

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        metric = given.get("metric")
        if metric == "recall":
            name = given.get("class_name", "").strip()
            if not name:
                self.add_error("class_name", "Say which class.")
            elif self.class_names and name not in self.class_names:
                shown = ", ".join(self.class_names[:12]) + (", …" if len(self.class_names) > 12 else "")
                self.add_error("class_name", f"There is no class {name!r}. There are: {shown}.")
        if metric == "subgroup-recall" and not given.get("column"):
            none = "The dataset has no metadata.csv with attribute columns, so there are no subgroups."
            self.add_error("column", "Tick a column, or several." if self.columns else none)
        if given.get("also") and given.get("kind") != "score":
            self.add_error("also", "Only “Values only” values further objectives: choose that above, or untick these.")
        if self.errors:
            return given
        try:
            given["asked"] = Asked.from_json(self._request())
        except BadRequest as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))
        return given

    def _request(self) -> dict[str, Any]:
        given = self.cleaned_data
        arguments = {
            "recall": given["class_name"].strip(),
            "subgroup-recall": argument_of(given["column"], self.columns),
        }
        argument = arguments.get(given["metric"])
        same = (
            "group",
            "budget",
            "estimator",
            "constant",
            "precision",
            "memory",
            "seed",
            "top_k",
            "side",
            "batch_size",
            "compact",
        )
        values = {key: given[key] for key in same} | self.limits()
        values["metric"] = f"{given['metric']}:{argument}" if argument else given["metric"]
        if given["metric"] == "attack-success":
            values |= self.adversary()
        if given["kind"] == "score":
            values["also"] = given["also"]
        if given["kind"] in ("explain", "score"):
            values["kind"] = given["kind"]
            of_repairs = (*LimitFields.base_fields, "queries", "subset", "compact")
            values = {key: value for key, value in values.items() if key not in of_repairs}
        return {key: value for key, value in values.items() if value not in (None, "", [])}


def class_names(model: ModelUpload, dataset: DatasetUpload) -> list[str]:
    """Names that `recall:` may take: the model's, or the dataset's folders where it has none."""
    return list(model.class_names) or sorted(dataset.facts.get("folders", {}))


def initial_from(job: Job) -> dict[str, Any]:
    """The form as it was when this repair was asked for."""
    asked = dict(job.request)
    metric, _, argument = asked.pop("metric", "accuracy").partition(":")
    values: dict[str, Any] = {**asked, "metric": metric, "name": job.name, "device": job.device}
    if not job.scores:
        values.pop("also", None)  # a follow-up's: of the run that it goes on from
    elif "all" in asked.get("also", ()):
        values["also"] = [key for key, _ in ALSO]
    if metric == "recall":
        values["class_name"] = argument
    elif metric == "subgroup-recall":
        try:
            values["column"] = list(columns_of(argument, job.dataset.facts.get("columns", {})))
        except BadInput:  # a request that failed for it
            values["column"] = []
    values |= LimitFields.limits_of(asked) | AdversaryFields.adversary_of(asked)
    if job.guard_id:
        values["guard"] = str(job.guard_id)
    return values

"""The forms of models and datasets. What a file holds is checked afterwards, by a worker."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django import forms

from repair_engine.errors import BadInput
from repair_engine.settings import NONE, ImagesUpload, ModelUpload, Network, Pixels, options
from webapp.library.architectures import HUGGING_FACE, ONNX, TIMM, Untold, architectures, told_by
from webapp.library.models import ModelUpload as Model
from webapp.library.uploads import SMALL
from webapp.pages.forms.fields import options_form


class DatasetForm(options_form(ImagesUpload, only=tuple(options(ImagesUpload)))):
    of = "dataset"
    field_order = ["file", "name"]  # a file that is chosen first is sent while the rest is filled in

    file = forms.FileField(
        label="Zip of labelled images",
        help_text="One folder per class (class/name.png; JPEG, PNG or WebP). An optional metadata.csv with the column "
        "file_name gives labels and attribute columns, which become subgroups.",
        widget=forms.FileInput(attrs={"accept": ".zip,application/zip"}),
    )
    name = forms.CharField(
        required=False, max_length=200, label="Name", help_text="For your lists; the file's name if left out."
    )

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {name: given[name] for name in ("file", "name")} | self.said(ImagesUpload) | {"team": given.get("team")}


class ModelForm(options_form(ModelUpload, only=tuple(options(ModelUpload)))):
    of = "model"

    file = forms.FileField(
        label="Checkpoint",
        help_text="safetensors, a state dict that torch.save wrote (.pt, .pth), an ONNX model (.onnx), or a Hugging "
        "Face folder as one zip. Pickled modules are refused: they would run code.",
        widget=forms.FileInput(attrs={"accept": ".safetensors,.pt,.pth,.bin,.ckpt,.onnx,.zip"}),
    )
    name = forms.CharField(
        required=False, max_length=200, label="Name", help_text="For your lists; the file's name if left out."
    )
    classes_file = forms.FileField(
        required=False,
        label="Class names, as a file",
        help_text="Text with one name per line in index order, or JSON {folder: [index, name]}. Without names, the "
        "dataset's folders in sorted order are taken.",
        widget=forms.FileInput(attrs={"accept": ".txt,.json,text/plain,application/json"}),
    )
    classes = forms.CharField(
        required=False,
        strip=False,
        max_length=SMALL,
        label="Class names, typed",
        help_text="The same, here. The file wins if both are given.",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
    )

    placed = ("architecture", "num_classes", *options(Pixels))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["architecture"].widget.attrs |= {"list": "architectures"}
        self.fields["options"].help_text += " One name=value per line."

    def pixels(self) -> list[forms.BoundField]:
        return [self[name] for name in options(Pixels)]

    def pixels_are_wrong(self) -> bool:
        return any(field.errors for field in self.pixels())

    def clean_architecture(self) -> str:
        name = self.cleaned_data["architecture"] or ""
        known = architectures()
        if name.startswith(TIMM):
            if find_spec("timm") is None:
                raise forms.ValidationError("timm is not installed on this server: ask the operator to install it.")
        elif name and name not in (ONNX, HUGGING_FACE, *known["torchvision"], *known["registered"]):
            near = [other for other in known["torchvision"] if name.lower()[:4] in other][:6]
            raise forms.ValidationError(
                f"{name!r} is neither a torchvision classifier nor registered here."
                + (f" Similar: {', '.join(near)}." if near else " Choose one from the list.")
            )
        return name

    def clean_classes_file(self) -> str:
        file = self.cleaned_data["classes_file"]
        if file is None:
            return ""
        if file.size > SMALL:
            raise forms.ValidationError(f"More than {SMALL:,} bytes: this is no list of class names.")
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise forms.ValidationError("This file is not UTF-8 text.") from None

    def clean(self) -> dict[str, Any]:
        try:
            self.cleaned_data["preprocessing"] = Pixels(**self.said(Pixels)).given() or None
        except BadInput as error:
            self.add_error(error.field, error.problem)
        if text := self.cleaned_data.get("classes_file"):  # shown in the other field, where the form is not accepted
            self.data = self.data.copy()
            self.data["classes"] = text
        file, architecture, num_classes = (
            self.cleaned_data.get(key) for key in ("file", "architecture", "num_classes")
        )
        if file and not {"architecture", "num_classes"}.intersection(self.errors):
            try:
                self.cleaned_data |= told_by(file.name, architecture, num_classes)
            except Untold as missing:
                self.add_error(missing.field, str(missing))
        return self.cleaned_data

    def values(self) -> dict[str, Any]:
        """Keyword arguments of `services.create_model`."""
        given = self.cleaned_data
        text = given["classes_file"] or given["classes"]
        return {
            **self.said(Network),
            **{name: given[name] for name in ("file", "architecture", "num_classes", "name", "preprocessing")},
            "classes_text": text if text.strip() else "",
            "team": given.get("team"),
        }


def initial_from(model: Model) -> dict[str, Any]:
    """The form as it was when this model was sent."""
    pixels = {
        name: NONE if value is None else tuple(value) if isinstance(value, list) else value
        for name, value in (model.preprocessing or {}).items()
    }
    said = {name: getattr(model, name) or None for name in options(Network)}
    if model.architecture in (ONNX, HUGGING_FACE):  # its file says it
        said |= {"architecture": None, "num_classes": None}
    return ModelForm.initial_of(said | pixels) | {"name": model.name, "classes": model.classes_text}

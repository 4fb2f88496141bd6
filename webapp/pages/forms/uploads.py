"""The forms of models and datasets. What a file holds is checked afterwards, by a worker."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.validators import RegexValidator

from webapp.library.architectures import HUGGING_FACE, ONNX, Untold, architectures, told_by
from webapp.library.uploads import SMALL

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")


class DatasetForm(forms.Form):
    file = forms.FileField(
        label="Zip of labelled images",
        help_text="One folder per class (class/name.png; JPEG, PNG or WebP). An optional metadata.csv with the column "
        "file_name gives labels and attribute columns, which become subgroups.",
        widget=forms.FileInput(attrs={"accept": ".zip,application/zip"}),
    )
    name = forms.CharField(
        required=False, max_length=200, label="Name", help_text="For your lists; the file's name if left out."
    )
    split_folder = forms.CharField(
        required=False,
        max_length=200,
        label="Split folder",
        help_text="Only where the zip holds splits (train, test; fold1, fold2): the top folder that is read. "
        "none: the top folders are the classes.",
    )

    def values(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class ModelForm(forms.Form):
    file = forms.FileField(
        label="Checkpoint",
        help_text="safetensors, a state dict that torch.save wrote (.pt, .pth), an ONNX model (.onnx), or a Hugging "
        "Face folder as one zip. Pickled modules are refused: they would run code.",
        widget=forms.FileInput(attrs={"accept": ".safetensors,.pt,.pth,.bin,.ckpt,.onnx,.zip"}),
    )
    architecture = forms.CharField(
        max_length=100,
        validators=[RegexValidator(r"^[\w.-]+$", "A name such as resnet18: letters, digits, _ . and -.")],
        required=False,
        help_text="Type to search torchvision's classifiers and those that the operator registered. An ONNX model "
        "and a Hugging Face folder bring their own: leave it blank.",
        widget=forms.TextInput(attrs={"list": "architectures", "autocomplete": "off", "spellcheck": "false"}),
    )
    num_classes = forms.IntegerField(
        label="Number of classes",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="1 is a single logit: yes or no at 0. Blank for an ONNX model and a Hugging Face folder.",
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
    options = forms.CharField(
        required=False,
        label="Architecture options",
        help_text="Keyword arguments of the architecture, one name=value per line, such as transform_input=true. "
        "Auxiliary heads and input channels are read from the file.",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )
    weights = forms.ChoiceField(
        required=False,
        label="Which weights",
        help_text="Only where the file holds both plain weights and their moving average.",
        choices=[("", "the only ones"), ("model", "the plain weights"), ("ema", "the moving average (EMA)")],
    )
    key = forms.CharField(
        required=False,
        max_length=200,
        label="Entry of the file",
        help_text="Which holds the state dict, where several might, such as teacher. Blank: found out.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    strip_prefix = forms.CharField(
        required=False,
        max_length=200,
        label="Prefix of the keys",
        help_text="Of the network's own, where others stand beside them, such as backbone. with its dot. Blank: found "
        "out.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    resize = forms.CharField(
        required=False, label="Resize, pixels", help_text="Shorter side; none: no resizing. Blank: the default."
    )
    crop = forms.CharField(
        required=False, label="Centre crop, pixels", help_text="Side of the square; none: no crop. Blank: the default."
    )
    mean = forms.CharField(
        required=False, label="Mean per channel", help_text="Of pixels in [0, 1], such as 0.485 0.456 0.406."
    )
    std = forms.CharField(required=False, label="Standard deviation per channel", help_text="As 0.229 0.224 0.225.")
    channels = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        label="Colour",
        help_text="Blank: what the first convolution takes.",
        choices=[("", "as the network"), ("1", "greyscale"), ("3", "RGB")],
    )
    interpolation = forms.ChoiceField(
        required=False,
        label="Interpolation",
        help_text="How images are resized.",
        choices=[("", "the default"), *((name, name) for name in INTERPOLATIONS)],
    )
    PREPROCESSING = ("resize", "crop", "channels", "interpolation", "mean", "std")

    def clean_architecture(self) -> str:
        name = self.cleaned_data["architecture"]
        known = architectures()
        if (
            name
            and name not in (ONNX, HUGGING_FACE)
            and name not in known["torchvision"]
            and name not in known["registered"]
        ):
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

    def clean_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for line in filter(None, map(str.strip, self.cleaned_data["options"].splitlines())):
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or not name.isidentifier():
                raise forms.ValidationError(f"{line!r} is not name=value.")
            options[name] = _value(value)
        return options

    def clean_resize(self) -> int | str | None:
        return _pixels(self.cleaned_data["resize"])

    def clean_crop(self) -> int | str | None:
        return _pixels(self.cleaned_data["crop"])

    def clean_mean(self) -> list[float] | str:
        return _numbers(self.cleaned_data["mean"])

    def clean_std(self) -> list[float] | str:
        found = _numbers(self.cleaned_data["std"])
        if any(value <= 0 for value in found or []):
            raise forms.ValidationError("A standard deviation is above 0.")
        return found

    def clean(self) -> dict[str, Any]:
        mean, std = self.cleaned_data.get("mean"), self.cleaned_data.get("std")
        if mean and std and len(mean) != len(std):
            self.add_error("std", f"{len(std)} numbers here and {len(mean)} in the mean: one per channel in both.")
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
        preprocessing = {key: given[key] for key in self.PREPROCESSING if given[key] not in ("", None, "none")}
        preprocessing |= {key: None for key in ("resize", "crop") if given[key] == "none"}
        return {
            "file": given["file"],
            "architecture": given["architecture"],
            "num_classes": given["num_classes"],
            "name": given["name"],
            "options": given["options"],
            "weights": given["weights"],
            "key": given["key"],
            "strip_prefix": given["strip_prefix"],
            "classes_text": text if text.strip() else "",
            "preprocessing": preprocessing or None,
        }


def _value(text: str) -> bool | int | float | str:
    try:
        value = json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _pixels(text: str) -> int | str:
    text = text.strip().lower()
    if text in ("", "none"):
        return text
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise forms.ValidationError("Pixels between 1 and 4096, or none.")
    return int(text)


def _numbers(text: str) -> list[float] | str:
    if not text.strip():
        return ""
    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise forms.ValidationError("Numbers with spaces between them, one per channel.") from None
    if len(found) > 4:
        raise forms.ValidationError("At most four channels.")
    return found

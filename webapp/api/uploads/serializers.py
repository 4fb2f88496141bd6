"""Models and datasets, in and out."""

from __future__ import annotations

import math
import re
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from webapp.api.base import Body
from webapp.api.fields import LINE_OR_NONE, Line, Real, Text, Whole
from webapp.library import services
from webapp.library.architectures import Untold, told_by
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.library.uploads import SMALL

SHA256 = r"^[0-9a-f]{64}$"
_COMMON = [
    "id",
    "name",
    "file_name",
    "sha256",
    "size",
    "state",
    "error",
    "mend",
    "warnings",
    "facts",
    "created_at",
]


class _UploadSerializer(serializers.ModelSerializer):
    sha256 = serializers.CharField(source="blob_id", read_only=True)
    size = serializers.IntegerField(source="blob.size", read_only=True, help_text="Bytes.")
    error = serializers.CharField(read_only=True, help_text="Why it was rejected.")
    mend = serializers.CharField(read_only=True, help_text="What can be done about it.")
    warnings = serializers.ListField(child=serializers.CharField(), read_only=True)
    facts = serializers.DictField(read_only=True, help_text="What the check found.")


class ModelSerializer(_UploadSerializer):
    options = serializers.DictField(read_only=True)
    class_names = serializers.ListField(child=serializers.CharField(), read_only=True)
    preprocessing = serializers.DictField(read_only=True, allow_null=True)

    class Meta:
        model = ModelUpload
        fields = [
            *_COMMON,
            "architecture",
            "num_classes",
            "options",
            "weights",
            "key",
            "strip_prefix",
            "class_names",
            "preprocessing",
        ]
        read_only_fields = fields


class DatasetSerializer(_UploadSerializer):
    class Meta:
        model = DatasetUpload
        fields = [*_COMMON, "split_folder"]
        read_only_fields = fields


class PreprocessingSerializer(Body):
    """How an image becomes the network's input. Everything is optional; see `repair --help`."""

    resize = Whole(required=False, min_value=1, max_value=4096, allow_null=True)
    crop = Whole(required=False, min_value=1, max_value=4096, allow_null=True)
    mean = serializers.ListField(child=Real(), required=False, max_length=4)
    std = serializers.ListField(child=Real(min_value=1e-6), required=False, max_length=4)
    channels = Whole(required=False, min_value=1, max_value=4)
    interpolation = serializers.ChoiceField(choices=["nearest", "bilinear", "bicubic", "lanczos"], required=False)


class _Json(serializers.JSONField):
    """In a form: text that is JSON."""

    def to_internal_value(self, data: Any) -> Any:
        try:
            return super().to_internal_value(data)
        except RecursionError:  # lists in lists in lists …
            self.fail("invalid")


@extend_schema_field(
    {
        "type": "object",
        "propertyNames": {"pattern": LINE_OR_NONE},
        "additionalProperties": {
            "anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string", "pattern": LINE_OR_NONE}]
        },
    }
)
class Options(_Json):
    pass


@extend_schema_field(PreprocessingSerializer)
class Preprocessing(_Json):
    pass


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


class CreateModelSerializer(Body):
    """A checkpoint (safetensors, or a state dict of torch.save) and what is needed to build its network; or an ONNX
    model (.onnx), or a Hugging Face folder as one zip (config.json, model.safetensors), which need neither architecture
    nor number of classes."""

    file = serializers.FileField()
    architecture = serializers.RegexField(
        r"^[\w.-]+$",
        max_length=100,
        required=False,
        help_text="A torchvision model, or a name that the operator registered. Required unless the file is ONNX or a "
        "zip.",
    )
    num_classes = serializers.IntegerField(
        min_value=1, max_value=1_000_000, required=False, help_text="Required unless the file is ONNX or a zip."
    )
    options = Options(required=False, help_text='JSON: {"transform_input": true}')
    weights = serializers.ChoiceField(
        choices=["model", "ema"], required=False, help_text="Which, where the file holds both."
    )
    key = Line(
        required=False,
        max_length=200,
        help_text="The entry of the file that holds the state dict, where several might.",
    )
    strip_prefix = Line(
        required=False,
        max_length=200,
        help_text='Of the keys that are the network\'s, where others stand beside them, such as "backbone.".',
    )
    classes = Text(
        required=False,
        trim_whitespace=False,
        max_length=SMALL,
        help_text="Class names in index order, one per line, or JSON {folder: [index, name]}.",
    )
    classes_file = serializers.FileField(required=False, help_text="The same, as a file.")
    preprocessing = Preprocessing(
        required=False,
        help_text='JSON: {"resize": 256, "crop": 224, "mean": [.485, .456, .406], "std": [.229, .224, .225]}',
    )
    name = Line(required=False, max_length=200)

    def validate_options(self, value: object) -> dict:
        if not isinstance(value, dict) or not all(map(_plain, value.values())):
            raise serializers.ValidationError("Give a JSON object of numbers, strings or true/false.")
        if not all(re.fullmatch(LINE_OR_NONE, text) for text in (*value, *value.values()) if isinstance(text, str)):
            raise serializers.ValidationError("Texts are of one line, without control characters.")
        return value

    def validate_preprocessing(self, value: object) -> dict:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Give a JSON object.")
        known = PreprocessingSerializer(data=value)
        known.is_valid(raise_exception=True)
        return dict(known.validated_data)

    def validate(self, values: dict) -> dict:
        text, file = values.pop("classes", ""), values.pop("classes_file", None)
        if file is not None:
            if file.size > SMALL:
                raise serializers.ValidationError({"classes_file": f"More than {SMALL:,} bytes."})
            try:
                text = file.read().decode("utf-8-sig")
            except UnicodeDecodeError:
                raise serializers.ValidationError({"classes_file": "Not UTF-8 text."}) from None
            if "\0" in text:  # PostgreSQL keeps none
                raise serializers.ValidationError({"classes_file": "It holds null characters: is it UTF-8 text?"})
        values["classes_text"] = text if text.strip() else ""
        try:
            values |= told_by(values["file"].name, values.get("architecture", ""), values.get("num_classes"))
        except Untold as missing:
            raise serializers.ValidationError({missing.field: str(missing)}) from None
        return values


class _Known(Body):
    """In the place of a file: the hash of one that the caller has uploaded before."""

    sha256 = serializers.RegexField(SHA256, help_text="Of a file that you have uploaded before.")
    file_name = Line(
        required=False, max_length=255, help_text="Its name now; its ending counts. Default: that of the upload."
    )

    def validate(self, values: dict) -> dict:
        values["file"] = services.known_file(self.context["owner"], values.pop("sha256"), values.pop("file_name", ""))
        return super().validate(values)


class KnownModelSerializer(_Known, CreateModelSerializer):
    """A checkpoint that you have uploaded before: nothing is sent again. With other options it is another model."""

    file = None
    classes_file = None


class CreateDatasetSerializer(Body):
    """A zip of images: class/name.png, and optionally metadata.csv (file_name, label, attribute columns)."""

    file = serializers.FileField()
    name = Line(required=False, max_length=200)
    split_folder = Line(
        required=False,
        max_length=200,
        help_text="Where the zip holds splits (train, test; fold1, fold2): the top folder that is read. none: the top "
        "folders are the classes.",
    )


class KnownDatasetSerializer(_Known, CreateDatasetSerializer):
    """A zip of images that you have uploaded before: nothing is sent again."""

    file = None

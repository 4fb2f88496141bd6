"""Models and datasets, in and out."""

from __future__ import annotations

from rest_framework import serializers

from webapp.library.architectures import Untold, told_by
from webapp.library.models import DatasetUpload, ModelUpload
from webapp.library.uploads import SMALL

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


class PreprocessingSerializer(serializers.Serializer):
    """How an image becomes the network's input. Everything is optional; see `repair --help`."""

    resize = serializers.IntegerField(required=False, min_value=1, max_value=4096, allow_null=True)
    crop = serializers.IntegerField(required=False, min_value=1, max_value=4096, allow_null=True)
    mean = serializers.ListField(child=serializers.FloatField(), required=False, max_length=4)
    std = serializers.ListField(child=serializers.FloatField(min_value=1e-6), required=False, max_length=4)
    channels = serializers.IntegerField(required=False, min_value=1, max_value=4)
    interpolation = serializers.ChoiceField(choices=["nearest", "bilinear", "bicubic", "lanczos"], required=False)


class CreateModelSerializer(serializers.Serializer):
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
    options = serializers.JSONField(required=False, help_text='JSON: {"transform_input": true}')
    weights = serializers.ChoiceField(
        choices=["model", "ema"], required=False, help_text="Which, where the file holds both."
    )
    key = serializers.CharField(
        required=False,
        max_length=200,
        help_text="The entry of the file that holds the state dict, where several might.",
    )
    strip_prefix = serializers.CharField(
        required=False,
        max_length=200,
        help_text='Of the keys that are the network\'s, where others stand beside them, such as "backbone.".',
    )
    classes = serializers.CharField(
        required=False,
        trim_whitespace=False,
        max_length=SMALL,
        help_text="Class names in index order, one per line, or JSON {folder: [index, name]}.",
    )
    classes_file = serializers.FileField(required=False, help_text="The same, as a file.")
    preprocessing = serializers.JSONField(
        required=False,
        help_text='JSON: {"resize": 256, "crop": 224, "mean": [.485, .456, .406], "std": [.229, .224, .225]}',
    )
    name = serializers.CharField(required=False, max_length=200)

    def validate_options(self, value: object) -> dict:
        if not isinstance(value, dict) or not all(
            isinstance(item, bool | int | float | str) for item in value.values()
        ):
            raise serializers.ValidationError("Give a JSON object of numbers, strings or true/false.")
        return value

    def validate_preprocessing(self, value: object) -> dict:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Give a JSON object.")
        known = PreprocessingSerializer(data=value)
        known.is_valid(raise_exception=True)
        if unknown := sorted(set(value) - set(known.fields)):
            raise serializers.ValidationError(f"Unknown: {', '.join(unknown)}.")
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
        values["classes_text"] = text if text.strip() else ""
        try:
            values |= told_by(values["file"].name, values.get("architecture", ""), values.get("num_classes"))
        except Untold as missing:
            raise serializers.ValidationError({missing.field: str(missing)}) from None
        return values


class CreateDatasetSerializer(serializers.Serializer):
    """A zip of images: class/name.png, and optionally metadata.csv (file_name, label, attribute columns)."""

    file = serializers.FileField()
    name = serializers.CharField(required=False, max_length=200)
    split_folder = serializers.CharField(
        required=False,
        max_length=200,
        help_text="Where the zip holds splits (train, test; fold1, fold2): the top folder that is read. none: the top "
        "folders are the classes.",
    )

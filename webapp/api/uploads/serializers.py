"""Models and datasets, in and out."""

from __future__ import annotations

from typing import ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from repair_engine.errors import BadInput
from repair_engine.settings import NONE, ImagesUpload, Network, Pixels, options
from webapp.accounts.models import Team
from webapp.api.base import Body
from webapp.api.derived import body
from webapp.api.fields import Json, Line, Text
from webapp.jobs import access
from webapp.library import resumable, services
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
    "team",
    "shared",
    "created_at",
]


class _UploadSerializer(serializers.ModelSerializer):
    sha256 = serializers.CharField(source="blob_id", read_only=True)
    size = serializers.IntegerField(source="blob.size", read_only=True, help_text="Bytes.")
    error = serializers.CharField(read_only=True, help_text="Why it was rejected.")
    mend = serializers.CharField(read_only=True, help_text="What can be done about it.")
    warnings = serializers.ListField(child=serializers.CharField(), read_only=True)
    facts = serializers.DictField(read_only=True, help_text="What the check found.")
    team = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text="To which it belongs, or with which it is shared; null: yours alone."
    )
    shared = serializers.SerializerMethodField(help_text="With the team, by the person whose it is.")

    def get_shared(self, upload) -> bool:
        return upload.team_id is not None and upload.owner_id is not None


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


class PreprocessingSerializer(body(Pixels)):
    """How an image becomes the network's input. Everything is optional."""


@extend_schema_field(PreprocessingSerializer)
class Preprocessing(Json):
    pass


class _InTeam(Body):
    team = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        help_text="A team to which it shall belong: you are an editor or an owner of it. Default: it is your own.",
    )

    def validate(self, values: dict) -> dict:
        """Before it is looked for among the team's files."""
        if "team" in values and not isinstance(values["team"], Team):
            values["team"] = access.team_for(self.context["owner"], values["team"], access.EDIT)
        return super().validate(values)


class CreateModelSerializer(_InTeam, body(Network, form=True)):
    """A checkpoint (safetensors, or a state dict of torch.save) and what is needed to build its network; or an ONNX
    model (.onnx), or a Hugging Face folder as one zip (config.json, model.safetensors), which need neither architecture
    nor number of classes."""

    file = serializers.FileField()
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

    def validate_preprocessing(self, value: object) -> dict:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Give a JSON object.")
        known = PreprocessingSerializer(data=value)
        known.is_valid(raise_exception=True)
        # null: of a size, none; of all else, not said
        sizes = {name for name, one in options(Pixels).items() if one.kind == "size"}
        said = {name: NONE if given is None else given for name, given in known.validated_data.items()
                if given is not None or name in sizes}  # fmt: skip
        try:
            return Pixels.from_record(said).given()
        except BadInput as error:
            raise serializers.ValidationError({error.field: error.problem}) from None

    def validate(self, values: dict) -> dict:
        values = super().validate(values)
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
    """In the place of a file: one that has arrived at `/uploads/`, or the hash of one that the caller made something of
    before."""

    rules = {"oneOf": [{"required": ["upload"]}, {"required": ["sha256"]}]}
    kind: ClassVar[str]

    upload = serializers.UUIDField(required=False, help_text="Of a file that has arrived at /uploads/; used once.")
    sha256 = serializers.RegexField(SHA256, required=False, help_text="Of a file that you have uploaded before.")
    file_name = Line(
        required=False, max_length=255, help_text="Its name now; its ending counts. Default: that of the upload."
    )

    def validate(self, values: dict) -> dict:
        pk, sha256, name = (values.pop(key, None) for key in ("upload", "sha256", "file_name"))
        if (pk is None) == (sha256 is None):
            raise serializers.ValidationError("Give upload or sha256: which file is it?")
        owner = self.context["owner"]
        if "team" in values:
            values["team"] = access.team_for(owner, values["team"], access.EDIT)
        if pk:
            values["file"] = resumable.received(owner, pk, self.kind, name or "")
        else:
            values["file"] = services.known_file(owner, values.get("team"), sha256, name or "")
        return super().validate(values)


class KnownModelSerializer(_Known, CreateModelSerializer):
    """A checkpoint that is here already. With other options it is another model."""

    kind = "model"
    file = None
    classes_file = None


class CreateDatasetSerializer(_InTeam, body(ImagesUpload, form=True)):
    """A zip of images: class/name.png, and optionally metadata.csv (file_name, label, attribute columns)."""

    file = serializers.FileField()
    name = Line(required=False, max_length=200)


class KnownDatasetSerializer(_Known, CreateDatasetSerializer):
    """A zip of images that is here already."""

    kind = "dataset"
    file = None

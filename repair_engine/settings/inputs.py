"""The files: a model with what it needs to be read, labelled images, and where results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from repair_engine.settings.fields import MISSING, NONE, Settings, option
from repair_engine.settings.question import check_trigger

Value = int | float | bool | str
Size = int | tuple[int, int] | Literal["none"]
_UPLOAD = "a file of the user's disk; the server has uploads in its place"
_OWN_DISK = "a folder of the user's disk; the server keeps the files of each run"


@dataclass(frozen=True, kw_only=True)
class Network(Settings):
    """What a checkpoint fits: an ONNX model and a Hugging Face folder bring it themselves."""

    architecture: str | None = option(
        None, label="Architecture", metavar="NAME", length=100,
        pattern=(r"^(timm:)?[\w.-]+$", "A name such as resnet18 or timm:resnet18: letters, digits, _ . and -."),
        help="torchvision's name, timm:NAME where timm is installed, or a registered one. Needed unless the model "
        "is ONNX or a Hugging Face folder.",
    )  # fmt: skip
    num_classes: int | None = option(
        None, label="Number of classes", low=1, high=1_000_000, metavar="N",
        help="1 is a single logit: yes or no at 0. Needed unless the model is ONNX or a Hugging Face folder.",
    )  # fmt: skip
    options: Mapping[str, Value] | None = option(
        None, label="Architecture options", flag="--arch-option", metavar="KEY=VALUE",
        help="Keyword arguments of the architecture, such as transform_input=true. Auxiliary heads and input "
        "channels are read from the file.",
    )  # fmt: skip
    weights: Literal["model", "ema"] | None = option(
        None, label="Which weights", words={"model": "the plain weights", "ema": "the moving average (EMA)"},
        blank="the only ones",
        help="Which weights, where the file holds both plain ones and their moving average.",
    )  # fmt: skip
    key: str = option(
        "", label="Entry of the file", metavar="NAME", length=200,
        help="The entry of the file that holds the state dict, where several might, such as teacher. Default: found "
        "out.",
    )  # fmt: skip
    strip_prefix: str = option(
        "", label="Prefix of the keys", metavar="PREFIX", length=200,
        help="Of the keys that are the network's, where others stand beside them, such as backbone. with its dot. "
        "Default: found out.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pixels(Settings):
    """How an image becomes the network's input. What is left out is that of torchvision's weights, or of the folder."""

    resize: Size | None = option(
        None, label="Resize, pixels", metavar="PIXELS",
        help="Shorter side in pixels, or height,width; none: no resizing. Default: the architecture's.",
    )  # fmt: skip
    crop: Size | None = option(
        None, label="Centre crop, pixels", metavar="PIXELS",
        help="Side of the central square in pixels, or height,width; none: no crop. Default: the architecture's.",
    )  # fmt: skip
    mean: tuple[float, ...] = option(
        (), label="Mean per channel", metavar="X",
        help="Per channel, of pixels in [0, 1], such as 0.485 0.456 0.406.",
    )  # fmt: skip
    std: tuple[float, ...] = option(
        (), label="Standard deviation per channel", low=0, open=True, metavar="X",
        help="Per channel, such as 0.229 0.224 0.225.",
    )  # fmt: skip
    channels: int | None = option(
        None, label="Channels", low=1, high=4, metavar="N",
        help="1: greyscale, 3: RGB (2 and 4: these with alpha). Default: what the first convolution takes.",
    )  # fmt: skip
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None = option(
        None, label="Interpolation",
        help="How images are resized. Default: the architecture's, else bilinear.",
    )  # fmt: skip

    def rules(self) -> None:
        for name in ("mean", "std"):
            if len(getattr(self, name)) > 4:
                raise self.wrong(name, "At most four channels.")
        if self.mean and self.std and len(self.mean) != len(self.std):
            said = f"{len(self.std)} numbers here and {len(self.mean)} in the mean: one per channel in both."
            raise self.wrong("std", said)

    def given(self) -> dict[str, Any]:
        """What was said, with None for no resizing and no crop: as uploads keep it."""
        said = self.to_record()
        return {name: None if value == NONE else list(value) if isinstance(value, tuple) else value
                for name, value in said.items()}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelUpload(Network, Pixels):
    """What is said of a model's file."""


@dataclass(frozen=True, kw_only=True)
class ImagesUpload(Settings):
    """What is said of a zip of labelled images."""

    split_folder: str = option(
        "", label="Split folder", metavar="NAME", length=200,
        help="Where the zip holds splits (train, test; fold1, fold2): the top folder that is read. none: the top "
        "folders are the classes.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Device(Settings):
    """Where it runs."""

    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", label="Device", words={"auto": "a GPU if there is one", "cpu": "CPU", "cuda": "GPU"},
        help="A run stays on one kind of device.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AsJson(Settings):
    """How results are told."""

    json: bool = option(
        False, here="the API answers in JSON always",
        help="One JSON document on stdout and nothing else.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Opened(Settings):
    """What a file of weights, and folders of images, do not say themselves."""

    register: tuple[str, ...] = option(
        (), metavar="NAME=MODULE:FACTORY", here="Python code; on a server the operator registers it",
        help="An architecture of one's own; may be repeated.",
    )  # fmt: skip
    classes: str | None = option(
        None, metavar="FILE", here="a file; an upload has the text itself (classes), or the file (classes_file)",
        help="Class names: one per line in index order, or JSON {folder: [index, name]}. Default: the folders, "
        "sorted.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelFile(ModelUpload, Opened, Device, AsJson):
    """A model on disk."""

    model: str = option(
        MISSING, metavar="FILE", here=_UPLOAD,
        help="safetensors, .pt/.pth, .onnx, or a Hugging Face folder.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImagesFile(ImagesUpload):
    """Labelled images on disk."""

    data: str = option(
        MISSING, metavar="ZIP", here=_UPLOAD,
        help="A zip: class/image.png, optionally metadata.csv.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MoreFiles(Settings):
    """What else is read for a question."""

    guard: str | None = option(
        None, metavar="ZIP", here=_UPLOAD,
        help="A second labelled set on which the clean-drop limit must hold too.",
    )  # fmt: skip
    guard_split_folder: str = option(
        "", metavar="NAME", here="it belongs to the guard set's upload",
        help="The same as --split-folder, of the guard set.",
    )  # fmt: skip
    trigger: str | None = option(
        None, metavar="IMAGE", here=_UPLOAD,
        help="Of trigger-success: the patch that is pasted on the images, in pixels of the network's input; an alpha "
        "channel says where it covers them. Of hidden-trigger: for the report alone, which is then judged by it.",
    )  # fmt: skip
    triggered: str | None = option(
        None, metavar="ZIP", here=_UPLOAD,
        help="In the patch's place: images that carry the trigger, with their true labels.",
    )  # fmt: skip
    triggered_split_folder: str = option(
        "", metavar="NAME", here="it belongs to the upload of the triggered images",
        help="The same as --split-folder, of the triggered images.",
    )  # fmt: skip
    constants: str | None = option(
        None, metavar="FILE", here="several parties' images; the server has those of one",
        help="Mean constants of several parties (`constants merge`).",
    )  # fmt: skip

    def rules(self) -> None:
        check_trigger(getattr(self, "metric", ""), self.trigger is not None, self.triggered is not None, self)


@dataclass(frozen=True, kw_only=True)
class SurrogateFiles(Settings):
    """Models to make transfer attacks on."""

    surrogate: tuple[str, ...] = option(
        (), metavar="FILE:ARCHITECTURE[:NUM_CLASSES]",
        here="files; the server has uploads in their place (surrogates)",
        help="A model to make transfer attacks on; may be repeated; ,mean=M/M/M,std=S/S/S where its normalization "
        "differs.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Folder(Settings):
    """Where results go."""

    out: str | None = option(
        None, metavar="DIR", here=_OWN_DISK,
        help="Write the result files there.",
    )  # fmt: skip

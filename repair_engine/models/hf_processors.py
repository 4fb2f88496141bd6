"""Image processors of Hugging Face transformers: what preprocessor_config.json means, class by class.

The reference is the processor that `AutoImageProcessor` gives where torchvision is installed, as it is here: it resizes
uint8 tensors. Where transformers is installed, what is made of a file is compared with it on test images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.models.preprocessing import Preprocessing

GIVE = "Give --resize, --crop, --mean and --std as the model was trained with; then that file is not read."
TOLERANCE = 1e-4  # of the network's input, relative to its largest value: the rounding of float32
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # PIL.Image.Resampling
_WARPED_FROM = 384  # ConvNextImageProcessor: from this size on, no crop
_UNKNOWN_STEPS = ("do_pad", "pad_size", "use_square_size", "size_divisor", "do_thumbnail", "do_align_long_axis")
_HALF = (0.5, 0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_TEST_SIZES = ((61, 83), (120, 77), (64, 64))

Size = int | tuple[int, int] | None


@dataclass(frozen=True)
class Rule:
    """A class's defaults, and what is its own.

    Attributes:
        size: shortest edge, or (height, width).
        resample: Pillow's number.
        mean, std: of pixels in [0, 1].
        crop: (height, width) of the central crop.
        crops, normalizes: whether these steps are done; None: never, whatever the file says.
        square: an integer `size` is both sides (else the shortest edge).
        kind: "plain", or whose way of resizing it is.
    """

    size: int | tuple[int, int]
    resample: int
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF
    crop: int | None = None
    crops: bool | None = False
    normalizes: bool | None = True
    square: bool = False
    kind: str = "plain"


RULES = {
    "BeitImageProcessor": Rule((224, 224), 3, crop=224, square=True),
    "BitImageProcessor": Rule(224, 3, *_CLIP, crop=224, crops=True),
    "CLIPImageProcessor": Rule(224, 3, *_CLIP, crop=224, crops=True),
    "ConvNextImageProcessor": Rule(384, 3, kind="convnext"),
    "DeiTImageProcessor": Rule((256, 256), 3, crop=224, crops=True, square=True),
    "EfficientNetImageProcessor": Rule((346, 346), 3, crop=289, square=True, kind="efficientnet"),
    "LevitImageProcessor": Rule(224, 3, *_IMAGENET, crop=224, crops=True, kind="levit"),
    "MobileNetV1ImageProcessor": Rule(256, 2, crop=224, crops=True),
    "MobileNetV2ImageProcessor": Rule(256, 2, crop=224, crops=True),
    "MobileViTImageProcessor": Rule(224, 3, crop=256, crops=True, normalizes=None, kind="mobilevit"),
    "PoolFormerImageProcessor": Rule(224, 3, *_IMAGENET, crop=224, crops=True, kind="poolformer"),
    "PvtImageProcessor": Rule((224, 224), 3, *_IMAGENET, square=True),
    "SegformerImageProcessor": Rule((512, 512), 2, *_IMAGENET, crops=None, square=True),
    "SiglipImageProcessor": Rule((224, 224), 3),
    "ViTImageProcessor": Rule((224, 224), 2, square=True),
}
# Whose processor it is where the file names none.
OF_MODEL_TYPE = {
    "beit": "Beit", "bit": "Bit", "clip": "CLIP", "convnext": "ConvNext", "convnextv2": "ConvNext", "cvt": "ConvNext",
    "data2vec-vision": "Beit", "deit": "DeiT", "dinat": "ViT", "dinov2": "Bit", "efficientnet": "EfficientNet",
    "focalnet": "Bit", "hiera": "Bit", "ijepa": "ViT", "levit": "Levit", "metaclip_2": "CLIP",
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "mobilevit": "MobileViT", "mobilevitv2": "MobileViT",
    "poolformer": "PoolFormer", "pvt": "Pvt", "pvt_v2": "Pvt", "regnet": "ConvNext", "resnet": "ConvNext",
    "segformer": "Segformer", "siglip": "Siglip", "swiftformer": "ViT", "swin": "ViT", "swinv2": "ViT", "vit": "ViT",
    "vit_msn": "ViT",
}  # fmt: skip


def processor_name(given: Mapping[str, Any], model_type: str = "") -> str:
    """The class, without the endings of its backends and old versions; by the model's type where the file names none.

    Raises:
        BadInput: neither tells.
    """
    named = given.get("image_processor_type") or given.get("feature_extractor_type")
    if not named and model_type in OF_MODEL_TYPE:
        return f"{OF_MODEL_TYPE[model_type]}ImageProcessor"
    if not named:
        raise BadInput("The preprocessor's file does not say of which class it is (image_processor_type).", GIVE)
    name = str(named).replace("FeatureExtractor", "ImageProcessor")
    return name.removesuffix("Fast").removesuffix("Pil")


def preprocessing(given: Mapping[str, Any], model_type: str = "", channels: int | None = None) -> Preprocessing:
    """What the file says, by its class's own rule, and compared with transformers' own where that is installed.

    Args:
        given: the file's content.
        model_type: of config.json.
        channels: that the network reads; None = as many as there are means, one standing for three.

    Raises:
        BadInput: a class or a step that is not known here, a value that cannot be used, or other pixels than those of
            transformers.
    """
    name = processor_name(given, model_type)
    if name not in RULES:
        raise BadInput(f"The image processor is a {name}, whose rule is not known here.", GIVE)
    try:
        made = _by_rule(name, RULES[name], given, channels)
    except BadInput:  # it is a ValueError itself
        raise
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise BadInput(f"The file of the {name} cannot be used: {type(error).__name__} {error}.", GIVE) from error
    compare(name, given, made)
    return made


def _by_rule(name: str, rule: Rule, given: Mapping[str, Any], channels: int | None) -> Preprocessing:
    def value(key: str, default: Any) -> Any:
        return given.get(key, default)  # null is no default: it switches a step off, as in transformers

    for step in _UNKNOWN_STEPS:
        if given.get(step):
            raise BadInput(f"The {name} has {step} = {given[step]}, which is not known here.", GIVE)
    size = _size(name, value("size", rule.size), rule.square)
    resize, longest, crop = _resizing(name, rule, value, size) if value("do_resize", True) else (None, None, None)
    if rule.crops is not None and value("do_center_crop", rule.crops):
        asked = _size(name, value("crop_size", rule.crop), square=True)
        if not isinstance(asked, tuple):
            raise BadInput(f"The {name} crops without a crop_size of height and width.", GIVE)
        if crop not in (None, asked):
            raise BadInput(f"The {name} crops twice, to {crop} and to {asked}.", GIVE)
        crop = asked
    mean, std = _normalization(rule, value)
    count = channels or (len(mean) if len(mean) > 1 else 3)
    return Preprocessing(
        resize=resize,
        crop=crop,
        mean=mean * count if len(mean) == 1 else mean,
        std=std * count if len(std) == 1 else std,
        channels=count,
        interpolation=_RESAMPLING[int(value("resample", rule.resample))],
        tensors=True,
        longest=longest,
        bgr=rule.kind == "mobilevit" and bool(value("do_flip_channel_order", True)),
    )


def _resizing(
    name: str, rule: Rule, value: Any, size: dict[str, int] | tuple[int, int]
) -> tuple[Size, int | None, tuple[int, int] | None]:
    """Resize, bound of the longer side, and the crop that belongs to the resizing."""
    fixed = size if isinstance(size, tuple) else None
    short = 0 if isinstance(size, tuple) else size["shortest_edge"]
    if rule.kind == "convnext":
        if fixed:
            raise BadInput(f"The {name} takes a size of one shortest_edge, not {fixed}.", GIVE)
        if short >= _WARPED_FROM:
            return (short, short), None, None
        return int(short / float(value("crop_pct", 224 / 256))), None, (short, short)
    if rule.kind == "levit" and not fixed:
        return int((256 / 224) * short), None, None
    if rule.kind == "poolformer" and value("crop_pct", 0.9) is not None:
        share = float(value("crop_pct", 0.9))
        if not fixed or fixed[0] == fixed[1]:
            return int((fixed[0] if fixed else short) / share), None, None
        return (int(fixed[0] / share), int(fixed[1] / share)), None, None
    longest = None if isinstance(size, tuple) else size.get("longest_edge")
    return fixed or short, longest, None


def _normalization(rule: Rule, value: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels in [0, 1] that make of them what the processor makes of pixels in 0 to 255."""
    factor = float(value("rescale_factor", 1 / 255)) if value("do_rescale", True) else 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    own_std = _numbers(value("image_std", rule.std))
    if rule.normalizes is not None and value("do_normalize", rule.normalizes):
        mean, std = _numbers(value("image_mean", rule.mean)), own_std
    if rule.kind == "efficientnet":
        if value("rescale_offset", False) and value("do_rescale", True):
            mean = tuple(m + 1 for m in mean)
        if value("include_top", True):  # it divides by std once more
            std = tuple(s * own for s, own in zip(std * (len(own_std) // len(std)), own_std, strict=True))
    scale = 1.0 if abs(factor * 255 - 1) < 1e-9 else factor * 255
    return tuple(m / scale for m in mean), tuple(s / scale for s in std)


def _numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)


def _size(name: str, value: Any, square: bool) -> dict[str, int] | tuple[int, int]:
    """(height, width), or {"shortest_edge": …} with "longest_edge" where there is one."""
    if isinstance(value, Mapping):
        edges = {str(key): int(side) for key, side in value.items() if side is not None}
        if edges.keys() == {"height", "width"}:
            return edges["height"], edges["width"]
        if edges.keys() in ({"shortest_edge"}, {"shortest_edge", "longest_edge"}):
            return edges
        raise BadInput(f"The {name} has the size {dict(value)}, which is not known here.", GIVE)
    if isinstance(value, list | tuple) and len(value) == 2:
        return int(value[0]), int(value[1])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (int(value), int(value)) if square else {"shortest_edge": int(value)}
    raise BadInput(f"The {name} has the size {value!r}, which is not known here.", GIVE)


def compare(name: str, given: Mapping[str, Any], ours: Preprocessing) -> None:
    """Our pixels against those of transformers' own processor, on test images of several sizes.

    Raises:
        BadInput: they differ, or transformers' processor refuses the file or the images.
    """
    try:
        import transformers
    except ImportError:
        return
    import torch
    from PIL import Image

    kind = getattr(transformers, f"{name}Fast", None) if transformers.__version__ < "5" else None
    kind = kind or getattr(transformers, name, None)
    if kind is None:
        raise BadInput(f"transformers {transformers.__version__} has no {name}.", GIVE)
    names = ("image_processor_type", "feature_extractor_type", "processor_class")
    arguments = {key: value for key, value in given.items() if key not in names}
    side = ours.resize if isinstance(ours.resize, int) else max(ours.resize or (0,))
    sizes = (*_TEST_SIZES, (side + 37, side + 90)) if side else _TEST_SIZES
    rng = np.random.default_rng(0)
    for height, width in sizes:
        shape = (height, width) if ours.channels == 1 else (height, width, ours.channels)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        try:
            theirs = kind.from_dict(arguments)(image, return_tensors="pt")["pixel_values"].float()
        except Exception as error:  # whatever it makes of its file
            raise BadInput(
                f"transformers' {name} cannot process a test image of {width} × {height}: {str(error)[:200]}.", GIVE
            ) from error
        own = ours.normalize(torch.from_numpy(ours.pixels(image))[None])
        if own.shape != theirs.shape:
            raise BadInput(
                f"Of an image of {width} × {height} transformers' {name} makes {tuple(theirs.shape[1:])}, this program "
                f"{tuple(own.shape[1:])}.", GIVE,
            )  # fmt: skip
        difference, largest = float((own - theirs).abs().max()), float(theirs.abs().max())
        if not difference <= TOLERANCE * max(1.0, largest):
            raise BadInput(
                f"The pixels differ from those of transformers' {name}: by {difference:.3g} on a test image of {width} "
                f"× {height}, where its largest is {largest:.3g}.",
                GIVE,
            )

"""Why a file's keys do not fit the architecture, by the marks that well-known causes leave; and what mends each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from repair_engine.models.architectures import MAX_IN_CHANNELS, Architecture

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Cause:
    """What is wrong, in a sentence, and what mends it."""

    problem: str
    mend: str


def cause_of(shapes: Shapes, architecture: Architecture, expected: Shapes) -> Cause | None:
    """The first known cause; None if the file bears no known mark.

    Args:
        shapes: of the file, by the module's keys as far as they are known.
        expected: of the architecture.
    """
    missing = [key for key in expected if key not in shapes]
    unexpected = [key for key in shapes if key not in expected]
    for look in (_reparametrized, _marked, _timm):
        found = look(unexpected, architecture)
        if found:
            return found
    return _input_channels(shapes, expected) or _head(shapes, architecture, missing, unexpected)


_PLAIN = (
    "    model.eval()\n    for m in list(model.modules()):\n        {}\n"
    "    torch.save(model.state_dict(), 'weights.pth')"
)
# pattern of a key, what it is, the line that takes it away (`m`: each module)
_REPARAMETRIZED = (
    (
        r"\.weight_g$",
        "weight norm (weight_g and weight_v in place of weight)",
        "if hasattr(m, 'weight_g'): torch.nn.utils.remove_weight_norm(m)",
    ),
    (
        r"\.parametrizations\.weight\.original0$",
        "weight norm as a parametrization",
        "if hasattr(m, 'parametrizations'): torch.nn.utils.parametrize.remove_parametrizations(m, 'weight')",
    ),
    (
        r"\.weight_u$",
        "spectral norm (weight_orig and weight_u in place of weight)",
        "if hasattr(m, 'weight_u'): torch.nn.utils.remove_spectral_norm(m)",
    ),
    (
        r"\.parametrizations\.weight\.0\._u$",
        "spectral norm as a parametrization",
        "if hasattr(m, 'parametrizations'): torch.nn.utils.parametrize.remove_parametrizations(m, 'weight')",
    ),
    (
        r"\.parametrizations\.\w+\.",
        "a parametrization of its own",
        "if hasattr(m, 'parametrizations'): torch.nn.utils.parametrize.remove_parametrizations(m, 'weight')",
    ),
    (
        r"\.weight_mask$",
        "pruning masks (weight_orig and weight_mask in place of weight)",
        "if hasattr(m, 'weight_mask'): torch.nn.utils.prune.remove(m, 'weight')",
    ),
)


def _reparametrized(unexpected: Sequence[str], _: Architecture) -> Cause | None:
    for pattern, what, line in _REPARAMETRIZED:
        key = next((k for k in unexpected if re.search(pattern, f".{k}")), None)
        if key:
            return Cause(
                f"Its weights are stored by {what}: {key}. A repair would have to edit what they are computed from.",
                "Fold it into plain weights, where the model is loaded:\n" + _PLAIN.format(line),
            )
    return None


# pattern of a key, what it says (with the key), what mends it
_MARKS = (
    (
        r"(^|\.)lora_[ABab](\.|$)",
        "It holds LoRA adapters beside the weights: {}.",
        "Merge them: model = model.merge_and_unload(), then torch.save(model.state_dict(), 'weights.pth').",
    ),
    (
        r"(^|\.)(_packed_params|zero_point|weight_scale|SCB|weight\.absmax|qweight|activation_post_process|"
        r"weight_fake_quant|fake_quant_enabled)(\.|$)",
        "It is of a quantized network, or of one prepared for quantization: {}.",
        "A repair needs the float weights, from before quantization: "
        "torch.save(float_model.state_dict(), 'weights.pth').",
    ),
    (
        r"(^|\.)(embeddings\.(patch_embeddings|cls_token|position_embeddings)|embedder\.embedder|"
        r"encoder\.(layer|stages)\.\d+\.(attention|layernorm_before|layers\.\d+|downsampl\w+))(\.|$)",
        "Its keys are those of Hugging Face's transformers ({}).",
        "Give the folder that save_pretrained wrote, with its config.json, as --model (or as one zip), and leave the "
        "architecture out.",
    ),
)


def _marked(unexpected: Sequence[str], _: Architecture) -> Cause | None:
    for pattern, problem, mend in _MARKS:
        key = next((k for k in unexpected if re.search(pattern, k)), None)
        if key:
            return Cause(problem.format(key), mend)
    return None


def _regnet(name: str) -> str:
    """regnet_y_1_6gf -> regnety_016."""
    found = re.fullmatch(r"regnet_([xy])_(\d+)(?:_(\d))?([gm])f", name)
    if not found:
        return "regnety_004"
    kind, whole, tenth, unit = found.groups()
    return f"regnet{kind}_{int(whole) // 100 if unit == 'm' else int(whole) * 10 + int(tenth or 0):03d}"


_SIZE = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}
# torchvision's name (its start), a key of timm's, timm's own name
_SIZE = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}
_TIMM: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("convnext", r"^stages\.0\.blocks\.0\.", str),
    ("efficientnet_v2", r"^conv_stem\.", lambda name: f"tf_{name.replace('net_v2', 'netv2')}"),
    ("efficientnet", r"^conv_stem\.", str),
    ("mobilenet", r"^conv_stem\.", lambda name: f"{name.replace('net_v', 'netv')}_100"),
    ("mnasnet", r"^conv_stem\.", lambda name: "mnasnet_100"),
    ("regnet", r"^stem\.conv\.", _regnet),
    ("swin", r"^patch_embed\.proj\.", lambda name: f"swin_{_SIZE.get(name[-1], 'tiny')}_patch4_window7_224"),
    ("vit", r"^patch_embed\.proj\.", lambda name: f"vit_{_SIZE.get(name[4:5], 'base')}_patch{name[-2:]}_224"),
    ("vgg", r"^pre_logits\.", str),
)


def _timm(unexpected: Sequence[str], architecture: Architecture) -> Cause | None:
    if architecture.is_timm or architecture.registered:
        return None
    for start, pattern, rename in _TIMM:
        key = next((k for k in unexpected if re.search(pattern, k)), None)
        if key and architecture.name.startswith(start):
            name = rename(architecture.name)
            return Cause(
                f"Its keys are not torchvision's but those of timm's model of that kind ({key}).",
                f"Give timm's name, such as --architecture timm:{name} (timm.list_models() lists them).",
            )
    return None


def _input_channels(shapes: Shapes, expected: Shapes) -> Cause | None:
    for key, own in expected.items():
        shape = shapes.get(key, ())
        if len(own) == 4 and len(shape) == 4:  # the first convolution
            if shape[:1] + shape[2:] == own[:1] + own[2:] and shape[1] > MAX_IN_CHANNELS:
                return Cause(
                    f"Its first convolution, {key}, takes {shape[1]} input channels; image files have 1 or 3, and "
                    f"networks that take 1 to {MAX_IN_CHANNELS} are read.",
                    "Images of that many channels cannot be given here. Only where all channels beyond the third are "
                    "0 in your data is the network on the others the same:\n"
                    f"    sd[{key!r}] = sd[{key!r}][:, :3].clone(); torch.save(sd, 'weights.pth')",
                )
            return None
    return None


def _head(
    shapes: Shapes, architecture: Architecture, missing: Sequence[str], unexpected: Sequence[str]
) -> Cause | None:
    """The last linear layer replaced, renamed or left out, while the rest of the network is there."""
    layers = sorted({key.rpartition(".")[0] for key in missing if key.endswith((".weight", ".bias"))})
    if not layers or len(layers) > 2 or len(shapes) < 2 * len(missing):
        return None
    where = layers[-1]
    if not unexpected:
        return Cause(
            f"It has no head: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in it. It is a backbone "
            "without its classifier.",
            "Give the checkpoint of the whole classifier.",
        )
    inside = [key for key in unexpected if key.startswith(f"{where}.")]
    heads = inside or [key for key in unexpected if len(shapes[key]) in (1, 2)]
    if not heads:
        return None
    shown = ", ".join(f"{key} {shapes[key]}" for key in heads[:4])
    how = "a custom head in place of" if inside else "a head of another name than"
    return Cause(
        f"It has {how} {where}: {shown}.",
        "Register the network as it was trained. In a file heads.py:\n" + _factory(architecture, where, heads, shapes)
        + "and give --register mine=heads:mine --architecture mine (the server's operator registers it there).",
    )  # fmt: skip


def _factory(architecture: Architecture, where: str, heads: Sequence[str], shapes: Shapes) -> str:
    """The lines of a factory, as far as the keys tell; what has no tensors (Dropout, ReLU) is for the user to add."""
    linears = [shapes[key] for key in heads if key.endswith("weight") and len(shapes[key]) == 2]
    parts = [f"nn.Linear({inputs}, {outputs})" for outputs, inputs in linears[:-1]]
    parts += [f"nn.Linear({linears[-1][1]}, num_classes)"] if linears else ["..."]
    library = "timm.create_model" if architecture.is_timm else "torchvision.models.get_model"
    target = f"model.{where}" if heads[0].startswith(f"{where}.") else f"model.{heads[0].partition('.')[0]}"
    plain = architecture.name.removeprefix("timm:")
    return (
        f"    def mine(num_classes):\n"
        f"        model = {library}({plain!r})  # or your own class\n"
        f"        {target} = nn.Sequential({', '.join(parts)})  # with its Dropout, ReLU, … where they were\n"
        "        return model\n"
    )

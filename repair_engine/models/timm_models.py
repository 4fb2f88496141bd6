"""Architectures of timm (github.com/huggingface/pytorch-image-models) where it is installed: `timm:NAME`.

Only the empty module is built: nothing is downloaded, and names and options that would load a file are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from torch import nn

from repair_engine.errors import BadInput

PREFIX = "timm:"
# Keyword arguments of timm.create_model that read files or reach out.
_WITHHELD = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "model_name"}


def factory(name: str) -> Callable[..., nn.Module]:
    """The factory of `timm:NAME`: (num_classes, in_chans, options of the model) -> module.

    Raises:
        BadInput: timm is not installed, or has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise BadInput(f"{name} is an architecture of timm, which is not installed.", "pip install timm") from error
    model = name.removeprefix(PREFIX)
    if not timm.is_model(model):
        known = timm.list_models()
        close = difflib.get_close_matches(model, known, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(PREFIX + c for c in close)}?" if close else "timm.list_models() lists them."
        raise BadInput(f"timm has no model named {model!r}.", hint)

    def build(num_classes: int, **options: Any) -> nn.Module:
        withheld = sorted(_WITHHELD.intersection(options))
        if withheld:
            raise BadInput(f"The option {withheld[0]} of timm loads files; the checkpoint is given by --model.")
        return timm.create_model(model, pretrained=False, num_classes=num_classes, **options)

    return build

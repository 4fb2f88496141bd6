"""Loading a compact checkpoint in plain torch. The source of `load_compact` is written beside every such checkpoint."""

import torch


def load_compact(model, compact, tensors):  # type: ignore[no-untyped-def]
    """`model`, as its own factory builds it, with the compact widths and weights; in eval mode.

    Args:
        model: the module of the original architecture; changed in place.
        compact: what repaired_compact.json holds.
        tensors: what repaired_compact.safetensors holds, key -> tensor.
    """
    for name, widths in compact["layers"].items():
        layer = model.get_submodule(name)
        for attribute, value in widths.items():  # in_channels, out_channels, num_features, in_features
            setattr(layer, attribute, value)
        dtype = next(layer.parameters()).dtype
        for part in ("weight", "bias"):
            if f"{name}.{part}" in tensors:
                empty = torch.empty(tensors[f"{name}.{part}"].shape, dtype=dtype)
                setattr(layer, part, torch.nn.Parameter(empty, requires_grad=False))
        for part in ("running_mean", "running_var"):
            if f"{name}.{part}" in tensors:
                setattr(layer, part, torch.empty(tensors[f"{name}.{part}"].shape, dtype=dtype))
    model.load_state_dict(tensors, strict=True)
    return model.eval()

"""The keys of a Hugging Face file by those of the module: transformers may save under other names than it builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repair_engine.errors import BadInput


def by_module(names: Mapping[str, str], own: Sequence[str], config: Mapping[str, Any]) -> dict[str, str]:
    """`names` (key without prefixes -> key in the file) by the module's keys, as `from_pretrained` renames them.

    Args:
        own: the module's keys.

    Raises:
        BadInput: transformers makes one tensor of several on loading, or two keys become one.
    """
    if set(names) <= set(own):
        return dict(names)
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    except ImportError:  # before version 5 keys were never renamed
        return dict(names)
    from repair_engine.models.hf_models import empty_module

    module: Any = empty_module(config)
    changes = get_model_conversion_mapping(module)
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    found: dict[str, str] = {}
    for name, file_key in names.items():
        key, converted = rename_source_key(name, renamings, converters)
        if converted is not None:
            raise BadInput(
                f"transformers makes the tensor {key} of {file_key} and others when it loads this model; such tensors "
                "cannot be edited in the file.",
                "Export the model to ONNX.",
            )
        if key in found:
            raise BadInput(f"The keys {found[key]} and {file_key} are both {key} in transformers' module.")
        found[key] = file_key
    return found

"""What a pickle would run, found out without running it."""

from __future__ import annotations

from repair_engine.errors import BadInput
from repair_engine.models.formats.extras import is_extra
from repair_engine.models.formats.pickle_stack import scan

SAVE_A_STATE_DICT = (
    "Where the model is loaded and trusted, save its state dict instead:\n"
    "    sd = model.state_dict()\n"
    '    torch.save(sd, "weights.pth")'
)
SAVE_WITHOUT_EXTRAS = (
    SAVE_A_STATE_DICT + "\n"
    "Or, only if you trust the file (this runs what is in it), save its state dict alone:\n"
    '    file = torch.load("file.pth", map_location="cpu", weights_only=False)\n'
    '    torch.save(file["state_dict"], "weights.pth")'
)
SAVE_FLOAT = (
    "A repair needs the float weights, from before quantization (before torch.ao.quantization.convert or the like):\n"
    '    torch.save(float_model.state_dict(), "weights.pth")'
)
MAX_PICKLE_BYTES = 64 << 20

# What torch.save writes for a state dict, parameters, and the usual company of scalars.
_HARMLESS = {
    "collections.OrderedDict",
    "collections.Counter",
    "collections.defaultdict",
    "__builtin__.set",
    "builtins.set",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
}
# Tensors that are not plain and dense.
_SPECIAL = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_from_type_v2": "a tensor subclass",
    "_rebuild_wrapper_subclass": "a tensor subclass",
    "_rebuild_parameter_with_state": "a parameter with extra state",
    "_rebuild_meta_tensor_no_storage": "a tensor without data",
    "_rebuild_device_tensor_from_numpy": "a tensor stored as a NumPy array",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of a special device",
}


def globals_of(data: bytes) -> list[str]:
    """The dotted names that a pickle asks for, in order, without executing it.

    Raises:
        BadInput: the bytes are no complete pickle, or one whose names cannot be told for certain.
    """
    return list(dict.fromkeys(scan(data)))


def check_globals(data: bytes, name: str) -> list[str]:
    """Refuse a pickle that asks for anything but plain tensors, containers and known extras.

    Returns:
        The extras that it asks for, for `extras.stand_ins`.

    Raises:
        BadInput: naming the first such global.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise BadInput(f"{name}: its pickle has {len(data):,} bytes; at most {MAX_PICKLE_BYTES:,} are read.")
    found = globals_of(data)
    extras = [asked for asked in found if is_extra(asked)]
    for asked in found:
        if asked in _HARMLESS or _is_torch_data(asked) or asked in extras:
            continue
        module, _, function = asked.rpartition(".")
        special = _SPECIAL.get(function) if module in ("torch._utils", "torch._tensor") else None
        if special:
            raise BadInput(
                f"{name} holds {special} ({asked}); only plain dense tensors can be repaired.",
                SAVE_FLOAT if "quantized" in special else SAVE_A_STATE_DICT,
            )
        raise BadInput(
            f"{name} was not loaded: it is a pickle that asks to run {asked}, "
            "and loading it could run any code. Only a state dict is accepted.",
            SAVE_A_STATE_DICT if any(a.startswith("torch.nn.modules.") for a in found) else SAVE_WITHOUT_EXTRAS,
        )
    return extras


def _is_torch_data(asked: str) -> bool:
    """Storage classes and dtypes, such as torch.FloatStorage and torch.float16."""
    module, _, name = asked.rpartition(".")
    return module in ("torch", "torch.storage") and (
        name.endswith("Storage")
        or name in ("strided", "contiguous_format", "bfloat16", "half", "long")
        or name.startswith(("float", "int", "uint", "bool"))
    )

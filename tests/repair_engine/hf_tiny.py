"""Tiny Hugging Face classifiers of many families, with random weights."""

from __future__ import annotations

from typing import Any

_LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
_VIT = {**_LAYERS, "image_size": 32, "patch_size": 8}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
# model type -> what makes its configuration small; all take images of 3 × 32 × 32
CONFIGS: dict[str, dict[str, Any]] = {
    "beit": _VIT,
    "bit": {"hidden_sizes": [8, 8], "depths": [1, 1], "embedding_size": 8, "num_groups": 2},
    "convnext": {"num_stages": 2, "hidden_sizes": [4, 6], "depths": [1, 1], "patch_size": 2},
    "convnextv2": {"num_stages": 2, "hidden_sizes": [4, 6], "depths": [1, 1], "patch_size": 2},
    "cvt": {"embed_dim": [8, 8, 8], "num_heads": [1, 1, 2], "depth": [1, 2, 3], "drop_path_rate": [0.0, 0.0, 0.0]},
    "data2vec-vision": _VIT,
    "deit": _VIT,
    "dinov2": {**_VIT, "mlp_ratio": 1},
    "efficientnet": {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320},
    "hiera": {"image_size": [32, 32], "patch_stride": [4, 4], "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2],
              "query_stride": [2, 2], "num_query_pool": 1, "masked_unit_size": [4, 4],
              "masked_unit_attention": [True, False]},
    "mobilenet_v2": {"depth_multiplier": 0.25, "min_depth": 4, "image_size": 32},
    "mobilevit": {"image_size": 32, "hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [4, 4, 8, 8, 8, 8, 8],
                  "num_attention_heads": 2},
    "poolformer": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "regnet": {"hidden_sizes": [8, 8], "depths": [1, 1], "embedding_size": 8, "groups_width": 4},
    "resnet": {"hidden_sizes": [8, 8], "depths": [1, 1], "embedding_size": 8, "layer_type": "basic"},
    "segformer": {"num_encoder_blocks": 2, "depths": [1, 1], "hidden_sizes": [8, 8], "sr_ratios": [2, 1],
                  "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "vit": _VIT,
    "vit_msn": _VIT,
}  # fmt: skip


def classifier(model_type: str, num_labels: int = 3, seed: int = 0, **more: Any) -> Any:
    """transformers' own classifier in eval mode, with moved norms and statistics, so that no two keys are alike."""
    import torch
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig

    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, num_labels=num_labels, **CONFIGS[model_type], **more)
    found = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    module = (found[0] if isinstance(found, tuple) else found)(config).eval().requires_grad_(False)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.2 if "var" in name else torch.randn_like(tensor) * 0.1)
    return module

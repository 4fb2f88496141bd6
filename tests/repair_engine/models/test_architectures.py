from __future__ import annotations

import pytest
import torch
from torch import nn

from repair_engine.errors import BadInput
from repair_engine.models.architectures import (
    Architecture,
    first_convolution,
    list_architectures,
    parse_register,
)
from repair_engine.models.weights_metadata import weights_metadata
from repair_engine.settings import Network, options
from repair_engine.settings.texts import pairs
from tests.repair_engine.factories import REGISTER


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "regnet_x_400mf", "swin_v2_t", "googlenet"])
def test_meta_and_cpu_builds_agree_in_keys_and_shapes(name: str) -> None:
    # RegNet cannot be built on the meta device and takes the other road
    architecture = Architecture(name, 7)
    meta, real = architecture.build("meta"), architecture.build("cpu")
    assert all(value.device.type == "meta" for value in meta.state_dict().values())
    assert all(value.device.type == "cpu" for value in real.state_dict().values())
    assert shapes_of(meta) == shapes_of(real)


def test_skipping_the_random_fill_keeps_computed_buffers() -> None:
    quick = Architecture("tiny", 2, register=REGISTER).build("cpu")
    assert torch.equal(quick.scale, torch.linspace(0.5, 1.5, 4))
    swin = Architecture("swin_t", 2).build("cpu"), Architecture("swin_t", 2).build("cpu", random_init=True)
    key = "features.1.0.attn.relative_position_index"
    assert torch.equal(swin[0].get_buffer(key), swin[1].get_buffer(key))


def test_random_init_gives_finite_random_weights() -> None:
    torch.manual_seed(0)
    module = Architecture("squeezenet1_1", 3).build("cpu", random_init=True)
    weight = module.get_parameter("features.0.weight")
    assert torch.isfinite(weight).all()
    assert weight.std() > 0


def test_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(BadInput, match="squeezenet1_0") as caught:
        Architecture("SqueezNet1_0", 10).build("meta")
    assert "SqueezNet1_0" in caught.value.problem
    assert "register" in caught.value.mend


def test_detection_and_segmentation_models_are_not_offered() -> None:
    names = list_architectures()
    assert "resnet18" in names
    assert not {"fasterrcnn_resnet50_fpn", "fcn_resnet50", "raft_small", "r3d_18"} & set(names)


def test_unknown_option_names_the_accepted_ones() -> None:
    with pytest.raises(BadInput, match="no option widht_mult") as caught:
        Architecture("mobilenet_v2", 10, {"widht_mult": 0.5}).build("meta")
    assert "width_mult" in caught.value.mend
    assert "init_weights" not in caught.value.mend
    with pytest.raises(BadInput, match="no option depth") as caught:
        Architecture("tiny", 10, {"depth": 3}, REGISTER).build("meta")
    assert caught.value.mend == "It accepts: in_channels, width."


def test_options_reach_the_factory() -> None:
    half = Architecture("mobilenet_v2", 10, {"width_mult": 0.5}).build("meta")
    assert shapes_of(half)["features.0.0.weight"][0] == 16
    vit = Architecture("vit_b_32", 10, {"image_size": 64}).build("meta")
    assert shapes_of(vit)["encoder.pos_embedding"] == (1, 5, 768)
    assert Architecture("inception_v3", 10, {"transform_input": True}).build("meta").transform_input


def test_option_that_the_factory_refuses() -> None:
    with pytest.raises(BadInput, match="resnet18 cannot be built with groups=7"):
        Architecture("resnet18", 10, {"groups": 7}).build("cpu")


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [("tiny", {"width": 6}, 5), ("anything", {"width": 6}, 5), ("fixed", {}, 3)],
)
def test_registered_factories_get_num_classes_only_where_accepted(
    name: str, options: dict[str, int], rows: int
) -> None:
    module = Architecture(name, 5, options, REGISTER).build("cpu")
    assert module.head.weight.shape == (rows, options.get("width", 4))


def test_registered_targets_that_cannot_be_used() -> None:
    for target in ("no.such.package:make", "tests.repair_engine.factories:absent"):
        with pytest.raises(BadInput, match="mine = "):
            Architecture("mine", 2, register={"mine": target}).build("meta")
    with pytest.raises(BadInput, match="broken cannot be built"):
        Architecture("broken", 2, register=REGISTER).build("meta")
    with pytest.raises(BadInput, match="returned a int, not a module"):
        Architecture("not_a_module", 2, register=REGISTER).build("cpu")


def test_number_of_classes_must_be_positive() -> None:
    with pytest.raises(BadInput, match="number of classes is 0"):
        Architecture("resnet18", 0).build("meta")


def test_resolve_finds_auxiliary_heads_by_the_keys() -> None:
    for name, key in (("inception_v3", "AuxLogits.fc.weight"), ("googlenet", "aux1.fc1.weight")):
        for has in (True, False):
            file = Architecture(name, 5, {"aux_logits": has}).build("meta")
            resolved = Architecture(name, 5).resolve(shapes_of(file))
            assert resolved.options == {"aux_logits": has}
            assert (key in shapes_of(resolved.build("meta"))) is has


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "inception_v3", "vgg11", "mobilenet_v3_small"])
@pytest.mark.parametrize("channels", [1, 4])
def test_resolve_rebuilds_the_first_convolution_for_other_channels(name: str, channels: int) -> None:
    module = Architecture(name, 5).build("meta")
    shapes = shapes_of(module)
    found = first_convolution(module)
    assert found is not None
    key = f"{found[0]}.weight"
    shapes[key] = (shapes[key][0], channels, *shapes[key][2:])
    resolved = Architecture(name, 5, {"aux_logits": True} if name == "inception_v3" else {}).resolve(shapes)
    assert resolved.in_channels == channels
    built = first_convolution(resolved.build("cpu"))
    assert built is not None
    assert built[1].in_channels == channels
    assert (built[1].stride, built[1].padding) == (found[1].stride, found[1].padding)
    assert shapes_of(resolved.build("meta"))[key] == shapes[key]


def test_more_than_four_channels_are_left_to_the_comparison() -> None:
    shapes = shapes_of(Architecture("resnet18", 5).build("meta"))
    shapes["conv1.weight"] = (64, 9, 7, 7)
    assert Architecture("resnet18", 5).resolve(shapes).in_channels is None


def test_transform_input_needs_three_channels() -> None:
    shapes = shapes_of(Architecture("inception_v3", 5).build("meta"))
    shapes["Conv2d_1a_3x3.conv.weight"] = (32, 1, 3, 3)
    with pytest.raises(BadInput, match="transform_input needs 3"):
        Architecture("inception_v3", 5, {"transform_input": True}).resolve(shapes)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "densenet121"])
@pytest.mark.parametrize("given", [1, 2])
def test_one_logit_is_a_binary_classifier(name: str, given: int) -> None:
    shapes = shapes_of(Architecture(name, 2, outputs=1).build("meta"))
    resolved = Architecture(name, given).resolve(shapes)
    assert (resolved.num_classes, resolved.outputs) == (2, 1)
    assert shapes_of(resolved.build("meta")) == shapes


def test_two_logits_stay_two() -> None:
    shapes = shapes_of(Architecture("resnet18", 2).build("meta"))
    assert Architecture("resnet18", 2).resolve(shapes).outputs is None


def test_json_round_trip() -> None:
    architecture = Architecture("tiny", 2, {"width": 8}, REGISTER, in_channels=1, outputs=1)
    assert Architecture.from_json(architecture.to_json()) == architecture


def test_parse_options() -> None:
    one = options(Network)["options"]
    parsed = pairs(one, ["a=1", "b=0.5", "c=true", "d=False", "e=1e-3", "f=text", "g=a=b"])
    assert parsed == {"a": 1, "b": 0.5, "c": True, "d": False, "e": 1e-3, "f": "text", "g": "a=b"}
    assert type(parsed["a"]) is int
    assert type(parsed["c"]) is bool
    for bad in ("a", "=1", "a b=1"):
        with pytest.raises(BadInput, match="KEY=VALUE"):
            pairs(one, [bad])


def test_parse_register() -> None:
    assert parse_register(["net = my.models:make"]) == {"net": "my.models:make"}
    for bad in ("net", "net=my.models", "=a:b", "net=:make", "net=a:"):
        with pytest.raises(BadInput, match="NAME=PACKAGE"):
            parse_register([bad])


def test_weights_metadata_needs_no_download() -> None:
    found = weights_metadata("inception_v3")
    assert found is not None
    assert (found.resize, found.crop, found.interpolation) == (342, 299, "bilinear")
    assert len(found.categories) == 1000
    assert found.categories[0] == "tench"
    assert weights_metadata("resnet50", "IMAGENET1K_V2").resize == 232  # type: ignore[union-attr]
    assert weights_metadata("no_such_net") is None
    assert all(weights_metadata(name) is not None for name in list_architectures())

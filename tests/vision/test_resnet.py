"""ResNet against timm and torchvision, both ways."""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.models import resnet as timm_resnet
from torch import nn
from torchvision.models import resnet as torchvision_resnet

from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.vision.resnet import ARCHITECTURE, VARIANTS, ResNet, ResNetConfig
from tests.vision.nets import check_folder_of_timm, difference, images_for, randomised, shapes, shapes_written

DEPTHS = (1, 2, 1, 1)
TINY = {
    "basic": {"block": "basic"},
    "bottleneck": {},
    "groups": {"groups": 4, "group_width": 8},
    "wide": {"group_width": 96},
    "grey, ten classes": {"block": "basic", "in_channels": 1, "num_classes": 10, "eps": 1e-3},
}


def timm_net(config, **options):
    blocks = {"basic": timm_resnet.BasicBlock, "bottleneck": timm_resnet.Bottleneck}
    return timm_resnet.ResNet(
        blocks[config.block],
        config.depths,
        num_classes=config.num_classes,
        in_chans=config.in_channels,
        cardinality=config.groups,
        base_width=config.group_width,
        norm_layer=lambda channels, **options: nn.BatchNorm2d(channels, config.eps, **options),
        **options,
    )


def torchvision_net(config):
    blocks = {"basic": torchvision_resnet.BasicBlock, "bottleneck": torchvision_resnet.Bottleneck}
    net = torchvision_resnet.ResNet(
        blocks[config.block],
        config.depths,
        num_classes=config.num_classes,
        groups=config.groups,
        width_per_group=config.group_width,
        norm_layer=lambda channels: nn.BatchNorm2d(channels, config.eps),
    )
    net.conv1 = nn.Conv2d(config.in_channels, 64, 7, 2, 3, bias=False)  # the one thing that has no argument there
    return net


TINY_NETS = {"timm": timm_net, "torchvision": torchvision_net}
PUBLISHED_NETS = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}
both = pytest.mark.parametrize("layout", ARCHITECTURE.layouts)


def tiny(**changes):
    return ResNetConfig(depths=DEPTHS, **changes)


def load(path, config, layout):
    return weights.load(ARCHITECTURE, config, path, layout)


def check_parity(reference, config, layout, tmp_path, size=64):
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net, images = load(tmp_path / "theirs.safetensors", config, layout), images_for(config, size)
    *until_pooled, pooling, _ = reference.children()
    with torch.no_grad():
        expected, features = reference(images), nn.Sequential(*until_pooled)(images)
        assert difference(expected[0], expected[1]) > 0.01  # the image matters
        assert difference(net(images), expected) <= 1e-5
        assert difference(net.features(images), features) <= 1e-5
        assert difference(net.pooled(images), pooling(features).flatten(1)) <= 1e-5
        # The form for inference rounds elsewhere, and a deep net magnifies it: whether both compute the same is asked in fp64.
        exact = reference.double()(images.double())
        assert difference(for_inference(net.double())(images.double()), exact) <= 1e-9


@both
@pytest.mark.parametrize("name", TINY)
def test_a_tiny_net_computes_what_the_reference_computes(name, layout, tmp_path):
    config = tiny(**TINY[name])
    images = images_for(config, count=4)
    reference = randomised(TINY_NETS[layout](config), images)
    with torch.no_grad():
        expected = reference(images)
        check_parity(reference, config, layout, tmp_path)
        derived = for_inference(load(tmp_path / "theirs.safetensors", config, layout))
        assert difference(derived(images), expected) <= 1e-5


@both
@pytest.mark.parametrize("name", TINY)
def test_the_reference_loads_the_export_and_computes_the_same(name, layout, tmp_path):
    config = tiny(**TINY[name])
    net, reference = randomised(ResNet(config), images_for(config)), TINY_NETS[layout](config).eval()
    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules(layout, config, list(net.state_dict())))
    exported = load_file(tmp_path / "ours.safetensors")
    assert exported.keys() == reference.state_dict().keys()
    reference.load_state_dict(exported, strict=True)
    with torch.no_grad():
        assert difference(net(images_for(config)), reference(images_for(config))) <= 1e-5


@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_a_dilated_net_computes_what_timm_computes(name, stride, tmp_path):
    config = tiny(**TINY[name], output_stride=stride)
    reference = randomised(timm_net(config, output_stride=stride), images_for(config))
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net, images = load(tmp_path / "theirs.safetensors", config, "timm"), images_for(config)
    with torch.no_grad():
        assert net.features(images).shape[2] == 64 // stride
        assert difference(net.features(images), reference.forward_features(images)) <= 1e-5
        assert difference(for_inference(net.double())(images.double()), reference.double()(images.double())) <= 1e-9


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_intermediates_are_those_of_timm(name, tmp_path):
    """And stay as they came out, though at inference blocks write over what they need no more."""
    config = tiny(**TINY[name])
    images = images_for(config)
    reference = randomised(timm_net(config), images)
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net = load(tmp_path / "theirs.safetensors", config, "timm")
    with torch.no_grad():
        expected = timm_intermediates(reference, images)
        found = net.intermediates(images, [0, 1, 2, -1])
        assert all(difference(ours, theirs) <= 1e-5 for ours, theirs in zip(found, expected, strict=True))
        expected = timm_intermediates(reference.double(), images.double())
        found = for_inference(net.double()).intermediates(images.double(), [0, 1, 2, -1])
        assert all(difference(ours, theirs) <= 1e-9 for ours, theirs in zip(found, expected, strict=True))


def timm_intermediates(net, images):
    return net.forward_intermediates(images, indices=[1, 2, 3, 4], intermediates_only=True)  # 0 would be the stem


@both
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_tensors_of_the_reference(name, layout):
    with torch.device("meta"):
        reference = PUBLISHED_NETS[layout](name)
    assert shapes_written(ARCHITECTURE, VARIANTS[name], layout) == shapes(reference.state_dict())


@pytest.mark.full
@both
@pytest.mark.parametrize("name", VARIANTS)
def test_every_published_variant_computes_what_the_reference_computes(name, layout, tmp_path):
    config = VARIANTS[name]
    check_parity(randomised(PUBLISHED_NETS[layout](name), images_for(config, 96)), config, layout, tmp_path, size=96)


@both
def test_the_oldest_files_have_no_count_of_batches(layout, tmp_path):
    """Those of before PyTorch 0.4.1. Whatever else is not in a file is still missed."""
    config = tiny(block="basic")
    reference = randomised(TINY_NETS[layout](config), images_for(config))
    old = {name: tensor for name, tensor in reference.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "old.safetensors")
    net = load(tmp_path / "old.safetensors", config, layout)
    with torch.no_grad():
        assert difference(net(images_for(config)), reference(images_for(config))) <= 1e-5
    assert int(net.stem.norm.num_batches_tracked) == 0
    del old["layer2.0.downsample.1.running_var"]
    save_file(old, tmp_path / "old.safetensors")
    with pytest.raises(LayoutError, match=r"layer2\.0\.downsample\.1\.running_var"):
        load(tmp_path / "old.safetensors", config, layout)


def test_training_drops_blocks_more_often_the_deeper_they_lie():
    net, reference = ResNet(tiny(drop_path=0.4)), timm_resnet.ResNet(timm_resnet.BasicBlock, DEPTHS, drop_path_rate=0.4)
    rates = [block.join.drop.rate for stage in net.stages for block in stage]
    theirs = [part.drop_prob for part in reference.modules() if type(part).__name__ == "DropPath"]
    assert rates == pytest.approx([0, *theirs]) and rates[-1] == 0.4


def test_published_configs_are_read_and_written():
    timm_config = ARCHITECTURE.configs["timm"]
    published = {"architecture": "wide_resnet50_2", "num_classes": 12, "num_features": 2048, "model_args": {"in_chans": 1}}
    config = ARCHITECTURE.configure(timm_config.read(published))
    assert (config.block, config.group_width, config.num_classes, config.in_channels) == ("bottleneck", 128, 12, 1)
    for name, variant in VARIANTS.items():
        written = timm_config.write(variant)
        assert written["architecture"] == name and ARCHITECTURE.configure(timm_config.read(written)) == variant
    assert not timm_config.recognises({"architecture": "resnet50d"})


@pytest.mark.parametrize("change", [{"model_args": {"output_stride": 16}}, {"model_args": {"stem_type": "deep"}}])
def test_a_published_config_that_is_computed_otherwise_is_refused(change):
    with pytest.raises(LayoutError, match=next(iter(change["model_args"]))):
        ARCHITECTURE.configs["timm"].read({"architecture": "resnet50", "num_classes": 1000, **change})


def test_what_timm_publishes_is_loaded_and_exported(tmp_path):
    images = images_for(ResNetConfig(), 96)
    check_folder_of_timm(randomised(timm.create_model("resnet18", num_classes=7), images), images, tmp_path)

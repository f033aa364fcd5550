"""MobileNetV3 against timm and torchvision, both ways."""

from functools import partial

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.mobilenetv3 import MobileNetV3 as TimmNet
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.mobilenetv3 import MobileNetV3 as TorchvisionNet

from bestiary.core import keymap, weights
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.vision.mobilenetv3 import ARCHITECTURE, VARIANTS, Block, MobileNetV3, MobileNetV3Config
from tests.vision.nets import check_folder_of_timm, difference, images_for, randomised

STAGES = (
    ((3, 16, 16, True, "relu", 1),),
    ((3, 48, 24, False, "relu", 2), (5, 96, 24, True, "hard_swish", 1)),
    ((5, 72, 40, True, "hard_swish", 2), (3, 160, 40, False, "relu", 1)),
)
TINY = {
    "as in torchvision": {"eps": 1e-3},
    "grey, ten classes": {"in_channels": 1, "num_classes": 10},
}
SAME = {"same padding": {"padding": "same", "eps": 1e-3}, "relu": {"padding": "same", "activation": "relu"}}  # timm's alone


def tiny(**changes):
    return MobileNetV3Config(stages=STAGES, top=240, pooled=64, **changes)  # torchvision's top is six times the last stage


def timm_net(config):
    inputs, stages = config.stem, []
    for lines in config.stages:
        stages.append([])
        for block in (Block(*line) for line in lines):
            kind = "ir" if block.hidden != inputs else "ds"
            form = f"{kind}_r1_k{block.kernel}_s{block.stride}_e{block.hidden / inputs:.6f}_c{block.channels}"
            squeeze, activation = "_se0.25" if block.excites else "", {"relu": "nre", "hard_swish": "nhs"}[block.activation]
            stages[-1].append(f"{form}{squeeze}_{activation}")
            inputs = block.channels
    return TimmNet(
        decode_arch_def([*stages, [f"cn_r1_k1_s1_c{config.top}"]]),
        num_classes=config.num_classes,
        in_chans=config.in_channels,
        stem_size=config.stem,
        num_features=config.pooled,
        pad_type="same" if config.padding == "same" else "",
        act_layer={"relu": nn.ReLU, "hard_swish": nn.Hardswish}[config.activation],
        norm_layer=partial(nn.BatchNorm2d, eps=config.eps),
        se_layer=partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU, rd_round_fn=round_channels),
    )


def torchvision_net(config):
    inputs, blocks = config.stem, []
    for block in (Block(*line) for lines in config.stages for line in lines):
        activation = {"relu": "RE", "hard_swish": "HS"}[block.activation]
        shape = (inputs, block.kernel, block.hidden, block.channels, block.excites, activation, block.stride)
        blocks.append(InvertedResidualConfig(*shape, dilation=1, width_mult=1))
        inputs = block.channels
    norm = partial(nn.BatchNorm2d, eps=config.eps)
    net = TorchvisionNet(blocks, config.pooled, config.num_classes, norm_layer=norm)
    net.features[0][0] = nn.Conv2d(config.in_channels, config.stem, 3, 2, 1, bias=False)  # which has no argument there
    return net


TINY_NETS = {"timm": timm_net, "torchvision": torchvision_net}
TINY_CASES = [
    *((layout, name, changes) for layout in TINY_NETS for name, changes in TINY.items()),
    *(("timm", name, changes) for name, changes in SAME.items()),
]
TORCHVISION = {
    "mobilenet_v3_large": MobileNetV3Config(eps=1e-3),
    "mobilenet_v3_small": MobileNetV3Config(**{**vars(VARIANTS["mobilenetv3_small_100"]), "eps": 1e-3}),
}
PUBLISHED = [
    *(("timm", name, timm.create_model, config) for name, config in VARIANTS.items()),
    *(("torchvision", name, torchvision.models.get_model, config) for name, config in TORCHVISION.items()),
]
tiny_cases = pytest.mark.parametrize(
    ("layout", "changes"),
    [(layout, changes) for layout, _, changes in TINY_CASES],
    ids=[f"{layout}-{name}" for layout, name, _ in TINY_CASES],
)
published = pytest.mark.parametrize(
    ("layout", "name", "create", "config"), PUBLISHED, ids=[f"{layout}-{name}" for layout, name, _, _ in PUBLISHED]
)


def trained(reference, images):
    """As after training: torchvision begins with linear layers so small that no image would matter."""
    for module in reference.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return randomised(reference, images)


def load(path, config, layout):
    return weights.load(ARCHITECTURE, config, path, layout)


def steps_of(reference, images):
    """Features, pooled features and logits of a reference."""
    if isinstance(reference, TimmNet):
        features = reference.forward_features(images)
        return features, reference.forward_head(features, pre_logits=True), reference(images)
    features = reference.features(images)
    pooled = reference.classifier[:-1](reference.avgpool(features).flatten(1))
    return features, pooled, reference(images)


def check_parity(reference, config, layout, tmp_path, size=64):
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net, images = load(tmp_path / "theirs.safetensors", config, layout), images_for(config, size)
    with torch.no_grad():
        features, pooled, logits = steps_of(reference, images)
        assert difference(logits[0], logits[1]) > 0.01  # the image matters
        assert difference(net.features(images), features) <= 1e-5
        assert difference(net.pooled(images), pooled) <= 1e-5
        assert difference(net(images), logits) <= 1e-5
        # The form for inference rounds elsewhere, and a deep net magnifies it: whether both compute the same is asked in fp64.
        exact = reference.double()(images.double())
        assert difference(for_inference(net.double())(images.double()), exact) <= 1e-9


@tiny_cases
def test_a_tiny_net_computes_what_the_reference_computes(layout, changes, tmp_path):
    config = tiny(**changes)
    images = images_for(config, count=4)
    reference = trained(TINY_NETS[layout](config), images)
    with torch.no_grad():
        expected = reference(images)
        check_parity(reference, config, layout, tmp_path)
        derived = for_inference(load(tmp_path / "theirs.safetensors", config, layout))
        assert difference(derived(images), expected) <= 1e-5


@tiny_cases
def test_the_reference_loads_the_export_and_computes_the_same(layout, changes, tmp_path):
    config = tiny(**changes)
    net, reference = randomised(MobileNetV3(config), images_for(config)), TINY_NETS[layout](config).eval()
    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules(layout, config, list(net.state_dict())))
    exported = load_file(tmp_path / "ours.safetensors")
    assert exported.keys() == reference.state_dict().keys()
    reference.load_state_dict(exported, strict=True)
    with torch.no_grad():
        assert difference(net(images_for(config)), reference(images_for(config))) <= 1e-5


@published
def test_every_variant_has_the_tensors_of_the_reference(layout, name, create, config):
    """Names and shapes, on the meta device where nothing is computed."""
    with torch.device("meta"):
        theirs, ours = create(name).state_dict(), MobileNetV3(config).state_dict()
    written = keymap.save(ARCHITECTURE.rules(layout, config, list(ours)), ours)
    assert {name: tensor.shape for name, tensor in written.items()} == {name: tensor.shape for name, tensor in theirs.items()}


@pytest.mark.full
@published
def test_every_published_variant_computes_what_the_reference_computes(layout, name, create, config, tmp_path):
    check_parity(trained(create(name), images_for(config, 96)), config, layout, tmp_path, size=96)


def test_intermediates_are_those_of_timm(tmp_path):
    """And stay as they came out, though at inference parts write over what they need no more."""
    config = tiny()
    images = images_for(config)
    reference = randomised(timm_net(config), images)
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net = for_inference(load(tmp_path / "theirs.safetensors", config, "timm").double())
    with torch.no_grad():
        expected = reference.double().forward_intermediates(images.double(), extra_blocks=True, intermediates_only=True)
        found = net.intermediates(images.double(), range(len(config.stages)))
        assert [maps.shape[1] for maps in found] == [16, 24, 40]
        for ours, theirs in zip(found, expected[1:], strict=False):  # the first is of the stem, the last of the top
            assert difference(ours, theirs) <= 1e-9


def test_training_drops_blocks_more_often_the_deeper_they_lie():
    net = MobileNetV3(tiny(drop_path=0.5))
    rates = [block.join.drop.rate for stage in net.stages for block in stage if hasattr(block.join, "drop")]
    assert rates == pytest.approx([0, 0.5 * 2 / 5, 0.5 * 4 / 5])


def test_published_configs_are_read_and_written():
    timm_config = ARCHITECTURE.configs["timm"]
    published = {"architecture": "mobilenetv3_small_050", "num_classes": 12, "num_features": 1024, "model_args": {"in_chans": 1}}
    config = ARCHITECTURE.configure(timm_config.read(published))
    assert (config.top, config.pooled, config.num_classes, config.in_channels) == (288, 1024, 12, 1)
    for name, variant in VARIANTS.items():
        written = timm_config.write(variant)
        assert written["architecture"] == name and ARCHITECTURE.configure(timm_config.read(written)) == variant
    assert not timm_config.recognises({"architecture": "mobilenetv3_rw"})


def test_what_torchvision_cannot_compute_is_not_written_for_it():
    with pytest.raises(LayoutError, match="padding: same"):
        ARCHITECTURE.layouts["torchvision"](VARIANTS["tf_mobilenetv3_small_100"])


def test_what_timm_publishes_is_loaded_and_exported(tmp_path):
    images = images_for(MobileNetV3Config(), 96)
    check_folder_of_timm(randomised(timm.create_model("mobilenetv3_small_100", num_classes=7), images), images, tmp_path)

"""ConvNeXt against timm and torchvision, both ways."""

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.convnext import ConvNeXt as TimmNet
from torchvision.models import convnext as torchvision_convnext

from bestiary.core import weights
from bestiary.core.operations import unsqueezed
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.vision.convnext import ARCHITECTURE, VARIANTS, ConvNeXt, ConvNeXtConfig
from tests.vision.nets import check_config_of_timm, check_folder_of_timm, difference, shapes, shapes_written

TINY = {
    "V1": ("timm", {}),
    "V1, grey, ten classes": ("timm", {"in_channels": 1, "num_classes": 10}),
    "V1 without a head": ("timm", {"num_classes": 0}),
    "V1 with convolutions": ("timm", {"timm_mlp": "convolution"}),
    "V2": ("timm", {"mlp": "competing"}),
    "V2 with convolutions": ("timm", {"mlp": "competing", "timm_mlp": "convolution", "num_classes": 10}),
    "torchvision": ("torchvision", {"num_classes": 10}),
}
PUBLISHED_BY_TORCHVISION = [f"convnext_{size}" for size in ("tiny", "small", "base", "large")]


def tiny(**changes):
    """The middle stages keep a width and change it, so that a mistaken order of the two shows."""
    return ConvNeXtConfig(depths=(1, 2, 3, 1), widths=(8, 16, 16, 24), **changes)


def timm_reference(config):
    scaled = config.mlp == "scaled"
    return TimmNet(
        depths=config.depths,
        dims=config.widths,
        num_classes=config.num_classes,
        in_chans=config.in_channels,
        ls_init_value=config.layer_scale if scaled else None,
        use_grn=not scaled,
        conv_mlp=config.timm_mlp == "convolution",
    )


def torchvision_reference(config):
    outputs = [*config.widths[1:], None]
    settings = map(torchvision_convnext.CNBlockConfig, config.widths, outputs, config.depths)
    return torchvision_convnext.ConvNeXt(list(settings), num_classes=config.num_classes)


REFERENCES = {"timm": timm_reference, "torchvision": torchvision_reference}


class Timm:
    """What timm's net computes on the way to its logits."""

    def __init__(self, net):
        self.net = net

    def features(self, images):
        return self.net.forward_features(images)

    def pooled(self, images):
        return self.net.forward_head(self.features(images), pre_logits=True)

    def stages(self, images):
        return self.net.forward_intermediates(images, intermediates_only=True)


class Torchvision(Timm):
    def features(self, images):
        return self.net.features(images)

    def pooled(self, images):
        return self.net.classifier[:2](self.net.avgpool(self.features(images)))

    def stages(self, images):
        return [self.net.features[: last + 1](images) for last in (1, 3, 5, 7)]


INSIDE = {"timm": Timm, "torchvision": Torchvision}


def randomised(net):
    """Random values everywhere: the first ones of norms and layer scales, ones, zeros or nearly so, would hide a mistake."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() in (2, 4):
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.uniform_(0.2, 1.2)
    return net.eval()


def images_for(config, height=64, width=101):
    """Halved time and again, the width leaves something over, which is cut off."""
    return torch.randn(2, config.in_channels, height, width, generator=torch.Generator().manual_seed(0))


def exported(net, path, layout="timm"):
    weights.save(net, path, ARCHITECTURE.rules(layout, net.config, list(net.state_dict())))
    return load_file(path)


def check_parity(reference, config, layout, tmp_path, images):
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net = weights.load(ARCHITECTURE, config, tmp_path / "theirs.safetensors", layout)
    inside = INSIDE[layout](reference)
    with torch.no_grad():
        expected = reference(images)
        assert difference(expected[0], expected[1]) > 0.01  # the image matters
        for form in (net, for_inference(net)):
            assert difference(form(images), expected) <= 1e-5
            assert difference(form.features(images), inside.features(images)) <= 1e-5
            assert difference(form.pooled(images), inside.pooled(images)) <= 1e-5
            found = form.intermediates(images, range(4))
            assert all(difference(ours, theirs) <= 1e-5 for ours, theirs in zip(found, inside.stages(images), strict=True))


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_net_computes_what_the_reference_computes(name, tmp_path):
    layout, changes = TINY[name]
    config = tiny(**changes)
    check_parity(randomised(REFERENCES[layout](config)), config, layout, tmp_path, images_for(config))


@pytest.mark.parametrize("name", TINY)
def test_the_reference_loads_the_export_and_computes_the_same(name, tmp_path):
    layout, changes = TINY[name]
    config = tiny(**changes)
    net, reference = randomised(ConvNeXt(config)), REFERENCES[layout](config).eval()
    tensors = exported(net, tmp_path / "ours.safetensors", layout)
    reference.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        assert difference(net(images_for(config)), reference(images_for(config))) <= 1e-5
    back = weights.load(ARCHITECTURE, config, tmp_path / "ours.safetensors", layout).state_dict()
    assert back.keys() == net.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    ("layout", "name"), [("timm", name) for name in VARIANTS] + [("torchvision", name) for name in PUBLISHED_BY_TORCHVISION]
)
def test_every_variant_has_the_tensors_of_the_reference(layout, name):
    with torch.device("meta"):
        reference = timm.create_model(name) if layout == "timm" else getattr(torchvision_convnext, name)()
    assert shapes_written(ARCHITECTURE, VARIANTS[name], layout) == shapes(reference.state_dict())


@pytest.mark.full
@pytest.mark.parametrize("name", VARIANTS)
def test_every_published_variant_computes_what_timm_computes(name, tmp_path):
    config = VARIANTS[name]
    check_parity(randomised(timm.create_model(name)), config, "timm", tmp_path, images_for(config, 96, 96))


@pytest.mark.full
@pytest.mark.parametrize("name", PUBLISHED_BY_TORCHVISION)
def test_every_published_variant_computes_what_torchvision_computes(name, tmp_path):
    config = VARIANTS[name]
    reference = randomised(getattr(torchvision_convnext, name)())
    check_parity(reference, config, "torchvision", tmp_path, images_for(config, 96, 96))


@pytest.mark.parametrize("mlp", ["scaled", "competing"])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_the_form_for_inference_is_as_exact_in_low_precision(mlp, precision):
    config = tiny(mlp=mlp)
    net, images = randomised(ConvNeXt(config)), images_for(config)
    with torch.no_grad():
        expected = net(images)
        low = net.to(precision)
        plain = difference(low(images.to(precision)).float(), expected)
        assert difference(for_inference(low)(images.to(precision)).float(), expected) <= max(2 * plain, 0.01)


def test_maps_stay_channels_last():
    net = randomised(ConvNeXt(tiny()))
    for maps in net.intermediates(images_for(net.config), range(4)):
        assert maps.is_contiguous(memory_format=torch.channels_last)


def test_v2_reaches_every_parameter_and_is_exported(tmp_path):
    """What tests/test_contract.py asks of V1."""
    onnxruntime = pytest.importorskip("onnxruntime")
    net = randomised(ConvNeXt(tiny(mlp="competing")))
    images = images_for(net.config, 64, 64)
    net.train()(images).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    with torch.no_grad():
        expected = net.eval()(images)
        program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
        assert difference(program.module()(images), expected) <= 1e-5
        torch.onnx.export(net, (images,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert difference(torch.from_numpy(output), expected) <= 1e-4


def test_training_drops_blocks_more_often_the_deeper_they_lie():
    net = ConvNeXt(tiny(drop_path=0.6))
    rates = [block.join.drop.rate for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.1 * depth for depth in range(7)])


@pytest.mark.parametrize("depths", [(), (1, 2)])
def test_a_config_without_a_width_for_each_stage_is_refused(depths):
    with pytest.raises(LayoutError, match="stages"):
        ARCHITECTURE.configure({"depths": depths, "widths": [8]})


def test_torchvision_has_no_v2(tmp_path):
    net = ConvNeXt(tiny(mlp="competing"))
    with pytest.raises(LayoutError, match="V2"):
        exported(net, tmp_path / "ours.safetensors", "torchvision")


def test_a_convolution_that_is_none_of_1_by_1_is_refused():
    rule = unsqueezed("theirs", "ours", sides=2)
    for shape in [(2, 3, 1, 3), (2, 3), (2,), ()]:
        with pytest.raises(LayoutError, match="length 1"):
            rule.operation.load((torch.zeros(shape),))


@pytest.mark.parametrize("name", ["convnext_small", "convnextv2_nano"])
def test_published_configs_are_read_and_written(name):
    check_config_of_timm(ARCHITECTURE, name, "convnext_tiny_hnf")


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_what_timm_publishes_is_loaded_and_exported(name, tmp_path):
    reference = randomised(timm.create_model(name, num_classes=7))
    check_folder_of_timm(reference, images_for(VARIANTS[name]), tmp_path)

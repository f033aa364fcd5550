"""Vision Transformers against timm, torchvision and transformers, both ways, at sizes that are not a square too."""

import json
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import SwiGLUPacked

import bestiary
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError, LayoutError
from bestiary.vision.vit import ARCHITECTURE, VARIANTS, ViT, ViTConfig

SHAPE = {"image": 32, "patch": 8, "layers": 3, "width": 32, "heads": 4, "hidden": 64, "num_classes": 7}
TINY = {
    "plain": {},
    "grey": {"in_channels": 1},
    "dinov2": {"layer_scale": 0.1, "num_classes": 0},
    "registers": {"layer_scale": 0.1, "registers": 2, "positions": "patches"},
    "gated": {"layer_scale": 0.1, "mlp": "gated", "activation": "silu"},
    "mean": {"class_tokens": 0, "pooling": "mean", "norm": "pooled"},
    "mean beside a class token": {"pooling": "mean", "norm": "pooled"},
}


def tiny(**changes):
    return ViTConfig(**{**SHAPE, **changes})


def timm_net(config):
    gated = config.mlp == "gated"
    return timm.models.VisionTransformer(
        img_size=config.image,
        patch_size=config.patch,
        in_chans=config.in_channels,
        num_classes=config.num_classes,
        embed_dim=config.width,
        depth=config.layers,
        num_heads=config.heads,
        mlp_ratio=config.hidden / config.width * (2 if gated else 1),
        mlp_layer=SwiGLUPacked if gated else timm.layers.Mlp,
        act_layer=torch.nn.SiLU if gated else torch.nn.GELU,
        init_values=config.layer_scale,
        class_token=config.class_tokens == 1,
        reg_tokens=config.registers,
        no_embed_class=config.positions == "patches",
        global_pool={"class": "token", "mean": "avg"}[config.pooling],
        dynamic_img_size=True,
    )


def torchvision_net(config):
    net = torchvision.models.VisionTransformer(
        config.image, config.patch, config.layers, config.heads, config.width, config.hidden, num_classes=config.num_classes
    )
    return net


def vit_of_transformers(config):
    described = transformers.ViTConfig(**shape_of_transformers(config), intermediate_size=config.hidden)
    return transformers.ViTForImageClassification(described)


def dinov2_of_transformers(config):
    options = {"mlp_ratio": config.hidden // config.width, "use_swiglu_ffn": config.mlp == "gated"}
    if config.registers:
        described = transformers.Dinov2WithRegistersConfig(
            **shape_of_transformers(config), **options, num_register_tokens=config.registers
        )
        return transformers.Dinov2WithRegistersForImageClassification(described)
    return transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**shape_of_transformers(config), **options))


def shape_of_transformers(config):
    return {
        "image_size": config.image,
        "patch_size": config.patch,
        "num_channels": config.in_channels,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "layer_norm_eps": config.eps,
        "num_labels": config.num_classes,
    }


def randomised(net):
    """Every weight at random: what begins as zeros or ones would hide a mistake."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and parameter.dim() == 1 else 0.3 * noise)
    return net.eval()


def images_for(config, height=None, width=None):
    sides = height or config.image, width or height or config.image
    return torch.randn(2, config.in_channels, *sides, generator=torch.Generator().manual_seed(0))


def close(a, b):
    return float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max()))


def ours_of(reference, config, tmp_path, layout):
    """Our net from the file of the reference."""
    save_file({name: tensor.contiguous() for name, tensor in reference.state_dict().items()}, tmp_path / "theirs.safetensors")
    return weights.load(ARCHITECTURE, config, tmp_path / "theirs.safetensors", layout)


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_a_tiny_net_computes_what_timm_computes(name, tmp_path):
    config = tiny(**TINY[name])
    reference = randomised(timm_net(config))
    net = ours_of(reference, config, tmp_path, "timm")
    for sides in ((32, 32), (48, 32), (24, 40)):  # as the positions were learned, and resized to more and to fewer
        images = images_for(config, *sides)
        expected = reference.forward_features(images)
        assert not close(expected[0], expected[1])  # the image matters
        assert close(net.features(images), expected)
        assert close(net.pooled(images), reference.forward_head(expected, pre_logits=True))
        assert close(net(images), reference(images))
        assert close(for_inference(net)(images), reference(images))


@pytest.mark.parametrize("name", ["plain", "registers", "mean"])
@pytest.mark.parametrize("normalized", [True, False])
@torch.no_grad()
def test_intermediates_are_those_of_timm(name, normalized, tmp_path):
    config = tiny(**TINY[name])
    reference = randomised(timm_net(config))
    net, images = ours_of(reference, config, tmp_path, "timm"), images_for(config, 32, 48)
    expected = reference.forward_intermediates(images, indices=[0, 2], norm=normalized, intermediates_only=True)
    for ours, theirs in zip(net.intermediates(images, [0, -1], normalized=normalized, as_maps=True), expected, strict=True):
        assert close(ours, theirs)
    last, first = net.intermediates(images, [2, 0])
    assert last.shape == first.shape == (2, 24 + config.prefix, 32) and not close(last, first)


@torch.no_grad()
def test_a_tiny_net_computes_what_torchvision_computes(tmp_path):
    config = tiny()
    reference = randomised(torchvision_net(config))
    net = ours_of(reference, config, tmp_path, "torchvision")
    assert close(net(images_for(config)), reference(images_for(config)))

    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules("torchvision", config, list(net.state_dict())))
    back = load_file(tmp_path / "ours.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in reference.state_dict().items())


def test_the_first_files_of_torchvision_are_read(tmp_path):
    config = tiny()
    reference = randomised(torchvision_net(config))
    old = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
        for name, tensor in reference.state_dict().items()
    }
    save_file(old, tmp_path / "old.safetensors")
    net = weights.load(ARCHITECTURE, config, tmp_path / "old.safetensors", "torchvision")
    with torch.no_grad():
        assert close(net(images_for(config)), reference(images_for(config)))


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (vit_of_transformers, {"eps": 1e-12}),
        (dinov2_of_transformers, {"layer_scale": 0.1, "pooling": "class_mean"}),
        (dinov2_of_transformers, {"layer_scale": 0.1, "pooling": "class_mean", "registers": 2}),
        (
            dinov2_of_transformers,
            {"layer_scale": 0.1, "pooling": "class_mean", "mlp": "gated", "activation": "silu", "hidden": 88, "registers": 2},
        ),
    ],
    ids=["vit", "dinov2", "registers", "gated"],
)
@torch.no_grad()
def test_a_tiny_net_computes_what_transformers_computes(build, changes, tmp_path):
    config = tiny(**changes)
    # 88 is what a ratio of four comes to in a gated MLP of width 32.
    reference = randomised(build(tiny(**{**changes, "hidden": 128 if config.mlp == "gated" else 64})))
    reference.save_pretrained(tmp_path / "theirs")
    net = weights.load(ARCHITECTURE, config, tmp_path / "theirs/model.safetensors", "transformers")
    images = images_for(config)
    assert close(net(images), reference(images).logits)

    rules = ARCHITECTURE.rules("transformers", config, list(net.state_dict()))
    weights.save(net, tmp_path / "theirs/model.safetensors", rules)
    again = type(reference).from_pretrained(tmp_path / "theirs").eval()
    assert close(again(images).logits, reference(images).logits)


@pytest.mark.parametrize("name", TINY)
def test_timm_loads_the_export_and_computes_the_same(name, tmp_path):
    config = tiny(**TINY[name])
    net, reference = randomised(ViT(config)), timm_net(config).eval()
    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules("timm", config, list(net.state_dict())))
    reference.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    with torch.no_grad():
        assert close(net(images_for(config)), reference(images_for(config)))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_tensors_of_timms(name):
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=VARIANTS[name].num_classes).state_dict()
        ours = ViT(VARIANTS[name]).state_dict()
    mapped = {}
    for rule in ARCHITECTURE.rules("timm", VARIANTS[name], list(ours)):
        (whole,), parts = rule.theirs[0], [ours[part].shape for part in rule.ours]
        mapped[whole] = torch.Size([sum(part[0] for part in parts), *parts[0][1:]]) if len(parts) > 1 else parts[0]
    assert mapped == {name: tensor.shape for name, tensor in theirs.items()}


@pytest.mark.full
@pytest.mark.parametrize(
    "name", [name for name, config in VARIANTS.items() if config.image <= 224 or (config.patch == 14 and config.width < 1024)]
)
@torch.no_grad()
def test_every_published_variant_computes_what_timm_computes(name, tmp_path):
    config = VARIANTS[name]
    reference = timm.create_model(name, num_classes=config.num_classes).eval()
    net = ours_of(reference, config, tmp_path, "timm")
    images = images_for(config)[:1]
    assert close(net.features(images), reference.forward_features(images))


def test_what_timm_publishes_is_loaded(tmp_path):
    torch.manual_seed(0)
    reference = timm.create_model("vit_tiny_patch16_224", num_classes=7).eval()
    timm.models.save_for_hf(reference, tmp_path, model_config={"label_names": list("abcdefg")}, safe_serialization=True)
    given = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    classify = bestiary.load(tmp_path, device="cpu", precision="fp32")
    assert (classify.preprocess.size, classify.preprocess.crop) == (224, given["crop_pct"])
    assert classify.labels == tuple("abcdefg")
    images = images_for(classify.net.config)
    with torch.no_grad():
        assert close(classify.inference(images), reference(images))

    classify.export(tmp_path / "exported", layout="timm")
    again = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True).eval()
    with torch.no_grad():
        assert close(again(images), reference(images))


def test_an_image_size_of_ones_own_goes_to_timm_and_back(tmp_path):
    published = ARCHITECTURE.configs["timm"]
    config = replace(VARIANTS["vit_small_patch16_224"], image=256, num_classes=5)
    written = published.write(config)
    assert written == {"architecture": "vit_small_patch16_224", "num_classes": 5, "model_args": {"img_size": 256}}
    assert ARCHITECTURE.configure(published.read(written)) == config
    assert published.write(VARIANTS["vit_small_patch16_384"]) == {"architecture": "vit_small_patch16_384", "num_classes": 1000}
    with pytest.raises(LayoutError, match=r"img_size: \[256, 224\]"):
        published.read({**written, "model_args": {"img_size": [256, 224]}})


def test_a_net_without_a_head_has_none_to_replace():
    with pytest.raises(InputError, match="no linear head"):
        ViT(tiny(num_classes=0)).replace_head(3)


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 1), (1, 1)])
def test_a_size_without_a_whole_number_of_patches_is_refused(height, width):
    with pytest.raises(InputError, match=f"{height} × {width} pixels have no whole number of patches of 8"):
        ViT(tiny())(images_for(tiny(), height, width))


def test_configs_that_cannot_be_are_refused():
    with pytest.raises(LayoutError, match="no whole number of patches"):
        tiny(patch=9)
    with pytest.raises(LayoutError, match="needs a class token"):
        tiny(class_tokens=0)


@pytest.mark.parametrize("layout", ["torchvision", "transformers"])
def test_what_a_layout_cannot_say_is_refused(layout):
    with pytest.raises(LayoutError, match="take"):
        ARCHITECTURE.layouts[layout](tiny(layer_scale=0.1, registers=2, positions="patches"))


def test_branches_are_dropped_in_training_alone_and_the_deeper_the_more():
    net = ViT(tiny(drop_path=0.4))
    assert [stage.drop.rate for stage in net.stages] == pytest.approx([0, 0.2, 0.4])
    images = images_for(net.config)
    torch.manual_seed(0)
    assert not torch.equal(net.train()(images), net(images))
    assert torch.equal(net.eval()(images), net(images))

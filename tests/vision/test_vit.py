"""Vision Transformers against timm and torchvision, both ways, at sizes that are not a square too."""

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.layers import SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import bestiary
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError, LayoutError
from bestiary.vision.vit import ARCHITECTURE, TIMM_POOLINGS, VARIANTS, ViT
from tests.vision.nets import check_folder_of_timm, shapes, shapes_written
from tests.vision.vits import close, images_for, ours_of, randomised, tiny

CLIP = {"patch_bias": False, "embedding_norm": "layer", "eps": 1e-5}

TINY = {
    "plain": {},
    "grey": {"in_channels": 1},
    "dinov2": {"layer_scale": 0.1, "num_classes": 0},
    "registers": {"layer_scale": 0.1, "registers": 2, "positions": "patches"},
    "gated": {"layer_scale": 0.1, "mlp": "gated", "activation": "silu"},
    "mean": {"class_tokens": 0, "pooling": "mean", "norm": "pooled"},
    "mean beside a class token": {"pooling": "mean", "norm": "pooled"},
    "mean of normed tokens": {"class_tokens": 0, "pooling": "mean"},
    "distilled": {"class_tokens": 2, "pooling": "distilled"},
    "clip": CLIP,
    "quick clip": {**CLIP, "activation": "quick_gelu"},
    "siglip": {"class_tokens": 0, "pooling": "attention", "activation": "gelu_tanh", "num_classes": 0},
    "attention beside a class token": {"pooling": "attention"},
}


def timm_net(config, dynamic=True):
    gated = config.mlp == "gated"
    kind = VisionTransformerDistilled if config.pooling == "distilled" else timm.models.VisionTransformer
    return kind(
        img_size=config.image,
        patch_size=config.patch,
        in_chans=config.in_channels,
        num_classes=config.num_classes,
        embed_dim=config.width,
        depth=config.layers,
        num_heads=config.heads,
        mlp_ratio=config.hidden / config.width * (2 if gated else 1),
        mlp_layer=SwiGLUPacked if gated else timm.layers.Mlp,
        act_layer=config.activation,
        norm_layer=partial(timm.layers.LayerNorm, eps=config.eps),
        init_values=config.layer_scale,
        class_token=config.class_tokens > 0,
        reg_tokens=config.registers,
        no_embed_class=config.positions == "patches",
        pre_norm=config.embedding_norm == "layer",
        fc_norm=config.norm == "pooled",
        global_pool=TIMM_POOLINGS[config.pooling],
        dynamic_img_size=dynamic,
    )


def torchvision_net(config):
    net = torchvision.models.VisionTransformer(
        config.image, config.patch, config.layers, config.heads, config.width, config.hidden, num_classes=config.num_classes
    )
    return net


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
        answer = net.pooled(images)
        if config.pooling == "distilled":  # both tokens, of which timm gives the mean
            answer = answer.unflatten(1, (2, -1)).mean(1)
        assert close(answer, reference.forward_head(expected, pre_logits=True))
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
        reference = timm.create_model(name, num_classes=VARIANTS[name].num_classes, weight_init="skip")
    assert shapes_written(ARCHITECTURE, VARIANTS[name], "timm") == shapes(reference.state_dict())


@pytest.mark.full
@pytest.mark.parametrize(
    "name", [name for name, config in VARIANTS.items() if config.image <= 224 or (config.layer_scale and config.width < 1024)]
)
@torch.no_grad()
def test_every_published_variant_computes_what_timm_computes(name, tmp_path):
    config = VARIANTS[name]
    reference = timm.create_model(name, num_classes=config.num_classes).eval()
    net = ours_of(reference, config, tmp_path, "timm")
    images = images_for(config)[:1]
    assert close(net.features(images), reference.forward_features(images))
    assert close(net(images), reference(images))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_what_timm_publishes_is_loaded_and_exported(name, tmp_path):
    torch.manual_seed(0)
    check_folder_of_timm(timm.create_model(name, num_classes=7).eval(), images_for(VARIANTS[name]), tmp_path)


def test_what_timm_publishes_without_a_head_embeds(tmp_path):
    torch.manual_seed(0)
    reference = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    timm.models.save_for_hf(reference, tmp_path, safe_serialization=True)
    embed = bestiary.load(tmp_path, device="cpu", precision="fp32")
    assert embed.card.task == "image-embedding"
    images = images_for(embed.net.config)
    with torch.no_grad():
        assert close(embed.inference(images), reference(images))


def test_what_timm_calls_a_pooling_is_said_and_checked():
    published = ARCHITECTURE.configs["timm"]
    described = {"architecture": "vit_base_patch16_siglip_224", "num_classes": 0, "global_pool": "map"}
    assert ARCHITECTURE.configure(published.read(described)) == VARIANTS["vit_base_patch16_siglip_224"]
    with pytest.raises(LayoutError, match="global_pool: 'avg'"):
        published.read({**described, "global_pool": "avg"})


def test_an_image_size_of_ones_own_goes_to_timm_and_back(tmp_path):
    published = ARCHITECTURE.configs["timm"]
    config = replace(VARIANTS["vit_small_patch16_224"], image=256, num_classes=5)
    written = published.write(config)
    assert written == {"architecture": "vit_small_patch16_224", "num_classes": 5, "model_args": {"img_size": 256}}
    assert ARCHITECTURE.configure(published.read(written)) == config
    assert published.write(VARIANTS["vit_small_patch16_384"]) == {"architecture": "vit_small_patch16_384", "num_classes": 1000}
    with pytest.raises(LayoutError, match=r"img_size: \[256, 224\]"):
        published.read({**written, "model_args": {"img_size": [256, 224]}})


@torch.no_grad()
def test_what_is_left_over_of_the_learned_size_is_not_seen(tmp_path):
    """As in so400m of SigLIP, which has patches of 14 in an image of 384."""
    config = tiny(image=37)
    reference = randomised(timm_net(config, dynamic=False))
    net, images = ours_of(reference, config, tmp_path, "timm"), images_for(config)
    assert close(net(images), reference(images))
    assert close(net(images), net(images[..., :32, :32]))
    with pytest.raises(InputError, match="37 × 38"):
        net(images_for(config, 37, 38))


@torch.no_grad()
def test_training_gets_the_logits_of_both_heads_of_a_distilled_net(tmp_path):
    config = tiny(**TINY["distilled"])
    reference = randomised(timm_net(config))
    net, images = ours_of(reference, config, tmp_path, "timm"), images_for(config)
    reference.set_distilled_training()
    expected = reference.train()(images)
    for ours, theirs in zip(net.head.both(net.pooled(images)), expected, strict=True):
        assert close(ours, theirs)
    assert not close(*expected)


@pytest.mark.parametrize("name", ["distilled", "siglip"])
@torch.no_grad()
def test_what_differs_from_the_plain_net_is_exported_and_runs_elsewhere(name):
    """The contract's tests take the plain one."""
    net = randomised(ViT(tiny(**TINY[name])))
    images = torch.cat([images_for(net.config), images_for(net.config) + 1])
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    assert close(program.module()(images[:3]), net(images[:3]))
    assert close(torch.compile(net, fullgraph=True, backend="aot_eager")(images), net(images))
    with FakeTensorMode(shape_env=ShapeEnv()), torch.device("cuda"):
        assert for_inference(ViT(net.config))(torch.randn(2, 3, 32, 32)).device.type == "cuda"


def test_heads_are_replaced_as_the_config_then_says():
    for changes in (TINY["distilled"], {**CLIP, "head_bias": False}, {}):
        net = ViT(tiny(**changes)).double()
        net.replace_head(3)
        assert net.config.num_classes == 3 and net.head(net.pooled(images_for(net.config).double())).shape == (2, 3)
        twin = ViT(net.config).state_dict()
        assert {name: tensor.shape for name, tensor in net.state_dict().items()} == {
            name: tensor.shape for name, tensor in twin.items()
        }
    with pytest.raises(InputError, match="leaves nothing"):
        net.replace_head(0)


@torch.no_grad()
def test_the_config_says_how_positions_of_another_grid_come_about():
    smooth = randomised(ViT(tiny()))
    sharp = ViT(tiny(antialias=False)).eval()
    sharp.load_state_dict(smooth.state_dict())
    for sides, same in (((32, 32), True), ((40, 48), False), ((16, 24), False)):
        images = images_for(smooth.config, *sides)
        assert close(smooth(images), sharp(images)) == same


def test_a_net_without_a_head_has_none_to_replace():
    with pytest.raises(InputError, match="no linear head"):
        ViT(tiny(num_classes=0)).replace_head(3)


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 9), (33, 33)])
def test_a_size_without_a_whole_number_of_patches_is_refused(height, width):
    with pytest.raises(InputError, match=f"{height} × {width} pixels have no whole number of patches of 8"):
        ViT(tiny())(images_for(tiny(), height, width))


def test_configs_that_cannot_be_are_refused():
    with pytest.raises(LayoutError, match="32 pixels hold no patch of 33"):
        tiny(patch=33)
    with pytest.raises(LayoutError, match="needs 1 class tokens, and has 0"):
        tiny(class_tokens=0)
    with pytest.raises(LayoutError, match="needs 2 class tokens, and has 1"):
        tiny(pooling="distilled")


@pytest.mark.parametrize("layout", ["torchvision", "transformers"])
def test_what_a_layout_cannot_say_is_refused(layout):
    with pytest.raises(LayoutError, match="take"):
        ARCHITECTURE.layouts[layout](tiny(layer_scale=0.1, registers=2, positions="patches"))


def test_training_drops_branches_more_often_the_deeper_they_lie():
    net = ViT(tiny(drop_path=0.4))
    assert [stage.drop.rate for stage in net.stages] == pytest.approx([0, 0.2, 0.4])

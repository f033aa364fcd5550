"""Swin Transformer against timm and torchvision, both ways."""

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.swin_transformer import SwinTransformer as TimmNet
from torchvision.models import swin_transformer as torchvision_swin

import bestiary
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError, LayoutError
from bestiary.vision.swin import ARCHITECTURE, VARIANTS, Swin, SwinConfig
from bestiary.vision.windows import Partition
from tests.vision.nets import check_config_of_timm, check_folder_of_timm, difference, scattered, shapes, shapes_written

SQUARE = (64, 64)  # maps of 16, 8 and 4 places: the last is a single window of 4
LONG = (64, 128)  # whose last maps, 4 × 8, are shifted along one side alone
TINY = {
    "timm": ("timm", {}, SQUARE),
    "timm, long": ("timm", {}, LONG),
    "timm, grey, ten classes": ("timm", {"in_channels": 1, "num_classes": 10, "eps": 1e-3}, SQUARE),
    "timm without a head": ("timm", {"num_classes": 0}, SQUARE),
    "timm, larger patches": ("timm", {"patch": 8, "width": 24}, (128, 128)),
    "torchvision": ("torchvision", {"num_classes": 10}, SQUARE),
    "torchvision, odd sizes": ("torchvision", {}, (70, 101)),  # maps of 17 × 25, 9 × 13 and 5 × 7
    "torchvision, odd windows": ("torchvision", {"window": 3, "eps": 1e-3}, (53, 90)),
    "torchvision, flat": ("torchvision", {}, (9, 80)),  # of 2 × 20, 1 × 10 and 1 × 5: fewer rows than a window has
    "torchvision, less than a window": ("torchvision", {}, (4, 7)),
}
PUBLISHED_BY_TORCHVISION = {f"swin_{size[0]}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")}


def tiny(**changes):
    return SwinConfig(**{"window": 4, "depths": (3, 2, 2), "heads": (2, 4, 2), "width": 16, "num_classes": 7, **changes})


def timm_reference(config, size):
    return TimmNet(
        img_size=size,
        patch_size=config.patch,
        in_chans=config.in_channels,
        num_classes=config.num_classes,
        embed_dim=config.width,
        depths=config.depths,
        num_heads=config.heads,
        window_size=config.window,
        norm_layer=partial(torch.nn.LayerNorm, eps=config.eps),
    )


def torchvision_reference(config, size):
    return torchvision_swin.SwinTransformer(
        [config.patch] * 2,
        config.width,
        list(config.depths),
        list(config.heads),
        [config.window] * 2,
        num_classes=config.num_classes,
        norm_layer=partial(torch.nn.LayerNorm, eps=config.eps),
    )


REFERENCES = {"timm": timm_reference, "torchvision": torchvision_reference}


class Timm:
    """What timm's net computes on the way to its logits."""

    def __init__(self, net):
        self.net = net

    def features(self, images):
        return self.net.forward_features(images).permute(0, 3, 1, 2)

    def pooled(self, images):
        return self.net.forward_head(self.net.forward_features(images), pre_logits=True)

    def stages(self, images):
        return self.net.forward_intermediates(images, intermediates_only=True)


class Torchvision(Timm):
    def features(self, images):
        return self.net.permute(self.net.norm(self.net.features(images)))

    def pooled(self, images):
        return self.net.flatten(self.net.avgpool(self.features(images)))

    def stages(self, images):
        return [self.net.permute(self.net.features[: last + 1](images)) for last in range(1, len(self.net.features), 2)]


INSIDE = {"timm": Timm, "torchvision": Torchvision}


def images_for(config, size=SQUARE):
    return torch.randn(2, config.in_channels, *size, generator=torch.Generator().manual_seed(0))


def exported(net, path, layout="timm"):
    weights.save(net, path, ARCHITECTURE.rules(layout, net.config, list(net.state_dict())))
    return load_file(path)


def check_parity(reference, config, layout, tmp_path, size):
    save_file(reference.state_dict(), tmp_path / "theirs.safetensors")
    net = weights.load(ARCHITECTURE, config, tmp_path / "theirs.safetensors", layout)
    inside, images = INSIDE[layout](reference), images_for(config, size)
    with torch.no_grad():
        expected = reference(images)
        assert difference(expected[0], expected[1]) > 0.01  # the image matters
        for form in (net, for_inference(net)):
            assert difference(form(images), expected) <= 1e-5
            assert difference(form.features(images), inside.features(images)) <= 1e-5
            assert difference(form.pooled(images), inside.pooled(images)) <= 1e-5
            found = form.intermediates(images, range(len(config.depths)))
            assert all(difference(ours, theirs) <= 1e-5 for ours, theirs in zip(found, inside.stages(images), strict=True))


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_net_computes_what_the_reference_computes(name, tmp_path):
    layout, changes, size = TINY[name]
    config = tiny(**changes)
    check_parity(scattered(REFERENCES[layout](config, size)), config, layout, tmp_path, size)


@pytest.mark.parametrize("name", TINY)
def test_the_reference_loads_the_export_and_computes_the_same(name, tmp_path):
    layout, changes, size = TINY[name]
    config = tiny(**changes)
    net, reference = scattered(Swin(config)), REFERENCES[layout](config, size).eval()
    reference.load_state_dict(exported(net, tmp_path / "ours.safetensors", layout), strict=True)
    with torch.no_grad():
        assert difference(net(images_for(config, size)), reference(images_for(config, size))) <= 1e-5
    back = weights.load(ARCHITECTURE, config, tmp_path / "ours.safetensors", layout).state_dict()
    assert back.keys() == net.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    ("layout", "name", "variant"),
    [("timm", name, name) for name in VARIANTS] + [("torchvision", *names) for names in PUBLISHED_BY_TORCHVISION.items()],
)
def test_every_variant_has_the_tensors_of_the_reference(layout, name, variant):
    with torch.device("meta"):
        reference = timm.create_model(name) if layout == "timm" else getattr(torchvision_swin, name)()
    assert shapes_written(ARCHITECTURE, VARIANTS[variant], layout) == shapes(reference.state_dict())


@pytest.mark.full
@pytest.mark.parametrize("name", VARIANTS)
def test_every_published_variant_computes_what_timm_computes(name, tmp_path):
    image = int(name.rpartition("_")[2])
    check_parity(scattered(timm.create_model(name)), VARIANTS[name], "timm", tmp_path, (image, image))


@pytest.mark.full
@pytest.mark.parametrize(("name", "variant"), PUBLISHED_BY_TORCHVISION.items())
def test_every_published_variant_computes_what_torchvision_computes(name, variant, tmp_path):
    reference = scattered(getattr(torchvision_swin, name)())
    check_parity(reference, VARIANTS[variant], "torchvision", tmp_path, (120, 101))


def test_files_that_hold_constants_are_read(tmp_path):
    """Those that timm wrote when it saved the index of distances and what shifted windows do not see."""
    config = tiny()
    reference = scattered(timm_reference(config, SQUARE))
    tensors = dict(reference.state_dict())
    for name, buffer in reference.named_buffers():
        tensors[name] = buffer
    assert "layers.0.blocks.1.attn_mask" in tensors and "layers.0.blocks.0.attn.relative_position_index" in tensors
    save_file(tensors, tmp_path / "old.safetensors")
    net = weights.load(ARCHITECTURE, config, tmp_path / "old.safetensors", "timm")
    with torch.no_grad():
        assert difference(net(images_for(config)), reference(images_for(config))) <= 1e-5


def test_a_file_for_windows_of_another_side_is_refused(tmp_path):
    save_file(torchvision_reference(tiny(), SQUARE).state_dict(), tmp_path / "theirs.safetensors")
    with pytest.raises(LayoutError, match="not the index of windows of 3 × 3"):
        weights.load(ARCHITECTURE, tiny(window=3), tmp_path / "theirs.safetensors", "torchvision")


@pytest.mark.parametrize("size", [(9, 14), (3, 9), (1, 1), (8, 8)])
def test_windows_hold_every_place_once_and_places_see_those_near_them_alone(size):
    maps = torch.arange(size[0] * size[1]).view(1, *size, 1) + 1
    for shift in (0, 2):
        windows = Partition(4, shift)(maps)
        cut = windows.cut(maps)[..., 0]  # (windows, area), zeros where a map was filled up
        assert cut[cut > 0].sort().values.equal(maps.flatten())
        assert windows.join(windows.cut(maps)).equal(maps)
        rows, columns = (cut - 1) // size[1], (cut - 1) % size[1]
        near = torch.ones(cut.shape[0], cut.shape[1], cut.shape[1], dtype=torch.bool)
        for side, extent in zip((rows, columns), size, strict=True):
            moved = side - shift if extent > 4 else side
            near &= (moved // 4)[:, :, None] == (moved // 4)[:, None, :]
        real = (cut > 0)[:, :, None] & (cut > 0)[:, None, :]
        sees = torch.ones_like(near) if windows.sees is None else windows.sees[:, 0]
        assert sees[real].equal(near[real])


def test_the_form_for_inference_serves_several_sizes_and_gradients_after_inference():
    net = scattered(Swin(tiny()))
    form = for_inference(net)
    for size in (SQUARE, (70, 101), LONG, SQUARE):
        images = images_for(net.config, size)
        with torch.inference_mode():
            found = form(images)
        assert difference(found, net(images)) <= 1e-5
        assert difference(form(images), net(images)) <= 1e-5


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_the_form_for_inference_is_as_exact_in_low_precision(precision):
    net = scattered(Swin(tiny()))
    images = images_for(net.config)
    with torch.no_grad():
        expected = net(images)
        low = net.to(precision)
        plain = difference(low(images.to(precision)).float(), expected)
        assert plain <= 0.1
        assert difference(for_inference(low)(images.to(precision)).float(), expected) <= max(2 * plain, 0.01)


def test_maps_stay_channels_last():
    net = scattered(Swin(tiny()))
    for maps in net.intermediates(images_for(net.config), range(3)):
        assert maps.is_contiguous(memory_format=torch.channels_last)


def test_training_drops_blocks_more_often_the_deeper_they_lie():
    net, reference = Swin(tiny(drop_path=0.6)), TimmNet(img_size=64, depths=(3, 2, 2), num_heads=(3, 3, 3), drop_path_rate=0.6)
    rates = [block.join.drop.rate for stage in net.stages for block in stage.blocks]
    theirs = [getattr(block.drop_path1, "drop_prob", 0) for stage in reference.layers for block in stage.blocks]
    assert rates == pytest.approx(theirs) and rates[-1] == 0.6


@pytest.mark.parametrize(("height", "width"), [(3, 64), (64, 0)])
def test_images_without_a_patch_are_refused(height, width):
    with pytest.raises(InputError, match=rf"{height}, {width}\) are not what the net takes\n.* h and w of 4 pixels"):
        Swin(tiny())(images_for(tiny(), (height, width)))


@pytest.mark.parametrize("depths", [(), (1, 2)])
def test_a_config_without_heads_for_each_stage_is_refused(depths):
    with pytest.raises(LayoutError, match="stages"):
        ARCHITECTURE.configure({"depths": depths, "heads": [8]})


@pytest.mark.parametrize("name", ["swin_small_patch4_window7_224", "swin_base_patch4_window12_384"])
def test_published_configs_are_read_and_written(name):
    check_config_of_timm(ARCHITECTURE, name, "swin_s3_tiny_224")


@pytest.mark.parametrize("change", [{"window_size": 8}, {"always_partition": True}])
def test_a_published_config_that_is_computed_otherwise_is_refused(change):
    with pytest.raises(LayoutError, match=next(iter(change))):
        ARCHITECTURE.configs["timm"].read({"architecture": "swin_tiny_patch4_window7_224", "model_args": change})


def test_of_the_sizes_that_timm_builds_nets_for_those_are_taken_that_it_computes_alike(tmp_path):
    """Maps that are no whole number of windows it shifts before it fills them up, and other numbers come out."""
    published = {"architecture": "swin_tiny_patch4_window7_224", "num_classes": 1000}
    timm_config, timm_folder = ARCHITECTURE.configs["timm"], ARCHITECTURE.folders["timm"]
    for size in (448, [448, 448]):
        config = ARCHITECTURE.configure(timm_config.read({**published, "model_args": {"img_size": size}}))
        assert config == VARIANTS[published["architecture"]]
    for size in (256, [224, 256]):
        with pytest.raises(LayoutError, match="256 pixels otherwise"):
            timm_config.read({**published, "model_args": {"img_size": size}})
    pretrained = {**timm.get_pretrained_cfg(published["architecture"]).to_dict(), "input_size": (3, 256, 256)}
    with pytest.raises(LayoutError, match="256 pixels otherwise"):
        timm_folder.read(tmp_path, {**published, "pretrained_cfg": pretrained})
    card = bestiary.card("swin-tiny")
    with pytest.raises(LayoutError, match="256 pixels otherwise"):
        timm_folder.write(replace(card, preprocess={**card.preprocess, "size": 256}), published)


def test_what_timm_publishes_is_loaded_and_exported(tmp_path):
    name = "swin_tiny_patch4_window7_224"
    check_folder_of_timm(scattered(timm.create_model(name, num_classes=7)), images_for(VARIANTS[name], (224, 224)), tmp_path)


def test_timm_builds_an_exported_net_for_the_size_of_its_card():
    card = bestiary.card("swin-base-384")
    config = ARCHITECTURE.configs["timm"].write(ARCHITECTURE.configure(card.config))
    written = ARCHITECTURE.folders["timm"].write(card, config)["config.json"]
    with torch.device("meta"):
        net = timm.create_model(written["architecture"], pretrained_cfg=written["pretrained_cfg"])
    assert net.patch_embed.img_size == (384, 384)

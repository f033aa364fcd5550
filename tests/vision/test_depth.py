"""Depth Anything against transformers, both ways, at sizes that are not the one its positions were learned for."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file

import bestiary
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.vision.depth import ARCHITECTURE, VARIANTS, DepthConfig, DepthNet
from bestiary.vision.depth_layout import CONFIG, FOLDER
from bestiary.vision.vit import ViTConfig
from tests.vision.nets import difference, scattered, shapes, shapes_written

ENCODER = ViTConfig(image=56, patch=14, layers=4, width=32, heads=4, hidden=64, layer_scale=1.0, antialias=False, num_classes=0)
TINY = DepthConfig(encoder=ENCODER, layers=(0, 1, 2, 3), widths=(8, 12, 16, 20), fusion_width=8, head_width=4)
CHANGES = {
    "relative": {},
    "metric": {"output": "metric", "largest": 20.0},
    "two maps": {"layers": (1, 3), "widths": (8, 6), "scales": (2, 0.5)},
    "square": {"layers": (1, 2, 3), "widths": (8, 8, 8), "scales": (1, 1, 1)},
    "gated": {"encoder": replace(ENCODER, mlp="gated", activation="silu", hidden=88, drop_path=0.1)},
}
SIZES = ((56, 56), (42, 84), (112, 70), (28, 140))
UNUSED = "neck.fusion_stage.layers.0.residual_layer1."  # a unit of theirs through which nothing goes
REGISTRY = Registry.standard(Settings.read())


def theirs_of(config):
    """The net of transformers for one of our configs."""
    return transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(**CONFIG.write(config)))


def images_for(config, height, width, count=2):
    return torch.randn(count, config.encoder.in_channels, height, width, generator=torch.Generator().manual_seed(0))


def ours_of(reference, config, folder):
    """Our net from the file of the reference."""
    reference.save_pretrained(folder)
    return weights.load(ARCHITECTURE, config, folder / "model.safetensors", "transformers")


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_a_tiny_net_computes_what_transformers_computes(name, tmp_path):
    config = replace(TINY, **CHANGES[name])
    reference = scattered(theirs_of(config))
    reference.head.conv3.bias.fill_(3.0)  # so that no ReLU hides what comes before
    net = ours_of(reference, config, tmp_path)
    for height, width in SIZES:
        images = images_for(config, height, width)
        expected = reference(images).predicted_depth
        assert expected.shape == (2, height, width) and (expected > 0).all()
        assert difference(expected[0], expected[1]) > 0.01  # the image matters
        assert difference(net(images), expected) <= 1e-5
        assert difference(for_inference(net)(images), expected) <= 1e-5


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_transformers_loads_the_export_and_computes_the_same(name, tmp_path):
    config = replace(TINY, **CHANGES[name])
    net, images = scattered(DepthNet(config)), images_for(config, 42, 56)
    net.head.last.bias.fill_(2.0)
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.write(config)))
    again, report = transformers.DepthAnythingForDepthEstimation.from_pretrained(tmp_path, output_loading_info=True)
    assert difference(again.eval()(images).predicted_depth, net(images)) <= 1e-5
    assert report["missing_keys"] and all(key.startswith(UNUSED) for key in report["missing_keys"])
    assert not report["unexpected_keys"] and not report["mismatched_keys"]

    again.save_pretrained(tmp_path / "back")
    theirs, ours = load_file(tmp_path / "back/model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_tensors_of_transformers(name):
    config = VARIANTS[name]
    with torch.device("meta"):
        theirs = theirs_of(config).state_dict()
    used = {name: tensor for name, tensor in theirs.items() if not name.startswith(UNUSED)}
    # In memory transformers calls some of them otherwise than in files, so that names cannot be compared.
    assert sorted(shapes_written(ARCHITECTURE, config, "transformers").values()) == sorted(shapes(used).values())


@pytest.mark.full
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_every_published_size_computes_what_transformers_computes(name, tmp_path):
    """At the size that a photo of 640 × 480 pixels becomes, for the small ones."""
    config = VARIANTS[name]
    reference = theirs_of(config).eval()
    reference.head.conv3.bias.fill_(1.0)
    net = ours_of(reference, config, tmp_path)
    images = images_for(config, *((518, 686) if "small" in name else (154, 210)), count=1)
    assert difference(net(images), reference(images).predicted_depth) <= 1e-5


# As published with depth-anything/Depth-Anything-V2-Small-hf.
PUBLISHED = {
    "_commit_hash": None,
    "architectures": ["DepthAnythingForDepthEstimation"],
    "backbone": None,
    "backbone_config": {
        "architectures": ["Dinov2Model"],
        "hidden_size": 384,
        "image_size": 518,
        "model_type": "dinov2",
        "num_attention_heads": 6,
        "out_features": ["stage3", "stage6", "stage9", "stage12"],
        "out_indices": [3, 6, 9, 12],
        "patch_size": 14,
        "reshape_hidden_states": False,
        "torch_dtype": "float32",
    },
    "fusion_hidden_size": 64,
    "head_hidden_size": 32,
    "head_in_index": -1,
    "initializer_range": 0.02,
    "model_type": "depth_anything",
    "neck_hidden_sizes": [48, 96, 192, 384],
    "patch_size": 14,
    "reassemble_factors": [4, 2, 1, 0.5],
    "reassemble_hidden_size": 384,
    "torch_dtype": "float32",
    "transformers_version": None,
    "use_pretrained_backbone": False,
}


def with_encoder(**changes):
    return {**PUBLISHED, "backbone_config": {**PUBLISHED["backbone_config"], **changes}}


def test_a_published_config_is_that_of_the_variant():
    assert ARCHITECTURE.configure(CONFIG.read(PUBLISHED)) == VARIANTS["depth-anything-v2-small"]
    for indices, features in (([9, 10, 11, 12], None), (None, ["stage9", "stage10", "stage11", "stage12"])):
        published = with_encoder(out_indices=indices, out_features=features)
        assert ARCHITECTURE.configure(CONFIG.read(published)) == VARIANTS["depth-anything-small"]
    metric = ARCHITECTURE.configure(CONFIG.read({**PUBLISHED, "depth_estimation_type": "metric", "max_depth": 80}))
    assert metric == replace(VARIANTS["depth-anything-v2-small"], output="metric", largest=80.0)
    for config in (*VARIANTS.values(), metric):
        assert ARCHITECTURE.configure(CONFIG.read(json.loads(json.dumps(CONFIG.write(config))))) == config


@pytest.mark.parametrize(
    ("published", "message"),
    [
        (with_encoder(model_type="swin"), "an encoder 'swin'"),
        (with_encoder(reshape_hidden_states=True), "reshape_hidden_states: True"),
        (with_encoder(apply_layernorm=False), "apply_layernorm: False"),
        (with_encoder(patch_size=16), r"beside|patch_size and reassemble_hidden_size \(14, 384\)"),
        ({**PUBLISHED, "head_in_index": 0}, "head_in_index: 0"),
        ({**PUBLISHED, "use_timm_backbone": True}, "use_timm_backbone: True"),
    ],
)
def test_a_config_that_is_not_computed_is_refused(published, message):
    with pytest.raises(LayoutError, match=message):
        CONFIG.read(published)


def test_a_config_that_cannot_be_said_is_refused():
    for config in (replace(TINY, largest=0.5), replace(TINY, encoder=replace(ENCODER, antialias=True))):
        with pytest.raises(LayoutError, match="cannot say"):
            CONFIG.write(config)
    with pytest.raises(LayoutError, match="make no maps"):
        replace(TINY, layers=(0, 1))


def test_what_transformers_publishes_is_loaded_and_written_again(tmp_path):
    reference = scattered(theirs_of(TINY))
    reference.save_pretrained(tmp_path / "theirs")
    processor = transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14, image_std=[0.2, 0.3, 0.4]
    )
    processor.save_pretrained(tmp_path / "theirs")
    task = bestiary.load(tmp_path / "theirs", device="cpu")
    assert task.card.task == "depth-estimation" and task.net.config == TINY
    images = images_for(TINY, 42, 56)
    with torch.no_grad():
        assert difference(task.inference(images), reference(images).predicted_depth) <= 1e-5

    task.export(tmp_path / "ours", layout="transformers")
    again = transformers.DepthAnythingForDepthEstimation.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        assert difference(again(images).predicted_depth, reference(images).predicted_depth) <= 1e-5
    written = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours").to_dict()
    assert {**processor.to_dict(), "size_divisor": None} == {**written, "size_divisor": None}

    task.save(tmp_path / "saved")
    with torch.no_grad():
        saved = bestiary.load(tmp_path / "saved", device="cpu")
        assert saved.net.config == TINY and torch.equal(saved.net(images), task.net(images))


def test_a_processor_that_does_otherwise_is_refused(tmp_path):
    for changes in ({"keep_aspect_ratio": False}, {"do_pad": True}, {"size_divisor": 32}, {"do_flip": True}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(changes))
        with pytest.raises(LayoutError, match=next(iter(changes))):
            FOLDER.read(tmp_path, PUBLISHED)


@pytest.mark.parametrize("name", VARIANTS)
def test_cards_say_what_the_variants_do(name):
    card = REGISTRY.card(name)
    assert ARCHITECTURE.configure(card.config) == VARIANTS[name]
    assert dict(card.preprocess) == {
        "fit": "multiple", "size": 518, "multiple": 14, "interpolation": "bicubic", "resampler": "torch",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    free = not name.startswith("depth-anything-v2") or name.endswith("small")
    assert card.license == ("apache-2.0" if free else "cc-by-nc-4.0")
    owner, _, kind = card.sources[0].address.partition("/")
    assert kind.lower() == f"{name}-hf" and owner == ("depth-anything" if "v2" in name else "LiheYoung")

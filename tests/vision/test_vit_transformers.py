"""Vision Transformers against transformers, both ways: weights and configs of every family."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from bestiary.core import weights
from bestiary.errors import LayoutError
from bestiary.vision.vit import ARCHITECTURE, VARIANTS
from tests.vision.vit_cases import CASES, CLIP, DEIT, DINO, MLP, SHAPE, SIGLIP, VIT, answer, built
from tests.vision.vits import close, images_for, randomised, tiny

PUBLISHED = ARCHITECTURE.configs["transformers"]
every_case = pytest.mark.parametrize("name", CASES)


@every_case
@torch.no_grad()
def test_a_tiny_net_computes_what_transformers_computes(name, tmp_path):
    case, config = CASES[name], tiny(**CASES[name].changes)
    reference = built(case)
    reference.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    assert PUBLISHED.recognises(described) and ARCHITECTURE.configure(PUBLISHED.read(described)) == config

    net = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    images = images_for(config)
    expected = answer(reference, images)
    assert not close(expected[0], expected[1])  # the image matters
    assert close(net(images), expected)
    for sides in ((48, 32), (24, 40)) if name != "mae" else ():
        images = images_for(config, *sides)
        assert close(net(images), answer(reference, images, **case.options))


@every_case
@torch.no_grad()
def test_transformers_loads_the_export_and_computes_the_same(name, tmp_path):
    case, config = CASES[name], tiny(**CASES[name].changes)
    net = randomised(ARCHITECTURE.net(config))
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    written = PUBLISHED.write(config)
    (tmp_path / "config.json").write_text(json.dumps(written))
    kind = case.written or case.kind
    assert written["architectures"] == [kind] and ARCHITECTURE.configure(PUBLISHED.read(written)) == config

    again, info = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(key.startswith(case.absent) for key in info["missing_keys"]) if case.absent else not info["missing_keys"]
    images = images_for(config)
    assert close(net(images), answer(again.eval(), images))


@torch.no_grad()
def test_features_are_those_of_the_encoder(tmp_path):
    for name in ("vit without a head", "registers", "siglip"):
        reference = built(CASES[name])
        reference.save_pretrained(tmp_path / name)
        net = weights.load(ARCHITECTURE, tiny(**CASES[name].changes), tmp_path / name / "model.safetensors", "transformers")
        images = images_for(net.config)
        encoder = getattr(reference, "dinov2_with_registers", reference)
        assert close(net.features(images), encoder(images).last_hidden_state)


@torch.no_grad()
def test_an_mae_is_read_without_its_decoder(tmp_path):
    """As transformers writes it today, and as it is published."""
    described = transformers.ViTMAEConfig(
        **SHAPE, **MLP, decoder_hidden_size=16, decoder_num_attention_heads=2, decoder_intermediate_size=16
    )
    reference = randomised(transformers.ViTMAEForPreTraining(described))
    reference.save_pretrained(tmp_path)
    config = ARCHITECTURE.configure(PUBLISHED.read(json.loads((tmp_path / "config.json").read_text())))
    net = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    whole = transformers.ViTMAEModel.from_pretrained(tmp_path, mask_ratio=0.0).eval()
    images = images_for(config)
    assert close(net(images), answer(whole, images))

    today = load_file(tmp_path / "model.safetensors")
    published = {key.replace("decoder_encoder.layer", "decoder_layers"): tensor for key, tensor in today.items()}
    assert any("decoder_layers.7." in key for key in published)
    save_file(published, tmp_path / "published.safetensors")
    again = weights.load(ARCHITECTURE, config, tmp_path / "published.safetensors", "transformers")
    assert torch.equal(again(images), net(images))


def classes(count):
    return {"id2label": {str(index): f"class {index}" for index in range(count)}}


# What stands in the config.json of files as published, and the variant that it is of.
AS_PUBLISHED = {
    "vit_base_patch16_224": (
        {
            **{"architectures": ["ViTForImageClassification"], "model_type": "vit", "transformers_version": "4.13.0.dev0"},
            **{"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "initializer_range": 0.02, **classes(1000)},
            **{"hidden_act": "gelu", "hidden_size": 768, "image_size": 224, "intermediate_size": 3072, "layer_norm_eps": 1e-12},
            **{"num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16, "qkv_bias": True},
        },
        VIT,
    ),
    "deit_base_distilled_patch16_384": (
        {
            **{"architectures": ["DeiTForImageClassificationWithTeacher"], "model_type": "deit", "image_size": 384},
            **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, **classes(1000)},
        },
        VIT,
    ),
    "vit_large_patch14_dinov2": (
        {
            **{"architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": 1024, "num_hidden_layers": 24},
            **{"num_attention_heads": 16, "image_size": 518, "layerscale_value": 1.0, "drop_path_rate": 0.0, "mlp_ratio": 4},
            **{"out_features": ["stage24"], "stage_names": ["stem"], "apply_layernorm": True, "reshape_hidden_states": True},
        },
        {"layer_scale": 1.0, "antialias": False},
    ),
    "vit_giant_patch14_dinov2": (
        {
            **{"architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": 1536, "num_hidden_layers": 40},
            **{"num_attention_heads": 24, "image_size": 518, "use_swiglu_ffn": True},
        },
        {"layer_scale": 1.0, "antialias": False},
    ),
    "vit_base_patch14_reg4_dinov2": (
        {"architectures": ["Dinov2WithRegistersModel"], "model_type": "dinov2_with_registers", "image_size": 518},
        {"layer_scale": 1.0, "positions": "tokens"},
    ),
    "vit_base_patch32_clip_quickgelu_224": (
        {"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model", "projection_dim": 512},
        {"head_bias": False, "antialias": False},
    ),
    "vit_so400m_patch14_siglip_384": (
        {
            **{"architectures": ["SiglipVisionModel"], "model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14},
            **{"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27},
        },
        {"activation": "gelu_tanh", "antialias": False},
    ),
    "vit_large_patch16_224": (
        {
            **{"architectures": ["ViTMAEForPreTraining"], "model_type": "vit_mae", "hidden_size": 1024, "mask_ratio": 0.75},
            **{"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "decoder_num_hidden_layers": 8},
        },
        {**VIT, "num_classes": 0},
    ),
}


@pytest.mark.parametrize("variant", AS_PUBLISHED)
def test_published_configs_are_read_and_written(variant):
    described, changes = AS_PUBLISHED[variant]
    config = ARCHITECTURE.configure(PUBLISHED.read(described))
    assert config == replace(VARIANTS[variant], **changes)
    written = PUBLISHED.write(config)
    assert ARCHITECTURE.configure(PUBLISHED.read(written)) == config
    kind = transformers.AutoConfig.for_model(**written)
    told = {"image_size": config.image, "patch_size": config.patch, "hidden_size": config.width}
    assert {key: getattr(kind, key) for key in told} == told


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vit", {"qkv_bias": False}),
        ("vit", {"hidden_act": "gelu_fast"}),
        ("vit", {"image_size": [32, 48]}),
        ("vit", {"rope_theta": 100.0}),
        ("vit", {"architectures": ["ViTForMaskedImageModeling"]}),
        ("deit", {"architectures": ["DeiTForMaskedImageModeling"]}),
        ("dinov2", {"architectures": ["Dinov2Backbone"]}),
        ("dinov2", {"num_register_tokens": 4}),
        ("clip", {"architectures": ["CLIPForImageClassification"]}),
        ("siglip", {"vision_use_head": False}),
        ("siglip", {"projection_dim": 512}),
    ],
)
def test_what_is_computed_otherwise_is_refused_by_name(name, change):
    written = PUBLISHED.write(tiny(**CASES[name].changes))
    (key,) = change
    with pytest.raises(LayoutError, match=f"{key}: ") as caught:
        PUBLISHED.read({**written, **change})
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "mean"},
        {"pooling": "class_mean"},
        {"norm": "pooled"},
        {"activation": "tanh"},
        {**DEIT, "registers": 2},
        {**DINO, "hidden": 63, "num_classes": 0},
        {**CLIP, "head_bias": True},
        {**SIGLIP, "num_classes": 7},
    ],
)
def test_what_transformers_cannot_say_is_refused(changes):
    with pytest.raises(LayoutError) as caught:
        PUBLISHED.write(tiny(**changes))
    assert len(str(caught.value).splitlines()) <= 3


def test_positions_and_dropped_branches_of_timms_nets_are_no_hindrance():
    written = PUBLISHED.write(tiny(drop_path=0.1))
    assert ARCHITECTURE.configure(PUBLISHED.read(written)) == tiny(antialias=False)
    with pytest.raises(LayoutError, match="antialias"):
        PUBLISHED.write(tiny(layer_scale=0.1, num_classes=0, antialias=True))

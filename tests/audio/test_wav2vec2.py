"""wav2vec 2.0 and HuBERT against transformers: with padding and without, both ways, also files with old names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from bestiary.audio.wav2vec2 import ARCHITECTURE, HUBERT, LARGE, Wav2Vec2Config
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError, LayoutError

NAMES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert"}  # what the classes of the reference begin with
TINY = {
    "layers": 2, "width": 32, "heads": 4, "hidden": 48, "stem_widths": (8,) * 7, "position_kernel": 16, "position_groups": 4,
}  # fmt: skip
BASE = Wav2Vec2Config(**TINY, num_classes=11)
LARGE_ORDER = {"order": "pre", "stem_norm": "layer", "stem_bias": True}
CONFIGS = {
    "base": (ARCHITECTURE, BASE),
    "base without a head": (ARCHITECTURE, replace(BASE, num_classes=0)),
    "large": (ARCHITECTURE, replace(BASE, **LARGE_ORDER)),
    "other sizes": (
        ARCHITECTURE,
        replace(
            BASE, stem_widths=(4, 6, 8), stem_kernels=(9, 4, 3), stem_strides=(4, 3, 2), position_kernel=5, position_groups=1,
            activation="relu", stem_activation="gelu_tanh", eps=1e-3, stem_bias=True,
        ),
    ),
    "hubert base": (HUBERT, replace(BASE, num_classes=0)),
    "hubert large": (HUBERT, replace(BASE, **LARGE_ORDER)),
    "hubert without a norm": (HUBERT, replace(BASE, projection_norm="none")),
}  # fmt: skip
LENGTHS = torch.tensor([4000, 2507, 640])


@pytest.fixture(scope="module", params=CONFIGS)
def both(request):
    return CONFIGS[request.param]


def reference_of(architecture, config):
    torch.manual_seed(0)
    name = NAMES[architecture.name]
    published = getattr(transformers, f"{name}Config")(**architecture.configs["transformers"].write(config))
    reference = getattr(transformers, name + ("ForCTC" if config.num_classes else "Model"))(published).eval()
    for key, parameter in reference.named_parameters():  # the default values of norms and biases would hide a mistake
        parameter.data.normal_(mean=float("norm" in key and key.endswith("weight")), std=config.width**-0.5)
    return reference


def loaded(reference, architecture, config, folder):
    reference.save_pretrained(folder)
    return weights.load(architecture, config, folder / "model.safetensors", "transformers")


def answer(reference, *inputs, **keywords):
    output = reference(*inputs, **keywords)
    return output.logits if "logits" in output else output.last_hidden_state


def sounds():
    torch.manual_seed(1)
    mask = torch.arange(int(LENGTHS.max())) < LENGTHS[:, None]
    return torch.randn(mask.shape) * mask, mask


def difference(a, b):
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


@torch.no_grad()
def check_parity(net, reference, config):
    samples, mask = sounds()
    for form in (net, for_inference(net)):
        assert difference(form(samples), answer(reference, samples)) < 1e-5
        padded = form(samples, mask)
        for row, length in enumerate(LENGTHS.tolist()):
            alone = answer(reference, samples[row : row + 1, :length])[0]
            assert alone.shape[0] == config.frames(length)
            assert difference(padded[row, : len(alone)], alone) < 1e-5
        if config.stem_norm == "layer":  # the other norm of the reference hears the padding
            theirs = answer(reference, samples, attention_mask=mask.long())
            kept = torch.arange(padded.shape[1]) < config.frames(LENGTHS)[:, None]
            assert difference(padded[kept], theirs[kept]) < 1e-5


def test_equals_the_reference(both, tmp_path):
    architecture, config = both
    reference = reference_of(architecture, config)
    net = loaded(reference, architecture, config, tmp_path)
    published = json.loads((tmp_path / "config.json").read_text())
    assert architecture.configs["transformers"].recognises(published)
    assert architecture.configure(architecture.configs["transformers"].read(published)) == config
    check_parity(net, reference, config)


@torch.no_grad()
def test_every_layer_equals_the_reference(both, tmp_path):
    architecture, config = both
    reference = reference_of(architecture, config)
    net = loaded(reference, architecture, config, tmp_path)
    samples, _ = sounds()
    theirs = reference(samples, output_hidden_states=True).hidden_states[1:]  # the first is what the first block is given
    for form in (net, for_inference(net)):
        ours = form.intermediates(samples, [-1, 0])
        assert difference(ours[0], theirs[1]) < 1e-5 and difference(ours[1], theirs[0]) < 1e-5
    with pytest.raises(InputError, match="layer 2 is not in the net"):
        net.intermediates(samples, [2])


def test_the_reference_loads_our_export(both, tmp_path):
    architecture, config = both
    torch.manual_seed(0)
    net = architecture.net(config).eval()
    weights.save(net, tmp_path / "model.safetensors", architecture.rules("transformers", config, list(net.state_dict())))
    (tmp_path / "config.json").write_text(json.dumps(architecture.configs["transformers"].write(config)))
    kind = getattr(transformers, NAMES[architecture.name] + ("ForCTC" if config.num_classes else "Model"))
    reference, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    check_parity(net, reference.eval(), config)


def test_what_was_read_is_written_again(both, tmp_path):
    architecture, config = both
    net = loaded(reference_of(architecture, config), architecture, config, tmp_path)
    weights.save(net, tmp_path / "ours.safetensors", architecture.rules("transformers", config, list(net.state_dict())))
    ours, theirs = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["base", "base without a head", "hubert base"])
@torch.no_grad()
def test_files_as_published_are_read(name, tmp_path):
    """With the names of weight norm before it was a parametrisation, the vector of hidden frames, and what pretraining needs."""
    architecture, config = CONFIGS[name]
    net = loaded(reference_of(architecture, config), architecture, config, tmp_path)
    prefix = f"{architecture.name}."
    old = {
        (key if key.startswith((prefix, "lm_head")) else prefix + key).replace("parametrizations.weight.original0", "weight_g")
        .replace("parametrizations.weight.original1", "weight_v"): tensor
        for key, tensor in load_file(tmp_path / "model.safetensors").items()
    }  # fmt: skip
    assert any(key.endswith("pos_conv_embed.conv.weight_g") for key in old)
    old[f"{prefix}masked_spec_embed"] = torch.rand(config.width)
    if not config.num_classes:
        old |= {"quantizer.codevectors": torch.rand(1, 4, 4), "quantizer.weight_proj.weight": torch.rand(4, 4)}
        old |= {f"{part}.{kind}": torch.rand(4) for part in ("project_q", "project_hid") for kind in ("weight", "bias")}
        old |= {"quantizer.weight_proj.bias": torch.rand(4)}
    save_file(old, tmp_path / "old.safetensors")
    twin = weights.load(architecture, config, tmp_path / "old.safetensors", "transformers")
    samples, mask = sounds()
    assert torch.equal(twin(samples, mask), net(samples, mask))


def test_old_and_new_names_together_are_refused(tmp_path):
    architecture, config = CONFIGS["base"]
    loaded(reference_of(architecture, config), architecture, config, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    new = "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"
    save_file(state | {"wav2vec2.encoder.pos_conv_embed.conv.weight_g": state[new].clone()}, tmp_path / "twice.safetensors")
    with pytest.raises(LayoutError, match="twice"):
        weights.load(architecture, config, tmp_path / "twice.safetensors", "transformers")


@torch.no_grad()
def test_padding_is_not_heard_whatever_it_is():
    """Neither zeros nor noise behind a sound change what it gives, in the first convolution's norm over time above all."""
    torch.manual_seed(0)
    net = ARCHITECTURE.net(BASE).eval()
    samples, mask = sounds()
    noisy = samples.where(mask, 100 * torch.randn(samples.shape))
    kept = torch.arange(BASE.frames(4000)) < BASE.frames(LENGTHS)[:, None]
    assert difference(net(noisy, mask)[kept], net(samples, mask)[kept]) < 1e-6
    assert difference(net(samples)[kept], net(samples, mask)[kept]) > 1e-3  # without a mask it is


def test_weight_norm_is_over_each_place_of_the_kernel():
    """Over other sides of the weight everything has the right shape and the wrong value."""
    torch.manual_seed(0)
    part = ARCHITECTURE.net(BASE).positions
    part.scale.data.normal_()
    expected = torch._weight_norm(part.direction, part.scale, 2)
    assert torch.allclose(part.for_inference().weight, expected, atol=1e-6)
    lengths = part.for_inference().weight.norm(dim=(0, 1))
    assert torch.allclose(lengths, part.scale[0, 0].abs(), atol=1e-5)


def test_frames_and_reach_of_the_published_nets():
    config = Wav2Vec2Config()
    assert (config.hop, config.reach) == (320, 400)
    assert [config.frames(count) for count in (400, 719, 720, 16_000)] == [1, 1, 2, 49]
    assert config.frames(torch.tensor([400, 16_000])).tolist() == [1, 49]


@pytest.mark.parametrize("shape", [(1, 399), (4000,), (1, 1, 4000)])
def test_samples_that_are_none_are_refused(shape):
    with pytest.raises(InputError, match="give \\(batch, n\\), with 400 samples or more"):
        ARCHITECTURE.net(BASE)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        (ARCHITECTURE, {"add_adapter": True}, "add_adapter: True"),
        (ARCHITECTURE, {"adapter_attn_dim": 16}, "adapter_attn_dim: 16"),
        (ARCHITECTURE, {"feat_proj_layer_norm": False}, "feat_proj_layer_norm: False"),
        (ARCHITECTURE, {"hidden_act": "mish"}, "hidden_act: 'mish'"),
        (ARCHITECTURE, {"architectures": ["Wav2Vec2ForXVector"]}, "Wav2Vec2ForXVector"),
        (ARCHITECTURE, {"output_hidden_size": 1024}, "output_hidden_size: 1024"),
        (ARCHITECTURE, {"num_feat_extract_layers": 6}, "num_feat_extract_layers: 6"),
        (ARCHITECTURE, {"new_idea": 3}, "new_idea: 3"),
        (HUBERT, {"conv_pos_batch_norm": True}, "conv_pos_batch_norm: True"),
    ],
)
def test_a_config_that_asks_for_more_is_refused_by_name(architecture, changes, message):
    with pytest.raises(LayoutError, match=message):
        architecture.configs["transformers"].read(architecture.configs["transformers"].write(BASE) | changes)


def test_every_key_of_the_references_config_is_known():
    """Total: what transformers itself writes of a config is read, nothing left unsaid."""
    for architecture in (ARCHITECTURE, HUBERT):
        published = getattr(transformers, f"{NAMES[architecture.name]}Config")().to_dict()
        assert architecture.configure(architecture.configs["transformers"].read(published)) == Wav2Vec2Config()


def test_a_config_that_the_layout_has_no_word_for_is_not_written():
    with pytest.raises(LayoutError, match="projection_norm: 'none'"):
        ARCHITECTURE.configs["transformers"].write(replace(BASE, projection_norm="none"))


@pytest.mark.full
@pytest.mark.parametrize(("architecture", "config"), [(ARCHITECTURE, Wav2Vec2Config(num_classes=32)), (HUBERT, Wav2Vec2Config()),
    (ARCHITECTURE, replace(LARGE, num_classes=32)), (HUBERT, replace(LARGE, num_classes=32))])  # fmt: skip
def test_published_sizes_equal_the_reference(architecture, config, tmp_path: Path):
    config = replace(config, layers=2)
    reference = reference_of(architecture, config)
    check_parity(loaded(reference, architecture, config, tmp_path), reference, config)

"""The Audio Spectrogram Transformer against transformers, both ways: weights, configs and folders."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.audio.ast import ARCHITECTURE, Ast, AstConfig
from bestiary.audio.sound import read_sound
from bestiary.core import weights
from bestiary.errors import InputError, LayoutError
from tests.audio.voices import LONG, SHORT

TINY = {"frames": 64, "mels": 32, "layers": 2, "width": 32, "heads": 4, "hidden": 48, "num_classes": 5}
THEIRS = {
    **{"max_length": 64, "num_mel_bins": 32, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4},
    **{"intermediate_size": 48, "num_labels": 5},
}
KINDS = {"ASTForAudioClassification": 5, "ASTModel": 0}  # and how many classes each has
PUBLISHED = ARCHITECTURE.configs["transformers"]


def reference(kind, **changes):
    torch.manual_seed(0)
    net = getattr(transformers, kind)(transformers.ASTConfig(**THEIRS | changes)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def spectrograms(config, count=3):
    return torch.randn(count, config.frames, config.mels, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def answer(net, inputs):
    output = net(inputs)
    return output.logits if hasattr(output, "logits") else output.pooler_output


def close(a, b):
    return a.shape == b.shape and float((a - b).detach().abs().max()) <= 1e-5 * max(1.0, float(b.detach().abs().max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"frequency_stride": 16, "time_stride": 12, "layer_norm_eps": 0.1}])
def test_a_tiny_net_computes_what_transformers_computes(kind, changes, tmp_path):
    peer = reference(kind, **changes)
    peer.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    config = ARCHITECTURE.configure(PUBLISHED.read(described))
    assert PUBLISHED.recognises(described) and config.num_classes == KINDS[kind]
    net = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    inputs = spectrograms(config)
    expected = answer(peer, inputs)
    assert not close(expected[0], expected[1])  # the sound matters
    assert close(net(inputs), expected)
    encoder = getattr(peer, "audio_spectrogram_transformer", peer)
    assert close(net.features(inputs), encoder(inputs).last_hidden_state)
    assert close(net.pooled(inputs), encoder(inputs).pooler_output)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_the_export_and_computes_the_same(kind, tmp_path):
    config = AstConfig(**TINY | {"num_classes": KINDS[kind], "mel_stride": 7})
    torch.manual_seed(0)
    net = Ast(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    written = PUBLISHED.write(config)
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert written["architectures"] == [kind] and ARCHITECTURE.configure(PUBLISHED.read(written)) == config
    peer, info = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert close(net(spectrograms(config)), answer(peer.eval(), spectrograms(config)))


def test_the_names_that_transformers_has_in_memory_are_read_too(tmp_path):
    peer = reference("ASTForAudioClassification")
    in_memory = {name: tensor.clone() for name, tensor in peer.state_dict().items()}
    assert any("layers.0.attention.q_proj" in name for name in in_memory)
    save_file(in_memory, tmp_path / "memory.safetensors")
    peer.save_pretrained(tmp_path)
    assert any("encoder.layer.0.attention.attention.query" in name for name in load_file(tmp_path / "model.safetensors"))
    net = weights.load(ARCHITECTURE, AstConfig(**TINY), tmp_path / "memory.safetensors", "transformers")
    inputs = spectrograms(net.config)
    assert close(net(inputs), answer(peer, inputs))


def test_a_published_config_is_that_of_the_card():
    """As the file of MIT/ast-finetuned-audioset-10-10-0.4593 was written, by a release that named fewer keys."""
    described = {
        **{"architectures": ["ASTForAudioClassification"], "model_type": "audio-spectrogram-transformer"},
        **{"attention_probs_dropout_prob": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "hidden_size": 768},
        **{"id2label": {str(number): f"class {number}" for number in range(527)}, "initializer_range": 0.02},
        **{"intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_length": 1024, "num_attention_heads": 12},
        **{"num_hidden_layers": 12, "num_mel_bins": 128, "patch_size": 16, "qkv_bias": True, "frequency_stride": 10},
        **{"time_stride": 10, "torch_dtype": "float32", "transformers_version": "4.25.0.dev0"},
    }
    fields = ARCHITECTURE.configure(PUBLISHED.read(described))
    assert fields == AstConfig() == ARCHITECTURE.configure(bestiary.card("ast-audioset").config)
    assert fields.patches == 12 * 101
    with pytest.raises(LayoutError, match="qkv_bias"):
        PUBLISHED.read({**described, "qkv_bias": False})
    with pytest.raises(LayoutError, match="ASTForSomethingElse"):
        PUBLISHED.read({**described, "architectures": ["ASTForSomethingElse"]})


@pytest.fixture
def folder(tmp_path):
    peer = reference("ASTForAudioClassification", id2label={0: "speech", 1: "music", 2: "bark", 3: "rain", 4: "horn"})
    peer.save_pretrained(tmp_path / "published")
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-3.0, std=2.0).save_pretrained(tmp_path / "published")
    return tmp_path / "published"


def test_a_folder_of_transformers_hears_what_its_pipeline_hears(folder):
    classify = bestiary.load(folder)
    samples = read_sound(SHORT, 16_000)[:10_000]
    processor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    inputs = processor(samples.numpy(), sampling_rate=16_000, return_tensors="pt")["input_values"]
    peer = transformers.ASTForAudioClassification.from_pretrained(folder).eval()
    expected = answer(peer, inputs).softmax(-1)[0]
    found = classify(samples)
    assert {label.name for label in found} == {"speech", "music", "bark", "rain", "horn"}
    assert torch.allclose(torch.tensor([dict(found)[peer.config.id2label[number]] for number in range(5)]), expected, atol=1e-5)


def test_a_folder_is_written_and_read_both_ways(folder, tmp_path):
    classify = bestiary.load(folder)
    classify.export(tmp_path / "exported", "transformers")
    again, config = bestiary.load(tmp_path / "exported"), json.loads((tmp_path / "exported" / "config.json").read_text())
    assert again(SHORT) == classify(SHORT) and config["id2label"]["2"] == "bark"
    processor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "exported")
    assert (processor.mean, processor.std, processor.max_length, processor.num_mel_bins) == (-3.0, 2.0, 64, 32)
    classify.embedder().save(tmp_path / "saved")
    assert torch.equal(bestiary.load(tmp_path / "saved")(LONG), classify.embedder()(LONG))


@pytest.mark.parametrize(("key", "value"), [("max_length", 128), ("do_normalize", False)])
def test_a_folder_that_says_other_than_the_net_is_refused(folder, key, value):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(LayoutError, match=key):
        bestiary.load(folder)


def test_recomputing_gives_the_same_gradients():
    net, inputs = Ast(AstConfig(**TINY)), spectrograms(AstConfig(**TINY))
    found = []
    for net.checkpoint in (False, True):
        net.zero_grad()
        net(inputs).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in net.parameters()])
    assert all(map(torch.equal, *found))


def test_what_is_no_spectrogram_is_refused():
    net = Ast(AstConfig(**TINY))
    with pytest.raises(InputError, match="give"):
        net(torch.randn(1, 32, 64))
    with pytest.raises(LayoutError, match="no patch"):
        ARCHITECTURE.configure({**TINY, "patch": 40})
    with pytest.raises(InputError, match="num_classes=0"):
        net.replace_head(0)


@pytest.mark.full
def test_the_published_size_computes_what_transformers_computes(tmp_path):
    peer = transformers.ASTForAudioClassification(transformers.ASTConfig(num_labels=527)).eval()
    peer.save_pretrained(tmp_path)
    config = ARCHITECTURE.configure(PUBLISHED.read(json.loads((tmp_path / "config.json").read_text())))
    assert config == AstConfig()
    net = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    assert sum(map(torch.numel, net.parameters())) == sum(map(torch.numel, peer.parameters())) == 86_594_063
    assert close(net(spectrograms(config, 1)), answer(peer, spectrograms(config, 1)))


def test_the_card_builds_a_net_for_other_labels():
    net = bestiary.build("ast-audioset", layers=1, num_classes=2)
    assert net.head.linear.out_features == 2 and net.config.patches == 1212

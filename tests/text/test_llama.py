"""The decoders of the Llama family against the reference implementation, both ways, in every context."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

from bestiary.core import weights
from bestiary.core.cache import Cache
from bestiary.core.packing import Ragged, pack
from bestiary.core.runtime import for_inference
from bestiary.table import find_architecture

CPU = torch.device("cpu")
LENGTHS = (40, 40, 27, 13)


@dataclass(frozen=True)
class Variant:
    architecture: str
    reference: str  # what transformers calls its config, without "Config"
    fields: dict[str, Any]  # of that config


TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 4.0, "beta_slow": 0.5}
LOCAL, GLOBAL = "sliding_attention", "full_attention"
GEMMA = {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 9}
BY_LAYER = {
    "rope_parameters": {
        GLOBAL: {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0},
        LOCAL: {"rope_type": "default", "rope_theta": 100.0},
    }
}


def rotary(kind, **parameters):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5000.0, **parameters}}


VARIANTS = {
    "llama": Variant("llama", "Llama", {}),
    "llama, no sharing": Variant("llama", "Llama", {"num_key_value_heads": 4}),
    "llama, own head size": Variant("llama", "Llama", {"head_dim": 12, "num_key_value_heads": 1}),
    "llama, tied": Variant("llama", "Llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-2}),
    "llama, linear": Variant("llama", "Llama", rotary("linear", factor=3.0)),
    "llama, llama3": Variant("llama", "Llama", rotary("llama3", **LLAMA3)),
    "llama, yarn": Variant("llama", "Llama", rotary("yarn", **YARN)),
    "mistral": Variant("mistral", "Mistral", {"sliding_window": None}),
    "mistral, window": Variant("mistral", "Mistral", {"sliding_window": 7}),
    "qwen2": Variant("qwen2", "Qwen2", {}),
    "qwen2, windows above": Variant(
        "qwen2", "Qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
    ),
    "qwen3": Variant("qwen3", "Qwen3", {"head_dim": 12}),
    "gemma": Variant("gemma", "Gemma", {"num_key_value_heads": 1, "head_dim": 12}),
    "gemma2": Variant("gemma2", "Gemma2", {**GEMMA, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.3}),
    "gemma3": Variant("gemma3", "Gemma3Text", {**GEMMA, "num_hidden_layers": 8}),
    "gemma3, scaled": Variant("gemma3", "Gemma3Text", {**GEMMA, "layer_types": [GLOBAL, LOCAL, LOCAL], **BY_LAYER}),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def reference_of(variant, **fields):
    """The reference implementation with random weights."""
    config = getattr(transformers, f"{variant.reference}Config")(**{**TINY, **variant.fields, **fields})
    torch.manual_seed(0)
    reference = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in reference.parameters():  # the default values of norms and biases would hide a mistake
        parameter.data.normal_(std=0.2)
    return reference


@pytest.fixture
def reference(variant):
    return reference_of(variant)


@pytest.fixture
def net(variant, reference, tmp_path):
    return ours(variant, reference, tmp_path / "reference")


def ours(variant, reference, folder):
    """Our net with the weights of the reference, read from its files."""
    reference.save_pretrained(folder)
    architecture = find_architecture(variant.architecture)
    config_map = architecture.configs["transformers"]
    published = json.loads((folder / "config.json").read_text())
    assert config_map.recognises(published)
    config = architecture.configure(config_map.read(published))
    return weights.load(architecture, config, folder / "model.safetensors", "transformers")


def tokens_and_mask():
    torch.manual_seed(1)
    return torch.randint(100, (len(LENGTHS), max(LENGTHS))), torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def logits(reference, tokens, mask=None, positions=None):
    return reference(tokens, attention_mask=None if mask is None else mask.long(), position_ids=positions).logits


def close(a, b):
    return float((a - b).abs().max()) <= 1e-5 * max(1, float(b.abs().max()))


@torch.no_grad()
def test_equals_the_reference(reference, net):
    tokens, mask = tokens_and_mask()
    assert close(net(tokens), logits(reference, tokens))
    assert close(net(tokens, mask)[mask], logits(reference, tokens, mask)[mask])


@torch.no_grad()
def test_equals_the_reference_with_padding_in_front(reference, net):
    tokens, mask = (x.flip(1) for x in tokens_and_mask())
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    assert close(net(tokens, mask, positions)[mask], logits(reference, tokens, mask, positions)[mask])


@torch.no_grad()
def test_packed_rows_equal_the_reference(reference, net):
    tokens, mask = tokens_and_mask()
    packed = pack([row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)], CPU)
    for form in (net, for_inference(net)):
        assert close(form(packed.tokens, packed.mask, packed.positions), logits(reference, tokens, mask)[mask])


@torch.no_grad()
def test_a_cache_gives_what_all_at_once_gives(reference, net):
    """Read the beginnings, of different length, then a few tokens, then one at a time."""
    tokens, mask = tokens_and_mask()
    lengths = tuple(length - 5 for length in LENGTHS)
    cache = Cache(sequences=len(LENGTHS), capacity=max(LENGTHS))
    beginnings = pack([row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)], CPU)
    ends = torch.stack([row[length : length + 5] for row, length in zip(tokens, lengths, strict=True)])
    expected = logits(reference, tokens, mask)
    net = for_inference(net)
    prefilled = net(beginnings.tokens, cache.filling(Ragged(lengths), CPU))
    assert close(prefilled, torch.cat([row[:length] for row, length in zip(expected, lengths, strict=True)]))
    steps = [net(step, cache.continuing(step.shape[1], CPU)) for step in ends.split((2, 1, 1, 1), dim=1)]
    for row, length, answer in zip(expected, lengths, torch.cat(steps, dim=1), strict=True):
        assert close(answer, row[length : length + 5])


@torch.no_grad()
def test_the_reference_loads_our_export(variant, net, tmp_path):
    architecture = find_architecture(variant.architecture)
    (tmp_path / "export").mkdir()
    rules = architecture.rules("transformers", net.config, list(net.state_dict()))
    weights.save(net, tmp_path / "export" / "model.safetensors", rules)
    config = architecture.configs["transformers"].write(net.config)
    (tmp_path / "export" / "config.json").write_text(json.dumps(config))
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert type(loaded).__name__ == f"{variant.reference.removesuffix('Text')}ForCausalLM"
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokens, mask = tokens_and_mask()
    assert close(net(tokens, mask)[mask], logits(loaded.eval(), tokens, mask)[mask])


def test_config_both_ways(variant, net):
    architecture = find_architecture(variant.architecture)
    config_map = architecture.configs["transformers"]
    assert architecture.configure(config_map.read(config_map.write(net.config))) == net.config

"""Decoders of the Llama family with their published configs, and what is said of them that the zoo does not compute."""

import dataclasses
import re

import pytest
import torch
import transformers

import bestiary
from bestiary.core.configmap import TransformersConfig
from bestiary.core.rotary import Linear, Llama3, Yarn
from bestiary.errors import LayoutError
from bestiary.table import architectures, find_architecture
from tests.text.published_decoders import CONFIGS
from tests.text.test_llama import VARIANTS, close, logits, ours

GEMMA3 = CONFIGS["google/gemma-3-1b-it"]
LLAMA2, LLAMA3 = CONFIGS["meta-llama/Llama-2-7b-hf"], CONFIGS["meta-llama/Llama-3.2-1B"]
QWEN2 = CONFIGS["Qwen/Qwen2.5-0.5B-Instruct"]


def recognised(published):
    (found,) = [
        architecture
        for architecture in architectures()
        if "transformers" in architecture.configs and architecture.configs["transformers"].recognises(published)
    ]
    return found


def read(published):
    architecture = recognised(published)
    return architecture.configure(architecture.configs["transformers"].read(published))


def of_reference(published):
    """The config that transformers makes of a published one, as it writes it today."""
    fields = {key: value for key, value in published.items() if key not in ("model_type", "transformers.js_config")}
    return transformers.AutoConfig.for_model(published["model_type"], **fields)


@pytest.mark.parametrize("published", CONFIGS.values(), ids=CONFIGS)
def test_old_and_new_files_say_the_same(published):
    config = read(published)
    assert read(of_reference(published).to_diff_dict()) == config
    architecture = recognised(published)
    written = architecture.configs["transformers"].write(config)
    assert read(written) == config
    assert read(of_reference(written).to_diff_dict()) == config


@pytest.mark.full
@pytest.mark.parametrize("published", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_published_sizes_equal_the_reference(published, tmp_path):
    """Two layers, one of them the first that sees all where they differ, in a vocabulary that memory takes."""
    config = of_reference(published)
    config.num_hidden_layers, config.vocab_size = 2, min(config.vocab_size, 8000)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[0], config.layer_types[5]]
    variant = dataclasses.replace(VARIANTS["llama"], architecture=recognised(published).name)
    torch.manual_seed(0)
    reference = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    net = ours(variant, reference, tmp_path)
    tokens = torch.randint(config.vocab_size, (2, 600))  # longer than the shortest window
    mask = torch.arange(600) < torch.tensor([[600], [550]])
    assert close(net(tokens, mask)[mask], logits(reference, tokens, mask)[mask])


def test_what_the_published_files_say():
    llama2, llama3, gemma3 = read(LLAMA2), read(LLAMA3), read(GEMMA3)
    assert (llama2.theta, llama2.scaling, llama2.tied, llama2.head_width) == (10000.0, None, False, 128)
    assert llama3.scaling == Llama3(factor=32.0, slow=1.0, fast=4.0, trained=8192)
    assert gemma3.windows == (511,) * 5 + (None,) and (gemma3.theta, gemma3.local_theta) == (1e6, 1e4)
    assert gemma3.tied and gemma3.norm == "rms_offset" and gemma3.embedding_scale == 1152**0.5
    assert read(CONFIGS["google/gemma-2-2b"]).windows == (4095, None)
    assert read(QWEN2).windows == (None,) and read(QWEN2).qkv_bias
    assert read(QWEN2 | {"use_sliding_window": True}).windows == (None,) * 21 + (32767,) * 3
    assert read(CONFIGS["mistralai/Mistral-7B-v0.3"] | {"sliding_window": 4096}).windows == (4095,)


CARDS = {
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2-1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "mistral-7b-v0.3": "mistralai/Mistral-7B-v0.3",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "gemma-3-1b": "google/gemma-3-1b-it",
}


@pytest.mark.parametrize("name", CARDS)
def test_cards_say_what_the_published_files_say(name):
    card, published = bestiary.card(name), CONFIGS[CARDS[name]]
    assert card.architecture == recognised(published).name
    assert find_architecture(card.architecture).configure(card.config) == read(published)
    assert card.preprocess["context"] == published["max_position_embeddings"]
    ends = published["eos_token_id"]
    assert card.preprocess["end_tokens"][0] == (ends[0] if isinstance(ends, list) else ends)


def test_every_card_of_the_family_is_compared():
    family = {architecture.name for architecture in map(recognised, CONFIGS.values())}
    assert {card.name for card in map(bestiary.card, bestiary.list_models()) if card.architecture in family} == set(CARDS)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, None),
        ({"type": "linear", "factor": 2.0}, Linear(factor=2.0)),
        ({"rope_type": "linear", "type": "linear", "factor": 2.0}, Linear(factor=2.0)),
        (
            {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
            Yarn(factor=4.0, trained=1024, magnitude=1.1386294361119891),
        ),
        (
            {"rope_type": "yarn", "factor": 4.0, "mscale": 0.5, "mscale_all_dim": 1.0, "truncate": False},
            Yarn(factor=4.0, trained=4096, magnitude=1.0693147180559945 / 1.1386294361119891, whole_pairs=False),
        ),
        (
            {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.7, "beta_fast": 16.0, "beta_slow": 2.0},
            Yarn(factor=4.0, trained=4096, magnitude=0.7, fast=16.0, slow=2.0),
        ),
    ],
)
def test_scalings_are_read_in_all_their_spellings(scaling, expected):
    config = read(LLAMA2 | {"rope_scaling": scaling})
    assert config.scaling == expected
    assert read(recognised(LLAMA2).configs["transformers"].write(config)) == config


LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}


@pytest.mark.parametrize(
    ("published", "message"),
    [
        (LLAMA2 | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "the rope type 'dynamic'"),
        (LLAMA2 | {"rope_scaling": {"rope_type": "longrope"}}, "the rope type 'longrope'"),
        (LLAMA2 | {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "the rope type 'spiral'"),
        (LLAMA2 | {"rope_parameters": LINEAR | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor: 0.5"),
        (LLAMA2 | {"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "factor: 2.0"),
        (LLAMA2 | {"rope_scaling": {"type": "linear"}}, "lacks factor"),
        (LLAMA2 | {"hidden_act": "gelu"}, "hidden_act: 'gelu'"),
        (LLAMA2 | {"attention_bias": True}, "attention_bias: True"),
        (LLAMA2 | {"mlp_bias": True}, "mlp_bias: True"),
        (LLAMA2 | {"quantization_config": {"bits": 4}}, "quantization_config"),
        (LLAMA2 | {"vocab_size": "many"}, "vocabulary: 'many'"),
        ({key: value for key, value in LLAMA2.items() if key != "num_hidden_layers"}, "lacks layers"),
        (QWEN2 | {"layer_types": ["linear_attention"] * 24}, "'linear_attention'"),
        (QWEN2 | {"layer_types": ["full_attention"] * 2}, "types for 2 layers of 24"),
        (QWEN2 | {"layer_types": ["sliding_attention"] * 24}, "a window of None"),
        (CONFIGS["google/gemma-2b"] | {"hidden_act": "silu"}, "hidden_act: 'silu'"),
        (CONFIGS["google/gemma-2b"] | {"hidden_activation": "gelu"}, "hidden_activation: 'gelu'"),
        (GEMMA3 | {"use_bidirectional_attention": True}, "use_bidirectional_attention: True"),
        (GEMMA3 | {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: 50.0"),
        (GEMMA3 | {"rope_parameters": {"sliding_attention": LINEAR}}, "scales the positions of sliding_attention"),
        (GEMMA3 | {"rope_parameters": LINEAR}, "rope_type in rope_parameters"),
    ],
)
def test_what_the_zoo_does_not_compute_is_refused_by_name(published, message):
    with pytest.raises(LayoutError, match=re.escape(message)):
        read(published)


@pytest.mark.parametrize(
    ("architecture", "changes", "name"),
    [
        ("llama", {"windows": (3,)}, "windows"),
        ("llama", {"qkv_bias": True}, "qkv_bias"),
        ("llama", {"softcap": 5.0}, "softcap"),
        ("mistral", {"windows": (3, None)}, "windows"),
        ("qwen2", {"query_key_norm": True}, "query_key_norm"),
        ("gemma", {"activation": "gelu"}, "activation"),
        ("gemma2", {"embedding_scale": 2.0}, "embedding_scale"),
        ("gemma3", {"windows": (3, 5, None)}, "windows"),
    ],
)
def test_a_config_that_a_file_cannot_say_is_not_written(architecture, changes, name):
    published = next(published for published in CONFIGS.values() if recognised(published).name == architecture)
    config_map = find_architecture(architecture).configs["transformers"]
    assert isinstance(config_map, TransformersConfig)
    with pytest.raises(LayoutError, match=f"cannot say {name}"):
        config_map.write(dataclasses.replace(read(published), **changes))

"""T5 against the reference implementation, both ways."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.core import weights
from bestiary.core.cache import Cache
from bestiary.core.context import Memory
from bestiary.core.packing import pack, padded
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.text.t5 import ARCHITECTURE, T5, CausalRelativeBias, RelativeBias, T5Config
from bestiary.text.t5_layout import TRANSFORMERS_CONFIG

CPU = torch.device("cpu")
TINY = {
    "layers": 3,
    "decoder_layers": 2,
    "width": 32,
    "heads": 4,
    "head_width": 6,
    "hidden": 48,
    "vocabulary": 100,
    "buckets": 8,
    "furthest": 12,
    "eps": 1e-3,
}
GATED = {"mlp": "gated", "activation": "gelu_tanh"}
VARIANTS = {  # as T5 itself, as version 1.1 and Flan, and what lies between
    "t5": T5Config(**TINY),
    "flan": T5Config(**TINY, **GATED, tied=False),
    "tied and gated": T5Config(**TINY, **GATED),
    "silu": T5Config(**TINY, mlp="gated", activation="silu", tied=False),
}
PUBLISHED = {
    "t5-small": T5Config(layers=6, decoder_layers=6, width=512, heads=8, head_width=64, hidden=2048, vocabulary=32128),
    "flan-t5-base": T5Config(
        layers=12, decoder_layers=12, width=768, heads=12, head_width=64, hidden=2048, vocabulary=32128, tied=False, **GATED
    ),
}
PROMPTS = {
    "summarization": "summarize: ",
    "translation_en_to_de": "translate English to German: ",
    "translation_en_to_fr": "translate English to French: ",
    "translation_en_to_ro": "translate English to Romanian: ",
}
TASKS = {name: {"early_stopping": True, "num_beams": 4, "prefix": prompt} for name, prompt in PROMPTS.items()}
# What config.json of t5-small and flan-t5-base say as published
CONFIGS = {
    "t5-small": {
        "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0,
        "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0, "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_heads": 8, "num_layers": 6,
        "output_past": True, "pad_token_id": 0, "relative_attention_num_buckets": 32, "vocab_size": 32128,
        "task_specific_params": TASKS,
    },
    "flan-t5-base": {
        "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 768, "decoder_start_token_id": 0,
        "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
        "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512,
        "num_decoder_layers": 12, "num_heads": 12, "num_layers": 12, "output_past": True, "pad_token_id": 0,
        "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
        "transformers_version": "4.23.1", "use_cache": True, "vocab_size": 32128,
        "task_specific_params": TASKS,
    },
}  # fmt: skip


def reference_of(config):
    torch.manual_seed(0)
    reference = transformers.T5ForConditionalGeneration(transformers.T5Config(**TRANSFORMERS_CONFIG.write(config))).eval()
    if not config.tied:
        reference.lm_head.weight = torch.nn.Parameter(torch.empty(config.vocabulary, config.width))
    for name, parameter in reference.named_parameters():  # the default values of norms would hide a mistake
        parameter.data.normal_(std=1 if name == "shared.weight" else 0.1)
    return reference


def load(path, config):
    return weights.load(ARCHITECTURE, config, path, "transformers")


@pytest.fixture(scope="module", params=VARIANTS)
def config(request):
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def reference(config):
    return reference_of(config)


@pytest.fixture(scope="module")
def net(reference, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    reference.save_pretrained(folder)
    return load(folder / "model.safetensors", config)


def inputs_for(config, batch=3):
    torch.manual_seed(1)
    lengths, decoder_lengths = torch.linspace(40, 12, batch).long(), torch.linspace(5, 17, batch).long()
    return {
        "tokens": torch.randint(config.vocabulary, (batch, 40)),
        "decoder_tokens": torch.randint(config.vocabulary, (batch, 17)),
        "mask": torch.arange(40) < lengths[:, None],
        "decoder_mask": torch.arange(17) < decoder_lengths[:, None],
    }


def logits_of(reference, inputs):
    return reference(
        input_ids=inputs["tokens"],
        attention_mask=inputs["mask"].long(),
        decoder_input_ids=inputs["decoder_tokens"],
        decoder_attention_mask=inputs["decoder_mask"].long(),
    )


def difference(a, b):
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


def rows_of(inputs):
    return pack([row[kept].tolist() for row, kept in zip(inputs["tokens"], inputs["mask"], strict=True)], CPU)


@torch.no_grad()
def check_parity(net, reference):
    inputs = inputs_for(net.config)
    expected, kept = logits_of(reference, inputs), inputs["decoder_mask"]
    states = expected.encoder_last_hidden_state[inputs["mask"]]
    packed = rows_of(inputs)
    for form in (net, for_inference(net)):
        assert difference(form(**inputs)[kept], expected.logits[kept]) < 1e-5
        assert difference(form.encode(inputs["tokens"], inputs["mask"])[inputs["mask"]], states) < 1e-5
        assert difference(form.encode(packed.tokens, packed.mask), states) < 1e-5


def test_equals_the_reference(net, reference):
    check_parity(net, reference)


@torch.no_grad()
def test_token_by_token_equals_all_at_once(net, reference):
    inputs = inputs_for(net.config)
    packed = rows_of(inputs)
    expected = logits_of(reference, inputs | {"decoder_mask": torch.ones(3, 17)}).logits
    for form in (net, for_inference(net)):
        memory = Memory(*padded(form.encode(packed.tokens, packed.mask), packed.mask))
        cache = Cache(sequences=3, capacity=17, memory=memory)
        pieces = inputs["decoder_tokens"].split((4, *[1] * 13), dim=1)
        steps = [form.decoder(tokens, cache.continuing(tokens.shape[1], CPU)) for tokens in pieces]
        assert difference(torch.cat(steps, dim=1), expected) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)
def test_published_sizes_equal_the_reference(config, tmp_path):
    reference = reference_of(config)
    reference.save_pretrained(tmp_path)
    check_parity(load(tmp_path / "model.safetensors", config), reference)


@pytest.mark.parametrize(("kind", "causal"), [(RelativeBias, False), (CausalRelativeBias, True)])
def test_buckets_are_those_of_the_reference(kind, causal):
    """With the published numbers, far enough to reach the last bucket; at the edges of buckets rounding could differ."""
    from transformers.models.t5.modeling_t5 import T5Attention

    with torch.device("meta"):
        bias = kind(PUBLISHED["t5-small"])
    distance = torch.arange(-600, 601)
    expected = T5Attention._relative_position_bucket(-distance, bidirectional=not causal, num_buckets=32, max_distance=128)
    assert torch.equal(bias.bucket(distance), expected)
    assert len(expected.unique()) == (32 if causal else 31)  # a key after the query is not at distance 0


def test_the_reference_loads_our_export(config, tmp_path):
    torch.manual_seed(0)
    net = T5(config).eval()
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    (tmp_path / "config.json").write_text(json.dumps(TRANSFORMERS_CONFIG.write(config)))
    reference, report = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    check_parity(net, reference.eval())


def test_what_was_read_is_written_again(net, reference, config, tmp_path):
    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    reference.save_pretrained(tmp_path)
    ours, theirs = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_old_files_with_copies_and_a_bias_that_nobody_used_are_read(net, reference, config, tmp_path):
    old = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    assert old.keys() > {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    old["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.randn(config.buckets, config.heads)
    save_file(old, tmp_path / "old.safetensors")
    inputs = inputs_for(config)
    assert torch.equal(load(tmp_path / "old.safetensors", config)(**inputs), net(**inputs))


def test_copies_that_are_not_equal_are_refused(tmp_path):
    config = VARIANTS["t5"]
    state = {name: tensor.clone() for name, tensor in reference_of(config).state_dict().items()}
    save_file(state | {"lm_head.weight": state["lm_head.weight"] + 1}, tmp_path / "untied.safetensors")
    with pytest.raises(LayoutError, match=r"lm_head\.weight: not equal"):
        load(tmp_path / "untied.safetensors", config)


def test_config_both_ways(reference, config):
    published = reference.config.to_dict()
    assert TRANSFORMERS_CONFIG.recognises(published)
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(published)) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_published_configs_are_read_and_the_cards_say_the_same(name, tmp_path):
    card = bestiary.card(name)
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(CONFIGS[name])) == PUBLISHED[name]
    assert ARCHITECTURE.configure(card.config) == PUBLISHED[name]
    assert card.preprocess == ARCHITECTURE.folders["transformers"].read(tmp_path, CONFIGS[name]).preprocess
    assert card.preprocess["prompts"] == PROMPTS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feed_forward_proj", "gated-tanh"),
        ("dense_act_fn", "relu"),
        ("is_gated_act", False),
        ("is_decoder", True),
        ("is_encoder_decoder", False),
        ("new_idea", 3),
    ],
)
def test_a_config_that_asks_for_more_is_refused_by_name(key, value):
    with pytest.raises(LayoutError, match=f"config.json .*{key}: {value!r}"):
        TRANSFORMERS_CONFIG.read(CONFIGS["flan-t5-base"] | {key: value})


def test_an_mlp_that_the_layout_has_no_word_for_is_not_written():
    with pytest.raises(LayoutError, match="a plain MLP with silu"):
        TRANSFORMERS_CONFIG.write(replace(VARIANTS["t5"], activation="silu"))


def test_the_gate_is_what_is_activated():
    """`wi_0` in the file: with the other half activated everything has the right shape and the wrong value."""
    config = VARIANTS["flan"]
    mlp = T5(config).encoder.blocks[0].mlp
    x = torch.randn(5, config.width)
    expected = mlp.down(torch.nn.functional.gelu(mlp.gate(x), approximate="tanh") * mlp.up(x))
    assert torch.equal(mlp(x), expected)

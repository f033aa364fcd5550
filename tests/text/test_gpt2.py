"""GPT-2 against the reference implementation, both ways."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.core import weights
from bestiary.core.cache import Cache
from bestiary.core.packing import Ragged, pack
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.text.gpt2 import ARCHITECTURE, TRANSFORMERS_CONFIG, Gpt2, Gpt2Config

CPU = torch.device("cpu")
TINY = {"layers": 3, "width": 32, "heads": 4, "hidden": 48, "vocabulary": 100, "positions": 16, "eps": 1e-3}
PUBLISHED = {
    "gpt2": {"layers": 12, "width": 768, "heads": 12, "hidden": 3072, "vocabulary": 50257, "positions": 1024},
    "gpt2-medium": {"layers": 24, "width": 1024, "heads": 16, "hidden": 4096, "vocabulary": 50257, "positions": 1024},
}
# config.json of gpt2 as published, without what matters to training alone
CONFIG_OF_2019 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
    "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}  # fmt: skip


def reference_of(config):
    torch.manual_seed(0)
    reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**TRANSFORMERS_CONFIG.write(config))).eval()
    for parameter in reference.parameters():  # the default values of norms and biases would hide a mistake
        parameter.data.normal_(std=0.1)
    return reference


def load(path, config):
    return weights.load(ARCHITECTURE, config, path, "transformers")


@pytest.fixture(scope="module")
def tiny():
    return Gpt2Config(**TINY)


@pytest.fixture(scope="module")
def reference(tiny):
    return reference_of(tiny)


@pytest.fixture(scope="module")
def net(reference, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    reference.save_pretrained(folder)
    return load(folder / "model.safetensors", tiny)


def inputs_for(config, batch=3):
    torch.manual_seed(1)
    length = min(config.positions, 48)
    lengths = torch.linspace(length, length // 3, batch).long()
    return torch.randint(config.vocabulary, (batch, length)), torch.arange(length) < lengths[:, None]


def difference(a, b):
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


def check_parity(net, reference):
    tokens, mask = inputs_for(net.config)
    with torch.no_grad():
        expected = reference(tokens, attention_mask=mask.long()).logits[mask]
        packed = pack([row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)], CPU)
        for form in (net, for_inference(net)):
            assert difference(form(tokens, mask)[mask], expected) < 1e-5
            assert difference(form(packed.tokens, packed.mask, packed.positions), expected) < 1e-5


def test_equals_the_reference(net, reference):
    check_parity(net, reference)


def test_padding_before_a_text_needs_its_positions(net, reference):
    tokens, mask = (value.flip(1) for value in inputs_for(net.config))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = reference(tokens, attention_mask=mask.long(), position_ids=positions).logits[mask]
        assert difference(net(tokens, mask, positions)[mask], expected) < 1e-5


def test_token_by_token_equals_all_at_once(net, reference):
    tokens, _ = inputs_for(net.config, batch=2)
    with torch.no_grad():
        expected = reference(tokens).logits
        for form in (net, for_inference(net)):
            cache = Cache(sequences=2, capacity=16)
            prompt = torch.cat([tokens[0, :7], tokens[1, :4]])  # prompts of different length
            logits = form(prompt, cache.filling(Ragged((7, 4)), CPU))
            assert difference(logits, torch.cat([expected[0, :7], expected[1, :4]])) < 1e-5
            for step in range(9):
                token = torch.stack([tokens[0, 7 + step], tokens[1, 4 + step]])[:, None]
                logits = form(token, cache.continuing(1, CPU))[:, 0]
                assert difference(logits, torch.stack([expected[0, 7 + step], expected[1, 4 + step]])) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("fields", PUBLISHED.values(), ids=PUBLISHED)
def test_published_sizes_equal_the_reference(fields, tmp_path):
    reference = reference_of(Gpt2Config(**fields))
    reference.save_pretrained(tmp_path)
    check_parity(load(tmp_path / "model.safetensors", Gpt2Config(**fields)), reference)


def test_the_reference_loads_our_export(tiny, tmp_path):
    torch.manual_seed(0)
    net = Gpt2(tiny).eval()
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", tiny, list(net.state_dict())))
    (tmp_path / "config.json").write_text(json.dumps(TRANSFORMERS_CONFIG.write(tiny)))
    reference, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    check_parity(net, reference.eval())


def test_what_was_read_is_written_again(net, reference, tiny, tmp_path):
    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules("transformers", tiny, list(net.state_dict())))
    reference.save_pretrained(tmp_path)
    ours, theirs = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_files_with_the_names_of_2019_are_read(net, reference, tiny, tmp_path):
    """As gpt2 is published: without a prefix, and with the causal mask of every layer."""
    old = {name.removeprefix("transformer."): tensor.clone() for name, tensor in reference.transformer.state_dict().items()}
    for layer in range(tiny.layers):
        old[f"h.{layer}.attn.bias"] = torch.ones(16, 16).tril()[None, None]
        old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    old["lm_head.weight"] = old["wte.weight"].clone()
    save_file(old, tmp_path / "old.safetensors")
    tokens, mask = inputs_for(tiny)
    assert torch.equal(load(tmp_path / "old.safetensors", tiny)(tokens, mask), net(tokens, mask))


def test_weights_are_views_of_the_file(net):
    attention = net.blocks[0].attention
    assert attention.query.weight.untyped_storage().data_ptr() == attention.key.weight.untyped_storage().data_ptr()
    assert attention.query.weight.stride() == (1, 3 * TINY["width"])


def test_a_fused_weight_of_the_wrong_shape_is_refused_by_name(reference, tiny, tmp_path):
    state = {name: tensor.clone() for name, tensor in reference.transformer.state_dict().items()}
    for wrong in (torch.zeros(32, 95), torch.zeros(2, 32, 96), torch.tensor(1.0)):
        save_file(state | {"h.1.attn.c_attn.weight": wrong}, tmp_path / "wrong.safetensors")
        with pytest.raises(LayoutError, match=r"h\.1\.attn\.c_attn\.weight"):
            load(tmp_path / "wrong.safetensors", tiny)


def test_config_both_ways(reference, tiny):
    published = reference.config.to_dict()
    assert TRANSFORMERS_CONFIG.recognises(published)
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(published)) == tiny


def test_the_config_of_2019_is_read():
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(CONFIG_OF_2019)) == Gpt2Config(**PUBLISHED["gpt2"])


def test_the_card_says_what_was_published(tmp_path):
    card = bestiary.card("gpt2")
    assert ARCHITECTURE.configure(card.config) == ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(CONFIG_OF_2019))
    assert card.preprocess == ARCHITECTURE.folders["transformers"].read(tmp_path, CONFIG_OF_2019).preprocess


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "relu"),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("n_ctx", 512),
        ("new_idea", 3),
    ],
)
def test_a_config_that_asks_for_more_is_refused_by_name(key, value):
    with pytest.raises(LayoutError, match=f"config.json .*{key}: {value!r}"):
        TRANSFORMERS_CONFIG.read(CONFIG_OF_2019 | {key: value})


def test_activation_is_the_approximate_gelu(net):
    torch.manual_seed(0)
    x = torch.randn(1000, 48)
    assert torch.equal(net.blocks[0].mlp.activation(x), torch.nn.functional.gelu(x, approximate="tanh"))

"""BERT against the reference implementation, both ways."""

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file

from bestiary.core import weights
from bestiary.core.packing import pack
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.text.bert import ARCHITECTURE, TRANSFORMERS_CONFIG, Bert, BertConfig

TINY = {
    "layers": 3,
    "width": 32,
    "heads": 4,
    "hidden": 48,
    "vocabulary": 100,
    "positions": 16,
    "segments": 3,
    "eps": 1e-5,
}
PUBLISHED = {
    "bert-base-uncased": {"layers": 12, "width": 768, "heads": 12, "hidden": 3072, "vocabulary": 30522, "positions": 512},
    "bert-large-cased": {"layers": 24, "width": 1024, "heads": 16, "hidden": 4096, "vocabulary": 28996, "positions": 512},
    "all-MiniLM-L6-v2": {"layers": 6, "width": 384, "heads": 12, "hidden": 1536, "vocabulary": 30522, "positions": 512},
}


def reference_of(config):
    torch.manual_seed(0)
    reference = transformers.BertModel(transformers.BertConfig(**TRANSFORMERS_CONFIG.write(config))).eval()
    for parameter in reference.parameters():  # the default values of norms and biases would hide a mistake
        parameter.data.normal_(std=0.1)
    return reference


def load(path, config):
    return weights.load(ARCHITECTURE, config, path, "transformers")


def inputs_for(config, batch=3):
    length = min(config.positions, 64)
    tokens = torch.randint(config.vocabulary, (batch, length))
    lengths = torch.linspace(length, length // 3, batch).long()
    return tokens, torch.arange(length) < lengths[:, None], torch.randint(config.segments, (batch, length))


def difference(a, b):
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


def check_parity(config, tmp_path):
    reference = reference_of(config)
    reference.save_pretrained(tmp_path)
    net = load(tmp_path / "model.safetensors", config)
    tokens, mask, segments = inputs_for(config)
    with torch.no_grad():
        expected = reference(tokens, attention_mask=mask.long(), token_type_ids=segments).last_hidden_state[mask]
        assert difference(net(tokens, mask, segments=segments)[mask], expected) < 1e-5
        expected = reference(tokens, attention_mask=mask.long()).last_hidden_state[mask]
        packed = pack([row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)], torch.device("cpu"))
        for form in (net, for_inference(net)):
            assert difference(form(packed.tokens, packed.mask, packed.positions), expected) < 1e-5


def test_equals_the_reference(tmp_path):
    check_parity(BertConfig(**TINY), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("fields", PUBLISHED.values(), ids=PUBLISHED)
def test_published_sizes_equal_the_reference(fields, tmp_path):
    check_parity(BertConfig(**fields), tmp_path)


def test_the_reference_loads_our_export(tmp_path):
    config = BertConfig(**TINY)
    torch.manual_seed(0)
    net = Bert(config).eval()
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    (tmp_path / "config.json").write_text(json.dumps(TRANSFORMERS_CONFIG.write(config)))
    reference, report = transformers.BertModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokens, mask, segments = inputs_for(config)
    with torch.no_grad():
        expected = reference.eval()(tokens, attention_mask=mask.long(), token_type_ids=segments).last_hidden_state
        assert difference(net(tokens, mask, segments=segments)[mask], expected[mask]) < 1e-5


def renamed_as_in_2018(state):
    """The names in the file of bert-base-uncased as published: a prefix, gamma and beta, the pretraining heads."""
    old = {}
    for name, tensor in state.items():
        if "LayerNorm" in name:
            name = name.replace("weight", "gamma").replace("bias", "beta")
        old[f"bert.{name}"] = tensor
    heads = ["seq_relationship.weight", "seq_relationship.bias", "predictions.bias", "predictions.transform.dense.weight",
             "predictions.transform.dense.bias", "predictions.transform.LayerNorm.gamma",
             "predictions.transform.LayerNorm.beta", "predictions.decoder.weight"]  # fmt: skip
    return old | {f"cls.{name}": torch.zeros(1) for name in heads}


def test_files_with_the_names_of_2018_are_read(tmp_path):
    config = BertConfig(**TINY)
    reference = reference_of(config)
    state = reference.state_dict() | {"embeddings.position_ids": torch.arange(16)[None]}
    save_file(state, tmp_path / "new.safetensors")
    save_file(renamed_as_in_2018(reference.state_dict()), tmp_path / "old.safetensors")
    tokens, mask, _ = inputs_for(config)
    new, old = (load(tmp_path / f"{name}.safetensors", config) for name in ("new", "old"))
    assert torch.equal(new(tokens, mask), old(tokens, mask))


def test_config_both_ways():
    published = reference_of(BertConfig(**TINY)).config.to_dict()
    assert TRANSFORMERS_CONFIG.recognises(published)
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(published)) == BertConfig(**TINY)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("is_decoder", True), ("new_idea", 3)],
)
def test_a_config_that_asks_for_more_is_refused_by_name(key, value):
    published = TRANSFORMERS_CONFIG.write(BertConfig(**TINY)) | {key: value}
    with pytest.raises(LayoutError, match=f"config.json .* {key}: {value!r}"):
        TRANSFORMERS_CONFIG.read(published)


def test_activation_is_the_exact_gelu():
    torch.manual_seed(0)
    x, mlp = torch.randn(1000, 32), Bert(BertConfig(**TINY)).blocks[0].mlp
    exact = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    assert torch.allclose(mlp.activation(x), exact, atol=1e-6)
    assert not torch.allclose(mlp.activation(x), torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-6)

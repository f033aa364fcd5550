"""ModernBERT against the reference implementation, both ways."""

import pytest
import torch

from bestiary.core import weights
from bestiary.errors import LayoutError
from bestiary.text.modernbert import ARCHITECTURE, TRANSFORMERS_CONFIG, ModernBert
from tests.text.encoders import (
    HEADS,
    TINY,
    check_export,
    check_parity,
    configured,
    difference,
    inputs_for,
    load_renamed,
    reference_of,
)

# A window that is shorter than the texts, and angles that differ enough to be told apart.
FIELDS = {**TINY, "window": 5, "global_every": 2, "theta": 5000.0, "local_theta": 100.0}
BASE = {"layers": 22, "width": 768, "heads": 12, "hidden": 1152, "vocabulary": 50368, "positions": 8192, "pooling": "mean"}
# The keys of the published file that say which layers are local, as they were before transformers 5.
OLD = {"global_attn_every_n_layers": 2, "local_attention": 10, "global_rope_theta": 5000.0, "local_rope_theta": 100.0}


@pytest.mark.parametrize("head", HEADS)
def test_equals_the_reference(head, tmp_path):
    check_parity(ARCHITECTURE, "ModernBert", configured(ARCHITECTURE, FIELDS, head), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_the_reference_loads_our_export(head, tmp_path):
    check_export(ARCHITECTURE, "ModernBert", configured(ARCHITECTURE, FIELDS, head), tmp_path)


def test_a_sequence_is_classified_by_its_mean(tmp_path):
    config = configured(ARCHITECTURE, {**FIELDS, "pooling": "mean"}, "classes")
    check_parity(ARCHITECTURE, "ModernBert", config, tmp_path)


@pytest.mark.full
def test_published_sizes_equal_the_reference(tmp_path):
    check_parity(ARCHITECTURE, "ModernBert", configured(ARCHITECTURE, BASE, "mask"), tmp_path, length=200)


def test_fused_tensors_are_read_as_views(tmp_path):
    config = configured(ARCHITECTURE, FIELDS)
    reference_of(ARCHITECTURE, "ModernBert", config).save_pretrained(tmp_path)
    attention = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers").blocks[1].attention
    storages = {part.weight.untyped_storage().data_ptr() for part in (attention.query, attention.key, attention.value)}
    assert len(storages) == 1


@pytest.mark.parametrize("head", ["none", "mask"])
def test_a_file_with_a_copy_of_its_embedding_is_read(head, tmp_path):
    config = configured(ARCHITECTURE, FIELDS, "mask")
    reference = reference_of(ARCHITECTURE, "ModernBert", config)
    reference.save_pretrained(tmp_path)
    extra = {"decoder.weight": reference.get_input_embeddings().weight.data.clone()}
    asked, file = configured(ARCHITECTURE, FIELDS, head), tmp_path / "model.safetensors"
    old = load_renamed(ARCHITECTURE, asked, file, str, extra, tmp_path)
    tokens, mask = inputs_for(config, 0)
    assert torch.equal(old(tokens, mask), weights.load(ARCHITECTURE, asked, file, "transformers")(tokens, mask))


def test_the_first_half_of_the_fused_mlp_is_activated(tmp_path):
    config = configured(ARCHITECTURE, FIELDS)
    reference = reference_of(ARCHITECTURE, "ModernBert", config)
    reference.save_pretrained(tmp_path)
    mlp = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers").blocks[0].mlp
    x, fused = torch.randn(10, 32), reference.layers[0].mlp.requires_grad_(False)
    first, second = fused.Wi(x).chunk(2, dim=-1)
    exact = first * 0.5 * (1 + torch.erf(first / 2**0.5))
    mlp.requires_grad_(False)
    assert difference(mlp(x), fused.Wo(exact * second)) < 1e-5
    assert difference(mlp(x), fused.Wo(torch.nn.functional.gelu(second) * first)) > 1e-3


def test_local_layers_see_no_further_than_their_window():
    torch.manual_seed(0)
    net = ModernBert(configured(ARCHITECTURE, {**FIELDS, "layers": 2, "global_every": 9})).eval()
    attention = net.blocks[1].attention
    assert (net.blocks[0].attention.spec.window, attention.spec.window) == (None, 5)
    assert net.blocks[0].attention.spec.rotary.theta == 5000.0 and attention.spec.rotary.theta == 100.0


def test_config_in_the_words_of_2024():
    config = configured(ARCHITECTURE, FIELDS)
    published = TRANSFORMERS_CONFIG.write(config)
    old = {key: value for key, value in published.items() if key not in ("layer_types", "rope_parameters")} | OLD
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(old)) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("norm_bias", True),
        ("attention_bias", True),
        ("classifier_activation", "relu"),
        ("layer_types", ["sliding_attention"] * 4),
        ("layer_types", ["full_attention", "full_attention", "sliding_attention", "full_attention"]),
        ("new_idea", 3),
    ],
)
def test_a_config_that_asks_for_more_is_refused_by_name(key, value):
    with pytest.raises(LayoutError, match=f"config.json .* {key}: "):
        TRANSFORMERS_CONFIG.read(TRANSFORMERS_CONFIG.write(configured(ARCHITECTURE, FIELDS)) | {key: value})


def test_scaled_positions_are_refused():
    scaled = {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}}
    with pytest.raises(LayoutError, match=r"rotary parameters .*linear"):
        TRANSFORMERS_CONFIG.read({**TRANSFORMERS_CONFIG.write(configured(ARCHITECTURE, FIELDS)), "rope_parameters": scaled})

"""BERT against the reference implementation, both ways."""

import pytest
import torch

from bestiary.core import weights
from bestiary.errors import LayoutError
from bestiary.text.bert import ARCHITECTURE, TRANSFORMERS_CONFIG, Bert, BertConfig
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

FIELDS = {**TINY, "segments": 3, "eps": 1e-5}
BASE = {"layers": 12, "width": 768, "heads": 12, "hidden": 3072, "positions": 512}
SMALL = {**BASE, "width": 384, "hidden": 1536, "vocabulary": 30522}
PUBLISHED = {
    "bert-base-uncased": ({**BASE, "vocabulary": 30522}, "mask"),
    "bert-base-NER": ({**BASE, "vocabulary": 28996}, "tokens"),
    "bert-large-cased": ({**BASE, "layers": 24, "width": 1024, "heads": 16, "hidden": 4096, "vocabulary": 28996}, "none"),
    "all-MiniLM-L6-v2": ({**SMALL, "layers": 6}, "none"),
    "bge-small-en-v1.5 and e5-small-v2": (SMALL, "none"),
}


@pytest.mark.parametrize("head", HEADS)
def test_equals_the_reference(head, tmp_path):
    check_parity(ARCHITECTURE, "Bert", configured(ARCHITECTURE, FIELDS, head), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(("fields", "head"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_sizes_equal_the_reference(fields, head, tmp_path):
    check_parity(ARCHITECTURE, "Bert", configured(ARCHITECTURE, fields, head), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_the_reference_loads_our_export(head, tmp_path):
    check_export(ARCHITECTURE, "Bert", configured(ARCHITECTURE, FIELDS, head), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_segments_reach_every_head(head, tmp_path):
    config = configured(ARCHITECTURE, FIELDS, head)
    reference = reference_of(ARCHITECTURE, "Bert", config)
    reference.save_pretrained(tmp_path)
    net = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    tokens, _ = inputs_for(config, 0)
    segments = torch.randint(config.segments, tokens.shape)
    with torch.no_grad():
        output = reference(tokens, token_type_ids=segments)
        expected = torch.stack(output[:2], dim=-1) if head == "spans" else output[0]
        assert difference(net(tokens, segments=segments), expected) < 1e-5
        assert difference(net(tokens), expected) > 1e-3


PRETRAINING_HEADS = (
    *("cls.seq_relationship.weight", "cls.seq_relationship.bias", "cls.predictions.bias"),
    *("cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias"),
    *("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.beta"),
    *("bert.pooler.dense.weight", "bert.pooler.dense.bias"),
)


@pytest.mark.parametrize("decoder", [False, True], ids=["without", "with a copy of the embedding"])
@pytest.mark.parametrize("head", ["none", "mask"])
def test_files_with_the_names_of_2018_are_read(head, decoder, tmp_path):
    """As in bert-base-uncased as published: a prefix, gamma and beta, all the heads of the pretraining."""
    config = configured(ARCHITECTURE, FIELDS, head)
    reference = reference_of(ARCHITECTURE, "Bert", config)
    reference.save_pretrained(tmp_path)
    embedding = reference.get_input_embeddings().weight.data.clone()
    extra = {name: torch.zeros(1) for name in PRETRAINING_HEADS if head == "none" or "predictions" not in name}
    extra |= {"cls.predictions.decoder.weight": embedding} if decoder else {}
    old = load_renamed(ARCHITECTURE, config, tmp_path / "model.safetensors", name_of_2018, extra, tmp_path)
    new = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    tokens, mask = inputs_for(config, 0)
    assert torch.equal(new(tokens, mask), old(tokens, mask))


def name_of_2018(name):
    if "LayerNorm" in name:
        name = name.replace("weight", "gamma").replace("bias", "beta")
    return name if name.startswith(("bert.", "cls.")) else f"bert.{name}"


def test_a_classifier_with_the_keys_of_2020_is_read(tmp_path):
    """dslim/bert-base-NER holds its position ids, and a pooler that it never asks."""
    config = configured(ARCHITECTURE, FIELDS, "tokens")
    reference_of(ARCHITECTURE, "Bert", config).save_pretrained(tmp_path)
    extra = {
        "bert.embeddings.position_ids": torch.arange(64)[None],
        "bert.pooler.dense.weight": torch.zeros(32, 32),
        "bert.pooler.dense.bias": torch.zeros(32),
    }
    old = load_renamed(ARCHITECTURE, config, tmp_path / "model.safetensors", str, extra, tmp_path)
    assert old.head.output.out_features == 5


def test_a_new_head_is_all_that_is_random(tmp_path):
    published = configured(ARCHITECTURE, FIELDS, "mask")
    reference_of(ARCHITECTURE, "Bert", published).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    config = configured(ARCHITECTURE, FIELDS, "classes")
    fresh = [module for field in ("head", "num_classes") for module in ARCHITECTURE.resized_by[field]]
    net = weights.load(ARCHITECTURE, config, file, "transformers", fresh=fresh)
    kept = weights.load(ARCHITECTURE, configured(ARCHITECTURE, FIELDS), file, "transformers")
    tokens, mask = inputs_for(config, 0)
    assert torch.equal(net.hidden_states(tokens, mask), kept(tokens, mask))
    assert net(tokens, mask).shape == (3, 5) and net(tokens, mask).isfinite().all()
    with pytest.raises(LayoutError, match="the file lacks"):
        weights.load(ARCHITECTURE, config, file, "transformers")


@pytest.mark.parametrize(("head", "count"), [("none", 3), ("mask", 3), ("spans", 2), ("classes", None), ("tokens", None)])
def test_a_number_of_classes_goes_with_heads_that_have_some(head, count):
    config = ARCHITECTURE.configure({**FIELDS, "head": head, "num_classes": count})
    with pytest.raises(LayoutError, match=f"the head '{head}' does not go with num_classes: {count}"):
        ARCHITECTURE.net(config)


def test_an_unknown_head_is_refused():
    with pytest.raises(LayoutError, match="head: 'chat'"):
        ARCHITECTURE.configure({**FIELDS, "head": "chat"})


def test_config_of_a_pretraining_checkpoint_is_that_of_its_mask_head():
    published = TRANSFORMERS_CONFIG.write(configured(ARCHITECTURE, FIELDS, "mask"))
    assert TRANSFORMERS_CONFIG.recognises(published)
    assert TRANSFORMERS_CONFIG.read({**published, "architectures": ["BertForPreTraining"]})["head"] == "mask"
    assert TRANSFORMERS_CONFIG.read({**published, "architectures": None})["head"] == "none"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
        ("new_idea", 3),
        ("architectures", ["BertForMultipleChoice"]),
        ("architectures", ["RobertaModel"]),
    ],
)
def test_a_config_that_asks_for_more_is_refused_by_name(key, value):
    published = TRANSFORMERS_CONFIG.write(BertConfig(**FIELDS)) | {key: value}
    with pytest.raises(LayoutError, match=f"config.json .* {key}: "):
        TRANSFORMERS_CONFIG.read(published)


def test_what_a_config_json_cannot_say_is_not_written():
    with pytest.raises(LayoutError, match="cannot say pooler: 'relu'"):
        TRANSFORMERS_CONFIG.write(BertConfig(**FIELDS, pooler="relu"))


@pytest.mark.parametrize("part", ["blocks.0.mlp", "head.transform"])
def test_activation_is_the_exact_gelu(part):
    torch.manual_seed(0)
    net = Bert(configured(ARCHITECTURE, FIELDS, "mask"))
    x, activation = torch.randn(1000, 32), net.get_submodule(part).activation
    exact = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    assert torch.allclose(activation(x), exact, atol=1e-6)
    assert not torch.allclose(activation(x), torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-6)


def test_eps_is_the_configs_in_every_norm():
    net = Bert(configured(ARCHITECTURE, {**FIELDS, "eps": 1e-3}, "mask"))
    norms = [part for part in net.modules() if isinstance(part, torch.nn.LayerNorm)]
    assert [part.eps for part in norms] == [1e-3] * (1 + 2 * 4 + 1)

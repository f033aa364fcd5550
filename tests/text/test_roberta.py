"""RoBERTa and XLM-RoBERTa against the reference implementation, both ways."""

import pytest
import torch
from safetensors.torch import load_file

from bestiary.core import weights
from bestiary.errors import LayoutError
from bestiary.text.roberta import ARCHITECTURE, XLM_ROBERTA
from tests.text.encoders import HEADS, TINY, check_export, check_parity, configured, inputs_for, load_renamed, reference_of

FIELDS = {**TINY, "segments": 1, "eps": 1e-5}
BASE = {"layers": 12, "width": 768, "heads": 12, "hidden": 3072, "positions": 512, "segments": 1, "eps": 1e-5}
PADDING = 1
BOTH = pytest.mark.parametrize(
    ("architecture", "name"), [(ARCHITECTURE, "Roberta"), (XLM_ROBERTA, "XLMRoberta")], ids=["roberta", "xlm-roberta"]
)


@BOTH
@pytest.mark.parametrize("head", HEADS)
def test_equals_the_reference(architecture, name, head, tmp_path):
    check_parity(architecture, name, configured(architecture, FIELDS, head), tmp_path, PADDING)


@BOTH
@pytest.mark.parametrize("head", HEADS)
def test_the_reference_loads_our_export(architecture, name, head, tmp_path):
    check_export(architecture, name, configured(architecture, FIELDS, head), tmp_path, PADDING)


@pytest.mark.full
@pytest.mark.parametrize(
    ("architecture", "name", "vocabulary"),
    [(ARCHITECTURE, "Roberta", 50265), (XLM_ROBERTA, "XLMRoberta", 250002)],
    ids=["roberta-base", "xlm-roberta-base"],
)
def test_published_sizes_equal_the_reference(architecture, name, vocabulary, tmp_path):
    config = configured(architecture, {**BASE, "vocabulary": vocabulary}, "mask")
    check_parity(architecture, name, config, tmp_path, PADDING)


def test_every_position_can_be_used(tmp_path):
    check_parity(ARCHITECTURE, "Roberta", configured(ARCHITECTURE, FIELDS), tmp_path, PADDING, length=FIELDS["positions"])


def test_the_file_counts_positions_from_the_third_row(tmp_path):
    config = configured(ARCHITECTURE, FIELDS)
    reference = reference_of(ARCHITECTURE, "Roberta", config)
    reference.save_pretrained(tmp_path)
    assert reference.config.max_position_embeddings == 66
    net = weights.load(ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    table = reference.embeddings.position_embeddings.weight
    assert torch.equal(net.embedding.positions.weight, table[2:])
    weights.save(net, tmp_path / "back.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    back = load_file(tmp_path / "back.safetensors")["embeddings.position_embeddings.weight"]
    assert torch.equal(back[2:], table[2:]) and not back[:2].any()


@pytest.mark.parametrize("head", ["none", "mask"])
def test_the_files_of_2019_are_read(head, tmp_path):
    """As roberta-base was published: position ids, a pooler, and the embedding and the bias of the mask head twice."""
    config = configured(ARCHITECTURE, FIELDS, "mask")
    reference = reference_of(ARCHITECTURE, "Roberta", config)
    reference.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    extra = {
        "roberta.embeddings.position_ids": torch.arange(66)[None],
        "roberta.pooler.dense.weight": torch.zeros(32, 32),
        "roberta.pooler.dense.bias": torch.zeros(32),
        "lm_head.decoder.weight": load_file(file)["roberta.embeddings.word_embeddings.weight"],
        "lm_head.decoder.bias": load_file(file)["lm_head.bias"],
    }
    asked = configured(ARCHITECTURE, FIELDS, head)
    old = load_renamed(ARCHITECTURE, asked, file, str, extra, tmp_path)
    new = weights.load(ARCHITECTURE, asked, file, "transformers")
    tokens, mask = inputs_for(config, PADDING)
    assert torch.equal(old(tokens, mask), new(tokens, mask))


def test_another_padding_token_would_move_the_positions():
    config_map = ARCHITECTURE.configs["transformers"]
    published = config_map.write(configured(ARCHITECTURE, FIELDS))
    with pytest.raises(LayoutError, match="pad_token_id: 0"):
        config_map.read({**published, "pad_token_id": 0})

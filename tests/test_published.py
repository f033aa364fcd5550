"""Models without a card: repositories of a hub, and timm's folders."""

import io
import json

import pytest
import torch
import transformers
from huggingface_hub import constants

import bestiary
from bestiary import saving
from bestiary.core.sharded import ShardedTensors, write_shards
from tests.huggingface import running_hub


@pytest.fixture(scope="module")
def embed():
    return bestiary.load("minilm-l6-v2")


@pytest.fixture(scope="module")
def files(embed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "exported"
    embed.export(folder, layout="transformers")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hub(files):
    with running_hub(dict(files)) as hub:
        yield hub


@pytest.fixture
def ask(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("BESTIARY_HOME", str(tmp_path / "store"))

    def load(name="hf:zoo/My_MiniLM", **options):
        try:
            embed = bestiary.load(name, lock=tmp_path / "bestiary.lock", **options)
        except bestiary.BestiaryError as error:
            return {"error": type(error).__name__, "message": str(error)}
        return {"vector": embed("a cat").tolist(), "card": embed.card.name}

    return load


def test_a_repository_is_loaded_at_first_use_and_pinned(ask, hub, embed, tmp_path):
    assert ask()["error"] == "IntegrityError"
    assert hub.requests == []
    came = ask(trust="first-use")
    assert came["card"] == "my-minilm"
    assert torch.allclose(torch.tensor(came["vector"]), embed("a cat"), atol=1e-6)
    assert "1_Pooling/config.json" in (tmp_path / "bestiary.lock").read_text()
    assert ask() == came
    assert ask(offline=True) == came


@pytest.mark.parametrize("changed", ["model.safetensors", "1_Pooling/config.json"])
def test_a_repository_that_changed_is_refused(ask, hub, changed):
    ask(trust="first-use")
    content = hub.files[changed]
    # White space after JSON means nothing, and yet the bytes are others.
    changes = {"model.safetensors": content[:-1] + bytes([content[-1] ^ 1]), "1_Pooling/config.json": content + b"\n"}
    hub.files[changed], hub.commit = changes[changed], "f" * 40
    answer = ask()
    assert answer["error"] == "IntegrityError" and changed in answer["message"]


def state(hub, tmp_path):
    """The tensors of the hub's one file, which is taken away."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(hub.files.pop("model.safetensors"))
    return dict(ShardedTensors([path]))


def put_shards(hub, tmp_path):
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards" / "model.safetensors", state(hub, tmp_path), {"format": "pt"}, shard_size=40_000_000)
    hub.files |= {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}


def put_checkpoint(hub, tmp_path):
    content = io.BytesIO()
    torch.save(state(hub, tmp_path), content)
    hub.files["pytorch_model.bin"] = content.getvalue()


@pytest.mark.parametrize(("put", "pinned"), [(put_shards, "model-00002-of-"), (put_checkpoint, "pytorch_model.bin")])
def test_a_repository_in_shards_or_with_a_checkpoint_is_loaded_and_pinned(ask, hub, embed, tmp_path, put, pinned):
    put(hub, tmp_path)
    came = ask(trust="first-use")
    assert torch.allclose(torch.tensor(came["vector"]), embed("a cat"), atol=1e-6)
    assert pinned in (tmp_path / "bestiary.lock").read_text()
    assert ask(offline=True) == came


def test_a_pinned_file_that_is_gone_is_missed_by_name(ask, hub, tmp_path):
    ask(trust="first-use")
    put_shards(hub, tmp_path)
    hub.commit = "f" * 40
    answer = ask()
    assert answer["error"] == "SourceError" and "model.safetensors" in answer["message"]


def test_a_repository_whose_index_names_a_path_is_refused_before_that_is_fetched(ask, hub, tmp_path):
    put_shards(hub, tmp_path)
    index = json.loads(hub.files["model.safetensors.index.json"])
    index["weight_map"]["embeddings.word_embeddings.weight"] = "../../x.safetensors"
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    answer = ask(trust="first-use")
    assert answer["error"] == "LayoutError" and "which is no safetensors file beside it" in answer["message"]
    assert not any("x.safetensors" in request or "-of-" in request for request in hub.requests)


def test_a_repository_that_lacks_a_shard_is_refused(ask, hub, tmp_path):
    put_shards(hub, tmp_path)
    del hub.files[next(name for name in hub.files if name.startswith("model-00002"))]
    answer = ask(trust="first-use")
    assert answer["error"] == "SourceError" and "model-00002" in answer["message"]
    assert not (tmp_path / "bestiary.lock").exists()


def test_a_file_that_is_refused_is_not_taken_for_one_that_is_not_there(ask, hub):
    hub.refused = "modules.json"
    answer = ask(trust="first-use")
    assert answer["error"] == "SourceError" and "refuses to give modules.json" in answer["message"]


def test_a_repository_goes_over_the_bridge_and_is_pinned(ask, hub, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    reference = transformers.ElectraModel(transformers.ElectraConfig(**sizes))
    reference.save_pretrained(tmp_path / "theirs")
    tokenizer = hub.files["tokenizer.json"]
    hub.files = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()} | {"tokenizer.json": tokenizer}
    assert "bridge=True" in ask(trust="first-use")["message"]
    assert ask(bridge=True)["error"] == "IntegrityError"
    came = ask(trust="first-use", bridge=True)
    assert len(came["vector"]) == 32 and ask(bridge=True, offline=True) == came
    assert "config.json" in (tmp_path / "bestiary.lock").read_text()
    checkpoint = io.BytesIO()
    torch.save(reference.state_dict(), checkpoint)
    hub.files["pytorch_model.bin"], hub.commit = checkpoint.getvalue(), "f" * 40
    del hub.files["model.safetensors"]
    (tmp_path / "bestiary.lock").unlink()
    answer = ask(trust="first-use", bridge=True)
    assert answer["error"] == "LayoutError" and "has no model.safetensors" in answer["message"]
    assert not any("pytorch_model.bin" in request for request in hub.requests)


def test_a_repository_of_another_architecture_is_refused_before_its_weights_are_fetched(ask, hub):
    hub.files["config.json"] = b'{"model_type": "mamba"}'
    answer = ask(trust="first-use")
    assert answer["error"] == "LayoutError" and "mamba" in answer["message"]
    assert not any("safetensors" in request for request in hub.requests)


def test_a_repository_without_a_tokenizer_is_refused(ask, hub):
    del hub.files["tokenizer.json"]
    answer = ask(trust="first-use")
    assert answer["error"] == "LayoutError" and "tokenizer.json" in answer["message"]


@pytest.mark.parametrize("name", ["hf:", "hf:owner", "hf:../../etc", "hf:a/b/c", "hf:a/b@../x"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(bestiary.InputError, match="does not name a repository"):
        bestiary.load(name)


def test_a_folder_that_transformers_wrote_in_shards_is_loaded_and_written_so(embed, tmp_path):
    embed.export(tmp_path / "whole", layout="transformers")
    reference = transformers.AutoModel.from_pretrained(tmp_path / "whole").eval()
    reference.save_pretrained(tmp_path / "theirs", max_shard_size="30MB")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes((tmp_path / "whole" / "tokenizer.json").read_bytes())
    shards = bestiary.load(tmp_path / "theirs")
    assert len([file for file in shards.card.files if file.role == "weights"]) > 2
    assert torch.allclose(shards("a cat"), embed("a cat"), atol=1e-6)

    saving.save(shards, tmp_path / "saved", shard_size=30_000_000)
    saving.export(shards, tmp_path / "exported", "transformers", shard_size=30_000_000)
    again = bestiary.load(tmp_path / "saved")
    assert len([file for file in again.card.files if file.role == "weights" and file.sha256]) > 2
    assert torch.equal(again("a cat"), shards("a cat"))
    assert not (tmp_path / "exported" / "model.safetensors").exists()
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "exported").state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in reference.state_dict().items() if "pooler" not in name)


def test_a_shard_that_changed_after_it_was_saved_is_noticed(embed, tmp_path):
    saving.save(embed, tmp_path / "saved", shard_size=30_000_000)
    shard = sorted((tmp_path / "saved").glob("model-*"))[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(bestiary.IntegrityError, match=shard.name):
        bestiary.load(tmp_path / "saved")


def test_timms_own_folder_is_loaded(tmp_path):
    import timm

    torch.manual_seed(0)
    reference = timm.create_model("efficientnet_b0", num_classes=7).eval()
    timm.models.save_for_hf(
        reference, tmp_path / "theirs", model_config={"label_names": list("abcdefg")}, safe_serialization=True
    )
    classify = bestiary.load(tmp_path / "theirs")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(classify.net(images), reference(images), atol=1e-5)
    assert set(classify.labels) == set("abcdefg")
    assert classify.card.preprocess["crop"] == 0.875

"""Models without a card: repositories of a hub, and timm's folders."""

import json
import os
import subprocess
import sys

import pytest
import torch

import bestiary
from tests.huggingface import running_hub

# huggingface_hub reads its settings when it is imported, so the loading runs in a process of its own.
LOAD = """
import json, sys
import bestiary
try:
    embed = bestiary.load(sys.argv[1], lock=sys.argv[2], **json.loads(sys.argv[3]))
    print(json.dumps({"vector": embed("a cat").tolist(), "card": embed.card.name}))
except bestiary.BestiaryError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


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
def ask(hub, tmp_path):
    def load(name="hf:zoo/My_MiniLM", **options):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "BESTIARY_HOME": str(tmp_path / "store")}
        command = [sys.executable, "-c", LOAD, name, tmp_path / "bestiary.lock", json.dumps(options)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

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

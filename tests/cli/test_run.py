"""run: a model on inputs, as a process; a tiny random one of the card's own shape."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from bestiary.core import weights
from bestiary.table import find_architecture
from tests.cli.conftest import Zoo

CONFIG = {"layers": 1, "width": 8, "heads": 2, "hidden": 16, "vocabulary": 30, "positions": 32}  # as in the card of a zoo
WORDS = ["[UNK]", "a", "cat", "dog"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Random weights in the layout of transformers, and a tokenizer that knows three words."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    architecture = find_architecture("bert")
    config = architecture.configure(CONFIG)
    net = architecture.net(config)
    weights.save(net, folder / "model.safetensors", architecture.rules("transformers", config, list(net.state_dict())))
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def tiny(zoo: Zoo, files: dict[str, bytes]) -> Zoo:
    zoo.add("tiny", files)
    return zoo


def test_piped_a_result_is_tab_separated(tiny: Zoo) -> None:
    first, second = tiny.lines("run", "tiny", "a cat", "a dog")
    assert (first[0], second[0]) == ("a cat", "a dog")
    assert float(first[1]) == pytest.approx(1, abs=1e-4)
    assert first[2] == second[1]


def test_json_holds_whole_vectors(tiny: Zoo) -> None:
    (result,) = tiny.json("run", "tiny", "a cat")["results"]
    assert result["text"] == "a cat"
    assert len(result["vector"]) == CONFIG["width"]


def test_a_dash_reads_lines_from_stdin(tiny: Zoo) -> None:
    completed = tiny.run("run", "tiny", "a", "-", "dog", "--json", stdin="cat\na cat\n")
    assert [result["text"] for result in json.loads(completed.stdout)["results"]] == ["a", "cat", "a cat", "dog"]


def test_precision_and_device_reach_the_model(tiny: Zoo) -> None:
    exact, rough = (tiny.json("run", "tiny", "a cat", "--precision", name)["results"][0]["vector"] for name in ("fp32", "bf16"))
    assert exact != rough
    assert exact == pytest.approx(rough, abs=0.05)
    assert tiny.run("run", "tiny", "a cat", "--device", "abacus").returncode == 11
    assert tiny.run("run", "tiny", "a cat", "--precision", "fp3").returncode == 11


def test_on_a_terminal_it_is_a_table(tiny: Zoo) -> None:
    code, shown = tiny.terminal("run", "tiny", "a cat", "a dog")
    assert code == 0
    assert "to 1" in shown and "a dog" in shown


def test_weights_of_another_shape_are_a_layout_error(tiny: Zoo) -> None:
    card = tiny.cards / "tiny.md"
    card.write_text(card.read_text().replace("width: 8", "width: 16"))
    completed = tiny.run("run", "tiny", "a cat")
    assert completed.returncode == 10
    assert completed.stdout == ""
    assert len(completed.stderr.splitlines()) <= 3


def test_the_bridge_is_crossed_where_it_is_asked_for(tiny: Zoo, files: dict[str, bytes], tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "embedding_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ElectraModel(transformers.ElectraConfig(vocab_size=30, **sizes)).save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes(files["tokenizer.json"])
    refused = tiny.run("run", f"{tmp_path}/theirs", "a cat")
    assert refused.returncode == 10 and "--bridge" in refused.stderr
    (result,) = tiny.json("run", f"{tmp_path}/theirs", "a cat", "--bridge")["results"]
    assert len(result["vector"]) == 8

"""Language models from GGUF files: config, weights and texts are those that transformers makes of the same file."""

import random
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import bestiary
from bestiary.core import keymap
from bestiary.core.gguf import GgufFile
from bestiary.core.rotary import Linear, Llama3, Yarn
from bestiary.errors import InputError, LayoutError
from bestiary.table import find_architecture
from bestiary.text.gguf_config import describe_gguf
from bestiary.text.gguf_tokenizer import write_tokenizer
from bestiary.text.llama import Llama, LlamaConfig
from tests.gguf_files import SMOLLM2, TOKENIZER, smollm2_folder, write_gguf

VOCABULARY = len(TOKENIZER["tokenizer.ggml.tokens"])
SIZES = {"layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "head_width": 8, "hidden": 48, "positions": 64}
SMALL = LlamaConfig(**SIZES, vocabulary=VOCABULARY, theta=5000.0, eps=1e-5)
GEMMA = replace(SMALL, head_width=256, tied=True, norm="rms_offset", activation="gelu_tanh", embedding_scale=32**0.5)
SANDWICH = replace(GEMMA, order="sandwich", query_scalar=256.0)
CONFIGS = {
    "llama": SMALL,
    "llama tied": replace(SMALL, tied=True, key_value_heads=4),
    "qwen2": replace(SMALL, qkv_bias=True),
    "qwen3": replace(SMALL, query_key_norm=True, head_width=128),
    "gemma": GEMMA,
    "gemma2": replace(SANDWICH, windows=(3, None), softcap=50.0, logits_softcap=30.0),
    "gemma3": replace(SANDWICH, layers=7, windows=(*(3,) * 5, None), query_key_norm=True, theta=1e6, local_theta=10000.0),
}
WINDOWS = {"gemma2": 4, "gemma3": 4}


def metadata(config, prefix):
    """What llama.cpp's converter writes of such a config."""
    keys = {
        "block_count": config.layers,
        "context_length": config.positions,
        "embedding_length": config.width,
        "feed_forward_length": config.hidden,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.key_value_heads,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
        "attention.layer_norm_rms_epsilon": config.eps,
        "rope.freq_base": config.theta,
        "vocab_size": config.vocabulary,
    }
    if prefix == "llama":
        keys["rope.dimension_count"] = config.head_width
    if prefix in WINDOWS:
        keys["attention.sliding_window"] = WINDOWS[prefix]
    if config.softcap:
        keys |= {"attn_logit_softcapping": config.softcap, "final_logit_softcapping": config.logits_softcap}
    return {**{f"{prefix}.{key}": value for key, value in keys.items()}, **TOKENIZER}


def small_file(path, name, config=None, tensors=None, **changes):
    """A file with random weights of a small net, and that net."""
    prefix, config = name.split()[0], config or CONFIGS[name]
    torch.manual_seed(0)
    net = Llama(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rules = find_architecture(prefix).rules("gguf", config, list(net.state_dict()))
    written = keymap.save(rules, {name: tensor.detach() for name, tensor in net.state_dict().items()})
    said = {key: value for key, value in {**metadata(config, prefix), **changes}.items() if value is not None}
    return write_gguf(path, prefix, said, {**written, **(tensors or {})}), net


@pytest.mark.parametrize("name", CONFIGS)
def test_config_and_weights_come_out_as_they_went_in(tmp_path, name):
    path, net = small_file(tmp_path / "model.gguf", name)
    model = bestiary.load(path)
    assert model.net.config == CONFIGS[name]
    assert model.card.name == "model" and model.card.architecture == name.split()[0]
    assert dict(model.card.preprocess) == {"context": 64, "end_tokens": (0,)}
    loaded = model.net.state_dict()
    assert loaded.keys() == net.state_dict().keys()
    assert all(torch.allclose(loaded[key], tensor, atol=1e-6) for key, tensor in net.state_dict().items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gemma"])  # Gemma 1 is not among what it reads
def test_logits_are_those_of_transformers(tmp_path, name):
    path, _ = small_file(tmp_path / "model.gguf", name)
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model = bestiary.load(path)
    tokens = torch.randint(0, VOCABULARY, (2, 20))
    with torch.inference_mode():
        wanted, found = reference(tokens).logits, model.net(tokens)
    assert (found - wanted).abs().max() <= 1e-5 * max(1.0, wanted.abs().max().item())


def test_a_folder_with_one_file_is_as_good_as_its_path(tmp_path):
    small_file(tmp_path / "small.gguf", "qwen2")
    assert bestiary.load(tmp_path).card.name == "small"
    small_file(tmp_path / "other.gguf", "qwen2")
    with pytest.raises(InputError, match="2 GGUF files"):
        bestiary.load(tmp_path)


def test_what_is_saved_needs_the_file_no_more(tmp_path):
    path, _ = small_file(tmp_path / "small.gguf", "llama")
    model = bestiary.load(path)
    model.save(tmp_path / "saved")
    path.unlink()
    text = model.generate("the", max_new_tokens=5)
    assert bestiary.load(tmp_path / "saved").generate("the", max_new_tokens=5) == text


def test_what_came_from_a_gguf_goes_to_transformers(tmp_path):
    path, net = small_file(tmp_path / "small.gguf", "llama")
    model = bestiary.load(path)
    model.export(tmp_path / "theirs", layout="transformers")
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32).eval()
    tokens = torch.randint(0, VOCABULARY, (2, 20))
    assert (reference(tokens).logits - net(tokens)).abs().max() < 1e-5
    assert AutoTokenizer.from_pretrained(tmp_path / "theirs")("the").input_ids == model.rules.encode("the").ids


PLAIN = 500000.0 ** -(torch.arange(4) / 4)
LLAMA3 = Llama3(factor=8.0, slow=1.0, fast=4.0, trained=8192)


@pytest.mark.parametrize(
    ("scaling", "keys", "tensors"),
    [
        (None, {"type": "none"}, {}),
        (Linear(factor=4.0), {"type": "linear", "factor": 4.0}, {}),
        (
            Yarn(factor=4.0, trained=16, magnitude=1.1386294361119891),
            {"type": "yarn", "factor": 4.0, "original_context_length": 16, "finetuned": True},
            {},
        ),
        (LLAMA3, {}, {"rope_freqs.weight": PLAIN / LLAMA3.frequencies(PLAIN, 0.0)}),
    ],
    ids=["none", "linear", "yarn", "llama3"],
)
def test_scaled_positions_are_understood(tmp_path, scaling, keys, tensors):
    config = replace(SMALL, theta=500000.0, scaling=scaling)
    said = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    path, net = small_file(tmp_path / "model.gguf", "llama", config, tensors, **said)
    model = bestiary.load(path)
    assert model.net.config == config
    tokens = torch.randint(0, VOCABULARY, (1, 20))
    assert torch.allclose(model.net(tokens), net(tokens), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers", "scalar"), [("gemma2", 46, 8.0), ("gemma2", 42, 256.0), ("gemma3", 62, 8.0), ("gemma3", 26, 256.0)]
)
def test_the_largest_gemmas_scale_their_scores_in_another_way(tmp_path, name, layers, scalar):
    config = replace(CONFIGS[name], layers=layers, width=16, heads=2, key_value_heads=1, hidden=8, query_scalar=scalar)
    path, _ = small_file(tmp_path / "model.gguf", name, replace(config, embedding_scale=4.0))
    assert describe_gguf(GgufFile(path)).config["query_scalar"] == scalar


def test_mistral_calls_itself_llama_and_has_a_window(tmp_path):
    path, _ = small_file(tmp_path / "model.gguf", "llama", **{"llama.attention.sliding_window": 16})
    assert describe_gguf(GgufFile(path)).config["windows"] == (15,)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"llama.block_count": None}, "llama.block_count is None, where a whole number above 0 was expected"),
        ({"llama.block_count": 4294967295}, "blk.4294967294.attn_q.weight is None"),
        ({"llama.block_count": 0}, "llama.block_count is 0"),
        ({"llama.block_count": "two"}, "llama.block_count is 'two'"),
        ({"llama.attention.head_count": [4, 2]}, "llama.attention.head_count is a list"),
        ({"llama.attention.head_count": 3}, "3 heads of 8 numbers for 2 heads"),
        ({"llama.attention.head_count": 8}, "has 32 rows, where its metadata ask for 64"),
        ({"llama.attention.key_length": 16}, "llama.attention.value_length is 8; what is computed is 16"),
        ({"llama.feed_forward_length": 64}, "blk.1.ffn_up.weight has 48 rows, where its metadata ask for 64"),
        ({"llama.embedding_length": 64}, "token_embd.weight is [97, 32], where rows of 64 were expected"),
        ({"llama.vocab_size": 96}, "llama.vocab_size is 96; what is computed is 97"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "llama.attention.layer_norm_rms_epsilon is nan"),
        ({"llama.rope.freq_base": float("inf")}, "llama.rope.freq_base is inf"),
        ({"llama.rope.scaling.type": "longrope"}, "llama.rope.scaling.type is 'longrope'"),
        ({"llama.rope.scaling.type": "linear"}, "llama.rope.scaling.factor is None"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8"),
        ({"llama.attention.clamp_kqv": 8.0}, "llama.attention.clamp_kqv is 8.0, and llama does not know it here"),
        ({"general.architecture": "mamba"}, "'mamba', which is not in the zoo"),
        ({"tokenizer.ggml.eos_token_id": 4000}, "tokenizer.ggml.eos_token_id is 4000"),
    ],
)
def test_metadata_that_the_zoo_does_not_compute_are_named(tmp_path, changes, fault):
    architecture = changes.pop("general.architecture", None)
    path, _ = small_file(tmp_path / "model.gguf", "llama", **changes)
    if architecture:
        write_gguf(path, architecture, TOKENIZER, {})
    with pytest.raises(LayoutError) as caught:
        bestiary.load(path)
    assert fault in str(caught.value) and str(path) in str(caught.value) and len(str(caught.value).splitlines()) <= 3


def test_a_scaling_that_is_not_llama_3s_is_refused(tmp_path):
    path, _ = small_file(tmp_path / "model.gguf", "llama", tensors={"rope_freqs.weight": torch.tensor([1.0, 2.0, 3.0, 8.0])})
    with pytest.raises(LayoutError, match=r"rope_freqs\.weight scales positions in another way"):
        bestiary.load(path)


@pytest.fixture(scope="module")
def smollm2():
    return bestiary.load(SMOLLM2)


def test_smollm2_says_of_itself_what_its_card_says(smollm2, tmp_path):
    found = describe_gguf(GgufFile(smollm2_folder(tmp_path) / "model.gguf"))
    assert find_architecture(found.architecture).configure(found.config) == smollm2.net.config
    assert found.preprocess == {"context": 8192, "end_tokens": (2, 0)}


def test_smollm2_knows_the_capital_of_france(smollm2):
    assert smollm2.chat("What is the capital of France?") == "The capital of France is Paris."


CONTINUED = {  # by 32 tokens
    "Gravity is": " a fundamental concept in physics that describes the curvature of spacetime caused by the presence of matter"
    " and energy. It's a beautiful example of how our understanding of the universe",
    "def fibonacci(n):\n": "\ndef fibonacci(n):\n    if n <= 1:\n        return n\n    else:\n        return fibonacci(n - 1)"
    " + fib",
}


@pytest.mark.parametrize("prompt", CONTINUED)
def test_smollm2_continues_as_transformers_did(smollm2, prompt):
    assert smollm2.generate(prompt, max_new_tokens=32) == CONTINUED[prompt]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prompt", CONTINUED)
def test_smollm2_continues_token_for_token_as_transformers_does(smollm2, reference, prompt):
    model, tokenizer = reference
    tokens = tokenizer(prompt, return_tensors="pt")
    wanted = model.generate(**tokens, max_new_tokens=256, do_sample=False)[0, tokens.input_ids.shape[1] :].tolist()
    found = smollm2.generate(prompt, max_new_tokens=256, details=True)
    assert [token.id for token in found.tokens] == wanted
    assert tokenizer.decode(wanted[:32], skip_special_tokens=True) == CONTINUED[prompt]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = smollm2_folder(tmp_path_factory.mktemp("smollm2"))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")


def test_flipped_bits_in_the_metadata_give_an_error_that_names_the_file(tmp_path):
    path, _ = small_file(tmp_path / "model.gguf", "gemma3", **{"tokenizer.chat_template": "{{ messages }}"})
    sound, generator, refused = path.read_bytes(), random.Random(11), 0
    header = sound.index(b"token_embd.weight")
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(header)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            described = describe_gguf(GgufFile(path))
            find_architecture(described.architecture).configure(described.config)
            write_tokenizer(path, tmp_path / "tokenizer.json")
        except LayoutError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error).splitlines()) <= 3
    assert 100 < refused < 300

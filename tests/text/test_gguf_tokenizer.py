"""Tokenizers rebuilt from GGUF files: the ids of the models' own, and of transformers where it follows those."""

import random
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from bestiary.core.gguf import GgufFile
from bestiary.errors import LayoutError
from bestiary.text.chat import ChatTemplate
from bestiary.text.gguf_tokenizer import WORDS, build_tokenizer, end_tokens, write_chat_template, write_tokenizer
from tests.gguf_files import TOKENIZER, smollm2_folder, write_gguf

ROOT = Path(__file__).parents[2]
TEXTS = [
    "",
    " ",
    "Gravity is",
    "  two before, two behind  ",
    "\n\n\n\t\t \r\n x",
    "don't can't I'LL we'Ve it's",
    "def f(x: int) -> str:\n    return x ** 2  # comment\n\n\tif y:\n\t\tpass\r\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 0.5f; }",
    "naïve café — “quotes” … ’x’ e\u0301 \u212b ﬁ",
    "猫と犬 こんにちは 你好、世界。 안녕하세요",
    "Привет мир, العربية, עברית, हिन्दी, ไทย, ქართული",
    "🐈‍⬛ 👩🏽‍🚀 🇫🇷 ☕️",
    "1 12 123 1234567 3.14159 2024-01-01 1e-05 a1b22  3   4\n\n5 \t6",
    "½ ² ٣ ४५ Ⅳ",
    "a\u00a0b\u3000c\u2028d\u200be\x00f",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><repo_name>x<file_sep> <|im_end|>y <|im_ end|>",
    "http://example.org/?q=a+b&c=%20#d",
    "aaaaaaaaaaaaaaaaaaaa" * 20,
    "=" * 70 + "\n" + "-" * 33,
]


def corpus() -> list[str]:
    """The texts, files of this repository, and strings of characters from everywhere."""
    generator = random.Random(7)
    everywhere = [chr(code) for code in range(0x20, 0x30000) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")]
    common = [" ", "  ", "\n", "a", "1", "'", "'s", "é", ".", "<|im_end|>", "the", "\t"]
    strings = ["".join(generator.choices(everywhere, k=20)) for _ in range(300)]
    strings += ["".join(generator.choices(common, k=12)) for _ in range(300)]
    files = [ROOT / "README.md", Path(__file__), ROOT / "model_cards" / "minilm-l6-v2.md"]
    return [*TEXTS, *strings, *(path.read_text("utf-8") for path in files)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return smollm2_folder(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def ours(folder):
    write_tokenizer(folder / "model.gguf", folder / "tokenizer.json")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def theirs(folder):
    return AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")


def test_smollm2_cuts_as_transformers_does_but_for_digits(ours, theirs):
    texts = [text for text in corpus() if not any(character.isnumeric() for character in text)]
    assert len(texts) > 300
    assert [encoding.ids for encoding in ours.encode_batch(texts)] == theirs(texts).input_ids


def test_smollm2_cuts_digits_as_its_own_tokenizer_does(ours, theirs):
    # tokenizer.json of HuggingFaceTB/SmolLM2-135M-Instruct: every digit is a word, and what stands before it another.
    published = Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    published.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    texts = corpus()
    assert [encoding.ids for encoding in ours.encode_batch(texts)] == [encoding.ids for encoding in published.encode_batch(texts)]
    assert ours.encode("a   1").tokens == ["a", "ĠĠĠ", "1"]


def test_smollm2_gives_every_text_back(ours):
    for text in corpus():
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


def test_smollm2_knows_its_special_tokens_its_ends_and_its_template(folder, ours):
    assert ours.encode("<|im_start|>x<|im_end|>").ids == [1, 104, 2]
    assert ours.decode([1, 104, 2]) == "x"
    assert end_tokens(GgufFile(folder / "model.gguf")) == (2, 0)
    write_chat_template(folder / "model.gguf", folder / "chat_template.jinja")
    prompt = ChatTemplate.read(folder / "chat_template.jinja", {})("Hello")
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert prompt == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("kind", ["llama-bpe", "llama3", "llama-v3", "qwen2", "tekken"])
def test_words_are_cut_by_the_published_expressions(kind):
    published = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[kind]), behavior="isolated")
    words, _ = WORDS[kind].splits
    for text in corpus():
        assert words.pre_tokenize_str(text) == published.pre_tokenize_str(text)


def test_llama3_takes_words_whole_and_begins_a_text_and_qwen2_composes_letters(tmp_path):
    metadata = {**TOKENIZER, "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.pre": "llama-bpe"}
    metadata["tokenizer.ggml.tokens"] = [*TOKENIZER["tokenizer.ggml.tokens"], "ca", "cat"]
    metadata["tokenizer.ggml.token_type"] = [*TOKENIZER["tokenizer.ggml.token_type"], 1, 1]
    metadata["tokenizer.ggml.merges"] = ["c a"]
    llama = build_tokenizer(GgufFile(write_gguf(tmp_path / "llama.gguf", "llama", metadata, {})))
    assert llama.encode("cat").tokens == ["<end>", "cat"]
    metadata["tokenizer.ggml.pre"] = "qwen2"
    qwen = build_tokenizer(GgufFile(write_gguf(tmp_path / "qwen.gguf", "qwen2", metadata, {})))
    assert qwen.encode("cat").tokens == ["ca", "t"]
    assert qwen.normalizer.normalize_str("e\u0301") == "é"


SPOKEN = ["the cat sat on the mat", "the dog sat on the log  and   ran", "über die Straße", "1 22 333", "猫 cat\n\ncats"] * 9


def sentencepiece(**more):
    """Metadata of a small vocabulary of pieces: learnt merges, their scores in order, and a token for every byte."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.train_from_iterator(SPOKEN, BpeTrainer(vocab_size=300, show_progress=False))
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(piece for piece, _ in pieces)]
    tokens += ["<think>"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(index) for index in range(len(pieces) + 1)],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces), 4],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }


SIZES = {
    "block_count": 1,
    "context_length": 64,
    "embedding_length": 32,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.key_length": 8,
}


def both(folder, architecture, metadata):
    """Our tokenizer and transformers', from one file."""
    sizes = {f"{architecture}.{key}": value for key, value in SIZES.items()}
    write_gguf(folder / "model.gguf", architecture, {**sizes, **metadata}, {})
    theirs = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    return build_tokenizer(GgufFile(folder / "model.gguf")), theirs


PIECES = ["the cat", " the cat", "  the   cats sat", "", "über Straße ß", "猫 🐈", "a\nb"]
PIECES += ["<s> the", "the</s>the", "x<think> the"]


def test_pieces_merge_by_score_as_in_transformers(tmp_path):
    ours, theirs = both(tmp_path, "llama", sentencepiece())
    for text in [*PIECES, *SPOKEN]:
        ids = ours.encode(text).ids
        assert ids == theirs(text).input_ids and ids[0] == 1
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.encode("the cat").tokens[1].startswith("▁")
    assert ours.encode("🐈", add_special_tokens=False).tokens[1:] == ["<0xF0>", "<0x9F>", "<0x90>", "<0x88>"]


def test_gemma_merges_by_id_puts_no_space_in_front_and_knows_runs_of_spaces(tmp_path):
    metadata = sentencepiece(**{"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": True})
    tokens = metadata["tokenizer.ggml.tokens"]
    metadata["tokenizer.ggml.scores"] = [0.0] * len(tokens)
    spaces = tokens.index("▁▁")
    tokens[spaces], metadata["tokenizer.ggml.token_type"][spaces] = "  ", 4
    ours, theirs = both(tmp_path, "gemma2", metadata)
    for text in [*PIECES, *SPOKEN]:
        ids = ours.encode(text).ids
        assert ids == theirs(text).input_ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.encode("the").tokens[1] != "▁the"
    assert spaces in ours.encode("a  b").ids


def test_a_file_that_wants_no_space_in_front_or_an_end_behind_gets_it(tmp_path):
    more = {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    ours = build_tokenizer(GgufFile(write_gguf(tmp_path / "model.gguf", "llama", sentencepiece(**more), {})))
    tokens = ours.encode("the cat").tokens
    assert tokens[-1] == "</s>" and not tokens[0].startswith(("▁", "<"))
    assert ours.decode(ours.encode(" the").ids) == " the"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tokenizer.ggml.model": "rwkv"}, "tokenizer.ggml.model is 'rwkv'; known are gpt2, llama"),
        ({"tokenizer.ggml.pre": "klingon"}, "tokenizer.ggml.pre is 'klingon'; known are default, gpt-2"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is not a list"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens is not a list"),
        ({"tokenizer.ggml.tokens": ["a", "a", "b"], "tokenizer.ggml.token_type": [1, 1, 1]}, "a token twice"),
        ({"tokenizer.ggml.tokens": ["a" * 5000], "tokenizer.ggml.token_type": [1]}, "of 5000 characters"),
        ({"tokenizer.ggml.token_type": [1]}, "tokenizer.ggml.token_type is not a list of 97 numbers"),
        ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges is not a list"),
        ({"tokenizer.ggml.merges": ["the"]}, "'the', which is not two tokens"),
        ({"tokenizer.ggml.merges": ["q Żx"]}, "its merges and tokens do not fit"),
        ({"tokenizer.ggml.eos_token_id": 97}, "tokenizer.ggml.eos_token_id is 97, where there are 97 tokens"),
        ({"tokenizer.ggml.eos_token_id": "x"}, "tokenizer.ggml.eos_token_id is 'x'"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores is not a list of 97 numbers"),
    ],
)
def test_a_tokenizer_that_cannot_be_rebuilt_is_refused_and_nothing_is_left(tmp_path, changes, fault):
    metadata = {key: value for key, value in {**TOKENIZER, **changes}.items() if value is not None}
    if changes.get("tokenizer.ggml.model") == "llama":
        del metadata["tokenizer.ggml.merges"]
    source = write_gguf(tmp_path / "model.gguf", "llama", metadata, {})
    with pytest.raises(LayoutError) as caught:
        write_tokenizer(source, tmp_path / "tokenizer.json")
    assert fault in str(caught.value) and str(source) in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert list(tmp_path.iterdir()) == [source]


def test_a_model_that_does_not_chat_has_no_template(tmp_path):
    source = write_gguf(tmp_path / "model.gguf", "llama", TOKENIZER, {})
    with pytest.raises(LayoutError, match="has no chat template"):
        write_chat_template(source, tmp_path / "chat_template.jinja")
    assert list(tmp_path.iterdir()) == [source]

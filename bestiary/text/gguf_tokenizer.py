"""The tokenizer of a GGUF file, as a tokenizer.json.

A GGUF file lists the tokens, and how they merge, but names only the kind of its rules: `tokenizer.ggml.model` the family,
`tokenizer.ggml.pre` how a text is cut into words. What these kinds mean is published with the models that brought them, whose
own tokenizers are followed here. transformers leaves out the digits of SmolLM, the normal form of Qwen and the whole words of
Llama 3; llama.cpp leaves out the normal form of Qwen, and puts a space behind every special token where SentencePiece has one at
the start of a text only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Rules

from bestiary.core.gguf import GgufFile
from bestiary.core.mapped import short
from bestiary.errors import LayoutError

Entry = TypeVar("Entry")

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # types of tokens that stand in a text as they are
LONGEST_TOKEN = 1024  # in characters; the longest that are known are runs of some 128 spaces
# Texts of tokens that end an answer, whatever the file calls them.
END_TEXTS = frozenset([
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "</s>",
])  # fmt: skip


class Words(NamedTuple):
    """How texts are cut into words, inside which bytes merge."""

    splits: tuple[pre_tokenizers.PreTokenizer, ...]
    begins: bool = False  # whether a text begins with a token of its own, where the file does not say
    whole: bool = False  # whether a word that is a token is never merged from parts
    normalizer: normalizers.Normalizer | None = None


def _split(pattern: str) -> tuple[pre_tokenizers.PreTokenizer, ...]:
    words = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


_GPT2 = Words((pre_tokenizers.ByteLevel(add_prefix_space=False),))
_DIGITS = Words((pre_tokenizers.Digits(individual_digits=True), *_GPT2.splits))
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = Words(_split(rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"), begins=True, whole=True)
_QWEN2 = Words(
    _split(rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"), normalizer=normalizers.NFC()
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = Words(
    _split(
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    begins=True,
    whole=True,
)
# By `tokenizer.ggml.pre`; the oldest files have none, which is "default".
WORDS = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "tekken": _TEKKEN,
}


def write_tokenizer(source: Path, target: Path) -> None:
    """Write the tokenizer of a GGUF file as a tokenizer.json. Raises LayoutError where there is none that is known."""
    text = build_tokenizer(GgufFile(source)).to_str()
    target.write_text(text, encoding="utf-8")


def write_chat_template(source: Path, target: Path) -> None:
    """Write the Jinja template that turns messages into a prompt. Raises LayoutError where the file has none."""
    file = GgufFile(source)
    if not has_chat_template(file):
        raise LayoutError(f"{source} has no chat template\nuse it to continue texts, or a model that was tuned to answer")
    target.write_text(file["tokenizer.chat_template"], encoding="utf-8")


def has_chat_template(file: GgufFile) -> bool:
    return isinstance(file.get("tokenizer.chat_template"), str)


def end_tokens(file: GgufFile) -> tuple[int, ...]:
    """Ids of the tokens that end a text: the one that the file names, then others that mean the same. Raises LayoutError."""
    tokens, types = _tokens(file), _types(file)
    named = [_token(file, f"tokenizer.ggml.{name}_token_id", len(tokens)) for name in ("eos", "eot", "eom")]
    meant = [id for id, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind == CONTROL and token in END_TEXTS]
    return tuple(dict.fromkeys(id for id in (*named, *meant) if id is not None))


def build_tokenizer(file: GgufFile) -> Rules:
    """The tokenizer of a GGUF file. Raises LayoutError where there is none that is known."""
    tokens, types = _tokens(file), _types(file)
    family = _known(file, "tokenizer.ggml.model", {"gpt2": _byte_level, "llama": _sentencepiece})
    rules, begins = family(file, tokens)
    vocabulary = rules.get_vocab()
    # Control tokens are left out when a text is decoded, user-defined ones stay.
    for kinds, special in (((CONTROL, UNKNOWN), True), ((USER_DEFINED,), False)):
        texts = [token for token, kind in zip(tokens, types, strict=True) if kind in kinds and token in vocabulary]
        rules.add_tokens([AddedToken(text, special=special, normalized=False) for text in texts])
    begin = _token(file, "tokenizer.ggml.bos_token_id", len(tokens))
    end = _token(file, "tokenizer.ggml.eos_token_id", len(tokens))
    before = [tokens[begin]] if begin is not None and file.get("tokenizer.ggml.add_bos_token", begins) else []
    after = [tokens[end]] if end is not None and file.get("tokenizer.ggml.add_eos_token", False) else []
    if before or after:
        rules.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after], special_tokens=[(token, vocabulary[token]) for token in {*before, *after}]
        )
    return rules


def _byte_level(file: GgufFile, tokens: list[str]) -> tuple[Rules, bool]:
    """Merges of bytes inside words, as GPT-2 brought them; and whether a text begins with a token of its own."""
    words = _known(file, "tokenizer.ggml.pre", WORDS, "default")
    model = _model(file, tokens, _merges(file), ignore_merges=words.whole)
    rules = Rules(model)
    if words.normalizer is not None:
        rules.normalizer = words.normalizer
    rules.pre_tokenizer = pre_tokenizers.Sequence(list(words.splits))
    rules.decoder = decoders.ByteLevel()
    return rules, words.begins


def _sentencepiece(file: GgufFile, tokens: list[str]) -> tuple[Rules, bool]:
    """Merges of characters by the score of what they give, spaces among them, bytes for what is no token."""
    if str(file.get("general.architecture")).startswith("gemma"):
        # Its scores do not follow its merges, its ids do; and its runs of spaces are written as what they stand for.
        tokens = ["▁" * len(token) if set(token) == {" "} else token for token in tokens]
        scores: Sequence[float] = range(0, -len(tokens), -1)
    else:
        scores = _numbers(file, "tokenizer.ggml.scores", len(tokens))
    unknown = _token(file, "tokenizer.ggml.unknown_token_id", len(tokens))
    merges = _merges(file) if "tokenizer.ggml.merges" in file else _merges_by_score(tokens, scores)
    model = _model(
        file, tokens, merges, byte_fallback=True, fuse_unk=True, unk_token=None if unknown is None else tokens[unknown]
    )
    rules = Rules(model)
    prefix = bool(file.get("tokenizer.ggml.add_space_prefix", True))
    rules.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first" if prefix else "never", split=False)
    stripped = [decoders.Strip(" ", left=1)] if prefix else []
    rules.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *stripped])
    return rules, True


def _merges_by_score(tokens: list[str], scores: Sequence[float]) -> Iterable[tuple[str, str]]:
    """All ways to make a token of two, the best token first; of one token, the longest left part first."""
    known = set(tokens)
    found = [
        (score, cut, len(token) - cut, token[:cut], token[cut:])
        for token, score in zip(tokens, scores, strict=True)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return ((left, right) for *_, left, right in found)


def _merges(file: GgufFile) -> list[tuple[str, str]]:
    merges = []
    for merge in _texts(file, "tokenizer.ggml.merges"):
        cut = merge.find(" ", 1)  # a token may begin with a space
        if cut < 0:
            _refuse(file, f"tokenizer.ggml.merges has {short(merge)}, which is not two tokens")
        merges.append((merge[:cut], merge[cut + 1 :]))
    return merges


def _model(file: GgufFile, tokens: list[str], merges: Iterable[tuple[str, str]], **options: Any) -> models.BPE:
    vocabulary = {token: id for id, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        _refuse(file, "tokenizer.ggml.tokens has a token twice")
    try:
        return models.BPE(vocab=vocabulary, merges=list(merges), **options)
    except Exception as error:  # tokenizers raises nothing narrower
        _refuse(file, f"its merges and tokens do not fit ({str(error)[:100]})", error)


def _tokens(file: GgufFile) -> list[str]:
    tokens = _texts(file, "tokenizer.ggml.tokens")
    if too_long := [token for token in tokens if len(token) > LONGEST_TOKEN]:
        _refuse(file, f"tokenizer.ggml.tokens has {short(too_long[0])} of {len(too_long[0])} characters")
    return tokens


def _types(file: GgufFile) -> Sequence[int]:
    """The type of each token; none has one where the file does not say."""
    if "tokenizer.ggml.token_type" not in file:
        return [0] * len(_tokens(file))
    return _numbers(file, "tokenizer.ggml.token_type", len(_tokens(file)))


def _texts(file: GgufFile, key: str) -> list[str]:
    texts = file.get(key)
    if not isinstance(texts, list):
        _refuse(file, f"{key} is not a list of texts")
    return texts


def _numbers(file: GgufFile, key: str, count: int) -> list[Any]:
    numbers = file.get(key)
    if not isinstance(numbers, numpy.ndarray) or len(numbers) != count:
        _refuse(file, f"{key} is not a list of {count} numbers")
    return numbers.tolist()


def _token(file: GgufFile, key: str, count: int) -> int | None:
    """The id of a token that plays a part, or None where none does."""
    token = file.get(key)
    if token is not None and (not isinstance(token, int) or not 0 <= token < count):
        _refuse(file, f"{key} is {short(token)}, where there are {count} tokens")
    return token


def _known(file: GgufFile, key: str, table: Mapping[str, Entry], default: str | None = None) -> Entry:
    name = file.get(key, default)
    if not isinstance(name, str) or name not in table:
        _refuse(file, f"{key} is {short(name)}; known are {', '.join(table)}")
    return table[name]


def _refuse(file: GgufFile, fault: str, cause: Exception | None = None) -> NoReturn:
    raise LayoutError(
        f"{file.path} has a tokenizer that cannot be rebuilt: {fault}.\nFetch it again, or another file of the same model."
    ) from cause

"""A language model as a GGUF file: the inverse of `gguf_config` and `gguf_tokenizer`.

What is written is read again by these before anybody sees it. So a config or a tokenizer that the format cannot say, or says
in another way, is an error that names what came back changed, and there is no list here of what the format lacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Rules
from torch import Tensor

from bestiary.core import keymap
from bestiary.core.architecture import Architecture
from bestiary.core.gguf import GgufFile
from bestiary.core.gguf_writing import TYPES, write_gguf
from bestiary.core.mapped import short
from bestiary.core.rotary import Linear, Llama3, Yarn
from bestiary.core.runtime import merged
from bestiary.core.streamed import Form
from bestiary.core.task import Task
from bestiary.errors import LayoutError
from bestiary.text.gguf_config import Fields, describe_gguf
from bestiary.text.gguf_tokenizer import CONTROL, UNKNOWN, USER_DEFINED, WORDS, build_tokenizer

NORMAL, UNUSED, BYTE = 1, 5, 6  # further types of tokens
NAMES = {"mistral": "llama"}  # what llama.cpp calls an architecture, where it is not our name
# Texts by which tokenizers are compared: words, letter cases, digits, spaces, marks, scripts, bytes that are no token.
PROBES = (
    "The cat  sat, didn't IT?", " a\n\n b\t\tc \r\n", "1 22 333 4444 x5y", "e\u0301 \u212b \ufb01 Straße", "猫と犬 Привет 🐈‍⬛",
    "def f(x):\n    return x ** 2  # y\n", "CamelCase http://a.org/?q=1", "",
)  # fmt: skip


def write_model(task: Task, architecture: Architecture, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write the net, its tokenizer and its chat template as one file.

    Matrices are of the `dtype`, of their own if it is None; what has one dimension is fp32, as llama.cpp wants it. Raises
    LayoutError for what a GGUF file cannot say, and then leaves a file for the caller to remove.
    """
    config: Any = task.net.config
    state = {name: tensor.detach() for name, tensor in merged(task.net).state_dict().items()}
    tensors = keymap.save(architecture.rules("gguf", config, list(state)), state) | _divisors(config)
    if wrong := next((name for name, tensor in tensors.items() if tensor.dtype not in TYPES), None):
        raise _unsayable(task, f"{wrong} is of {tensors[wrong].dtype}")
    dtypes = {name: (dtype or tensor.dtype) if tensor.ndim > 1 else torch.float32 for name, tensor in tensors.items()}
    forms = {name: Form(dtypes[name], tuple(tensor.shape)) for name, tensor in tensors.items()}
    kind = NAMES.get(architecture.name, architecture.name)
    if kind == "llama" and any(config.windows):  # our reader would take it, llama.cpp computes without
        raise _unsayable(task, "its windows, which llama.cpp leaves out for this architecture")
    rules = Rules.from_file(str(task.file("tokenizer")))
    metadata = {
        "general.architecture": kind,
        "general.name": task.card.name,
        "general.license": task.card.license,
        **{f"{kind}.{key}": value for key, value in _keys(config)},
        **_tokenizer(task, rules, kind.startswith("gemma")),
        **_chat_template(task),
    }
    write_gguf(path, metadata, forms, tensors.__getitem__)
    _compare(task, architecture, rules, GgufFile(path))


def _compare(task: Task, architecture: Architecture, rules: Rules, file: GgufFile) -> None:
    """Raise LayoutError unless the file says what the task is."""
    try:
        described = describe_gguf(file)
        read = build_tokenizer(file)
    except LayoutError as error:
        raise _unsayable(task, str(error).splitlines()[0].partition(": ")[2]) from error
    config: Any = task.net.config
    found = architecture.configure(described.config)
    names = [field.name for field in fields(config)]
    if changed := next((name for name in names if getattr(config, name) != getattr(found, name)), None):
        ours, theirs = short(getattr(config, changed)), short(getattr(found, changed))
        raise _unsayable(task, f"{changed} is {ours}, and would be read as {theirs}")
    if missing := set(task.card.preprocess["end_tokens"]) - set(described.preprocess["end_tokens"]):
        raise _unsayable(task, f"a text ends at token {min(missing)} too")
    for probe in PROBES:
        if rules.encode(probe).ids != read.encode(probe).ids:
            raise _unsayable(task, f"its tokenizer would read {probe!r} as other tokens")


def _keys(config: Any) -> Iterator[tuple[str, Any]]:
    """What is said of a config."""
    yield "block_count", config.layers
    yield "context_length", config.positions
    yield "embedding_length", config.width
    yield "feed_forward_length", config.hidden
    yield "attention.head_count", config.heads
    yield "attention.head_count_kv", config.key_value_heads
    yield "attention.key_length", config.head_width
    yield "attention.value_length", config.head_width
    yield "attention.layer_norm_rms_epsilon", config.eps
    yield "rope.dimension_count", config.head_width
    yield "rope.freq_base", config.theta
    yield "vocab_size", config.vocabulary
    if window := next(filter(None, config.windows), None):
        yield "attention.sliding_window", window + 1  # the key counts the token itself
    if config.local_theta is not None:
        yield "rope.freq_base_swa", config.local_theta
    if config.softcap is not None:
        yield "attn_logit_softcapping", config.softcap
    if config.logits_softcap is not None:
        yield "final_logit_softcapping", config.logits_softcap
    if isinstance(config.scaling, (Linear, Yarn)):
        yield "rope.scaling.type", config.scaling.kind
        yield "rope.scaling.factor", config.scaling.factor
    if isinstance(config.scaling, Yarn):
        yield "rope.scaling.original_context_length", config.scaling.trained
        yield "rope.scaling.yarn_beta_slow", config.scaling.slow
        yield "rope.scaling.yarn_beta_fast", config.scaling.fast
        yield "rope.scaling.attn_factor", config.scaling.magnitude / (0.1 * math.log(config.scaling.factor) + 1)


def _divisors(config: Any) -> dict[str, Tensor]:
    """Llama 3's scaling, which is said by what it divides the angles by."""
    if not isinstance(config.scaling, Llama3):
        return {}
    pairs = config.head_width // 2
    plain = config.theta ** -(torch.arange(pairs) / pairs)
    return {"rope_freqs.weight": plain / config.scaling.frequencies(plain, 0.0)}


def _tokenizer(task: Task, rules: Rules, gemma: bool) -> Fields:
    said = json.loads(rules.to_str())
    model = said["model"]
    if model["type"] != "BPE":
        raise _unsayable(task, f"its tokenizer is of the kind {model['type']}")
    config: Any = task.net.config
    vocabulary = rules.get_vocab()
    if max(vocabulary.values()) >= config.vocabulary:
        raise _unsayable(task, f"its tokenizer has more than the {config.vocabulary} tokens of the net")
    tokens = [f"[PAD{id}]" for id in range(config.vocabulary)]
    types = [UNUSED] * config.vocabulary
    for token, id in vocabulary.items():
        is_byte = model["byte_fallback"] and len(token) == 6 and token.startswith("<0x")
        tokens[id], types[id] = token, BYTE if is_byte else NORMAL
    for added in said["added_tokens"]:
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    keys: Fields = {"merges": merges}
    if model["byte_fallback"]:
        ranks = {left + right: -float(rank) for rank, (left, right) in reversed([*enumerate(m.split(" ") for m in merges)])}
        keys |= {"model": "llama", "scores": [ranks.get(token, 0.0) for token in tokens]}
        keys["add_space_prefix"] = rules.encode("x", add_special_tokens=False).tokens[:1] != ["x"]
        if model["unk_token"] is not None:
            keys["unknown_token_id"] = vocabulary[model["unk_token"]]
            types[vocabulary[model["unk_token"]]] = UNKNOWN
        if gemma:
            tokens = [" " * len(token) if kind == USER_DEFINED and set(token) == {"▁"} else token
                      for token, kind in zip(tokens, types, strict=True)]  # fmt: skip
    else:
        keys |= {"model": "gpt2", "pre": _words(task, said)}
    before, after = _around(task, rules)
    ends = task.card.preprocess["end_tokens"]
    if after and [*after] != [*ends[:1]]:
        raise _unsayable(task, f"its tokenizer puts {after} behind a text, which is not the end of an answer")
    keys |= {"add_bos_token": bool(before), "add_eos_token": bool(after)}
    keys |= dict(zip(("eos_token_id", "eot_token_id", "eom_token_id"), ends, strict=False))
    keys |= dict(zip(("bos_token_id",), before, strict=False))
    return {f"tokenizer.ggml.{key}": value for key, value in {**keys, "tokens": tokens, "token_type": types}.items()}


def _around(task: Task, rules: Rules) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and behind a text: at most one each."""
    inside, whole = (rules.encode("x", add_special_tokens=special).ids for special in (False, True))
    start = next((start for start in range(len(whole)) if whole[start : start + len(inside)] == inside), len(whole))
    before, after = whole[:start], whole[start + len(inside) :]
    if len(before) > 1 or len(after) > 1:
        raise _unsayable(task, "its tokenizer puts several tokens around a text")
    return before, after


def _words(task: Task, said: Mapping[str, Any]) -> str:
    """The kind whose rules these are, of those that `gguf_tokenizer` knows."""
    cut = (_steps(said["pre_tokenizer"]), _steps(said["normalizer"]), bool(said["model"].get("ignore_merges")))
    for kind, words in WORDS.items():
        splits = [step for split in words.splits for step in _steps(json.loads(split.__getstate__()))]
        normal = _steps(json.loads(words.normalizer.__getstate__()) if words.normalizer else None)
        if kind != "default" and cut == (splits, normal, words.whole):
            return kind
    raise _unsayable(task, "its tokenizer cuts words in a way that has no name there")


def _steps(rule: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A rule as a list, without what does not change the tokens."""
    if rule is None:
        return []
    if rule["type"] == "Sequence":
        inner = rule["pretokenizers"] if "pretokenizers" in rule else rule["normalizers"]
        return [step for part in inner for step in _steps(part)]
    return [{key: value for key, value in rule.items() if key != "trim_offsets"}]


def _chat_template(task: Task) -> Fields:
    path = task.find("chat_template")
    if path is None:
        return {}
    text = path.read_text("utf-8")
    with suppress(ValueError):  # not JSON, but the template itself
        text = json.loads(text).get("chat_template")
    if not isinstance(text, str):
        raise _unsayable(task, "it has several chat templates")
    return {"tokenizer.chat_template": text}


def _unsayable(task: Task, fault: str) -> LayoutError:
    return LayoutError(f"{task.card.name} cannot be said in a GGUF file: {fault}\nexport it to 'transformers'")

"""What transformers puts beside the weights of nets that hear samples: how sound is prepared, and what the letters are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configmap import ConfigMap, Fields, read_json
from bestiary.errors import LayoutError

SOUND, BOTH = "preprocessor_config.json", "processor_config.json"  # the second, of newer releases, holds the first
VOCABULARY, ADDED, TOKENIZER = "vocab.json", "added_tokens.json", "tokenizer_config.json"
# What the tokenizer takes for granted where its file is silent.
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
DELIMITER = "|"


class TransformersSpeech:
    """A wav2vec 2.0 or HuBERT of transformers: with a head it recognises speech, without one it embeds."""

    companions: tuple[str, ...] = (SOUND, BOTH, VOCABULARY, ADDED, TOKENIZER)

    def __init__(self, config: ConfigMap):
        self.config = config

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        sound, count = _sound(folder), self.config.read(config)["num_classes"]
        preprocess: Fields = {"rate": sound.get("sampling_rate", 16_000), "normalize": sound.get("do_normalize", True)}
        if not count:
            return Description(task="audio-embedding", preprocess=preprocess, files={})
        tokenizer = _optional(folder / TOKENIZER)
        letters = _letters(folder, count)
        blank = _text(tokenizer.get("pad_token") or letters[config.get("pad_token_id") or 0])
        if blank not in letters:
            raise LayoutError(f"{folder / VOCABULARY} has no blank {blank!r}\nfetch the folder again, with all its files")
        preprocess |= {"blank": blank, "delimiter": _text(tokenizer.get("word_delimiter_token") or DELIMITER)}
        if tokenizer.get("do_lower_case"):
            preprocess["lowercase"] = True
        return Description(task="speech-recognition", preprocess=preprocess, labels=letters, files={})

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        preprocess, fields = card.preprocess, self.config.read(config)
        sound = {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": preprocess["rate"],
            "do_normalize": preprocess["normalize"],
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": fields["stem_norm"] == "layer",  # there a norm over time would hear the padding
        }
        if not fields["num_classes"]:
            return {"config.json": config, SOUND: sound}
        vocabulary = {letter: number for number, letter in enumerate(card.labels)}
        blank = preprocess["blank"]
        tokenizer = {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            **{key: token if token in vocabulary else None for key, token in SPECIAL.items()},
            "pad_token": blank,
            "unk_token": next((token for token in ("<unk>", "[UNK]") if token in vocabulary), blank),
            "word_delimiter_token": preprocess["delimiter"],
            "replace_word_delimiter_char": " ",
            "do_lower_case": preprocess.get("lowercase", False),
        }
        return {
            "config.json": {**config, "pad_token_id": vocabulary[blank]},
            SOUND: sound,
            VOCABULARY: vocabulary,
            TOKENIZER: tokenizer,
        }


def _sound(folder: Path) -> Mapping[str, Any]:
    """How sound is prepared."""
    found: Mapping[str, Any] = _optional(folder / SOUND) or _optional(folder / BOTH).get("feature_extractor") or {}
    return found


def _letters(folder: Path, count: int) -> tuple[str, ...]:
    """What the head tells apart, in order; a place that the files leave without a name is named by its number."""
    said = {**read_json(folder / VOCABULARY), **_optional(folder / ADDED)}
    names = {number: letter for letter, number in said.items() if isinstance(number, int)}
    if len(names) != len(said):
        raise LayoutError(f"{folder / VOCABULARY} is not letters and their numbers\nthe zoo has no heads for several languages")
    return tuple(names.get(number, f"<{number}>") for number in range(count))


def _text(token: Any) -> str:
    """A token, which is written as its text or as a mapping with it."""
    return str(token["content"] if isinstance(token, Mapping) else token)


def _optional(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.exists() else {}

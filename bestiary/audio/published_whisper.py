"""What stands beside the weights of Whisper in published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bestiary.core.architecture import Description
from bestiary.core.configmap import Fields, read_json
from bestiary.errors import LayoutError

GENERATION, FEATURES, TOKENIZER = "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"
RATE, SECONDS = 16000, 30  # of the sound that every Whisper hears at once
FEATURE_SETTINGS = {"sampling_rate": RATE, "hop_length": 160, "n_fft": 400, "chunk_length": SECONDS}
MULTILINGUAL = 51865  # token ids that a Whisper of several languages has at least
ENGLISH_ENDS, TIMES = 50256, 1501  # the id of the last token of text of English nets, and how many ids stand for times
LANGUAGES = (  # in the order of their ids
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk te "
    "fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps "
    "tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
)
TASKS = 6  # ids between those of languages and those of times: translate, transcribe, and four that prompts are made of


class SpecialTokens(NamedTuple):
    """The ids that follow those of text: <|endoftext|>, <|startoftranscript|>, languages, tasks, <|notimestamps|>, times."""

    end: int
    start: int
    translate: int
    transcribe: int
    without_times: int

    @classmethod
    def of(cls, vocabulary: int) -> SpecialTokens:
        """Those of a net with so many ids; all but the first two are counted from the last.

        >>> SpecialTokens.of(51864)
        SpecialTokens(end=50256, start=50257, translate=50357, transcribe=50358, without_times=50362)
        """
        end = ENGLISH_ENDS + (vocabulary >= MULTILINGUAL)
        without = vocabulary - TIMES - 1
        return cls(end, end + 1, without - TASKS + 1, without - TASKS + 2, without)


class TransformersRecognizer:
    """A Whisper of transformers."""

    companions: tuple[str, ...] = (GENERATION, FEATURES, TOKENIZER, "tokenizer.json")

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        generation = optional_json(folder / GENERATION)
        features = optional_json(folder / FEATURES)
        for key, wanted in FEATURE_SETTINGS.items():
            if features.get(key, wanted) != wanted:
                raise LayoutError(f"{folder / FEATURES} says {key}: {features[key]!r}\nthe zoo computes Whisper with {wanted}")
        multilingual = generation.get("is_multilingual", config["vocab_size"] >= MULTILINGUAL)
        layers, heads = config["decoder_layers"], config["decoder_attention_heads"]
        return Description(
            task="speech-recognition",
            preprocess={
                "rate": RATE,
                "seconds": SECONDS,
                "multilingual": multilingual,
                "alignment_heads": alignment_heads(generation.get("alignment_heads"), layers, heads),
            },
            files={"tokenizer.json": "tokenizer", **({TOKENIZER: "tokenizer_config"} if (folder / TOKENIZER).exists() else {})},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        tokens = SpecialTokens.of(config["vocab_size"])
        ids = {"decoder_start_token_id": tokens.start}
        ids |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokens.end)
        files = {
            "config.json": {**config, **ids},
            GENERATION: {**ids, **generation_settings(card.preprocess, tokens, config)},
            FEATURES: {
                "feature_extractor_type": "WhisperFeatureExtractor",
                "processor_class": "WhisperProcessor",
                "feature_size": config["num_mel_bins"],
                **FEATURE_SETTINGS,
            },
        }
        if any(file.name == TOKENIZER for file in card.files):
            return files  # the model's own goes along
        end = "<|endoftext|>"
        tokenizer = {"tokenizer_class": "WhisperTokenizer", "processor_class": "WhisperProcessor"}
        tokenizer |= dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end)
        return {**files, TOKENIZER: tokenizer}


def alignment_heads(published: Any, layers: int, heads: int) -> list[list[int]]:
    """Layer and number of the decoder's heads that follow the sound, where the file knows them, else all of the upper half.

    A distilled net may come with those of its teacher, of which most are in layers that it does not have.
    """
    if published and all(layer < layers and head < heads for layer, head in published):
        return [list(pair) for pair in published]
    return [[layer, head] for layer in range(layers // 2, layers) for head in range(heads)]


def generation_settings(preprocess: Mapping[str, Any], tokens: SpecialTokens, config: Mapping[str, Any]) -> Fields:
    """What transformers asks of the settings of a generation."""
    settings = {
        "max_length": config["max_target_positions"],
        "begin_suppress_tokens": [220, tokens.end],  # a space, and nothing
        "no_timestamps_token_id": tokens.without_times,
        "prev_sot_token_id": tokens.without_times - 2,
        "is_multilingual": preprocess["multilingual"],
        "alignment_heads": [list(pair) for pair in preprocess["alignment_heads"]],
        "return_timestamps": False,
    }
    if not preprocess["multilingual"]:
        return settings
    languages = LANGUAGES.split()[: tokens.translate - tokens.start - 1]
    return {
        **settings,
        "task_to_id": {"translate": tokens.translate, "transcribe": tokens.transcribe},
        "lang_to_id": {f"<|{code}|>": tokens.start + 1 + place for place, code in enumerate(languages)},
    }


def optional_json(path: Path) -> Fields:
    """What a JSON file holds, nothing where there is none."""
    return dict(read_json(path)) if path.exists() else {}

"""What stands beside the weights of causal language models in published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configmap import ConfigMap, Fields, read_json

GENERATION, TOKENIZER, TEMPLATE = "generation_config.json", "tokenizer_config.json", "chat_template.jinja"


class TransformersDecoder:
    """A causal language model of transformers; `config` says how many positions it has."""

    companions: tuple[str, ...] = (GENERATION, TOKENIZER, "tokenizer.json", TEMPLATE)

    def __init__(self, config: ConfigMap):
        self.config = config

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        ends = optional_json(folder / GENERATION).get("eos_token_id", config.get("eos_token_id"))
        return Description(
            task="text-generation",
            preprocess={"context": self.config.read(config)["positions"], "end_tokens": listed(ends)},
            files={"tokenizer.json": "tokenizer", **_beside_tokenizer(folder)},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        ends = {"eos_token_id": list(card.preprocess["end_tokens"])}
        files = {"config.json": {**config, **ends}, GENERATION: ends}
        if any(file.name == TOKENIZER for file in card.files):
            return files  # the model's own goes along
        tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": card.preprocess["context"]}
        return {**files, TOKENIZER: tokenizer}


def listed(ids: Any) -> list[int]:
    """A token id, several, or none, as config.json writes them."""
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _beside_tokenizer(folder: Path) -> Mapping[str, str]:
    """The file with the chat template, if there is one (newer models have one of its own), and what names special tokens."""
    files = {TOKENIZER: "tokenizer_config"} if (folder / TOKENIZER).exists() else {}
    if (folder / TEMPLATE).exists():
        return {**files, TEMPLATE: "chat_template"}
    return {TOKENIZER: "chat_template"} if optional_json(folder / TOKENIZER).get("chat_template") else files


def optional_json(path: Path) -> Fields:
    """What a JSON file holds, nothing where there is none."""
    return dict(read_json(path)) if path.exists() else {}

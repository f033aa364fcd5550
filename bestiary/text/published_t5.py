"""What stands beside the weights of T5 in published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.text.published_decoder import GENERATION, TOKENIZER, listed, optional_json

TRAINED = 512  # the longest texts that T5 was trained on, where config.json does not say


class TransformersTranslator:
    """A T5 of transformers, with the prompts that it was trained with."""

    companions: tuple[str, ...] = (GENERATION, TOKENIZER, "tokenizer.json")

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        said = {**config, **optional_json(folder / GENERATION)}
        prompts = {name: task["prefix"] for name, task in (config.get("task_specific_params") or {}).items() if "prefix" in task}
        start = said.get("decoder_start_token_id")
        return Description(
            task="text-to-text",
            preprocess={
                "context": config.get("n_positions", TRAINED),
                "start_token": said.get("pad_token_id", 0) if start is None else start,
                "end_tokens": listed(said.get("eos_token_id", 1)),
                "prompts": prompts,
            },
            files={"tokenizer.json": "tokenizer", **({TOKENIZER: "tokenizer_config"} if (folder / TOKENIZER).exists() else {})},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        preprocess = card.preprocess
        start, (*ends,) = preprocess["start_token"], preprocess["end_tokens"]
        tokens = {"decoder_start_token_id": start, "pad_token_id": start, "eos_token_id": ends[0] if len(ends) == 1 else ends}
        prompts = {name: {"prefix": prompt} for name, prompt in preprocess.get("prompts", {}).items()}
        files = {
            "config.json": {**config, **tokens, "n_positions": preprocess["context"], "task_specific_params": prompts},
            GENERATION: tokens,
        }
        if any(file.name == TOKENIZER for file in card.files):
            return files  # the model's own goes along
        return {**files, TOKENIZER: {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": preprocess["context"]}}

"""What stands beside the weights of text models in published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configmap import read_json
from bestiary.errors import LayoutError

# The steps of a pipeline of sentence-transformers that the zoo computes, by the last part of their type.
STEPS = ("Transformer", "Pooling", "Normalize")
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class TransformersEncoder:
    """An encoder of transformers or, with modules.json beside it, of sentence-transformers.

    Without a modules.json nothing says how to pool: the mean is taken, scaled to length 1.
    """

    companions: tuple[str, ...] = ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer.json")

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        steps = [step["type"].rpartition(".")[2] for step in _json(folder / "modules.json", [{"type": "Transformer"}])]
        if unknown := [step for step in steps if step not in STEPS]:
            raise LayoutError(f"{folder / 'modules.json'} has a step {unknown[0]}\nthe zoo computes {', '.join(STEPS)}")
        pooling = _json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
        sentence = _json(folder / "sentence_bert_config.json", {})
        return Description(
            task="text-embedding",
            preprocess={
                "max_length": sentence.get("max_seq_length") or config["max_position_embeddings"],
                "pooling": _pooling(pooling, folder),
                "normalize": steps == ["Transformer"] or "Normalize" in steps,
            },
            files={"tokenizer.json": "tokenizer"},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
        if card.preprocess["normalize"]:
            steps.append(("2_Normalize", "Normalize"))
        return {
            "config.json": config,
            "tokenizer_config.json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": card.preprocess["max_length"],
            },
            "modules.json": [
                {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{step}"}
                for idx, (path, step) in enumerate(steps)
            ],
            "sentence_bert_config.json": {"max_seq_length": card.preprocess["max_length"], "do_lower_case": False},
            "1_Pooling/config.json": {
                "word_embedding_dimension": config["hidden_size"],
                **{key: pooling == card.preprocess["pooling"] for key, pooling in POOLINGS.items()},
            },
        }


def _pooling(config: Mapping[str, Any], folder: Path) -> str:
    """The pooling, which sentence-transformers has written in two ways."""
    named = config.get("pooling_mode")
    flagged = [POOLINGS.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value]
    modes = [named] if named else flagged
    if len(modes) != 1 or modes[0] not in POOLINGS.values():
        raise LayoutError(f"{folder / '1_Pooling'} pools by {modes}\nthe zoo pools by one of {', '.join(POOLINGS.values())}")
    return str(modes[0])


def _json(path: Path, default: Any) -> Any:
    return read_json(path) if path.exists() else default

"""What stands beside the weights of encoders in published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configclasses import Classes, count_classes, named_classes, names_of_classes, unnamed_classes
from bestiary.core.configmap import ConfigMap, Fields, read_json
from bestiary.errors import LayoutError
from bestiary.text.heads import WITH_CLASSES, HeadKind

# How the classes of transformers are called, after the name of the architecture, by the head that they have.
CLASSES: Mapping[str, HeadKind] = {
    "Model": "none",
    "ForMaskedLM": "mask",
    "ForPreTraining": "mask",
    "ForSequenceClassification": "classes",
    "ForTokenClassification": "tokens",
    "ForQuestionAnswering": "spans",
}
TASKS: Mapping[HeadKind, str] = {
    "none": "text-embedding",
    "mask": "fill-mask",
    "classes": "text-classification",
    "tokens": "token-classification",
    "spans": "question-answering",
}
# From logits to scores, by what a config.json calls the problem.
SCORES = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "logits",
}
# The steps of a pipeline of sentence-transformers that the zoo computes, by the last part of their type.
STEPS = ("Transformer", "Pooling", "Normalize")
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class EncoderHead:
    """The part of a config.json that says what follows an encoder: the class that it was saved by, and the classes' names."""

    keys = ("architectures", *Classes.keys)

    def __init__(self, name: str):
        self.name = name  # what the names of the architecture's classes begin with

    def read(self, published: Mapping[str, Any]) -> Fields:
        names = published.get("architectures") or [f"{self.name}Model"]
        suffix = names[0].removeprefix(self.name)
        if len(names) != 1 or suffix == names[0] or suffix not in CLASSES:
            known = ", ".join(f"{self.name}{suffix}" for suffix in CLASSES)
            raise LayoutError(f"config.json has architectures: {names!r}\nthe zoo computes one of {known}")
        head = CLASSES[suffix]
        return {"head": head, "num_classes": count_classes(published) if head in WITH_CLASSES else None}

    def write(self, config: Any) -> Fields:
        suffix = next(suffix for suffix, head in CLASSES.items() if head == config.head)
        return {"architectures": [f"{self.name}{suffix}"], **(unnamed_classes(config.num_classes) if config.num_classes else {})}


class TransformersEncoder:
    """An encoder of transformers or, with modules.json beside it, of sentence-transformers.

    One that has no head embeds. Without a modules.json nothing says how to pool: the mean is taken, scaled to length 1.
    """

    companions: tuple[str, ...] = (
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "tokenizer_config.json",
        "tokenizer.json",
    )

    def __init__(self, config: ConfigMap):
        self.config = config

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        fields = self.config.read(config)
        embeds = fields["head"] == "none" or (folder / "modules.json").exists()
        task = "text-embedding" if embeds else TASKS[fields["head"]]
        tokenizer = _json(folder / "tokenizer_config.json", {})
        longest = int(min(tokenizer.get("model_max_length") or fields["positions"], fields["positions"]))
        preprocess: Fields = {"max_length": longest}
        if embeds:
            preprocess |= _sentences(folder, longest)
        elif task == "fill-mask":
            preprocess["mask"] = _token(tokenizer, "mask_token", folder)
        elif task == "text-classification":
            usual = "single_label_classification" if fields["num_classes"] > 1 else "multi_label_classification"
            preprocess["scores"] = SCORES[config.get("problem_type") or usual]
        return Description(
            task=task,
            preprocess=preprocess,
            labels=names_of_classes(config) if fields["head"] in WITH_CLASSES else None,
            files={"tokenizer.json": "tokenizer"},
            config={"head": "none", "num_classes": None} if embeds else {},  # though its class may have another
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        fields = self.config.read(config)
        segments = ["token_type_ids"] if fields.get("segments", 0) > 1 else []
        tokenizer = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": card.preprocess["max_length"],
            "model_input_names": ["input_ids", *segments, "attention_mask"],
        }
        if "mask" in card.preprocess:
            tokenizer["mask_token"] = card.preprocess["mask"]
        files = {
            "config.json": {**config, **(named_classes(card.labels) if card.labels else {}), **_problem(card.preprocess)},
            "tokenizer_config.json": tokenizer,
        }
        return files if card.task != "text-embedding" else {**files, **_sentence_files(card.preprocess, fields["width"])}


def _problem(preprocess: Mapping[str, Any]) -> Fields:
    problem = next((problem for problem, scores in SCORES.items() if scores == preprocess.get("scores")), None)
    return {} if problem is None else {"problem_type": problem}


def _token(tokenizer: Mapping[str, Any], key: str, folder: Path) -> str:
    """A special token, which is written as its text or as a mapping with it."""
    token = tokenizer.get(key)
    text = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(text, str):
        raise LayoutError(f"{folder / 'tokenizer_config.json'} names no {key}\nfetch the folder again, with that file")
    return text


def _sentences(folder: Path, longest: int) -> Fields:
    """What sentence-transformers says of an embedder."""
    steps = [step["type"].rpartition(".")[2] for step in _json(folder / "modules.json", [{"type": "Transformer"}])]
    if unknown := [step for step in steps if step not in STEPS]:
        raise LayoutError(f"{folder / 'modules.json'} has a step {unknown[0]}\nthe zoo computes {', '.join(STEPS)}")
    pooling = _json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    sentence = _json(folder / "sentence_bert_config.json", {})
    said = _json(folder / "config_sentence_transformers.json", {})
    prompts = {name: prompt for name, prompt in (said.get("prompts") or {}).items() if prompt}
    if said.get("default_prompt_name") in prompts:
        raise LayoutError(
            f"{folder / 'config_sentence_transformers.json'} puts a prompt before every text\n"
            "the zoo does so where a call names one: set default_prompt_name to null, and pass prompt="
        )
    return {
        "max_length": min(sentence.get("max_seq_length") or longest, longest),
        "pooling": _pooling(pooling, folder),
        "normalize": steps == ["Transformer"] or "Normalize" in steps,
        **({"prompts": prompts} if prompts else {}),
    }


def _sentence_files(preprocess: Mapping[str, Any], width: int) -> Mapping[str, Any]:
    steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if preprocess["normalize"]:
        steps.append(("2_Normalize", "Normalize"))
    prompts = preprocess.get("prompts", {})
    return {
        "modules.json": [
            {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{step}"}
            for idx, (path, step) in enumerate(steps)
        ],
        "sentence_bert_config.json": {"max_seq_length": preprocess["max_length"], "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            **{key: pooling == preprocess["pooling"] for key, pooling in POOLINGS.items()},
        },
        **({"config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": None}} if prompts else {}),
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

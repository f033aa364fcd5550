"""Between a published config.json and our config, both ways and total.

Every key of a published config is translated, or must have the one value that the architecture computes, or is known not to
change what a net computes. Any other key is an error that names it: nothing is ignored in silence.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from bestiary.core.record import record
from bestiary.errors import LayoutError

Fields = dict[str, Any]


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises LayoutError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LayoutError(f"{path.parent} has no {path.name}\nit is not a model in a layout that the zoo reads") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LayoutError(f"{path} cannot be read as JSON: {str(error)[:100]}\nfetch it again") from None


class ConfigMap(Protocol):
    """What an architecture knows of the config of one published layout."""

    def recognises(self, published: Mapping[str, Any]) -> bool:
        """Whether this config.json is of this architecture and layout."""
        ...

    def read(self, published: Mapping[str, Any]) -> Fields:
        """The fields of our config. Raises LayoutError that names a key or value which the architecture does not compute."""
        ...

    def write(self, config: Any) -> Fields:
        """The content of config.json for one of our configs."""
        ...


# Bookkeeping of transformers, and what matters to training or to generation alone.
# fmt: off
_HARMLESS = frozenset([
    "_name_or_path", "_commit_hash", "_attn_implementation_autoset", "architectures", "transformers_version",
    "torch_dtype", "dtype", "model_type", "chunk_size_feed_forward", "finetuning_task", "task_specific_params",
    "tokenizer_class", "use_cache", "gradient_checkpointing", "initializer_range", "return_dict", "output_attentions",
    "output_hidden_states", "torchscript", "id2label", "label2id", "num_labels", "problem_type", "bos_token_id",
    "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "prefix", "use_bfloat16", "pruned_heads",
])
# fmt: on


class Part(Protocol):
    """Keys of a config.json that do not each stand for one field of ours, but say together what some fields are."""

    @property
    def keys(self) -> Collection[str]: ...

    def read(self, published: Mapping[str, Any]) -> Fields: ...

    def write(self, config: Any) -> Fields: ...


class TransformersConfig:
    """A config.json of transformers: `translated` maps our fields to their keys, `parts` say what is less simple.

    `fixed` gives keys whose value the architecture takes for granted (absent is as good); `defaults`, what other keys are
    where they are absent; `ignored`, further keys that do not change what the net computes at inference, such as dropout rates.
    """

    def __init__(
        self,
        model_type: str,
        *,
        fixed: Mapping[str, Any],
        ignored: frozenset[str],
        writes: Mapping[str, Any],
        defaults: Mapping[str, Any] = MappingProxyType({}),
        parts: Sequence[Part] = (),
        **translated: str,
    ):
        self.model_type = model_type
        self.fixed = fixed
        self.defaults = defaults
        self.parts = parts
        self.writes = writes
        self.translated = translated
        self.known = {*ignored, *_HARMLESS, *translated.values(), *(key for part in parts for key in part.keys)}

    def recognises(self, published: Mapping[str, Any]) -> bool:
        return published.get("model_type") == self.model_type

    def read(self, published: Mapping[str, Any]) -> Fields:
        for key, value in published.items():
            if key in self.fixed:
                if value != self.fixed[key] and (value or self.fixed[key]):  # null is as good as false
                    raise LayoutError(
                        f"config.json says {key}: {value!r}\n"
                        f"the zoo computes {self.model_type} with {self.fixed[key]!r} only; this variant is not in it"
                    )
            elif key not in self.known:
                raise LayoutError(
                    f"config.json has {key}: {value!r}, which {self.model_type} does not know here\n"
                    "this variant is not in the zoo; remove the key only if you know that it changes nothing"
                )
        published = {**self.defaults, **published}
        fields = {ours: published[theirs] for ours, theirs in self.translated.items() if theirs in published}
        for part in self.parts:
            fields |= part.read(published)
        return fields

    def write(self, config: Any) -> Fields:
        values = asdict(config)
        written = {"model_type": self.model_type, **self.writes, **self.fixed}
        written |= {theirs: values[ours] for ours, theirs in self.translated.items()}
        for part in self.parts:
            written |= part.write(config)
        said = vars(record(type(config), self.read(written), f"the config of {self.model_type}"))
        for name, value in vars(config).items():
            if said[name] != value:
                raise LayoutError(
                    f"a config.json of {self.model_type} cannot say {name}: {value!r}\nit would mean {said[name]!r} by it"
                )
        return written

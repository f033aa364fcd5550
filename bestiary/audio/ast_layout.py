"""The Audio Spectrogram Transformer in the layout of transformers: key map, config.json and preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestiary.core.architecture import Description
from bestiary.core.configclasses import Classes, named_classes, names_of_classes
from bestiary.core.configmap import Fields, TransformersConfig, read_json
from bestiary.core.configparts import Activation
from bestiary.core.keymap import Rule, each, linear, norm, prefixed, same
from bestiary.core.operations import PROJECTIONS, joined
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.audio.ast import AstConfig

FILE = "preprocessor_config.json"
MULTIPLE = "multi_label_classification"  # what transformers calls it where a sound may have several labels


def transformers_layout(config: AstConfig) -> list[Rule]:
    old, new, ours = "encoder.layer.{i}", "layers.{i}", "blocks.{i}"  # release 5 of transformers renamed the blocks
    rules = [
        joined(("embeddings.cls_token", "embeddings.distillation_token"), "embedding.class_tokens", dim=1),
        same("embeddings.position_embeddings", "embedding.positions"),
        *linear("embeddings.patch_embeddings.projection", "embedding.patch"),
        *each(
            config.layers,
            *(
                rule
                for part in PROJECTIONS
                for rule in linear(
                    (f"{old}.attention.attention.{part}", f"{new}.attention.{part[0]}_proj"), f"{ours}.attention.{part}"
                )
            ),
            *linear((f"{old}.attention.output.dense", f"{new}.attention.o_proj"), f"{ours}.attention.output"),
            *linear((f"{old}.layernorm_before", f"{new}.layernorm_before"), f"{ours}.attention_norm"),
            *linear((f"{old}.layernorm_after", f"{new}.layernorm_after"), f"{ours}.mlp_norm"),
            *linear((f"{old}.intermediate.dense", f"{new}.mlp.fc1"), f"{ours}.mlp.up"),
            *linear((f"{old}.output.dense", f"{new}.mlp.fc2"), f"{ours}.mlp.down"),
        ),
        *norm("layernorm", "norm"),
    ]
    name = "audio_spectrogram_transformer."
    if not config.num_classes:
        return list(prefixed(("", name), rules))
    return [*prefixed((name, ""), rules), *norm("classifier.layernorm", "head.norm"), *linear("classifier.dense", "head.linear")]


class SavedAs:
    """Whether a config.json was saved by the net with its head, and the classes that this has."""

    keys = ("architectures", *Classes.keys)
    whole, headless = "ASTForAudioClassification", "ASTModel"

    def read(self, published: Mapping[str, Any]) -> Fields:
        names = published.get("architectures") or [self.whole]
        if names not in ([self.whole], [self.headless]):
            raise LayoutError(f"config.json has architectures: {names!r}\nthe zoo computes {self.whole} or {self.headless}")
        return Classes().read(published) if names == [self.whole] else {"num_classes": 0}

    def write(self, config: Any) -> Fields:
        if not config.num_classes:
            return {"architectures": [self.headless]}
        return {"architectures": [self.whole], **Classes().write(config)}


TRANSFORMERS_CONFIG = TransformersConfig(
    "audio-spectrogram-transformer",
    parts=(Activation(), SavedAs()),
    fixed={"qkv_bias": True},
    ignored=frozenset(["hidden_dropout_prob", "attention_probs_dropout_prob"]),
    defaults={
        **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
        **{"hidden_act": "gelu", "layer_norm_eps": 1e-12, "patch_size": 16, "frequency_stride": 10, "time_stride": 10},
        **{"max_length": 1024, "num_mel_bins": 128},
    },
    writes={},
    layers="num_hidden_layers",
    width="hidden_size",
    heads="num_attention_heads",
    hidden="intermediate_size",
    eps="layer_norm_eps",
    patch="patch_size",
    mel_stride="frequency_stride",
    frame_stride="time_stride",
    frames="max_length",
    mels="num_mel_bins",
)


class AstFolder:
    """What stands beside the weights: how spectrograms are made, and the names of the classes."""

    companions: tuple[str, ...] = (FILE,)

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        said, net = self._said(folder), TRANSFORMERS_CONFIG.read(config)
        for key, field in {"max_length": "frames", "num_mel_bins": "mels"}.items():
            if said[key] != net.get(field):
                raise LayoutError(f"{folder / FILE} has {key}: {said[key]}, config.json {net.get(field)}\ncorrect one of the two")
        preprocess = {"rate": said["sampling_rate"], "features": "filterbank", "mean": said["mean"], "std": said["std"]}
        if not net["num_classes"]:
            return Description(task="audio-embedding", preprocess=preprocess, files={})
        if config.get("problem_type") == MULTIPLE:
            preprocess["scores"] = "sigmoid"
        return Description(task="audio-classification", preprocess=preprocess, labels=names_of_classes(config), files={})

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        given = card.preprocess
        several = {"problem_type": MULTIPLE} if given.get("scores") == "sigmoid" else {}
        names = {} if not card.labels or "id2label" not in config else named_classes(card.labels)
        processor = {
            "feature_extractor_type": "ASTFeatureExtractor",
            "do_normalize": True,
            "feature_size": 1,
            "max_length": config["max_length"],
            "num_mel_bins": config["num_mel_bins"],
            "mean": given["mean"],
            "std": given["std"],
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": False,
            "sampling_rate": given["rate"],
        }
        return {"config.json": {**config, **names, **several}, FILE: processor}

    def _said(self, folder: Path) -> Fields:
        """What the file says and means."""
        usual = {"max_length": 1024, "num_mel_bins": 128, "mean": -4.2677393, "std": 4.5689974, "sampling_rate": 16_000}
        taken = {"do_normalize": True, "feature_extractor_type": "ASTFeatureExtractor"}
        said = read_json(folder / FILE)
        if wrong := [key for key, value in taken.items() if said.get(key, value) != value]:
            what = f"{folder / FILE} has {wrong[0]}: {said[wrong[0]]!r}"
            raise LayoutError(f"{what}\nthe zoo makes spectrograms with {taken[wrong[0]]!r}")
        return {**usual, **said}

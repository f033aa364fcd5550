"""Models that are not in the zoo, computed by transformers behind the task objects of ours: `load(..., bridge=True)`.

Nobody has compared them with anything here: what transformers computes is what there is. It is handed a folder of links to the
verified files and nothing else, reads safetensors only, and runs no code that comes with a model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from bestiary.bridged import ANSWERS, BridgedDecoder, BridgedNet
from bestiary.core.architecture import Description, PublishedFolder
from bestiary.core.configmap import Fields
from bestiary.core.record import record
from bestiary.core.task import Task
from bestiary.errors import LayoutError
from bestiary.hub.card import Card
from bestiary.hub.fetch import Fetched
from bestiary.published import BRIDGED, CONFIG, WEIGHTS, WEIGHTS_INDEX, Recognised
from bestiary.saving import copy_files, new_folder, write_json
from bestiary.text.heads import WITH_CLASSES
from bestiary.text.published import CLASSES, TransformersEncoder
from bestiary.text.published_decoder import TransformersDecoder

if TYPE_CHECKING:
    from bestiary.core.export.graph import Written

LAYOUT = "transformers"
AUTO_CLASSES = {
    "text-embedding": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-generation": "AutoModelForCausalLM",
}
CAUSAL = ("ForCausalLM", "LMHeadModel")  # what the names of such classes of transformers end with
CARRIED = "the bridge carries encoders and causal language models of text"
UNREAD = ("pooler.",)  # keys of a file that no task asks for
OWN_ROLES = ("config", "index", "weights")  # of the files that transformers reads itself
UNLIMITED = 2**20  # positions of a net that names no limit
# What would make transformers look elsewhere for code, or compute otherwise than by the model's own numbers.
REFUSED = ("quantization_config", "attn_implementation", "_attn_implementation", "experts_implementation")


@dataclass(frozen=True, kw_only=True)
class BridgedConfig:
    model_type: str  # what transformers calls the architecture
    head: str  # what follows it: a HeadKind, or "next" for the logits of next tokens
    num_classes: int | None  # of sequences or of tokens
    width: int  # size of a hidden state
    vocabulary: int  # number of token ids
    positions: int  # longest sequence
    segments: int  # kinds of sentences that it tells apart: A, B


def recognised(published: Mapping[str, Any]) -> Recognised:
    """What a config.json is of. Raises LayoutError where transformers does not know it, or would run foreign code for it."""
    fields = BridgedConfigMap().read(published)
    return Recognised("bridge", LAYOUT, fields, BridgedFolder(fields["head"]), (WEIGHTS, WEIGHTS_INDEX), BRIDGED)


class BridgedConfigMap:
    """What a task has to know of a config.json; the rest is left to transformers."""

    def recognises(self, published: Mapping[str, Any]) -> bool:
        return True

    def read(self, published: Mapping[str, Any]) -> Fields:
        from transformers import CONFIG_MAPPING, __version__

        kind = published.get("model_type")
        if kind not in CONFIG_MAPPING:
            own = "wants to run code that comes with it, which is never done" if "auto_map" in published else "is not in the zoo"
            raise LayoutError(f"{str(kind)[:80]} {own}\nnor does transformers {__version__} know it; a newer one may")
        if not any(kind in table for table in _text_tables()):
            raise LayoutError(f"{kind} is not a text model\n{CARRIED}")
        if odd := [key for key in REFUSED if published.get(key)]:
            raise LayoutError(f"config.json has {odd[0]}, which the bridge does not follow\nask for the model without it")
        try:
            known = CONFIG_MAPPING[kind].from_dict(dict(published)).get_text_config()
            head, positions = _head(published), getattr(known, "max_position_embeddings", None) or UNLIMITED
            fields = {
                "model_type": kind,
                "head": head,
                "num_classes": known.num_labels if head in WITH_CLASSES else None,
                "width": known.hidden_size,
                "vocabulary": known.vocab_size,
                "segments": getattr(known, "type_vocab_size", 0),
                "positions": positions if positions > 0 else UNLIMITED,
            }
        except LayoutError:
            raise
        except Exception as error:  # what strangers write has no bounds, nor has what transformers makes of it
            raise LayoutError(
                f"the bridge cannot read the config.json of {kind} ({type(error).__name__}: {str(error)[:100]!r})\n{CARRIED}"
            ) from error
        if known.is_encoder_decoder:
            raise LayoutError(f"{kind} has an encoder and a decoder\n{CARRIED}")
        return fields

    def write(self, config: Any) -> Fields:
        """The same for a config of transformers."""
        return dict(json.loads(config.to_json_string()))


def _text_tables() -> Iterator[Collection[str]]:
    from transformers.models.auto import modeling_auto

    for task in ("TEXT_ENCODING", "CAUSAL_LM", "MASKED_LM", "SEQUENCE_CLASSIFICATION"):
        yield getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")


def _head(published: Mapping[str, Any]) -> str:
    """What follows the net, by the class that it was saved by."""
    name = (published.get("architectures") or ["Model"])[0]
    if name.endswith(CAUSAL):
        return "next"
    heads = [head for suffix, head in CLASSES.items() if name.endswith(suffix)]
    if not heads:
        raise LayoutError(f"{name[:80]} is none of the models that the bridge knows\n{CARRIED}")
    return heads[0]


class BridgedFolder:
    """What stands beside the weights, as for models of the zoo, and what transformers reads itself."""

    def __init__(self, head: str):
        folder = TransformersDecoder if head == "next" else TransformersEncoder
        self.folder: PublishedFolder = folder(BridgedConfigMap())
        self.companions = self.folder.companions

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        description = self.folder.read(folder, config)
        index = {} if (folder / WEIGHTS).exists() else {WEIGHTS_INDEX: "index"}
        return replace(description, files={CONFIG: "config", **index, **description.files})

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.folder.write(card, config)


def load(card: Card, files: Mapping[str, Fetched], dtype: torch.dtype, device: torch.device) -> BridgedNet:
    """The net of a bridged card, in evaluation mode. Raises LayoutError."""
    import transformers

    config = record(BridgedConfig, card.config, f"the config of {card.name}")
    with TemporaryDirectory(ignore_cleanup_errors=True) as name, _quiet():
        for fetched in files.values():
            if fetched.file.role in OWN_ROLES:
                _link(fetched.path.resolve(), Path(name) / fetched.file.name)
        try:
            model, report = getattr(transformers, AUTO_CLASSES[card.task]).from_pretrained(
                name, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # whatever its many architectures raise
            line = (str(error).splitlines() or [""])[0][:200]
            raise LayoutError(f"transformers cannot load {card.name} ({type(error).__name__}: {line})") from error
    random = [key for key in report["missing_keys"] if not key.startswith(UNREAD)]
    if wrong := sorted([*random, *(str(key) for key, *_ in report["mismatched_keys"])]):
        raise LayoutError(f"{card.name} lacks {wrong[0]}, which transformers fills with random numbers\nis it whole?")
    net = BridgedDecoder if config.head == "next" else BridgedNet
    return net(model.to(device).eval(), config, ANSWERS[card.task])


def save(task: Task, folder: Path) -> None:
    """Write a folder that transformers loads, and `bestiary.load(folder, bridge=True)`."""
    net: Any = task.net
    with new_folder(folder) as stage, _quiet():
        net.model.save_pretrained(stage)
        copy_files(task, stage, without=OWN_ROLES)
        write_json(BridgedFolder(net.config.head).write(task.card, BridgedConfigMap().write(net.model.config)), stage)


def export(task: Task, folder: Path, target: str, preprocessing: bool = False) -> Sequence[Written]:
    """The same; there is no other target."""
    if target != LAYOUT or preprocessing:
        raise LayoutError(f"a bridged model cannot be exported to {target!r}, which takes a net of the zoo\nit can to: {LAYOUT}")
    save(task, folder)
    return ()


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # not every system and user may
        shutil.copyfile(source, target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Meanwhile transformers logs nothing and shows no bars: what matters is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

"""CTranslate2 files for tests: written by the reference library, and the real one."""

import copy
import json
from pathlib import Path

from ctranslate2.converters.transformers import WhisperLoader
from ctranslate2.specs import WhisperSpec

from bestiary.audio.published_whisper import SpecialTokens
from bestiary.hub.lock import LOCK, Lock
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust

WHISPER = "whisper-tiny.en"


def spec_of(reference, quantization: str | None = None) -> WhisperSpec:
    """The variables that CTranslate2 makes of a Whisper of transformers, by name."""
    spec = WhisperLoader().get_model_spec(copy.deepcopy(reference))  # quantising writes over the weights
    spec.register_vocabulary([f"t{id}" for id in range(reference.config.vocab_size)])
    spec.validate()
    spec.optimize(quantization)
    return spec


def write_ctranslate2(folder: Path, reference, quantization: str | None = None) -> Path:
    """The folder that CTranslate2 makes of a Whisper of transformers."""
    folder.mkdir(exist_ok=True)
    spec = spec_of(reference, quantization)
    spec.config.alignment_heads, spec.config.lang_ids = [[0, 0]], [2]
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.save(str(folder))
    return folder


def whisper_folder(folder: Path) -> Path:
    """A folder for faster-whisper with Whisper's real file, verified, and what CTranslate2 wants beside it."""
    settings = Settings.read()
    card = Registry.standard(settings).card(WHISPER)
    for name, fetched in Trust(lock=Lock(LOCK)).fetch(card, settings, standard_progress()).items():
        (folder / name).symlink_to(fetched.path)
    rules = json.loads((folder / "tokenizer.json").read_text())
    ids = {**rules["model"]["vocab"], **{token["content"]: token["id"] for token in rules["added_tokens"]}}
    first = SpecialTokens.of(card.config["vocabulary"]).without_times + 1
    ids |= {f"<|{place * 0.02:.2f}|>": id for place, id in enumerate(range(first, card.config["vocabulary"]))}
    (folder / "vocabulary.json").write_text(json.dumps(sorted(ids, key=ids.__getitem__)))
    config = {"alignment_heads": card.preprocess["alignment_heads"], "lang_ids": [], "suppress_ids": [], "suppress_ids_begin": []}
    (folder / "config.json").write_text(json.dumps(config))
    return folder

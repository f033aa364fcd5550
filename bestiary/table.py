"""The fixed tables of architectures and tasks.

A card names an entry, never an import path. An installed package adds architectures of its own by the entry point group
`bestiary.architectures`, whose values look like those of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from bestiary.core.architecture import Architecture
from bestiary.core.task import Task
from bestiary.errors import CardError

ARCHITECTURES = {
    "ast": "bestiary.audio.ast:ARCHITECTURE",
    "bert": "bestiary.text.bert:ARCHITECTURE",
    "crepe": "bestiary.audio.crepe:ARCHITECTURE",
    "convnext": "bestiary.vision.convnext:ARCHITECTURE",
    "depth": "bestiary.vision.depth:ARCHITECTURE",
    "detr": "bestiary.vision.detr:ARCHITECTURE",
    "distilbert": "bestiary.text.distilbert:ARCHITECTURE",
    "efficientnet": "bestiary.vision.efficientnet:ARCHITECTURE",
    "gemma": "bestiary.text.gemma:GEMMA",
    "gemma2": "bestiary.text.gemma:GEMMA2",
    "gemma3": "bestiary.text.gemma:GEMMA3",
    "gpt2": "bestiary.text.gpt2:ARCHITECTURE",
    "hubert": "bestiary.audio.wav2vec2:HUBERT",
    "llama": "bestiary.text.llama:ARCHITECTURE",
    "mit": "bestiary.vision.mit:ARCHITECTURE",
    "mobilenetv3": "bestiary.vision.mobilenetv3:ARCHITECTURE",
    "modernbert": "bestiary.text.modernbert:ARCHITECTURE",
    "resnet": "bestiary.vision.resnet:ARCHITECTURE",
    "roberta": "bestiary.text.roberta:ARCHITECTURE",
    "mistral": "bestiary.text.llama:MISTRAL",
    "qwen2": "bestiary.text.qwen:QWEN2",
    "qwen3": "bestiary.text.qwen:QWEN3",
    "segformer": "bestiary.vision.segformer:ARCHITECTURE",
    "silero-vad": "bestiary.audio.silero_vad:ARCHITECTURE",
    "swin": "bestiary.vision.swin:ARCHITECTURE",
    "t5": "bestiary.text.t5:ARCHITECTURE",
    "vit": "bestiary.vision.vit:ARCHITECTURE",
    "wav2vec2": "bestiary.audio.wav2vec2:ARCHITECTURE",
    "whisper": "bestiary.audio.whisper:ARCHITECTURE",
    "xlm-roberta": "bestiary.text.roberta:XLM_ROBERTA",
}
TASKS = {
    "audio-classification": "bestiary.audio.tasks.classification:AudioClassifier",
    "audio-embedding": "bestiary.audio.tasks.embedding:AudioEmbedder",
    "depth-estimation": "bestiary.vision.tasks.depth:DepthEstimator",
    "fill-mask": "bestiary.text.tasks.masking:MaskFiller",
    "image-classification": "bestiary.vision.tasks.classification:ImageClassifier",
    "image-embedding": "bestiary.vision.tasks.embedding:ImageEmbedder",
    "image-segmentation": "bestiary.vision.tasks.segmentation:Segmenter",
    "object-detection": "bestiary.vision.tasks.detection:ObjectDetector",
    "pitch": "bestiary.audio.tasks.pitch:PitchTracker",
    "question-answering": "bestiary.text.tasks.answering:QuestionAnswerer",
    "speech-alignment": "bestiary.audio.tasks.alignment:Aligner",
    "speech-recognition": "bestiary.audio.tasks.recognition:SpeechRecognizer",
    "text-classification": "bestiary.text.tasks.classification:TextClassifier",
    "text-embedding": "bestiary.text.tasks.embedding:Embedder",
    "text-generation": "bestiary.text.tasks.generation:LanguageModel",
    "text-to-text": "bestiary.text.tasks.translation:Translator",
    "token-classification": "bestiary.text.tasks.tagging:TokenClassifier",
    "voice-activity": "bestiary.audio.tasks.voice:VoiceDetector",
}


def find_architecture(name: str) -> Architecture:
    """The architecture of that name. Raises CardError where there is none."""
    # Looking through all that is installed takes longer than a warm load, so it is done for unknown names only.
    table = ARCHITECTURES if name in ARCHITECTURES else {**_added(), **ARCHITECTURES}
    architecture: Architecture = _entry(table, name, "architecture")
    return architecture


def architectures() -> Iterator[Architecture]:
    """All of them."""
    return map(find_architecture, [*ARCHITECTURES, *_added()])


def find_task(name: str) -> type[Task]:
    """The class of task objects of that name. Raises CardError where there is none."""
    task: type[Task] = _entry(TASKS, name, "task")
    return task


def _added() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group="bestiary.architectures")}


def _entry(table: Mapping[str, str], name: str, what: str) -> Any:
    if name not in table:
        raise CardError(f"there is no {what} {name!r} in the zoo\nexpected one of: {', '.join(sorted(table))}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)

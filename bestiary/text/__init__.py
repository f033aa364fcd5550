"""Text: architectures, tokenisation, tasks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

TASKS = {
    "Embedder": "bestiary.text.tasks.embedding",
    "LanguageModel": "bestiary.text.tasks.generation",
    "MaskFiller": "bestiary.text.tasks.masking",
    "QuestionAnswerer": "bestiary.text.tasks.answering",
    "TextClassifier": "bestiary.text.tasks.classification",
    "TokenClassifier": "bestiary.text.tasks.tagging",
    "Translator": "bestiary.text.tasks.translation",
}


def __getattr__(name: str) -> Any:
    """The classes of task objects, imported when they are asked for."""
    if name in TASKS:
        return getattr(import_module(TASKS[name]), name)
    raise AttributeError(f"module 'bestiary.text' has no attribute {name!r}")

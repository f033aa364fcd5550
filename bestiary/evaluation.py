"""How well a model does on labelled rows, whatever its task: what `bestiary evaluate` prints and cards keep.

    from bestiary.evaluation import evaluate
    from bestiary.vision import datasets

    evaluate(bestiary.load("./my-classifier"), datasets.load("openmoji", "test")).metrics["accuracy"]

Each task has a function of its own, which says what columns it needs and what it measures.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bestiary.core.evaluation import Evaluation
from bestiary.core.task import Task
from bestiary.errors import InputError
from bestiary.hub.card import Metric

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

EVALUATIONS = {
    "audio-classification": "bestiary.audio.evaluation:evaluate_audio_classification",
    "image-classification": "bestiary.vision.evaluation:evaluate_image_classification",
    "image-embedding": "bestiary.vision.evaluation:evaluate_image_embedding",
    "object-detection": "bestiary.vision.evaluation:evaluate_object_detection",
    "question-answering": "bestiary.text.evaluation:evaluate_question_answering",
    "speech-recognition": "bestiary.audio.evaluation:evaluate_speech_recognition",
    "text-classification": "bestiary.text.evaluation:evaluate_text_classification",
    "text-embedding": "bestiary.text.evaluation:evaluate_text_embedding",
    "text-generation": "bestiary.text.evaluation:evaluate_text_generation",
    "token-classification": "bestiary.text.evaluation:evaluate_token_classification",
}


def evaluate(task: Task, rows: Rows, **options: Any) -> Evaluation:
    """The evaluation of a task on rows, by the function of EVALUATIONS for it, whose `options` differ from task to task.

    Raises InputError for a task that has none, for an option that its function does not know, and what that raises: for a column
    that is missing, and for labels that are not the model's.

    >>> import bestiary
    >>> from bestiary.text import datasets
    >>> rows = datasets.load("openmoji", "test").rename_column("subgroup", "positive").select(range(20))
    >>> found = evaluate(bestiary.load("minilm-l6-v2"), rows)
    >>> found.rows, list(found.metrics)
    (20, ['recall_at_1', 'recall_at_5', 'mrr'])
    """
    function = find_evaluation(task.card.task)
    known = [name for name, one in inspect.signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY]
    if unknown := [name for name in options if name not in known]:
        raise InputError(f"the evaluation of {task.card.task} has no option {unknown[0]}\nits options: {', '.join(known)}")
    return function(task, rows, **options)


def find_evaluation(task: str) -> Callable[..., Evaluation]:
    """The function that evaluates tasks of that name. Raises InputError where there is none."""
    if task not in EVALUATIONS:
        raise InputError(f"there is no evaluation of {task}\nthere is one of {', '.join(EVALUATIONS)}")
    module, _, name = EVALUATIONS[task].partition(":")
    function: Callable[..., Evaluation] = getattr(import_module(module), name)
    return function


def metric_entries(evaluation: Evaluation, dataset: str, command: str) -> list[Metric]:
    """What a card says in `metrics`: each metric of an evaluation, on what, and the command that measures it again.

    >>> metric_entries(Evaluation(metrics={"accuracy": 2 / 3}, rows=3), "pets, test", "bestiary evaluate cat --data pets")
    [Metric(dataset='pets, test', metric='accuracy', value=0.66667, command='bestiary evaluate cat --data pets')]
    """
    found = evaluation.metrics.items()
    return [Metric(dataset=dataset, metric=name, value=round(value, 5), command=command) for name, value in found]


def command_line(model: str, data: str, options: Mapping[str, Any]) -> str:
    """The command that evaluates a model on data; of the options, by their names with underscores, those that say something.

    >>> command_line("cat", "my pets/", {"split": "test", "label": None, "batch_size": 8, "join": True})
    "bestiary evaluate cat --data 'my pets/' --split test --batch-size 8 --join"
    """
    words = ["bestiary", "evaluate", model, "--data", data]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, (list, tuple)):
            words += [word for item in value for word in (flag, str(item))]
        elif value is not None and value is not False:
            words += [flag, str(value)]
    return shlex.join(words)

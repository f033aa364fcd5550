"""A step of fine-tuning as the scripts take it, data included, against the trainers of transformers and timm, all at fp32."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from bestiary import loading
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.module import FineTuning
from bestiary.core.tuning.order import Batches, Order
from bestiary.core.tuning.recipe import Recipe
from bestiary.scripts.benchmark import Bench, Row, Times
from bestiary.scripts.cases.embed import sample_texts
from bestiary.scripts.cases.photos import written
from bestiary.text.finetuning import PackedRows, TextClassification
from bestiary.vision.augmentation import PRESETS
from bestiary.vision.finetuning import Augmented, ImageClassification, Prepared

CLASSES = tuple("abcd")
STEPS, BATCH, WORKERS = 12, 32, 2
FIRST = 3  # steps of a round that are not counted, as workers start and caches fill in them


def finetune_text(bench: Bench) -> Iterator[Row]:
    """minilm-l6-v2 as a classifier of texts of mixed length, packed, against padded batches."""
    from bestiary.text.tasks.classification import TextClassifier

    classify: Any = loading.load_for("minilm-l6-v2", "text-classification", CLASSES)
    assert isinstance(classify, TextClassifier)
    texts = sample_texts(STEPS * BATCH)
    rows = [{"tokens": ids, "label": number % len(CLASSES)} for number, ids in enumerate(classify.tokenizer(texts))]
    with tempfile.TemporaryDirectory() as folder:
        classify.export(folder, layout="transformers")
        theirs = transformers_trainer(Path(folder), rows)

    def ours() -> list[float]:
        recipe = Recipe(batch_size=BATCH, epochs=1, workers=0)
        order = Order.of(recipe, len(rows))
        tuning = TextClassification(classify.net, recipe=recipe, steps=order.steps)
        return seconds_of_steps(tuning, Batches(rows, PackedRows()), Batches(rows[:BATCH], PackedRows()), order)

    yield alternated(bench, ours, theirs).speed(
        f"a step of minilm-l6-v2 on {BATCH} texts of 3 to 200 words", "transformers' Trainer", at_least=1.5
    )


def finetune_image(bench: Bench) -> Iterator[Row]:
    """efficientnet-lite0 on photos in files, against timm's loader and the loop of its training script."""
    from bestiary.vision.tasks.classification import ImageClassifier

    classify: Any = loading.load_for("efficientnet-lite0", "image-classification", CLASSES)
    assert isinstance(classify, ImageClassifier)
    augmentation = PRESETS["light"]
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), bench)[: STEPS * BATCH]
        rows = [{"image": path, "label": number % len(CLASSES)} for number, path in enumerate(paths)]

        def ours() -> list[float]:
            recipe = Recipe(batch_size=BATCH, epochs=1, workers=WORKERS)
            order = Order.of(recipe, len(rows))
            tuning = ImageClassification(classify.net, augmentation, recipe=recipe, steps=order.steps)
            train = Batches(rows, Augmented(augmentation, classify.preprocess))
            return seconds_of_steps(tuning, train, Batches(rows[:1], Prepared(classify.preprocess)), order)

        times = alternated(bench, ours, timm_loop(rows))
    yield times.share(f"a step of efficientnet-lite0 on {BATCH} photos, {WORKERS} workers", "timm", at_most=1.0)


def alternated(bench: Bench, ours: Callable[[], list[float]], theirs: Callable[[], list[float]]) -> Times:
    """The seconds of the steps of each, in rounds that alternate."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(bench.rounds):
        bench.say(f"round {number + 1} of {bench.rounds}")
        for run, times in zip((ours, theirs), found, strict=True):
            times += run()[FIRST:]
    return Times(*found)


def seconds_of_steps(tuning: FineTuning, train: Batches, validation: Batches, order: Order) -> list[float]:
    """Those of a run by `fit`, from the end of one step to the end of the next."""
    ends: list[float] = []
    tuning.on_train_batch_end = lambda *_: ends.append(time.perf_counter())  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        fit(tuning, train, validation, order, Path(folder))
    return [end - begin for begin, end in pairwise(ends)]


def transformers_trainer(folder: Path, rows: Sequence[dict[str, Any]]) -> Callable[[], list[float]]:
    """A run of transformers' Trainer on the same rows, without the dropout that ours has not."""
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    features = [
        {"input_ids": row["tokens"], "attention_mask": [1] * len(row["tokens"]), "labels": row["label"]} for row in rows
    ]

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self, ends: list[float]):
            self.ends = ends

        def on_step_end(self, *arguments: Any, **more: Any) -> None:
            self.ends.append(time.perf_counter())

    def run() -> list[float]:
        ends: list[float] = []
        with tempfile.TemporaryDirectory() as output:
            asked = TrainingArguments(
                output, per_device_train_batch_size=BATCH, num_train_epochs=1, use_cpu=True, report_to=[], save_strategy="no",
                logging_strategy="no", disable_tqdm=True,
            )  # fmt: skip
            collate = DataCollatorWithPadding(tokenizer)
            Trainer(model, asked, collate, features, callbacks=[Clock(ends)]).train()
        return [end - begin for begin, end in pairwise(ends)]

    return run


def timm_loop(rows: Sequence[dict[str, Any]]) -> Callable[[], list[float]]:
    """The loop of timm's training script with its loader, optimiser and transforms, as it comes but for their strength."""
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_data_config
    from timm.optim import create_optimizer_v2

    model = timm.create_model("tf_efficientnet_lite0", num_classes=len(CLASSES)).train()
    size = resolve_data_config(model=model)
    transform = create_transform(**size, is_training=True, color_jitter=None, hflip=0.5)

    class Photos(Dataset[Any]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> Any:
            with Image.open(rows[index]["image"]) as image:
                return transform(image.convert("RGB")), rows[index]["label"]

    def run() -> list[float]:
        optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-4, weight_decay=0.05)
        loader = DataLoader(Photos(), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True)
        ends = []
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ends.append(time.perf_counter())
        return [end - begin for begin, end in pairwise(ends)]

    return run

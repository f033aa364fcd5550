"""The folder of a run of fine-tuning: while it lasts, its settings and checkpoints; at its end, a model with a card.

    my-classifier/              what `bestiary.load("./my-classifier")` takes
      README.md                 the card: data, hyper-parameters, metrics, the command, the digest of the base
      model.safetensors
      training/                 run.json, last.ckpt, best.ckpt, curves.png, logs/ for TensorBoard and as CSV
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bestiary.core.adapt import has_adapter
from bestiary.core.task import Task, weights_of
from bestiary.core.tuning.data import Splits
from bestiary.core.tuning.fit import LOGS, Fitted
from bestiary.core.tuning.history import CURVES, draw_curves, read_history
from bestiary.core.tuning.order import Place
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import InputError
from bestiary.evaluation import command_line, evaluate, metric_entries
from bestiary.hub.card import Card, Metric, read_card
from bestiary.hub.names import is_card_name
from bestiary.loading import load
from bestiary.published import CARD
from bestiary.saving import write_json

TRAINING, SETTINGS, STAGE = "training", "run.json", "model"
OPTIONS = ("image", "audio", "text", "label", "errors", "language", "where")  # of `bestiary evaluate`, by which rows are read
FREE = ("device", "workers", "save_every")  # of a recipe: what may differ when a run is resumed


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line of a script asks for, whatever the task."""

    model: str  # the base, as it was given
    data: str  # likewise
    output: Path  # the folder for the model and its run
    resume: bool  # whether to go on with the run in that folder
    recipe: Recipe
    trusted: Mapping[str, Any]  # what `bestiary.load` and the loaders of data sets are told of trust, network and store
    command: Sequence[str]  # the command line itself


@dataclass(frozen=True)
class Run:
    """One run, as it was asked for, and where it is written.

    `task` is what is tuned. `facts` are what else decides what comes out: counts of rows, options of the script.
    """

    asked: Request
    task: Task
    facts: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return self.asked.output

    @property
    def training(self) -> Path:
        return self.folder / TRAINING

    def begin(self) -> None:
        """Note down what the run is, or see that it is the one to be resumed. Raises InputError where it cannot begin."""
        if Place.here().rank:  # of several processes the first one writes
            return
        if not is_card_name(self.folder.name):
            raise InputError(f"{self.folder.name!r} is no name for a model\nname --output by letters, digits, dots and dashes")
        settings = json.loads(json.dumps(self._settings()))
        if self.asked.resume:
            if not (self.training / SETTINGS).is_file():
                raise InputError(f"{self.folder} holds no run to resume\nstart one without --resume")
            _check_same(self._begun()["settings"], settings, self.folder)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder} is there already\ngive --output another folder, or go on with --resume")
        else:
            self.training.mkdir(parents=True, exist_ok=True)
            write_json({SETTINGS: {"command": list(self.asked.command), "settings": settings}}, self.training)

    def finish(self, fitted: Fitted, splits: Splits, learned: str, **reading: Any) -> None:
        """Write the model: weights, curves, and a card with metrics of what anyone loads, that tells how it came about.

        `learned` describes the data, and `reading` are the options by which it was read, as `bestiary evaluate` takes them.
        """
        if Place.here().rank:
            return
        stage = self._stage(fitted)
        card = read_card(stage / CARD)
        metrics = self._measured(stage, splits, reading)
        card = replace(card, name=self.folder.name, version=1, tags=(), metrics=tuple(metrics), checked="weights")
        card = replace(card, metadata={**card.metadata, "base_model": self.asked.model})
        card = replace(card, text=self._text(card, fitted, learned))
        (stage / CARD).write_text(card.to_markdown(), encoding="utf-8")
        for path in sorted(stage.iterdir(), key=lambda path: path.name == CARD):  # the card last: it makes a model of the folder
            os.replace(path, self.folder / path.name)
        stage.rmdir()
        print(f"{self.folder}: bestiary run {as_typed(self.folder)} <{self.task.medium}>", file=sys.stderr)

    def _stage(self, fitted: Fitted) -> Path:
        """Write the task with its tuned net, as yet without a card of its own, and the curves; returns the folder."""
        stage = self.training / STAGE
        shutil.rmtree(stage, ignore_errors=True)
        self.task.net = fitted.net
        (self.task.save_adapter if has_adapter(fitted.net) else self.task.save)(stage)
        draw_curves(read_history(self.training / LOGS), self.training / CURVES, self.folder.name)
        return stage

    def _measured(self, stage: Path, splits: Splits, reading: Mapping[str, Any]) -> list[Metric]:
        """The metrics of the staged model on the rows of `test`, or where there are none on those that validated."""
        given = {name: value for name, value in reading.items() if value and value not in (name, "raise")}
        others = [f"{name}={given.pop(name)}" for name in list(given) if name not in OPTIONS]
        given |= {"column": others} if others else {}
        where: dict[str, Any]
        if splits.test is not None:
            rows, where = splits.test, {"split": "test"}
        elif splits.held_out:
            rows, where = splits.validation, {"split": "train", "held_out": self.asked.recipe.seed}
        else:
            rows, where = splits.validation, {"split": "validation"}
        command = command_line(as_typed(self.folder), self.asked.data, {**where, **given})
        called = ", ".join([self.asked.data, *(f"{name.replace('_', ' ')} {value}" for name, value in where.items())])
        return metric_entries(evaluate(load(stage, **self.asked.trusted), rows), called, command)

    def _settings(self) -> dict[str, Any]:
        """What has to be the same when the run is resumed, but for what is FREE."""
        asked = {"model": self.asked.model, "data": self.asked.data, "recipe": asdict(self.asked.recipe)}
        return {**asked, "weights": weights_of(self.task.provenance), **self.facts}

    def _begun(self) -> dict[str, Any]:
        """What was noted down when the run began."""
        noted: dict[str, Any] = json.loads((self.training / SETTINGS).read_text(encoding="utf-8"))
        return noted

    def _origin(self) -> str:
        digests = " and ".join(f"`{digest}`" for digest in weights_of(self.task.provenance).values())
        if not digests:
            return f"The net of `{self.asked.model}`, trained from random weights on `{self.asked.data}`."
        return (
            f"`{self.asked.model}`, fine-tuned on `{self.asked.data}`. It began with the weights whose sha256 is\n"
            f"{digests}; what these do wrong, it may do as well."
        )

    def _text(self, card: Card, fitted: Fitted, learned: str) -> str:
        recipe = "\n".join(f"| {name} | {value} |" for name, value in asdict(self.asked.recipe).items())
        metrics = "\n".join(f"| {one.dataset} | {one.metric} | {one.value:.4g} |" for one in card.metrics)
        return f"""\
# {self.folder.name}

{self._origin()} What the data does not show, it has not learned.
Kept are the weights of step {fitted.step}, which validation found best: {fitted.name} {fitted.value:.4g}.

## Data

```
{learned}
```

## Metrics

| data | metric | value |
|---|---|---|
{metrics}

Each can be measured again by the command that stands beside it in the front matter of this card.

![Curves of the run]({TRAINING}/{CURVES})

## How it was tuned

```sh
{shlex.join(self._begun()["command"])}
```

| hyper-parameter | value |
|---|---|
{recipe}
"""


def as_typed(folder: Path) -> str:
    """The folder as commands take it: with a separator, which tells it from the name of a card."""
    return str(folder) if os.sep in str(folder) else f".{os.sep}{folder}"


def _check_same(noted: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for name in sorted({*noted, *now} - {"recipe"}):
        _check_one(name, noted.get(name), now.get(name), folder)
    for name in sorted({*noted["recipe"], *now["recipe"]} - {*FREE}):
        _check_one(name, noted["recipe"].get(name), now["recipe"].get(name), folder)


def _check_one(name: str, noted: Any, now: Any, folder: Path) -> None:
    if noted != now:
        raise InputError(f"the run in {folder} has {name} {noted}, not {now}\nresume it with the options it was started by")

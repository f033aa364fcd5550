"""Times this project and its peers in one run: the same weights, input and threads, alternating; medians and ratios.

    bestiary benchmark                      # every case
    bestiary benchmark embed-fp32 start     # these two
    python scripts/benchmark.py --json      # the same program

A case is a function in `cases/` that takes a `Bench` and yields rows. A peer that is not installed is named and its case skipped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

CASES = {
    "embed-fp32": "bestiary.scripts.cases.embed:embed_fp32",
    "embed-bf16": "bestiary.scripts.cases.embed:embed_bf16",
    "embed-fast": "bestiary.scripts.cases.embed:embed_fast",
    "classify-fp32": "bestiary.scripts.cases.classify:classify_fp32",
    "classify-fast": "bestiary.scripts.cases.classify:classify_fast",
    "backbones-fp32": "bestiary.scripts.cases.backbones:backbones_fp32",
    "backbones-bf16": "bestiary.scripts.cases.backbones:backbones_bf16",
    "backbones-fast": "bestiary.scripts.cases.backbones:backbones_fast",
    "backbones-step": "bestiary.scripts.cases.backbones:backbones_step",
    "backbones-build": "bestiary.scripts.cases.backbones:backbones_build",
    "finetune-image": "bestiary.scripts.cases.finetune:finetune_image",
    "finetune-text": "bestiary.scripts.cases.finetune:finetune_text",
    "lora-step": "bestiary.scripts.cases.lora:lora_step",
    "photos": "bestiary.scripts.cases.photos:photos",
    "generate-fp32": "bestiary.scripts.cases.generate:generate_fp32",
    "generate-batch": "bestiary.scripts.cases.generate:generate_batch",
    "generate-16bit": "bestiary.scripts.cases.generate:generate_16bit",
    "generate-int8": "bestiary.scripts.cases.generate:generate_int8",
    "generate-start": "bestiary.scripts.cases.generate:generate_start",
    "speech": "bestiary.scripts.cases.speech:speech",
    "speech-long": "bestiary.scripts.cases.speech:speech_long",
    "speech-memory": "bestiary.scripts.cases.speech:speech_memory",
    "speech-start": "bestiary.scripts.cases.speech:speech_start",
    "voice": "bestiary.scripts.cases.voice:voice",
    "precision": "bestiary.scripts.cases.precision:precision",
    "precision-language": "bestiary.scripts.cases.precision:language",
    "start": "bestiary.scripts.cases.start:start",
    "cli-start": "bestiary.scripts.cases.start:cli_start",
    "download": "bestiary.scripts.cases.download:download",
    "memory": "bestiary.scripts.cases.memory:memory",
}
PEERS = {  # module: distribution
    "sentence_transformers": "sentence-transformers",
    "timm": "timm",
    "huggingface_hub": "huggingface_hub",
    "llama_cpp": "llama-cpp-python",
    "gguf": "gguf",
    "faster_whisper": "faster-whisper",
    "whisper": "openai-whisper",
    "silero_vad": "silero-vad",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the result: what was measured, and the number that is held against the bar.

    `ours` and `peer` are medians in `unit` ("s" or "B"; "" for a bare number). `score` is the judged number, and `score_unit`
    says what it counts. The bar is `at_least` or `at_most`; a row with neither only informs.
    """

    what: str
    ours: float
    score: float
    score_unit: str
    unit: str = "s"
    peer: float | None = None
    peer_name: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    case: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the score keeps the bar; None without a bar."""
        if self.at_least is not None:
            return self.score >= self.at_least
        if self.at_most is not None:
            return self.score <= self.at_most
        return None

    def record(self) -> dict[str, Any]:
        """The row for JSON, with its verdict."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class Times:
    """Seconds of each round, ours and the peer's."""

    ours: Sequence[float]
    peer: Sequence[float]

    def speed(self, what: str, peer: str, *, at_least: float) -> Row:
        """A row judged by how many times as fast as the peer this project is."""
        return self._row(what, peer, score=self.theirs / self.own, score_unit="times as fast", at_least=at_least)

    def share(self, what: str, peer: str, *, at_most: float) -> Row:
        """A row judged by this project's time as a share of the peer's."""
        return self._row(what, peer, score=self.own / self.theirs, score_unit="of its time", at_most=at_most)

    def difference(self, what: str, peer: str, *, at_most: float) -> Row:
        """A row judged by the seconds that this project takes more than the peer."""
        return self._row(what, peer, score=self.own - self.theirs, score_unit="s more", at_most=at_most)

    @property
    def own(self) -> float:
        """Median seconds of this project."""
        return median(self.ours)

    @property
    def theirs(self) -> float:
        """Median seconds of the peer."""
        return median(self.peer)

    def _row(self, what: str, peer: str, **judgement: Any) -> Row:
        return Row(what=what, ours=self.own, peer=self.theirs, peer_name=peer, **judgement)


def limit(what: str, value: float, *, unit: str, at_most: float) -> Row:
    """A row judged by its own value alone, in `unit`."""
    return Row(what=what, ours=value, unit=unit, score=value, score_unit=unit, at_most=at_most)


@dataclass(frozen=True)
class Bench:
    """How a case measures: the number of rounds, and where progress goes."""

    rounds: int = 5
    say: Callable[[str], None] = field(default=lambda text: None)

    def alternate(
        self, ours: Callable[[], object], peer: Callable[[], object], *, before: Callable[[], object] = lambda: None
    ) -> Times:
        """Time both in turns after one untimed call of each, so that a busy machine slows both alike.

        `before` is called before each of them, untimed.
        """
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(self.rounds + 1):
            self.say(f"round {number} of {self.rounds}" if number else "warming up")
            for call, times in zip((ours, peer), seconds, strict=True):
                before()
                times.append(elapsed(call))
        return Times(seconds[0][1:], seconds[1][1:])

    def repeat(self, call: Callable[[], object]) -> float:
        """Median seconds of a call, after one untimed."""
        call()
        return median(elapsed(call) for _ in range(self.rounds))


def elapsed(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@dataclass
class Result:
    """The rows of all cases, and why a case gave none."""

    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # case: reason


class Skipped(Exception):
    """A case cannot run on this machine; the message says why."""


def run(names: Iterable[str], bench: Bench) -> Result:
    """Run cases of CASES, in the order given."""
    result = Result()
    for name in names:
        case = replace(bench, say=partial(_say_of, name, bench.say))
        try:
            result.rows += [replace(row, case=name) for row in _case(name)(case)]
        except ModuleNotFoundError as error:
            if error.name not in PEERS:
                raise
            result.skipped[name] = f"{PEERS[error.name]} is not installed"
        except Skipped as reason:
            result.skipped[name] = str(reason)
    return result


def _say_of(name: str, say: Callable[[str], None], text: str) -> None:
    say(f"{name}: {text}")


def _case(name: str) -> Callable[[Bench], Iterable[Row]]:
    module, _, function = CASES[name].partition(":")
    case: Callable[[Bench], Iterable[Row]] = getattr(import_module(module), function)
    return case


if __name__ == "__main__":
    from bestiary.cli import main

    sys.exit(main(["benchmark", *sys.argv[1:]]))

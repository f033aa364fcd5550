"""From what the encoder heard to tokens: greedily, or drawn anew where a text fails its tests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bestiary.audio.recognition.rules import TimestampRules
from bestiary.audio.recognition.vocabulary import Vocabulary
from bestiary.core.cache import Cache
from bestiary.core.context import Memory, Projected
from bestiary.core.generate import Decoder, Generation, Limits
from bestiary.core.sampling import Sampling

# The tests of Whisper's long form (Radford et al. 2022, arXiv:2212.04356, section 4.5).
REPETITIVE = 2.4  # a text that zlib shrinks more is one phrase over and over
UNLIKELY = -1.0  # mean log-probability of a token below which a text is a guess
SILENT = 0.6  # probability of no speech above which an unlikely text is taken for none


class Heard:
    """A batch of windows as the encoder leaves them, with the keys and values that the decoder makes of them once."""

    def __init__(self, decoder: Any, memory: Memory):
        self.decoder, self.memory = decoder, memory
        self.recalled: dict[int, Projected] = {}

    def __len__(self) -> int:
        return len(self.memory.hidden_states)

    def reader(self, rows: Sequence[int], capacity: int) -> Decoder:
        """A decoder before these rows that has read nothing yet."""
        every = list(rows) == list(range(len(self)))

        def of(tensor: Any) -> Any:
            return tensor if every or tensor is None else tensor[list(rows)]

        cache = Cache(sequences=len(rows), capacity=capacity, memory=Memory(*map(of, self.memory)))
        cache.recalled = {layer: (of(keys), of(values)) for layer, (keys, values) in self.recalled.items()}
        return Decoder(self.decoder, cache, self.memory.hidden_states.device)

    def keep(self, reader: Decoder) -> None:
        """Take over what a decoder before all the rows has made of the memory in its first step."""
        self.recalled = dict(reader.cache.recalled)


class Text(NamedTuple):
    """What was made of a window."""

    tokens: tuple[int, ...]  # without the one that ends it
    probabilities: tuple[float, ...]  # of each of them, among what could follow
    log_probability: float  # of all of them and the one that ends it, in the mean
    no_speech: float  # 0 to 1
    temperature: float
    repetition: float  # how much zlib shrinks it

    @property
    def good(self) -> bool:
        """Whether it needs no other attempt: neither repetitive nor a guess, or a guess since nobody speaks."""
        return self.silent or (self.repetition <= REPETITIVE and self.log_probability >= UNLIKELY)

    @property
    def silent(self) -> bool:
        """Whether it is taken for none, as probably nobody speaks."""
        return self.no_speech > SILENT and self.log_probability < UNLIKELY


class Dictation(Generation):
    """Transcripts as they grow, which keep how probable each token was among those that could follow."""

    def __init__(
        self, heard: Heard, rows: Sequence[int], prompts: Sequence[Sequence[int]], sampling: Sampling, limits: Limits,
        vocabulary: Vocabulary,
    ):  # fmt: skip
        assert limits.context is not None
        longest = min(limits.context, max(map(len, prompts)) + limits.max_new_tokens)
        super().__init__(heard.reader(rows, longest), prompts, sampling, limits)
        self.heard, self.vocabulary = heard, vocabulary
        self.log_probabilities: list[list[float]] = [[] for _ in prompts]
        self.no_speech: list[float] = []

    def read(self) -> Tensor:
        if self.no_speech:
            return super().read()
        # What follows the start says whether there is speech; language and task stand behind it.
        since = {len(prompt) - prompt.index(self.vocabulary.start) for prompt in self.prompts}
        logits = self.decoder.logits(self.sequences, last=max(since))
        self.no_speech = logits[:, 0].float().softmax(-1)[:, self.vocabulary.no_speech].tolist()
        if not self.heard.recalled:
            self.heard.keep(self.decoder)
        return logits[:, -1]

    @torch.inference_mode()
    def choose(self, logits: Tensor) -> list[int]:
        tokens = super().choose(logits)
        chosen = torch.tensor(tokens, device=logits.device)[:, None]
        found = self._guided.log_softmax(-1).gather(1, chosen)[:, 0]
        for sequence, log_probability in zip(self.growing, found.tolist(), strict=True):
            self.log_probabilities[sequence].append(log_probability)
        return tokens

    def guided(self, logits: Tensor, histories: Sequence[Sequence[int]]) -> Tensor:
        self._guided = super().guided(logits, histories)
        return self._guided

    def text(self, row: int) -> Text:
        """What a sequence has become, now that it has ended."""
        new = self.sequences[row][len(self.prompts[row]) :]
        tokens = new[: len(new) - (row in self.ended)]
        log_probabilities = self.log_probabilities[row]
        return Text(
            tuple(tokens),
            tuple(torch.tensor(log_probabilities[: len(tokens)]).exp().tolist()),
            sum(log_probabilities) / (len(tokens) + 1),
            self.no_speech[row],
            self.sampling.temperature,
            repetition(self.vocabulary.decode(tokens)),
        )


class Transcriber:
    """Writes what was heard, by the rules of times."""

    def __init__(self, vocabulary: Vocabulary, context: int, device: torch.device):
        self.vocabulary = vocabulary
        self.limits = Limits(
            end_tokens=frozenset({vocabulary.end}),
            max_new_tokens=context // 2,
            context=context,
            guide=TimestampRules(vocabulary, device),
        )

    def texts(
        self, heard: Heard, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seed: int
    ) -> list[Text]:
        """A text for each row: the first that passes the tests, as the temperatures are tried; else the likeliest."""
        tried: list[list[Text]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))
        for temperature in temperatures:
            for row, text in zip(rows, self._once(heard, rows, prompts, temperature, seed), strict=True):
                tried[row].append(text)
            rows = [row for row in rows if not tried[row][-1].good]
            if not rows:
                break
        return [texts[-1] if texts[-1].good else max(texts, key=_merit) for texts in tried]

    def _once(
        self, heard: Heard, rows: Sequence[int], prompts: Sequence[Sequence[int]], temperature: float, seed: int
    ) -> list[Text]:
        sampling = Sampling(temperature=temperature, seed=seed)
        dictation = Dictation(heard, rows, [prompts[row] for row in rows], sampling, self.limits, self.vocabulary)
        for _ in dictation:
            pass
        return [dictation.text(row) for row in range(len(rows))]


def repetition(text: str) -> float:
    """How many times as long a text is as what zlib makes of it.

    >>> repetition("na " * 50) > REPETITIVE > repetition("Nothing in this is said twice.")
    True
    """
    content = text.encode()
    return len(content) / len(zlib.compress(content))


def _merit(text: Text) -> tuple[bool, float]:
    return text.repetition <= REPETITIVE, text.log_probability

"""Reading sound with Whisper (Radford et al. 2022, arXiv:2212.04356)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as Rules
from torch import Tensor

from bestiary.audio.recognition.alignment import Observed, beginnings
from bestiary.audio.recognition.decoding import Heard, Text, Transcriber
from bestiary.audio.recognition.reader import Options, Reading, Window
from bestiary.audio.recognition.segments import Part, cut, settled
from bestiary.audio.recognition.transcript import Segment
from bestiary.audio.recognition.vocabulary import Vocabulary
from bestiary.audio.transforms import HOP, WINDOW, LogMel
from bestiary.core.record import record
from bestiary.core.runtime import side_by_side
from bestiary.core.task import batched
from bestiary.errors import InputError, LayoutError


@dataclass(frozen=True, kw_only=True)
class WhisperPreprocess:
    """The keys of a card's `preprocess` for Whisper."""

    rate: int  # Hz, of the sound that it hears
    seconds: float  # of sound that it hears at once
    multilingual: bool  # whether it knows other languages than English, and how to translate them
    alignment_heads: tuple[tuple[int, int], ...] = ()  # layer and number of the heads that look at what is spoken at the time


class Draft(NamedTuple):
    """What was written of a window, cut to segments."""

    text: Text
    parts: Sequence[Part]
    read: float  # seconds of the window


class WhisperReader:
    """A window becomes features and hidden states, these a text with times, and that segments."""

    def __init__(self, task: Any):
        self.task = task
        preprocess = record(WhisperPreprocess, task.card.preprocess, f"preprocess of {task.card.name}")
        self.rate, self.seconds, self.multilingual = preprocess.rate, preprocess.seconds, preprocess.multilingual
        self.alignment_heads = preprocess.alignment_heads
        self.vocabulary = Vocabulary(Rules.from_file(str(task.file("tokenizer"))), self.multilingual)
        self.config = task.net.config
        self.step = self.seconds / self.config.frames  # seconds from one time that it can name to the next
        self.features = LogMel(self.config.mels)
        last = self.vocabulary.times + self.config.frames
        if last != self.config.vocabulary - 1:
            raise LayoutError(
                f"the tokenizer of {task.card.name} has times up to token {last}, the net {self.config.vocabulary} tokens\n"
                "the two are not of one model: correct the card"
            )

    def check(self, options: Options) -> None:
        name = self.task.card.name
        if options.language is not None:
            self.vocabulary.check_language(options.language)
        if options.task == "translate" and not self.multilingual:
            raise InputError(f"{name} knows English alone, and nothing to translate\ntake a model of several languages")
        if options.words and not self.alignment_heads:
            raise InputError(f"the card of {name} names no alignment_heads, which tell when words are spoken\nleave words out")
        if options.beams > 1:
            raise InputError("Whisper is read greedily, and drawn anew where a text fails its tests\nleave beams out")

    def read(self, windows: Sequence[Window], options: Options) -> list[Reading]:
        """On a CPU in as many groups as there are threads, so that these need not wait for one another."""
        groups = min(torch.get_num_threads(), len(windows)) if self.task.device.type == "cpu" else 1
        size = -(-len(windows) // max(groups, 1)) or 1
        read = side_by_side(partial(self._read, options=options), list(batched(windows, size)), self.task.device)
        return [reading for readings in read for reading in readings]

    @torch.inference_mode()
    def _read(self, windows: Sequence[Window], options: Options) -> list[Reading]:
        net = self.task.inference.derived()
        heard = Heard(net.decoder, net.encoder.memory([self._spectrum(net, window) for window in windows]))
        languages = self._languages(heard, windows, options)
        transcriber = Transcriber(self.vocabulary, self.config.context, self.task.device)
        prompts = [
            self.vocabulary.prompt(language, options.task, self._before(window, options))
            for window, language in zip(windows, languages, strict=True)
        ]
        texts = transcriber.texts(heard, prompts, options.temperatures, options.seed)
        drafts = [
            Draft(text, *cut(() if text.silent else text.tokens, self.vocabulary, self.step, len(window.samples) / self.rate))
            for window, text in zip(windows, texts, strict=True)
        ]
        if options.words:
            times = self._times(heard, prompts, windows, drafts)
            return [self._reading(*row) for row in zip(drafts, languages, times, strict=True)]
        return [self._reading(draft, language) for draft, language in zip(drafts, languages, strict=True)]

    def _spectrum(self, net: Any, window: Window) -> Tensor:
        """Features (mels, frames)."""
        like = next(net.encoder.parameters())
        samples = F.pad(window.samples.to(like.device), (0, WINDOW))  # after the end there is silence
        return self.features(samples)[:, : self._frames(window)].to(like.dtype)

    def _frames(self, window: Window) -> int:
        return max(1, len(window.samples) // HOP)

    def _before(self, window: Window, options: Options) -> list[int]:
        """Tokens of what was said before: the prompt and as much of the last text as there is room for."""
        room = self.config.context // 2 - 1
        prompt = self.vocabulary.encode(f" {options.prompt.strip()}")[-room:] if options.prompt else []
        return prompt + list(window.previous[len(prompt) - room :] if len(prompt) < room else ())

    def _languages(self, heard: Heard, windows: Sequence[Window], options: Options) -> list[str | None]:
        """What is spoken in each window: what is said or known of it, else what the net finds likeliest after the start."""
        known = [options.language or window.language for window in windows]
        if not self.multilingual:
            return ["en"] * len(windows)
        if all(known):
            return known
        codes, ids = list(self.vocabulary.languages), list(self.vocabulary.languages.values())
        reader = heard.reader(range(len(windows)), capacity=1)
        logits = reader.logits([[self.vocabulary.start]] * len(windows))[:, -1]
        heard.keep(reader)
        found = logits[:, ids].argmax(-1).tolist()
        return [language or codes[index] for language, index in zip(known, found, strict=True)]

    def _times(
        self, heard: Heard, prompts: Sequence[Sequence[int]], windows: Sequence[Window], drafts: Sequence[Draft]
    ) -> list[list[float]]:
        """The seconds at which the tokens of text of each draft begin, and at which the last of them ends."""
        spoken = [self._spoken(draft.parts) for draft in drafts]
        opened = [[*prompt[prompt.index(self.vocabulary.start) :], self.vocabulary.no_times] for prompt in prompts]
        tokens = [[*opening, *text, self.vocabulary.end] for opening, text in zip(opened, spoken, strict=True)]
        longest = max(map(len, tokens))
        batch = torch.tensor([ids + [self.vocabulary.end] * (longest - len(ids)) for ids in tokens], device=self.task.device)
        heads = defaultdict(list)
        for layer, head in self.alignment_heads:
            heads[layer].append(head)
        observed = Observed(longest, heard.memory, heard.recalled, heads)
        heard.decoder.hidden_states(batch, observed)
        times = []
        for row, (window, opening, text) in enumerate(zip(windows, opened, spoken, strict=True)):
            weights = observed.weights(row, len(tokens[row]), max(1, self._frames(window) // 2))
            # A token is what the one before it is followed by, so that the first is written at the end of the opening.
            frames = beginnings(weights, slice(len(opening) - 1, len(opening) + len(text)))
            times.append([frame * self.step for frame in frames.tolist()])
        return times

    def _spoken(self, parts: Sequence[Part]) -> list[int]:
        return [token for part in parts for token in part.tokens if token < self.vocabulary.end]

    def _reading(self, draft: Draft, language: str | None, times: Sequence[float] | None = None) -> Reading:
        segments, written = [], 0
        for part in draft.parts:
            segment = self._segment(draft.text, part)
            spoken = [place for place, token in enumerate(part.tokens, part.first) if token < self.vocabulary.end]
            if times is not None:
                pieces = self.vocabulary.words([draft.text.tokens[place] for place in spoken], language)
                its_times = times[written : written + len(spoken) + 1]
                segment = segment.of(settled(pieces, its_times, [draft.text.probabilities[place] for place in spoken]))
            segments.append(segment)
            written += len(spoken)
        return Reading(segments, language, draft.read, draft.text.no_speech)

    def _segment(self, text: Text, part: Part) -> Segment:
        return Segment(
            part.start,
            part.end,
            self.vocabulary.decode(part.tokens),
            log_probability=text.log_probability,
            no_speech=text.no_speech,
            temperature=text.temperature,
            tokens=part.tokens,
        )

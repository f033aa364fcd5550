"""Translators: texts to the texts that are made of them, in another language, shorter, or as an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from typing_extensions import Unpack

from bestiary.core.beam import Beams, beam_search
from bestiary.core.cache import Cache
from bestiary.core.context import Memory
from bestiary.core.generate import Decoder, Generation
from bestiary.core.packing import pack, padded
from bestiary.core.record import record
from bestiary.core.rows import for_decoding
from bestiary.core.task import Report, Task, batched
from bestiary.errors import InputError, LayoutError
from bestiary.text.options import Options, Plan
from bestiary.text.stream import TextStream
from bestiary.text.transforms import check_texts, read_tokenizer
from bestiary.text.writing import Writer, write

if TYPE_CHECKING:
    from bestiary.core.export.graph import Bundle

BATCH_SIZE = 16  # texts that are answered at once
UNSEARCHED = ("temperature", "top_k", "top_p", "min_p", "seed", "stop")  # options of drawing, and of writing token by token


@dataclass(frozen=True, kw_only=True)
class TranslatorPreprocess:
    """The keys of a card's `preprocess` for text-to-text."""

    context: int  # tokens that are read of a text at most, the prompt before it and the token at its end included
    start_token: int  # id of the token that every answer begins with, and that is not part of it
    end_tokens: tuple[int, ...]  # ids of the tokens that end an answer
    prompts: Mapping[str, str] = field(default_factory=dict)  # what is put before a text, by what is to be done


class Translator(Task):
    """Texts to texts: translation, summaries, answers, whatever the model was trained to make of a text.

    What is to be done stands before the text: written out, or by the name of one of the card's prompts.

        model = bestiary.load("t5-small", trust="first-use")
        model.generate("The house is wonderful.", prompt="translation_en_to_de", beams=4)
    """

    derive = staticmethod(for_decoding)
    at_once = BATCH_SIZE

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.preprocess = record(TranslatorPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.rules = read_tokenizer(self.file("tokenizer"))
        config: Any = self.net.config
        last = max(self.preprocess.start_token, *self.preprocess.end_tokens, *self.rules.get_vocab().values())
        if last >= config.vocabulary:
            raise LayoutError(
                f"the tokenizer of {self.card.name} has tokens up to {last}, the net knows {config.vocabulary} of them\n"
                "the two are not of one model: correct the card"
            )

    def generate(
        self,
        texts: str | Iterable[str],
        *,
        prompt: str | None = None,
        beams: int = 1,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[Options],
    ) -> Any:
        """What the model makes of a text, or of a list of them; an iterator for an iterator, reading `batch_size` at a time.

        `prompt` names one of the card's prompts, to be put before each text. With several `beams` the answer is looked for that
        is likeliest as a whole; see `bestiary.core.beam.Beams` for what goes with them. A text is answered among others as it
        is alone.

        Raises InputError for a text that is none, or longer than the model reads, for a prompt that the card does not have, and
        for an option that is unknown or out of range.
        """
        plan = Plan.of(options, self.rules, self.preprocess.end_tokens, context=None)
        search = Beams(beams=beams, length_penalty=length_penalty, early_stopping=early_stopping)
        if beams > 1 and (unused := [name for name in UNSEARCHED if name in options]):
            raise InputError(f"{unused[0]} has no meaning with {beams} beams\nleave one of the two out")
        before = self._prompt(prompt)
        if isinstance(texts, str):
            return self._answers([texts], before, search, plan)[0]
        if not isinstance(texts, Iterable):
            raise InputError(f"{type(texts).__name__} is not a text\ngive a str, or any number of them")
        answers = (self._answers(batch, before, search, plan) for batch in batched(texts, batch_size))
        each = (answer for batch in answers for answer in batch)
        return list(each) if isinstance(texts, Sequence) else each

    def stream(self, text: str, *, prompt: str | None = None, **options: Unpack[Options]) -> Iterator[str]:
        """The answer to a text, in pieces as they are made; no piece breaks a character. Raises what `generate` does, at once."""
        plan = Plan.of(options, self.rules, self.preprocess.end_tokens, context=None)
        steps = self._written(self._tokens([text], self._prompt(prompt)), plan)
        return (piece for (writer,) in steps if (piece := writer.take()))

    def bundle(self, preprocessing: bool) -> Bundle:
        from bestiary.text.exporting import translator_bundle  # which takes more to import than calls need

        return translator_bundle(self, preprocessing)

    def answers(self, inputs: Sequence[Any], **options: Any) -> Sequence[Any]:
        return self.generate(list(inputs), **options)

    def returns(self) -> Mapping[str, Any]:
        return {"text": str}

    def record(self, result: str) -> Mapping[str, Any]:
        return {"text": result}

    def report(self, inputs: Sequence[str]) -> Report:
        answers = self.generate(list(inputs))
        return Report(
            columns=["text", "answer"],
            rows=[list(pair) for pair in zip(inputs, answers, strict=True)],
            records=[{"text": text, "answer": answer} for text, answer in zip(inputs, answers, strict=True)],
        )

    def _prompt(self, name: str | None) -> str:
        if name is None:
            return ""
        if name not in self.preprocess.prompts:
            known = ", ".join(self.preprocess.prompts) or "none"
            raise InputError(f"{self.card.name} has no prompt {name!r}\nits prompts: {known}")
        return self.preprocess.prompts[name]

    def _tokens(self, texts: Sequence[str], before: str) -> list[list[int]]:
        check_texts(texts)
        tokens = [encoding.ids for encoding in self.rules.encode_batch([before + text for text in texts])]
        for ids in tokens:
            if not 0 < len(ids) <= self.preprocess.context:
                raise InputError(
                    f"a text has {len(ids)} tokens, and {self.card.name} reads 1 to {self.preprocess.context} of them\n"
                    "change it, or give it piece by piece"
                )
        return tokens

    def _answers(self, texts: Sequence[str], before: str, search: Beams, plan: Plan) -> list[str]:
        tokens = self._tokens(texts, before)
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))  # equals are read side by side
        ordered = [tokens[index] for index in order]
        found = self._found(ordered, search, plan) if search.beams > 1 else self._likely(ordered, plan)
        return [answer for _, answer in sorted(zip(order, found, strict=True))]

    def _likely(self, tokens: Sequence[Sequence[int]], plan: Plan) -> list[str]:
        *_, writers = self._written(tokens, plan)
        return [writer.text for writer in writers]

    def _found(self, tokens: Sequence[Sequence[int]], search: Beams, plan: Plan) -> list[str]:
        hypotheses = beam_search(*self._reader(tokens, plan), search, plan.sampling, plan.limits)
        return [self.rules.decode(list(best.tokens)) for best, *_ in hypotheses]

    def _written(self, tokens: Sequence[Sequence[int]], plan: Plan) -> Iterator[Sequence[Writer]]:
        """Answers as they are written: their writers after each step, and at the end."""
        decoder, beginnings = self._reader(tokens, plan)
        writers = [Writer(TextStream(self.rules, beginning, plan.stops)) for beginning in beginnings]
        return (writers for _ in write(Generation(decoder, beginnings, plan.sampling, plan.limits), writers))

    @torch.inference_mode()
    def _reader(self, tokens: Sequence[Sequence[int]], plan: Plan) -> tuple[Decoder, list[list[int]]]:
        """The decoder with the texts, packed and encoded, before it, and what it begins the answers with."""
        net: Any = self.inference.derived()
        packed = pack(tokens, self.device)
        memory = Memory(*padded(net.encode(packed.tokens, packed.mask), packed.mask))
        cache = Cache(sequences=len(tokens), capacity=1 + plan.limits.max_new_tokens, memory=memory)
        return Decoder(net.decoder, cache, self.device), [[self.preprocess.start_token]] * len(tokens)

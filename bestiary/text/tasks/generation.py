"""Language models: prompts to the texts that continue them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Unpack

from bestiary.core.generate import Decoder, Generation, Past
from bestiary.core.record import record
from bestiary.core.rows import for_decoding
from bestiary.core.speculative import AHEAD, SpeculativeGeneration
from bestiary.core.task import Report, Task, batched
from bestiary.errors import InputError, LayoutError
from bestiary.text.chat import ChatTemplate, Messages
from bestiary.text.options import Options, Plan
from bestiary.text.stream import TextStream
from bestiary.text.transforms import check_texts, read_tokenizer
from bestiary.text.writing import DetailedWriter, Writer, write

if TYPE_CHECKING:
    from bestiary.core.export.graph import Bundle

BATCH_SIZE = 16  # prompts that are continued at once


@dataclass(frozen=True, kw_only=True)
class LanguageModelPreprocess:
    """The keys of a card's `preprocess` for text-generation."""

    context: int  # tokens that the model reads at most, prompt and answer together
    end_tokens: tuple[int, ...]  # ids of the tokens that end a text; the first is what chat templates call eos_token


class LanguageModel(Task):
    """Texts that go on.

    >>> import bestiary
    >>> model = bestiary.load("smollm2-135m-instruct")
    >>> model.chat("What is the capital of France?")
    'The capital of France is Paris.'
    """

    derive = staticmethod(for_decoding)
    at_once = BATCH_SIZE

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.preprocess = record(LanguageModelPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.rules = read_tokenizer(self.file("tokenizer"))
        config: Any = self.net.config
        last = max(self.rules.get_vocab().values())
        if last >= config.vocabulary:
            raise LayoutError(
                f"the tokenizer of {self.card.name} has tokens up to {last}, the net knows {config.vocabulary} of them\n"
                "the two are not of one model: correct the card"
            )
        self._pasts: deque[Past] = deque(maxlen=1)  # what the last call has read

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "template"}
        return {**kept, "_pasts": deque(maxlen=1)}

    def generate(
        self,
        prompts: str | Iterable[str],
        *,
        details: bool = False,
        draft: LanguageModel | None = None,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[Options],
    ) -> Any:
        """The continuation of a prompt, or a list of them; an iterator for an iterator, reading `batch_size` at a time.

        With `details` each is a `Generated` instead of a str. `draft` is a smaller model with the same tokenizer, which guesses
        ahead to save time and changes nothing else. A prompt is continued among others as it is alone. What a single prompt
        has in common with that of the call before is not computed again.

        Raises InputError for a prompt that is not a text, is empty or leaves no room in the model's context, and for an
        option that is unknown or out of range.
        """
        if isinstance(prompts, str):
            return self._continued([prompts], details, draft, options)[0]
        if not isinstance(prompts, Iterable):
            raise InputError(f"{type(prompts).__name__} is not a text\ngive a str, or any number of them")
        answers = (self._continued(batch, details, draft, options) for batch in batched(prompts, batch_size))
        texts = (text for batch in answers for text in batch)
        return list(texts) if isinstance(prompts, Sequence) else texts

    def stream(self, prompt: str, *, draft: LanguageModel | None = None, **options: Unpack[Options]) -> Iterator[str]:
        """The continuation, in pieces as they are made; no piece breaks a character. Raises what `generate` does, at once."""
        return self._pieces(self._tokens([prompt]), draft, options)

    def chat(self, messages: Messages, *, draft: LanguageModel | None = None, **options: Unpack[Options]) -> str:
        """The assistant's next message.

        `messages` is what the user says, or a conversation: [{"role": "user", "content": "Hello"}, …] with the roles that the
        model's template knows (system, user, assistant). Raises InputError also where the model has no template.
        """
        return "".join(self.stream_chat(messages, draft=draft, **options))

    def stream_chat(
        self, messages: Messages, *, draft: LanguageModel | None = None, **options: Unpack[Options]
    ) -> Iterator[str]:
        """`chat`, in pieces as they are made."""
        return self._pieces(self._conversations([messages]), draft, options)

    @cached_property
    def template(self) -> ChatTemplate:
        """From messages to the prompt that the model was trained on. Raises InputError where it was trained on none."""
        path = self.find("chat_template")
        if path is None:
            raise InputError(f"{self.card.name} has no chat template\nuse generate, or a model that was tuned to answer")
        begin = self.rules.encode("").ids[:1]  # what the tokenizer puts before every text, if anything
        special = {"bos_token": self._text(begin), "eos_token": self._text(self.preprocess.end_tokens[:1])}
        return ChatTemplate.read(path, special)

    def bundle(self, preprocessing: bool) -> Bundle:
        from bestiary.text.exporting import decoder_bundle  # which takes more to import than calls need

        return decoder_bundle(self, preprocessing)

    def answers(self, inputs: Sequence[Any], *, batch_size: int = BATCH_SIZE, **options: Any) -> Sequence[str]:
        """What is said next where the model has a chat template, and else the continuation. `options` as those of `generate`."""
        check_texts(inputs)
        read = self._tokens if self.find("chat_template") is None else self._conversations
        self._write([], Writer, None, cast(Options, options))  # raises for options even where there is no input
        found: list[str] = []
        for batch in batched(inputs, batch_size):
            *_, writers = self._write(read(batch), Writer, None, cast(Options, options))
            found += (writer.result() for writer in writers)
        return found

    def returns(self) -> Mapping[str, Any]:
        return {"text": str}

    def record(self, result: str) -> Mapping[str, Any]:
        return {"text": result}

    def report(self, inputs: Sequence[str]) -> Report:
        answers = self.answers(inputs)
        return Report(
            columns=["prompt", "text"],
            rows=[list(pair) for pair in zip(inputs, answers, strict=True)],
            records=[{"prompt": prompt, "text": text} for prompt, text in zip(inputs, answers, strict=True)],
        )

    def _continued(
        self, prompts: Sequence[str], details: bool, draft: LanguageModel | None, options: Options
    ) -> list[Any]:
        *_, writers = self._write(self._tokens(prompts), DetailedWriter if details else Writer, draft, options)
        return [writer.result() for writer in writers]

    def _pieces(
        self, prompts: Sequence[Sequence[int]], draft: LanguageModel | None, options: Options
    ) -> Iterator[str]:
        steps = self._write(prompts, Writer, draft, options)
        return (piece for (writer,) in steps if (piece := writer.take()))

    def _write(
        self, prompts: Sequence[Sequence[int]], kind: type[Writer], draft: LanguageModel | None, options: Options
    ) -> Iterator[Sequence[Writer]]:
        """Continue the prompts: their writers after each step, and at the end. Checks everything before it returns."""
        context = self.preprocess.context
        for prompt in prompts:
            if not 0 < len(prompt) < context:
                raise InputError(
                    f"a prompt has {len(prompt)} tokens, and {self.card.name} takes 1 to {context - 1} of them\n"
                    "change it, or take a model with a longer context"
                )
        plan = Plan.of(options, self.rules, self.preprocess.end_tokens, context)
        if draft is not None:
            self._check_draft(draft, options)
        return self._steps(prompts, kind, draft, plan)

    def _check_draft(self, draft: LanguageModel, options: Options) -> None:
        if not isinstance(draft, LanguageModel) or draft.rules.get_vocab() != self.rules.get_vocab():
            raise InputError(f"the draft does not have the tokenizer of {self.card.name}\ngive a smaller model of its family")
        if options.get("choices") is not None:
            raise InputError("choices are too short for a draft to pay\nleave one of the two out")

    def _steps(
        self, prompts: Sequence[Sequence[int]], kind: type[Writer], draft: LanguageModel | None, plan: Plan
    ) -> Iterator[Sequence[Writer]]:
        writers = [kind(TextStream(self.rules, prompt, plan.stops)) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # equals are read side by side
        generation = self._generation([prompts[index] for index in order], draft, plan)
        try:
            for _ in write(generation, [writers[index] for index in order]):
                yield writers
        except GeneratorExit:  # nobody listens any more; what was read is good all the same
            self._remember(generation)
            raise
        self._remember(generation)

    def _generation(self, prompts: Sequence[Sequence[int]], draft: LanguageModel | None, plan: Plan) -> Generation:
        try:
            past = self._pasts.pop()  # so that no other thread takes it up too
        except IndexError:
            past = None
        net: Any = self.inference.derived()
        if draft is None:
            decoder = Decoder.resume(net, past, prompts, plan.limits.max_new_tokens, self.device)
            return Generation(decoder, prompts, plan.sampling, plan.limits)
        room = plan.limits.max_new_tokens + AHEAD
        decoder = Decoder.resume(net, past, prompts, room, self.device)
        guessing_net: Any = draft.inference.derived()
        guesser = Decoder.resume(guessing_net, None, prompts, room, draft.device)
        return SpeculativeGeneration(decoder, prompts, plan.sampling, plan.limits, draft=guesser)

    def _remember(self, generation: Generation) -> None:
        if len(generation.prompts) == 1:
            self._pasts.append(generation.past())

    def _tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        check_texts(prompts)
        return [encoding.ids for encoding in self.rules.encode_batch(list(prompts))]

    def _conversations(self, conversations: Sequence[Messages]) -> list[list[int]]:
        return [self.rules.encode(self.template(messages), add_special_tokens=False).ids for messages in conversations]

    def _text(self, tokens: Sequence[int]) -> str:
        return self.rules.decode(list(tokens), skip_special_tokens=False)

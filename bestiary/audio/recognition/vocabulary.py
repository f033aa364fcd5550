"""The tokens of Whisper: of text, and the special ones that say what is to be done and what was heard when."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from tokenizers import Tokenizer as Rules
from tokenizers.decoders import DecodeStream

from bestiary.audio.recognition.transcript import UNSPACED
from bestiary.errors import InputError, LayoutError

# What nobody says but captions hold: speakers in brackets, notes, emphasis. Each with a space before it as well.
SIGNS = (*'"#()*+/:;<=>@[\\]^_`{|}~「」『』', "<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((")
SIGNS += (")))", "[[", "]]", "{{", "}}", "♪♪", "♪♪♪")
NOTES = "♩♪♫♬♭♮♯"  # of which a token may be a part only
SPACED_SIGNS = (" -", " '")  # within a word they are spoken, at its beginning not


class Piece(NamedTuple):
    """A word with its punctuation, as a run of tokens."""

    text: str
    first: int  # token that it begins with, punctuation before it left out
    end: int  # the one after its last, punctuation after it left out


class Vocabulary:
    """The tokens of a tokenizer by what they mean.

    A model of one language has all special tokens too, but was trained without those of languages and tasks.
    """

    def __init__(self, rules: Rules, multilingual: bool):
        self.rules = rules
        self.end = self._special("<|endoftext|>")  # all below are of text
        self.start = self._special("<|startoftranscript|>")
        self.tasks = {task: self._special(f"<|{task}|>") for task in ("transcribe", "translate")}
        self.previous = self._special("<|startofprev|>")
        self.no_speech = self._special("<|nospeech|>", "<|nocaptions|>")
        self.no_times = self._special("<|notimestamps|>")
        self.times = self.no_times + 1  # <|0.00|>, which not all tokenizers name; every further one is a step of time later
        ids = range(self.start + 1, self.tasks["translate"])  # the first of the tasks
        self.languages = {str(rules.id_to_token(id)).strip("<|>"): id for id in ids} if multilingual else {}

    def check_language(self, language: str) -> None:
        """Raises InputError for a language that the model does not know."""
        known = self.languages or {"en": self.start}
        if language not in known:
            raise InputError(f"language={language!r} is not known to the model\nit knows {', '.join(known)}")

    def prompt(self, language: str | None, task: str, before: Sequence[int]) -> list[int]:
        """What a transcript in a language begins with, after tokens of what was said before."""
        beginning = [self.start]
        if self.languages:
            assert language is not None
            beginning += [self.languages[language], self.tasks[task]]
        return [self.previous, *before, *beginning] if before else beginning

    def encode(self, text: str) -> list[int]:
        return self.rules.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text among the tokens, without space around it."""
        return self.rules.decode([token for token in tokens if token < self.end]).strip()

    @cached_property
    def unspoken(self) -> tuple[int, ...]:
        """Tokens that no transcript holds: signs that nobody speaks, and special ones that have their places before it."""
        special = {self.start, *self.tasks.values(), self.previous, self.no_speech, self.no_times, self._special("<|startoflm|>")}
        texts = [sign for sign in (*SIGNS, *NOTES) for sign in (sign, f" {sign}")]
        encoded = [(text, self.encode(text)) for text in texts]
        signs = {ids[0] for text, ids in encoded if len(ids) == 1 or text.strip() in NOTES}
        return tuple(sorted({*signs, *(self.encode(sign)[0] for sign in SPACED_SIGNS), *special}))

    def words(self, tokens: Sequence[int], language: str | None) -> list[Piece]:
        """The words of tokens of text, in the order of the tokens.

        They are told apart by spaces, in languages without those by characters. Punctuation belongs to the word that it stands
        at, but takes no part in when that is spoken.
        """
        words: list[Piece] = []
        opening = ""
        for text, first, end in self._characters(tokens):
            spaced, punctuation = text.startswith(" "), _is_punctuation(text)
            if punctuation and (spaced or not words or unicodedata.category(text[0]) in ("Ps", "Pi")):
                opening += text
            elif punctuation:
                words[-1] = words[-1]._replace(text=words[-1].text + text)
            elif spaced or opening or not words or language in UNSPACED:
                words.append(Piece(opening + text, first, end))
                opening = ""
            else:
                words[-1] = words[-1]._replace(text=words[-1].text + text, end=end)
        if opening and words:
            words[-1] = words[-1]._replace(text=words[-1].text + opening)
        return [word._replace(text=word.text.strip()) for word in words]

    def _characters(self, tokens: Sequence[int]) -> list[Piece]:
        """The tokens, but those together that only together are characters."""
        stream, pieces, first = DecodeStream([], skip_special_tokens=True), [], 0
        for end, token in enumerate(tokens, start=1):
            if text := stream.step(self.rules, token):
                pieces.append(Piece(text, first, end))
                first = end
        return pieces

    def _special(self, *names: str) -> int:
        ids = [id for name in names if (id := self.rules.token_to_id(name)) is not None]
        if not ids:
            raise LayoutError(f"the tokenizer has no token {names[0]}\ntake that of the model, a Whisper")
        return ids[0]


def _is_punctuation(text: str) -> bool:
    stripped = text.strip()
    return bool(stripped) and all(unicodedata.category(character).startswith("P") for character in stripped)

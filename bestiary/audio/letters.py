"""The letters of a net that recognises speech letter by letter: from texts to its tokens and back."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bestiary.errors import InputError, LayoutError

APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\uff07"), "'")
JOINTS = "/"  # beside all dashes: words at its sides are spoken as two
SPOKEN = "#%&@"  # by Unicode punctuation, and yet spoken as words


@dataclass(frozen=True, kw_only=True)
class LettersPreprocess:
    """The keys of a card's `preprocess` for nets that hear samples and give letters."""

    normalize: bool  # whether a sound is brought to a mean of 0 and a variance of 1
    blank: str  # the label that stands for no letter
    delimiter: str = "|"  # the label that stands between words
    lowercase: bool = False  # whether texts are written in small letters, as the labels are capitals
    rate: int = 16_000  # Hz, of what the net hears


class Spelled(NamedTuple):
    """A word as it was written, and its tokens; at least one."""

    text: str
    tokens: list[int]


class Letters:
    """The labels of a head, the blank among them, as letters.

    >>> letters = Letters(["<pad>", "<unk>", "|", "A", "B", "C", "'"], LettersPreprocess(normalize=True, blank="<pad>"))
    >>> letters.spelled("Cab, a-b!")
    [Spelled(text='Cab,', tokens=[5, 3, 4]), Spelled(text='a-b!', tokens=[3, 2, 4])]
    >>> letters.text([5, 3, 4, 2, 3])
    'CAB A'
    """

    def __init__(self, labels: Sequence[str], preprocess: LettersPreprocess):
        if preprocess.blank not in labels:
            raise LayoutError(f"the blank {preprocess.blank!r} is none of the labels\nmend `blank` in the card's preprocess")
        self.labels = tuple(labels)
        self.blank = self.labels.index(preprocess.blank)
        self.delimiter = self.labels.index(preprocess.delimiter) if preprocess.delimiter in labels else None
        self.lowercase = preprocess.lowercase
        self._tokens = {
            label: token
            for token, label in enumerate(labels)
            if token not in (self.blank, self.delimiter) and not is_special(label)
        }

    def words(self, tokens: Sequence[int]) -> list[Spelled]:
        """The words that tokens are, each with its own; what is no letter is in none.

        >>> letters = Letters(["-", "|", "A"], LettersPreprocess(normalize=True, blank="-"))
        >>> letters.words([2, 2, 1, 2])
        [Spelled(text='AA', tokens=[2, 2]), Spelled(text='A', tokens=[2])]
        """
        words: list[list[int]] = [[]]
        for token in tokens:
            if token == self.delimiter:
                words.append([])
            elif self.labels[token] in self._tokens:
                words[-1].append(token)
        return [Spelled(self._written(word), word) for word in words if word]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, with a space between words."""
        return " ".join(word.text for word in self.words(tokens))

    def spelled(self, text: str) -> list[Spelled]:
        """The words of a text, each with its letters; words of punctuation alone are left out.

        Capitals, accents and apostrophes become what the net knows, a dash within a word a gap between two, and other
        punctuation is not spoken. Raises InputError for what is spoken and yet is no letter that the net knows.
        """
        words = [Spelled(word, self._spelled(word)) for word in text.split()]
        return [word for word in words if word.tokens]

    def joined(self, words: Sequence[Spelled]) -> list[int]:
        """The tokens of words, with what stands between words."""
        gap = [] if self.delimiter is None else [self.delimiter]
        return [token for number, word in enumerate(words) for token in (*(gap if number else []), *word.tokens)]

    def _written(self, tokens: Sequence[int]) -> str:
        text = "".join(self.labels[token] for token in tokens)
        return text.lower() if self.lowercase else text

    def _spelled(self, word: str) -> list[int]:
        parts: list[list[int]] = [[]]
        for character in unicodedata.normalize("NFC", word).translate(APOSTROPHES):
            tokens = self._letter(character)
            if tokens is not None:
                parts[-1].extend(tokens)
            elif character in JOINTS or unicodedata.category(character) == "Pd":
                parts.append([])
            elif not unicodedata.category(character).startswith(("P", "C")) or character in SPOKEN:
                raise InputError(
                    f"{character!r} in {word[:40]!r} is no letter that the model knows\n"
                    "write what is said in its letters, numbers and signs as words"
                )
        return self.joined([Spelled("", part) for part in parts if part])

    def _letter(self, character: str) -> list[int] | None:
        """The tokens of a character, in the first form that the net knows; None where it knows none."""
        bare = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        for form in (character, character.upper(), character.lower(), bare, bare.upper(), bare.lower()):
            if form and all(letter in self._tokens for letter in form):
                return [self._tokens[letter] for letter in form]
        return None


def is_special(label: str) -> bool:
    """Whether a label is none of a letter but of a beginning, an end or what is unknown, as <s> and [UNK] are."""
    return len(label) > 2 and (label[0], label[-1]) in (("<", ">"), ("[", "]"))

"""Texts as they are compared to score speech recognition: without what is a matter of style, as Whisper's scores are made.

Radford et al. 2022, arXiv:2212.04356, appendix C. English texts have numbers as digits, contractions in full, American spelling
and neither hesitations nor punctuation; those of other languages no punctuation. What the normaliser of the reference gives is
given here but for the few words of which `bestiary.audio.spelling` tells.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from bestiary.audio.numerals import numerals
from bestiary.audio.spelling import american

UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")  # languages that are written without spaces: each letter counts as a word

_BRACKETS = (re.compile(r"[<\[][^>\]]*[>\]]"), re.compile(r"\([^)]+\)"))  # what is in them is not said
_HESITATIONS = re.compile(r"\b(hmm|mm|mhm|mmm|uh|um)\b")
# What is written short, and what it is in full; in this order, for some of it is in other.
_SHORT: dict[str, str] = {
    **{rf"\b{short}\b": full for short, full in {
        "won't": "will not", "can't": "can not", "let's": "let us", "ain't": "aint", "y'all": "you all", "wanna": "want to",
        "gotta": "got to", "gonna": "going to", "i'ma": "i am going to", "imma": "i am going to", "woulda": "would have",
        "coulda": "could have", "shoulda": "should have", "ma'am": "madam",
    }.items()},
    **{rf"\b{short}\b": f"{full} " for short, full in {
        "mr": "mister", "mrs": "missus", "st": "saint", "dr": "doctor", "prof": "professor", "capt": "captain",
        "gov": "governor", "ald": "alderman", "gen": "general", "sen": "senator", "rep": "representative", "pres": "president",
        "rev": "reverend", "hon": "honorable", "asst": "assistant", "assoc": "associate", "lt": "lieutenant", "col": "colonel",
        "jr": "junior", "sr": "senior", "esq": "esquire",
    }.items()},
    **{rf"{short}\b": f" {full}" for short, full in {
        "'d been": "had been", "'s been": "has been", "'d gone": "had gone", "'s gone": "has gone", "'d done": "had done",
        "'s got": "has got", "n't": "not", "'re": "are", "'s": "is", "'d": "would", "'ll": "will", "'t": "not", "'ve": "have",
        "'m": "am",
    }.items()},
}  # fmt: skip
_IN_FULL = [(re.compile(short), full) for short, full in _SHORT.items()]
_KEPT = ".%$¢€£"  # what a number may have about it
# Letters that are no others with a mark, and how they are written without.
_LETTERS = {"œ": "oe", "ø": "o", "æ": "ae", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l"}


def normaliser(language: str | None) -> Callable[[str], str]:
    """The function that texts in a language are compared by; `language` as in "en", None for any."""
    return normalise_english if language == "en" else normalise_letters if language in UNSPACED else normalise


def normalise(text: str) -> str:
    """A text of any language: small letters, without punctuation and what stands in brackets.

    >>> normalise("Où est-ce ? [il rit] Là-bas !")
    'où est ce là bas '
    """
    cleaned = "".join(" " if _is_mark(letter) else letter for letter in unicodedata.normalize("NFKC", _unbracketed(text.lower())))
    return re.sub(r"\s+", " ", cleaned.lower())


def normalise_letters(text: str) -> str:
    """A text of a language that is written without spaces: the same, each letter by itself.

    >>> normalise_letters("你好。")
    '你 好 '
    """
    return re.sub(r"\s+", " ", " ".join(normalise(text)))


def normalise_english(text: str) -> str:
    """An English text, as its words are compared.

    >>> normalise_english("Mr. Neill hasn't paid the twenty-two pounds, um, for colouring")
    'mister neill has not paid the £22 for coloring'
    """
    text = _HESITATIONS.sub("", _unbracketed(text.lower()))
    text = re.sub(r"\s+'", "'", text)
    for short, full in _IN_FULL:
        text = short.sub(full, text)
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)
    text = "".join(map(_plain, unicodedata.normalize("NFKD", text)))
    text = " ".join(american(word) for word in numerals(text).split())
    # What is left of the marks of numbers where there is none.
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    text = re.sub(r"([^0-9])%", r"\1 ", text)
    return re.sub(r"\s+", " ", text)


def _unbracketed(text: str) -> str:
    for brackets in _BRACKETS:
        text = brackets.sub("", text)
    return text


def _is_mark(letter: str) -> bool:
    """Whether it is punctuation, a symbol, or a mark on a letter."""
    return unicodedata.category(letter)[0] in "MSP"


def _plain(letter: str) -> str:
    """A letter without what is on it; a space for any other mark but those of numbers."""
    if letter in _KEPT:
        return letter
    if letter in _LETTERS:
        return _LETTERS[letter]
    return "" if unicodedata.category(letter) == "Mn" else " " if _is_mark(letter) else letter

"""Numbers in words as digits, as Whisper's scores have it (Radford et al. 2022, arXiv:2212.04356, appendix C).

`twenty five` becomes `25`, `nineteen sixties` `1960s`, `one oh one` `101`, `two and a half million dollars` `$2500000`. A number
that stands alone and is 1 stays `one`. What the reference does with numbers that nobody says is done alike.
"""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_POWERS = "million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
_ORDINAL = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "twelve": "twelfth"}

ZEROS = {"o", "oh", "zero"}
ONES = {name: number for number, name in enumerate(_SMALL.split(), 1)}
TENS = {name: 10 * number for number, name in enumerate(_TENS.split(), 2)}
MULTIPLIERS = {"hundred": 100, "thousand": 1000, **{name: 1000**power for power, name in enumerate(_POWERS.split(), 2)}}

# Words that end a number, and what they add: the number, and what is written after it.
_ENDINGS = {
    "zeroth": ("zero", "th"),
    **{"sixes" if name == "six" else f"{name}s": (name, "s") for name in ONES},
    **{_ORDINAL.get(name, f"{name}th"): (name, _ORDINAL.get(name, "th")[-2:]) for name in ONES},
    **{f"{name[:-1]}ies": (name, "s") for name in TENS},
    **{f"{name[:-1]}ieth": (name, "th") for name in TENS},
    **{f"{name}{ending}": (name, ending) for name in MULTIPLIERS for ending in ("s", "th")},
}
_SIGNS = {"minus": "-", "negative": "-", "plus": "+", "positive": "+"}
_CURRENCIES = {"pound": "£", "euro": "€", "dollar": "$", "cent": "¢"}
_CURRENCIES |= {f"{name}s": sign for name, sign in _CURRENCIES.items()}
_OTHERS = {"per", "percent", "and", "double", "triple", "point"}

_DIGITS = re.compile(r"\d+(\.\d+)?")
_SAID = {*ZEROS, *ONES, *TENS}  # what a decimal point may be followed by
_WORDS = {*_SAID, *MULTIPLIERS, *_ENDINGS, *_SIGNS, *_CURRENCIES, *_OTHERS}
_MARKS = "-+£€$¢"

Value = int | str | None  # a number as it grows: a number that may be added to, or digits that may be appended to


def numerals(text: str) -> str:
    """The words of a text in small letters, with numbers as digits.

    >>> numerals("two hundred and five dollars and seven cents on the twenty first")
    '$205.07 on the 21st'
    """
    words = _halves(text).split()
    text = " ".join(_Reader(words).read())
    text = re.sub(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b", lambda found: f"{found[1]}{found[2]}.{int(found[3]):02d}", text)
    text = re.sub(r"[€£$]0.([0-9]{1,2})\b", lambda found: f"¢{int(found[1])}", text)
    return re.sub(r"\b1(s?)\b", r"one\1", text)


def _halves(text: str) -> str:
    """The text with `point five` for `and a half` after a number, and letters parted from digits but for endings."""
    *before, last = re.split(r"\band\s+a\s+half\b", text)
    parts: list[str] = []
    for words in filter(None, map(str.split, before)):
        parts += [*words, "point five" if words[-1] in _SAID or words[-1] in MULTIPLIERS else "and a half"]
    text = re.sub(r"(?<=[a-z])(?=[0-9])|(?<=[0-9])(?=[a-z])", " ", " ".join([*parts, last]))
    return re.sub(r"([0-9])\s+(st|nd|rd|th|s)\b", r"\1\2", text)


class _Reader:
    """Reads words one after another; a number grows until something else comes."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.out: list[str] = []
        self.sign = ""  # what is written before the number
        self.value: Value = None

    def read(self) -> list[str]:
        passed = False
        for before, word, after in zip(["", *self.words], self.words, [*self.words[1:], ""], strict=False):
            passed = False if passed else self.take(word, before, after)
        self.end()
        return self.out

    def write(self, text: object) -> None:
        self.out.append(f"{self.sign}{text}")
        self.sign, self.value = "", None

    def end(self, *then: str) -> None:
        """Write the number, if there is one, and other words."""
        for text in (self.value, *then):
            if text is not None:
                self.write(text)

    def take(self, word: str, before: str, after: str) -> bool:
        """Read a word; returns whether the one after it has been read, too."""
        number = word[1:] if word[0] in _MARKS else word
        if _DIGITS.fullmatch(number):
            self.figures(word, number)
        elif word in ZEROS:
            self.value = f"{self.value or ''}0"
        elif word in ONES or word in TENS:
            self.value = self.joined(word, before)
        elif word in MULTIPLIERS:
            self.value = self.multiplied(word)
        elif word in _ENDINGS:
            self.ending(word, before)
        elif word in _SIGNS:
            self.end()
            if _is_number(after):
                self.sign = _SIGNS[word]
            else:
                self.write(word)
        elif word in _CURRENCIES and self.value is not None:
            self.sign = _CURRENCIES[word]
            self.end()
        elif word in ("per", "percent") and self.value is not None:
            return self.percent(word, after)
        elif word in _OTHERS - {"per", "percent"} and _is_number(after):
            return self.special(word, before, after)
        else:
            self.end(word)
        return False

    def figures(self, word: str, number: str) -> None:
        if isinstance(self.value, str) and self.value.endswith("."):
            self.value += word  # what follows the point
            return
        self.end()
        self.sign = word[: len(word) - len(number)] or self.sign
        exact = Fraction(number)
        self.value = exact.numerator if exact.denominator == 1 else number

    def joined(self, word: str, before: str) -> int | str:
        """The number with that of a word after it: added where it has room for it, else appended."""
        number = TENS.get(word) or ONES.get(word, 0)
        room = 10 if number < 10 else 100
        if self.value is None:
            return number
        if isinstance(self.value, int) and not (before in ONES and word not in TENS):
            return self.value + number if self.value % room == 0 else f"{self.value}{number}"
        if before in TENS and number < 10:
            return f"{str(self.value)[:-1]}{number}"
        return f"{self.value}{number}"

    def multiplied(self, word: str) -> int:
        """The number times that of a word; one that is digits and cannot be whole is written first."""
        factor = MULTIPLIERS[word]
        if self.value is None:
            return factor
        if isinstance(self.value, int) and self.value:
            return self.value // 1000 * 1000 + self.value % 1000 * factor
        if (product := _product(self.value, factor)) is not None:
            return product
        self.end()
        return factor

    def ending(self, word: str, before: str) -> None:
        name, suffix = _ENDINGS[word]
        if name in MULTIPLIERS:
            self.write(f"{self.multiplied(name)}{suffix}")
        else:
            self.write(f"{self.joined(name, before)}{suffix}")

    def percent(self, word: str, after: str) -> bool:
        is_percent = word == "percent" or after == "cent"
        if is_percent:
            self.write(f"{self.value}%")
        else:
            self.end(word)
        return is_percent and word == "per"

    def special(self, word: str, before: str, after: str) -> bool:
        """`and`, `point`, `double` and `triple` where a number follows; returns whether the word after it has been read."""
        if word == "point":
            if after in _SAID or _DIGITS.fullmatch(after):
                self.value = f"{self.value or ''}."
            return False
        if word == "and":
            if before not in MULTIPLIERS:
                self.end(word)
            return False
        if after in ONES or after in ZEROS:
            self.value = f"{self.value or ''}{str(ONES.get(after, 0)) * (2 if word == 'double' else 3)}"
            return True
        self.end(word)
        return False


def _is_number(word: str) -> bool:
    return word in _WORDS or _DIGITS.fullmatch(word) is not None


def _product(value: Value, factor: int) -> int | None:
    try:
        product = Fraction(value or 0) * factor
    except ValueError:
        return None
    return product.numerator if product.denominator == 1 else None

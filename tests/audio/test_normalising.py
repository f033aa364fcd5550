"""Texts as they are compared: the same as openai-whisper's own normalisers give, on sentences of all kinds."""

import json
import random
from pathlib import Path

import pytest
import whisper.normalizers
from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

import bestiary
from bestiary.audio import datasets
from bestiary.audio.normalising import normalise, normalise_english, normalise_letters, normaliser
from bestiary.audio.numerals import _WORDS, numerals
from bestiary.audio.spelling import american

REFERENCE, BASIC, LETTERS = EnglishTextNormalizer(), BasicTextNormalizer(), BasicTextNormalizer(split_letters=True)
TABLE = json.loads((Path(whisper.normalizers.__file__).parent / "english.json").read_text())
# Where the reference's table errs, or is at odds with itself; the last two are taken for hesitations before.
ERRORS = {
    "archeological", "archaeology", "flyer / flier", "pummelled", "pummelling", "snowploughs", "tranquilly", "mhm", "mmm",
}  # fmt: skip
# What stands about numbers, and what it is to be told from.
OTHERS = (
    "1|2|10|0|007|3.5|1,000|$5|£3.20|-4|+7|€9|¢5|5%|%|$|.|2.|1.2.3|12th|3rd|20th|1960s|$1|b2b|4x4|½|²|١٢|the|half|a|x|and|it's|"
    "isn't|he'd|they've|o'clock|mr.|dr|St.|uh|colour|café|Straße|Œuvre|and a half|i'd been|he's got|(laughs)|[x]| 's| 'til|won't"
)
UNCHANGED = "hour four your tour raise promise advise precise exercise killed filling moulton rely greyhound aries"
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"

SENTENCES = {
    "Mr. Park visited Mrs. Brown's at St. James', didn't he?": "mister park visited missus brown is at saint james did not he",
    "He'd gone; they'd say it's been two and a half million dollars": "he had gone they would say it has been $2500000",
    "On the twenty-first of June, nineteen sixty-nine": "on the 21st of june 1969",
    "My number is double five oh three, one two.": "my number is 550312",
    "Twenty dollars and seven cents, or minus four point two percent": "$20.07 or -4.2%",
    "Um, the coloured catalogue was, uh, analysed [sic] (badly).": "the colored catalog was analyzed",
    "one of the ones in the nineteen-nineties": "one of the ones in the 1990s",
    "We're gonna need 1,000 café owners": "we are going to need 1000 cafe owners",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences(sentence: str) -> None:
    assert normalise_english(sentence).strip() == SENTENCES[sentence] == REFERENCE(sentence).strip()


@pytest.mark.parametrize("seed", range(4))
def test_words_of_numbers_in_any_order(seed: int) -> None:
    draw, words = random.Random(seed), sorted(_WORDS)
    for number in range(2500):
        pool = words if number % 2 else [*words, *OTHERS.split("|")]
        text = " ".join(draw.choices(pool, k=draw.randint(1, 9)))
        assert normalise_english(text) == REFERENCE(text), text


def test_every_number_said_in_full() -> None:
    for number in [*range(0, 2000, 7), 1999, 2024, 10_000, 123_456, 7_000_001]:
        for text in (said(number), said(number).replace(" hundred ", " hundred and ")):
            assert numerals(text) == ("one" if number == 1 else str(number)) == REFERENCE(text), text


def said(number: int) -> str:
    for value, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= value:
            rest = f" {said(number % value)}" if number % value else ""
            return f"{said(number // value)} {name}{rest}"
    if number < 20:
        return SMALL.split()[number]
    return TENS.split()[number // 10 - 2] + (f" {said(number % 10)}" if number % 10 else "")


def test_british_spellings_are_those_of_the_reference() -> None:
    assert {word for word, theirs in TABLE.items() if american(word) != theirs} == ERRORS
    assert [word for word in TABLE.values() if american(word) not in (word, TABLE.get(word))] == ["archaeological"]


def test_forms_that_the_reference_forgets_and_words_that_only_look_british() -> None:
    forms = {"colourful": "colorful", "localisation": "localization", "relabelling": "relabeling", "oesophageal": "esophageal"}
    assert {word: american(word) for word in forms} == forms
    assert [american(word) for word in UNCHANGED.split()] == UNCHANGED.split()


def test_real_texts() -> None:
    folder = Path(bestiary.__file__).parent.parent
    lines = [line for path in ("scripts/tides.txt", "LICENSE", "README.md") for line in (folder / path).read_text().splitlines()]
    lines += datasets.load("telephone-prompts", "en")["text"][:]
    assert len(lines) > 1000 and [line for line in lines if normalise_english(line) != REFERENCE(line)] == []
    lines += [text for language in ("es", "fr") for text in datasets.load("telephone-prompts", language)["text"]]
    assert [line for line in lines if normalise(line) != BASIC(line) or normalise_letters(line) != LETTERS(line)] == []


def test_each_language_has_its_normaliser() -> None:
    assert normaliser("en") is normalise_english and normaliser("fr") is normaliser(None) is normalise
    assert normaliser("zh") is normalise_letters and normalise_letters("你好。世界") == LETTERS("你好。世界")
    assert normalise("") == normalise_english("") == ""

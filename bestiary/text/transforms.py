"""From texts to token ids, built from the card alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Rules

from bestiary.errors import InputError, LayoutError


class Tokenizer:
    """Texts to token ids by a `tokenizer.json`.

    Texts longer than `max_length` tokens, special ones included, are cut; the first time that happens a warning says so.
    `windows` cuts nothing off: neighbours have `overlap` tokens in common.
    """

    def __init__(self, path: Path, max_length: int, overlap: int = 0):
        self.rules = read_tokenizer(path)
        self.rules.enable_truncation(max_length, stride=overlap)
        self.max_length = max_length
        self._warned = False

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text. Raises InputError for what is not a text."""
        return [encoding.ids for encoding in self.encode(texts)]

    def encode(self, texts: Sequence[Any]) -> list[Encoding]:
        """The same with what else is known of the tokens; a text may be a pair of texts. Raises InputError."""
        check_texts([part for text in texts for part in (text if isinstance(text, tuple) else (text,))])
        encodings = self.rules.encode_batch(list(texts))
        if not self._warned and any(encoding.overflowing for encoding in encodings):
            self._warned = True
            warnings.warn(f"texts over {self.max_length} tokens are cut (this is said once)", stacklevel=6)
        return encodings

    def windows(self, texts: Sequence[str]) -> list[list[Encoding]]:
        """The windows of each text, which know their offsets in it. Raises InputError for what is not a text."""
        check_texts(texts)
        return [[encoding, *encoding.overflowing] for encoding in self.rules.encode_batch(list(texts))]


def read_tokenizer(path: Path) -> Rules:
    """The rules in a `tokenizer.json`, which neither cut nor pad. Raises LayoutError."""
    try:
        rules = Rules.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise LayoutError(f"{path.name} is not a tokenizer.json: {str(error).splitlines()[0]}\nfetch it again") from error
    rules.no_padding()
    rules.no_truncation()
    return rules


def check_texts(texts: Sequence[Any]) -> None:
    """Raise InputError for the first that is not a text."""
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"input {index} is not a text but {type(text).__name__}\ngive a str, or a list of them")
